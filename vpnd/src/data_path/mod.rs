//! The data path's own process: one thread that runs every batch of packets to completion.
//!
//! It inherits all it will ever hold: the TUN device, the UDP sockets (a pool of silent ones among them) and two pipes to control, by number. It opens its
//! epoll instance, takes every other power from itself ([`lockdown`]), says that it is ready, and from then on only
//! moves packets between those descriptors through [`mesh::Mesh`] or, for a plain WireGuard interface, [`mesh::Device`]
//! ([`event_loop`]). It has no queue of its own: what a
//! socket, the device or the pipe does not take at once is dropped and counted.
//!
//! It prints nothing: its standard descriptors are closed, a panic ends it without a word, and control starts another.
//! It ends by itself when control closes a pipe or writes what is no frame, and the kernel ends it when it makes a
//! system call that it has no use for.

mod control;
mod engine;
mod event_loop;
pub mod lockdown;

use std::{
    ffi::CStr,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    ops::RangeInclusive,
    os::fd::{AsFd, AsRawFd, RawFd},
    time::Instant,
};

use clap::Args;
use mesh::{Device, Mesh};
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

use self::{control::Control, engine::Engine, event_loop::EventLoop, lockdown::Held};

/// What `ps` shows of it: it is started from a link called `exe`.
const NAME: &CStr = c"vpnd-data-path";

/// `vpnd data-path`: started by vpnd alone, with its descriptors inherited by number.
#[derive(Args)]
pub struct Options {
    /// The TUN device.
    #[arg(long, value_name = "FD")]
    tun: RawFd,
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

/// Runs the data path until control closes a pipe.
///
/// # Errors
/// [`DataPathError`].
pub fn run(options: &Options) -> Result<(), DataPathError> {
    process::call_it(NAME)?;
    let tun = Tun::from_fd(inherit::take(options.tun)?)?;
    let take = |&fd: &RawFd| Ok(Socket::from_fd(inherit::take(fd)?)?);
    let sockets = options.udp.iter().map(take).collect::<Result<Vec<Socket>, DataPathError>>()?;
    let rx = pipe::Reader::new(inherit::take(options.rx)?);
    let tx = pipe::Writer::new(inherit::take(options.tx)?);
    let pool = pool(options)?;
    let epoll = Epoll::new()?;

    let held = Held {
        tun: options.tun,
        udp: options.udp.clone(),
        pool: row(&pool),
        rx: options.rx,
        tx: options.tx,
        epoll: epoll.as_fd().as_raw_fd(),
    };
    // Waits until the loop runs.
    let mut control = Control::new(rx, tx);
    control.send(&FromData::Ready);
    let missing = if options.allow_unsandboxed { Missing::Allow } else { Missing::Refuse };
    let now = Instant::now();
    if options.plain {
        let device = Device::new(now, Box::new(OsRng));
        let device = if options.show_dscp { device.showing_class() } else { device };
        return confined(EventLoop::new(epoll, tun, pool, device, control)?, &held, missing);
    }
    let addresses = sockets.iter().map(wildcard).collect::<io::Result<Vec<_>>>()?;
    let first = sockets.len();
    let all: Vec<Socket> = sockets.into_iter().chain(pool).take(u8::MAX.into()).collect();
    let mesh = Mesh::new(now, Box::new(OsRng), &addresses).with_pool(first as u8..all.len() as u8);
    let mesh = if options.show_dscp { mesh.showing_class() } else { mesh };
    confined(EventLoop::new(epoll, tun, all, mesh, control)?, &held, missing)
}

/// Behind its walls, the loop.
fn confined<E: Engine>(event_loop: EventLoop<E>, held: &Held, missing: Missing) -> Result<(), DataPathError> {
    #[cfg(feature = "leaks")]
    if crate::leaks::chosen("no-walls") {
        return event_loop.run();
    }
    lockdown::lockdown(held, missing)?;
    event_loop.run()
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
    let number = |socket: &Socket| socket.as_fd().as_raw_fd();
    Some(number(pool.first()?)..=number(pool.last()?))
}
