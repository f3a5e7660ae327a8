//! The data path's own process: a thread that runs every batch of packets to completion, or several that share the peers
//! ([`workers`]).
//!
//! It inherits all it will ever hold: the TUN device, the UDP sockets (a pool of silent ones among them) and two pipes to control, by number. It opens its
//! epoll instance, takes every other power from itself ([`lockdown`]), says that it is ready, and from then on only
//! moves packets between those descriptors through [`mesh::Mesh`] or, for a plain WireGuard interface, [`mesh::Device`]
//! ([`event_loop`]). It has no queue of its own: what a
//! socket, the device or the pipe does not take at once is dropped and counted.
//!
//! It prints nothing: its standard descriptors are closed, a panic or an error ends it without a word, and control starts
//! another. It ends by itself when control closes a pipe or writes what is no frame and when the interface is deleted, and the
//! kernel ends it when it makes a system call that it has no use for.

mod control;
mod engine;
mod event_loop;
pub mod lockdown;
mod lull;
mod post;
mod shard;
mod workers;

use std::{
    ffi::CStr,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    ops::RangeInclusive,
    os::fd::{AsFd, AsRawFd, RawFd},
    time::Instant,
};

use clap::Args;
use mesh::{Budgets, Device, Mesh};
use netio::{
    epoll::Epoll,
    inherit::{self, InheritError, Numbers},
    pipe,
    tun::{Tun, TunError},
    udp::{Family, Socket, UdpError},
};
use proto::pipe::FromData;
use rand_core::OsRng;
use sandbox::{Missing, process};

use self::{
    control::{Inlet, Outlet},
    lockdown::Held,
    workers::{Pipes, Place},
};

/// What `ps` shows of it: it is started from a link called `exe`.
const NAME: &CStr = c"vpnd-data-path";

/// `vpnd data-path`: started by vpnd alone, with its descriptors inherited by number.
#[derive(Args)]
pub struct Options {
    /// The TUN device's queues, one for each worker. There are as many sockets for each.
    #[arg(long, value_name = "FD,FD", value_delimiter = ',', required = true)]
    tun: Vec<RawFd>,
    /// The UDP sockets.
    #[arg(long, value_name = "FD,FD", value_delimiter = ',', required_unless_present = "plain")]
    udp: Vec<RawFd>,
    /// A plain WireGuard interface, whose sockets are those of the pool.
    #[arg(long, requires = "pool", conflicts_with = "udp")]
    plain: bool,
    /// More UDP sockets, for hard NATs.
    #[arg(long, value_name = "FD-FD")]
    pool: Option<Numbers>,
    /// The pipe that control writes to.
    #[arg(long, value_name = "FD")]
    rx: RawFd,
    /// The pipe that control reads from.
    #[arg(long, value_name = "FD")]
    tx: RawFd,
    /// Copy the class of service of packets to their datagrams.
    #[arg(long)]
    show_dscp: bool,
    /// Start with the walls that this kernel has, if it lacks one.
    #[arg(long)]
    allow_unsandboxed: bool,
}

/// Why the data path cannot start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum DataPathError {
    /// A descriptor was not passed.
    #[error("{0} (the data path is started by vpnd, not by hand)")]
    Inherit(#[from] InheritError),
    /// The TUN device is none.
    #[error(transparent)]
    Tun(#[from] TunError),
    /// A UDP socket is none.
    #[error(transparent)]
    Udp(#[from] UdpError),
    /// The process could not be locked down.
    #[error("the data path could not be locked down: {0}")]
    Lockdown(#[from] sandbox::SandboxError),
    /// Waiting or reading failed.
    #[error("the data path failed: {0}")]
    Io(#[from] io::Error),
    /// Control wrote something that is no frame.
    #[error("control sent what is no frame: {0}")]
    Frame(#[from] proto::wire::WireError),
}

/// Runs the data path until control closes a pipe or the interface is deleted, and ends the process.
///
/// # Errors
/// [`DataPathError`].
pub fn run(options: &Options) -> Result<(), DataPathError> {
    process::call_it(NAME)?;
    let take = |&fd: &RawFd| Ok(Socket::from_fd(inherit::take(fd)?)?);
    let tuns = options.tun.iter().map(|&fd| Ok(Tun::from_fd(inherit::take(fd)?)?));
    let tuns = tuns.collect::<Result<Vec<Tun>, DataPathError>>()?;
    let sockets = options.udp.iter().map(take).collect::<Result<Vec<Socket>, DataPathError>>()?;
    let inlet = Inlet::new(pipe::Reader::new(inherit::take(options.rx)?));
    let mut outlet = Outlet::pipe(pipe::Writer::new(inherit::take(options.tx)?));
    let pool = pool(options)?;

    // Waits until the loop runs.
    outlet.send(&FromData::Ready);
    let missing = if options.allow_unsandboxed { Missing::Allow } else { Missing::Refuse };
    let now = Instant::now();
    let places = places(tuns, sockets, pool, options.plain)?;
    let pipes = Pipes { inlet, outlet, numbers: (options.rx, options.tx) };
    if options.plain {
        let device = |_: &Place, share| {
            let device = Device::new(now, Box::new(OsRng)).sharing(share);
            if options.show_dscp { device.showing_class() } else { device }
        };
        return workers::run(places, pipes, missing, device);
    }
    let bound =
        |place: &Place| place.sockets.iter().take(place.bound).map(wildcard).collect::<io::Result<Vec<_>>>();
    let addresses = places.first().map(bound).transpose()?.unwrap_or_default();
    // By the numbers that the first worker has them under.
    let pool = places.first().map_or(0..0, |place| place.bound as u8..place.sockets.len() as u8);
    let budgets = Budgets::new(now);
    let mesh = |_: &Place, share| {
        let mesh = Mesh::new(now, Box::new(OsRng), &addresses).with_pool(pool.clone());
        let mesh = mesh.sharing(share).within(budgets.clone());
        if options.show_dscp { mesh.showing_class() } else { mesh }
    };
    workers::run(places, pipes, missing, mesh)
}

/// What each worker has: a queue of the device, and its share of the sockets, which are as many for each. The pool of a machine
/// in a network is the first worker's alone.
fn places(
    tuns: Vec<Tun>,
    sockets: Vec<Socket>,
    pool: Vec<Socket>,
    plain: bool,
) -> Result<Vec<Place>, DataPathError> {
    let workers = tuns.len();
    let (bound, spare) = (sockets.len() / workers, if plain { pool.len() / workers } else { pool.len() });
    let (mut sockets, mut pool) = (sockets.into_iter(), pool.into_iter());
    let places = tuns.into_iter().map(|tun| {
        let own: Vec<Socket> = sockets.by_ref().take(bound).collect();
        let pool: Vec<Socket> = pool.by_ref().take(spare).collect();
        let epoll = Epoll::new()?;
        let held = Held {
            tun: tun.as_fd().as_raw_fd(),
            udp: own.iter().map(number).collect(),
            pool: row(&pool),
            rx: None,
            tx: None,
            epoll: epoll.as_fd().as_raw_fd(),
            bells: Vec::new(),
        };
        let sockets = own.into_iter().chain(pool).take(u8::MAX.into()).collect();
        Ok(Place { tun, sockets, bound, epoll, held })
    });
    places.collect()
}

/// What a socket is bound to.
fn wildcard(socket: &Socket) -> io::Result<SocketAddr> {
    let ip: IpAddr = match socket.family() {
        Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
        Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
    };
    Ok(SocketAddr::new(ip, socket.port()?))
}

/// The pool, its descriptors in a row. A machine of a network that cannot line it up has none; a plain interface lives from it.
fn pool(options: &Options) -> Result<Vec<Socket>, DataPathError> {
    let numbers = options.pool.as_ref().map(|numbers| numbers.0.as_slice()).unwrap_or_default();
    let taken = numbers.iter().map(|&fd| inherit::take(fd)).collect::<Result<Vec<_>, InheritError>>()?;
    let row = match inherit::line_up(taken) {
        Err(e) if options.plain => return Err(e.into()),
        row => row.unwrap_or_default(),
    };
    let sockets = row.into_iter().map(Socket::from_fd).collect::<Result<Vec<_>, UdpError>>()?;
    Ok(if options.plain { sockets.into_iter().map(Socket::fragmenting).collect() } else { sockets })
}

/// From the first descriptor to the last.
fn row(pool: &[Socket]) -> Option<RangeInclusive<RawFd>> {
    Some(number(pool.first()?)..=number(pool.last()?))
}

fn number(socket: &Socket) -> RawFd {
    socket.as_fd().as_raw_fd()
}
