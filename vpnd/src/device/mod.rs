//! `vpnd device IFNAME`: a plain WireGuard interface, for `wg`, `wg-quick` and every WireGuard peer.
//!
//! It is in two processes as the daemon is. This one makes the TUN device and the unix socket that `wg` talks to
//! ([`proto::uapi`]), keeps what is configured ([`config`]) in memory, and binds the ports ([`ports`]). The packets are carried by
//! `vpnd data-path`, the same loop under the same walls as a machine's in a network, over [`mesh::Device`]. Nothing is
//! read from a disk and nothing is written to one but the socket, which goes with the interface.
//!
//! | room | what is in it |
//! |---|---|
//! | [`config`] | what the interface is configured to be |
//! | [`ports`] | sockets that change their port while another process uses them |
//! | `interface` | the actor: requests, the data path, the interface's state |
//! | `socket` | callers |
//! | `detach` | going into the background |
//! | `walls` | what this process gives up |
//!
//! It ends when the interface is deleted, when its socket is removed, and on a signal; the interface goes with it.

pub mod config;
mod detach;
mod interface;
pub mod ports;
mod socket;
pub mod walls;

use std::{ffi::CStr, io, os::fd::RawFd};

use clap::Args;
use netio::{
    netlink::NetlinkError,
    tun::{Tun, TunError},
    udp::UdpError,
};
use sandbox::{Missing, SandboxError, process};

use self::{detach::Readiness, interface::Interface, ports::Ports, socket::Listener};
use crate::{
    child::{ChildError, Manner},
    cli::interface_name,
    message::Message,
    workers,
};

/// What `ps` shows of it.
const NAME: &CStr = c"vpnd-device";

/// Set to 1, it stays in the foreground: what wireguard-go's callers know.
const FOREGROUND: &str = "WG_PROCESS_FOREGROUND";

/// Options of a plain interface.
#[derive(Args, Clone)]
#[command(after_help = "\
Examples:
  vpnd device wg0                  then: wg setconf, ip address add, ip link set up
  vpnd device --foreground wg0     until the interface is deleted
  WG_QUICK_USERSPACE_IMPLEMENTATION=vpnd-device wg-quick up wg0
  ip link delete wg0               ends it

It serves /var/run/wireguard/IFNAME.sock, which wg(8) finds by itself. Nothing is kept: what was configured is gone with the \
interface.")]
pub struct Options {
    /// The network interface to make.
    #[arg(value_name = "IFNAME", value_parser = interface_name)]
    pub name: String,
    /// Stay in the foreground. (So does the environment variable WG_PROCESS_FOREGROUND=1.)
    #[arg(short, long)]
    pub foreground: bool,
    /// Copy the class of service (DSCP) of each packet to the outside, for routers on the way; an observer tells calls from
    /// downloads by it.
    #[arg(long)]
    pub show_dscp: bool,
    /// How many threads share the peers, 1 to 16 [default: by the processors, one for up to two].
    #[arg(long, value_name = "N", value_parser = workers::number())]
    pub workers: Option<u8>,
    /// Run even where the kernel lacks Landlock or seccomp, confined by what is left.
    #[arg(long)]
    pub allow_unsandboxed: bool,
    /// Written to when the interface can be configured.
    #[arg(long, value_name = "FD", hide = true)]
    pub ready: Option<RawFd>,
}

/// Why there is no plain interface.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// There is an interface of this name.
    #[error("an interface of this name exists; delete it (ip link delete IFNAME), or choose another name")]
    NameTaken,
    /// No TUN device.
    #[error(transparent)]
    Tun(TunError),
    /// Somebody serves the socket.
    #[error(
        "another program serves /var/run/wireguard/IFNAME.sock; end it (ip link delete IFNAME), or choose another name"
    )]
    SocketTaken,
    /// There is something else in the socket's place.
    #[error("/var/run/wireguard/IFNAME.sock is there and is no socket; move it away, or choose another name")]
    SocketPlace,
    /// The socket cannot be made.
    #[error("the socket /var/run/wireguard/IFNAME.sock cannot be made ({0}); run vpnd device as root")]
    Socket(io::ErrorKind),
    /// No UDP sockets.
    #[error(transparent)]
    Udp(#[from] UdpError),
    /// The kernel's network cannot be spoken to.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// The data path cannot be started.
    #[error(transparent)]
    Child(#[from] ChildError),
    /// The data path was started, and did not come up.
    #[error("the data path does not come up; see the kernel's messages: dmesg | tail")]
    NoDataPath,
    /// The kernel cannot confine what faces the network.
    #[error(
        "{0}; without it the interface would not be locked down: update the kernel, or pass --allow-unsandboxed"
    )]
    Unsandboxed(SandboxError),
    /// A wall could not be put up.
    #[error("vpnd could not be locked down: {0}")]
    Walls(SandboxError),
    /// The process that was to go on in the background ended, and said why.
    #[error("the interface did not come up; what is above says why")]
    Background,
    /// The system refused something basic.
    #[error("the operating system refused what vpnd needs to start ({0})")]
    System(#[from] io::Error),
}

impl From<TunError> for DeviceError {
    fn from(error: TunError) -> Self {
        match error {
            TunError::NameTaken => Self::NameTaken,
            other => Self::Tun(other),
        }
    }
}

/// Makes the interface and serves it until its end; in the background unless it is to stay in the foreground.
///
/// # Errors
/// [`DeviceError`].
pub fn run(options: &Options) -> Result<(), DeviceError> {
    let stays = options.foreground || std::env::var_os(FOREGROUND).is_some_and(|value| value == "1");
    if !stays {
        return detach::start(options);
    }
    process::call_it(NAME)?;
    let missing = if options.allow_unsandboxed { Missing::Allow } else { Missing::Refuse };
    if let Err(lack) = sandbox::available() {
        if missing == Missing::Refuse {
            return Err(DeviceError::Unsandboxed(lack));
        }
        Message::Unsandboxed.print();
    }
    let manner = Manner { missing, show_dscp: options.show_dscp };
    let ready = Readiness::take(options.ready)?;
    let workers = options.workers.unwrap_or_else(workers::of_this_machine);
    let tuns = Tun::create_queues(&options.name, workers.into())?;
    let ports = Ports::new(workers)?;
    let listener = Listener::bind(&options.name)?;
    walls::put_up(listener.folder(), missing).map_err(DeviceError::Walls)?;

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let interface = Interface::open(&options.name, tuns, ports, manner).await?;
        interface.serve(listener, ready).await
    })
}
