//! Sockets that are shared with another process before they have a port, so that the port can change later while neither
//! process hands the other anything.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsFd, AsRawFd, OwnedFd},
};

use nix::sys::socket::{SockaddrStorage, bind, getsockname, setsockopt, sockopt};

use super::{Family, Socket, UdpError, open};

/// A socket that is bound to nothing yet.
///
/// # Errors
/// [`UdpError`].
pub fn spare(family: Family) -> Result<OwnedFd, UdpError> {
    open(family, None)
}

/// Binds a socket of [`spare`] to `port` (0: any) of every address; which port it has then.
///
/// # Errors
/// [`UdpError`]; the socket can be bound to another port then.
pub fn bind_spare(fd: &impl AsFd, family: Family, port: u16) -> Result<u16, UdpError> {
    let addr = match family {
        Family::V4 => SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
        Family::V6 => SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
    };
    let fd = fd.as_fd().as_raw_fd();
    bind(fd, &SockaddrStorage::from(addr)).map_err(|e| match e {
        nix::Error::EADDRINUSE => UdpError::PortTaken(port),
        nix::Error::EACCES => UdpError::NotPermitted(port),
        nix::Error::EADDRNOTAVAIL | nix::Error::EAFNOSUPPORT => UdpError::NoFamily,
        e => UdpError::Io(e.into()),
    })?;
    let bound: SockaddrStorage = getsockname(fd).map_err(io::Error::from)?;
    let v4 = bound.as_sockaddr_in().map(nix::sys::socket::SockaddrIn::port);
    Ok(v4.or(bound.as_sockaddr_in6().map(nix::sys::socket::SockaddrIn6::port)).unwrap_or(port))
}

/// Marks what leaves by a socket for the system's routing; 0: not at all. Needs `CAP_NET_ADMIN`.
///
/// # Errors
/// As `setsockopt(2)`.
pub fn set_mark(fd: &impl AsFd, mark: u32) -> io::Result<()> {
    Ok(setsockopt(fd, sockopt::Mark, &mark)?)
}

impl Socket {
    /// The same socket, whose datagrams routers (and this system) may cut into fragments: for a protocol that does not find
    /// out itself what the path takes.
    #[must_use]
    pub fn fragmenting(self) -> Self {
        let (level, option, value) = match self.family {
            Family::V4 => (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DONT),
            Family::V6 => (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DONT),
        };
        super::set(&self.fd, level, option, value);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_of_a_spare_socket_has_the_port_that_the_other_gets() {
        let spare = spare(Family::V4).unwrap();
        let copy = Socket::from_fd(spare.try_clone().unwrap()).unwrap().fragmenting();
        assert_eq!((copy.family(), copy.port().unwrap()), (Family::V4, 0));
        let port = bind_spare(&spare, Family::V4, 0).unwrap();
        assert!(port > 0 && copy.port().unwrap() == port);
        let other = super::spare(Family::V4).unwrap();
        assert!(matches!(bind_spare(&other, Family::V4, port), Err(UdpError::PortTaken(p)) if p == port));
        drop((spare, copy));
        assert_eq!(bind_spare(&other, Family::V4, port).unwrap(), port, "both copies are closed");
    }
}
