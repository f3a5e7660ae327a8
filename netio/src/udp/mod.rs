//! UDP sockets of the underlay: one for each address family, bound to every address, never connected; and a pool that has
//! no ports until it is sent from.
//!
//! A socket that is not connected survives roaming and shows no peer in `/proc/net/udp`. Batches go both ways:
//! [`Socket::send`] hands the kernel equal-sized datagrams to one destination as one buffer (`UDP_SEGMENT`),
//! [`Socket::recv`] takes up to [`SLOTS`] coalesced buffers in one call (`recvmmsg`, `UDP_GRO`). Where the kernel knows no
//! segmentation, or it or a network card refuses it one day, that is remembered, and the datagrams go out one by one.
//!
//! No datagram is ever cut into fragments, here or on the way: whoever sends finds out what the path takes, and
//! [`SendError::TooBig`] says what this machine's own link does not.
//!
//! With each datagram goes, and comes, its type of service (IPv4) or traffic class (IPv6): what routers say of congestion is
//! there. The kernel coalesces no datagrams that differ in it.
//!
//! Several sockets share a port by [`share()`], each receiving what is for it by a few bits of the datagram.
//!
//! Besides, a datagram goes to every host of a link by [`Socket::say`], and what others say so is heard by [`hear`].

mod group;
mod recv;
mod send;
mod share;
mod spare;

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrLike, SockaddrStorage, bind, getsockname, getsockopt,
    setsockopt, socket, sockopt,
};

pub use self::{
    group::hear,
    recv::{Batch, Datagram, SLOTS},
    send::SendError,
    share::{Choice, share},
    spare::{bind_spare, set_mark, spare},
};

/// What is asked of the kernel for a socket's buffers, in bytes: at 2 Gbit/s, 16 ms.
const BUFFER: usize = 4 << 20;

/// The ports tried by [`bind_pair`] after the one asked for.
const MORE_PORTS: u16 = 100;

/// Which of the two families a socket speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6 alone, no mapped IPv4 addresses.
    V6,
}

/// Why a socket cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum UdpError {
    /// Another program has the port.
    #[error("UDP port {0} is in use by another program; choose another one with --port")]
    PortTaken(u16),
    /// Ports under 1024 need a right that this process has not.
    #[error("UDP port {0} may be opened by root only; choose one above 1023 with --port")]
    NotPermitted(u16),
    /// The system has no such address family (IPv6 switched off, say).
    #[error("this system has no support for one of IPv4 and IPv6")]
    NoFamily,
    /// The descriptor is no UDP socket.
    #[error("the descriptor passed is not a UDP socket")]
    NotUdp,
    /// The system refused.
    #[error("a UDP socket could not be opened: {0}")]
    Io(#[from] io::Error),
}

/// A wildcard UDP socket.
pub struct Socket {
    fd: OwnedFd,
    family: Family,
    /// Whether the kernel and the card have taken `UDP_SEGMENT` so far.
    segments: bool,
}

impl Socket {
    /// Opens a socket on `port` (0: any) of every address of `family`, for packets marked `mark` if one is given
    /// (needs `CAP_NET_ADMIN`).
    ///
    /// # Errors
    /// [`UdpError`].
    pub fn bind(family: Family, port: u16, mark: Option<u32>) -> Result<Self, UdpError> {
        let addr = match family {
            Family::V4 => SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
            Family::V6 => SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
        };
        let fd = open(family, mark)?;
        bind(std::os::fd::AsRawFd::as_raw_fd(&fd), &SockaddrStorage::from(addr)).map_err(|e| match e {
            nix::Error::EADDRINUSE => UdpError::PortTaken(port),
            nix::Error::EACCES => UdpError::NotPermitted(port),
            nix::Error::EADDRNOTAVAIL | nix::Error::EAFNOSUPPORT => UdpError::NoFamily,
            e => UdpError::Io(e.into()),
        })?;
        Ok(Self::prepare(fd, family))
    }

    /// Takes a socket that another process bound.
    ///
    /// # Errors
    /// [`UdpError::NotUdp`].
    pub fn from_fd(fd: OwnedFd) -> Result<Self, UdpError> {
        let addr: SockaddrStorage =
            getsockname(std::os::fd::AsRawFd::as_raw_fd(&fd)).map_err(|_| UdpError::NotUdp)?;
        let family = match addr.family() {
            Some(AddressFamily::Inet) => Family::V4,
            Some(AddressFamily::Inet6) => Family::V6,
            _ => return Err(UdpError::NotUdp),
        };
        if getsockopt(&fd, sockopt::SockType) != Ok(SockType::Datagram) {
            return Err(UdpError::NotUdp);
        }
        Ok(Self::prepare(fd, family))
    }

    /// Large buffers, receive coalescing and what headers say of congestion, each only as far as the kernel grants it; and
    /// no fragments.
    fn prepare(fd: OwnedFd, family: Family) -> Self {
        never_fragment(&fd, family);
        report_class(&fd, family);
        if setsockopt(&fd, sockopt::RcvBufForce, &BUFFER).is_err() {
            let _ = setsockopt(&fd, sockopt::RcvBuf, &BUFFER);
        }
        if setsockopt(&fd, sockopt::SndBufForce, &BUFFER).is_err() {
            let _ = setsockopt(&fd, sockopt::SndBuf, &BUFFER);
        }
        let _ = setsockopt(&fd, sockopt::UdpGroSegment, &true);
        // A kernel that does not know segmentation would pass over the wish for it, and send a batch as one datagram.
        let segments = getsockopt(&fd, sockopt::UdpGsoSegment).is_ok();
        Self { fd, family, segments }
    }

    /// The family that this socket sends to.
    #[must_use]
    pub fn family(&self) -> Family {
        self.family
    }

    /// The port that the socket is bound to.
    ///
    /// # Errors
    /// As `getsockname(2)`.
    pub fn port(&self) -> io::Result<u16> {
        let addr: SockaddrStorage = getsockname(std::os::fd::AsRawFd::as_raw_fd(&self.fd))?;
        let v4 = addr.as_sockaddr_in().map(nix::sys::socket::SockaddrIn::port);
        Ok(v4.or(addr.as_sockaddr_in6().map(nix::sys::socket::SockaddrIn6::port)).unwrap_or(0))
    }

    /// The descriptor, to hand to another process.
    #[must_use]
    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn open(family: Family, mark: Option<u32>) -> Result<OwnedFd, UdpError> {
    let domain = match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(domain, SockType::Datagram, flags, None).map_err(|e| match e {
        nix::Error::EAFNOSUPPORT => UdpError::NoFamily,
        e => UdpError::Io(e.into()),
    })?;
    if family == Family::V6 {
        setsockopt(&fd, sockopt::Ipv6V6Only, &true).map_err(io::Error::from)?;
    }
    if let Some(mark) = mark {
        setsockopt(&fd, sockopt::Mark, &mark).map_err(io::Error::from)?;
    }
    Ok(fd)
}

/// Many IPv4 sockets that are bound to nothing: one gets a port, and can be heard on, when it is first sent from. Until then
/// it costs three kilobytes in the kernel and is seen by nobody.
///
/// # Errors
/// [`UdpError`]: the usual one is that a process may open no more descriptors. None is left then.
pub fn pool(count: usize, mark: Option<u32>) -> Result<Vec<OwnedFd>, UdpError> {
    (0..count).map(|_| open(Family::V4, mark)).collect()
}

/// Sets "don't fragment" on every datagram, and passes over what routers said about the path by ICMP, which anybody can
/// send: the only limit that the kernel knows is the MTU of its own link (`IP_PMTUDISC_PROBE`). A kernel that refuses
/// this sends as before.
fn never_fragment(fd: &OwnedFd, family: Family) {
    let (level, option, value) = match family {
        Family::V4 => (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE),
        Family::V6 => (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_PROBE),
    };
    set(fd, level, option, value);
}

/// Has the kernel say with which type of service (traffic class) a datagram came. One that refuses this leaves what
/// routers say of congestion unheard.
fn report_class(fd: &OwnedFd, family: Family) {
    match family {
        Family::V4 => set(fd, libc::IPPROTO_IP, libc::IP_RECVTOS, 1),
        Family::V6 => set(fd, libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS, 1),
    }
}

/// Sets an option that is an `int`, if the kernel grants it.
fn set(fd: &OwnedFd, level: libc::c_int, option: libc::c_int, value: libc::c_int) {
    // SAFETY: `fd` is open, `value` is an int as the options here take it, and it lives over the call.
    #[allow(unsafe_code)]
    unsafe {
        libc::setsockopt(
            std::os::fd::AsRawFd::as_raw_fd(fd),
            level,
            option,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        );
    }
}

/// The sockets of a machine: IPv4, and IPv6 where the system has it, on the same port.
pub struct Pair {
    /// The IPv4 socket.
    pub v4: Socket,
    /// The IPv6 socket, if the system has IPv6.
    pub v6: Option<Socket>,
    /// Their port.
    pub port: u16,
}

/// Opens both families on `port` (0: any), or, unless `exact`, on the next port that is free in both.
///
/// # Errors
/// [`UdpError`]; [`UdpError::PortTaken`] names the port asked for.
pub fn bind_pair(port: u16, exact: bool, mark: Option<u32>) -> Result<Pair, UdpError> {
    let more = if exact { 0 } else { MORE_PORTS };
    for n in 0..=more {
        // Where any will do, the kernel chooses another each time.
        let candidate = if port == 0 { 0 } else { port.saturating_add(n) };
        let v4 = match Socket::bind(Family::V4, candidate, mark) {
            Ok(socket) => socket,
            Err(UdpError::PortTaken(_)) => continue,
            Err(e) => return Err(e),
        };
        let port = v4.port()?;
        match Socket::bind(Family::V6, port, mark) {
            Ok(v6) => return Ok(Pair { v4, v6: Some(v6), port }),
            Err(UdpError::NoFamily) => return Ok(Pair { v4, v6: None, port }),
            Err(UdpError::PortTaken(_)) => {}
            Err(e) => return Err(e),
        }
    }
    Err(UdpError::PortTaken(port))
}

#[cfg(test)]
mod fallbacks;
#[cfg(test)]
mod tests;
