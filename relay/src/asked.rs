//! A UDP socket whose answers leave from the address that was asked: a server has several, and a NAT or a firewall on the
//! way lets in what comes from there alone. (Left to the kernel, it would be the address of the route back.)

use std::{
    io::{self, IoSlice, IoSliceMut},
    net::SocketAddr,
    os::fd::AsRawFd,
};

use nix::{
    cmsg_space,
    libc::{in_pktinfo, in6_pktinfo},
    sys::socket::{
        ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt, sockopt,
    },
};
use socket2::{Domain, Socket};
use tokio::{io::Interest, net::UdpSocket};

/// A bound socket.
pub(crate) struct Asked {
    socket: UdpSocket,
    /// Where the kernel says which address was asked.
    control: Vec<u8>,
}

/// The address that was asked, as the kernel takes it back.
enum At {
    V4(in_pktinfo),
    V6(in6_pktinfo),
}

impl Asked {
    /// Needs a tokio runtime.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn new(socket: Socket) -> io::Result<Self> {
        if socket.domain()? == Domain::IPV4 {
            setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
        } else {
            // For IPv4 on this socket too, in its mapped form.
            setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
        }
        let control = cmsg_space!(in_pktinfo, in6_pktinfo);
        Ok(Self { socket: UdpSocket::from_std(socket.into())?, control })
    }

    /// The address bound.
    ///
    /// # Errors
    /// As `getsockname(2)`.
    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Waits for a question.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    /// Reads one question into `room`, and sends what `answer` makes of it and of where it came from. An answer that the
    /// socket does not take at once is lost.
    ///
    /// # Errors
    /// If there is no question, or reading fails.
    #[inline(never)]
    pub(crate) fn answer_one(
        &mut self,
        room: &mut [u8],
        answer: impl FnOnce(&[u8], SocketAddr) -> Option<Vec<u8>>,
    ) -> io::Result<()> {
        let Self { socket, control } = self;
        let fd = socket.as_raw_fd();
        let (len, source, at) = socket.try_io(Interest::READABLE, || {
            let mut parts = [IoSliceMut::new(room)];
            let got = recvmsg::<SockaddrStorage>(fd, &mut parts, Some(control), MsgFlags::MSG_DONTWAIT)?;
            let source = got.address.ok_or(io::ErrorKind::InvalidData)?;
            Ok((got.bytes, source, got.cmsgs()?.find_map(|message| At::read(&message))))
        })?;
        let Some(seen) = address(&source) else { return Ok(()) };
        if let Some(bytes) = answer(&room[..len], seen) {
            let control: Option<ControlMessage<'_>> = at.as_ref().map(At::write);
            let parts = [IoSlice::new(&bytes)];
            let _ = sendmsg(fd, &parts, control.as_slice(), MsgFlags::MSG_DONTWAIT, Some(&source));
        }
        Ok(())
    }
}

impl At {
    /// Of what came with a datagram. The route back is the kernel's choice, so no interface is named.
    fn read(message: &ControlMessageOwned) -> Option<Self> {
        match message {
            ControlMessageOwned::Ipv4PacketInfo(info) => {
                Some(Self::V4(in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: info.ipi_addr, ..*info }))
            }
            ControlMessageOwned::Ipv6PacketInfo(info) => {
                Some(Self::V6(in6_pktinfo { ipi6_ifindex: 0, ..*info }))
            }
            _ => None,
        }
    }

    fn write(&self) -> ControlMessage<'_> {
        match self {
            Self::V4(info) => ControlMessage::Ipv4PacketInfo(info),
            Self::V6(info) => ControlMessage::Ipv6PacketInfo(info),
        }
    }
}

fn address(source: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = source.as_sockaddr_in().map(|v4| SocketAddr::V4((*v4).into()));
    v4.or_else(|| source.as_sockaddr_in6().map(|v6| SocketAddr::V6((*v6).into())))
}
