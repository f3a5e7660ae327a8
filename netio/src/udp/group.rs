//! Every host of a link at once: by the groups that each host is in anyway, so that nobody has to join one, and the kernel
//! reports nothing to the LAN.

use std::{
    io::{self, IoSlice},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket},
    os::fd::AsRawFd,
};

use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, SockaddrStorage, bind, sendmsg, setsockopt,
    socket, sockopt,
};

use super::{Family, SendError, Socket, send::reason};

/// All hosts (RFC 1112); all nodes of the link (RFC 4291).
const ALL_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 1);
const ALL_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// What waits to be heard, in bytes: some dozens of small datagrams. A flood is to be dropped early.
const EAR: usize = 16 << 10;

/// Opens a socket that hears what is said to every host of a link, on all links, at a port. Others may listen there too:
/// each hears everything.
///
/// # Errors
/// As `socket(2)` and `bind(2)`: another program has the port for itself, or the system has no such family.
pub fn hear(family: Family, port: u16) -> io::Result<UdpSocket> {
    let (domain, addr) = match family {
        // Bound to the group: what is sent to this host alone does not come here.
        Family::V4 => (AddressFamily::Inet, SocketAddr::from((ALL_V4, port))),
        // There a group belongs to one link, and links come and go.
        Family::V6 => (AddressFamily::Inet6, SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))),
    };
    let fd = socket(domain, SockType::Datagram, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
    if family == Family::V6 {
        setsockopt(&fd, sockopt::Ipv6V6Only, &true)?;
    }
    setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    setsockopt(&fd, sockopt::RcvBuf, &EAR)?;
    bind(fd.as_raw_fd(), &SockaddrStorage::from(addr))?;
    Ok(fd.into())
}

impl Socket {
    /// Sends a datagram to every host of a link, from an address that this host has there, of the socket's family. No router
    /// passes it on.
    ///
    /// # Errors
    /// [`SendError`]: it did not leave.
    pub fn say(&self, link: u32, from: IpAddr, port: u16, datagram: &[u8]) -> Result<(), SendError> {
        let data = [IoSlice::new(datagram)];
        let send = |to: SocketAddr, from: ControlMessage<'_>| {
            let to = SockaddrStorage::from(to);
            sendmsg(self.fd.as_raw_fd(), &data, &[from], MsgFlags::MSG_DONTWAIT, Some(&to))
        };
        let sent = match from {
            IpAddr::V4(from) => {
                let source = libc::in_pktinfo {
                    ipi_ifindex: link.cast_signed(),
                    ipi_spec_dst: libc::in_addr { s_addr: u32::from(from).to_be() },
                    ipi_addr: libc::in_addr { s_addr: 0 },
                };
                send(SocketAddrV4::new(ALL_V4, port).into(), ControlMessage::Ipv4PacketInfo(&source))
            }
            IpAddr::V6(from) => {
                let source = libc::in6_pktinfo {
                    ipi6_addr: libc::in6_addr { s6_addr: from.octets() },
                    ipi6_ifindex: link,
                };
                send(SocketAddrV6::new(ALL_V6, port, 0, link).into(), ControlMessage::Ipv6PacketInfo(&source))
            }
        };
        sent.map(drop).map_err(|errno| reason(errno as i32))
    }
}
