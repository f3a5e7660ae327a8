//! New sockets of every family, and its own ones used for something else.

use nix::libc::{
    self, AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, AF_UNIX, SOCK_DGRAM, SOCK_RAW, SOCK_STREAM, SOL_SOCKET,
};

use super::{Free, List};
use crate::{
    kernel::{Outcome, call},
    stage::{text, unix_address},
};

/// Families of addresses: 1 to one less than `AF_MAX` of the newest kernel.
const FAMILIES: std::ops::Range<i32> = 1..46;

pub(crate) fn list(all: &mut List) {
    for family in FAMILIES {
        let everywhere = [AF_UNIX, AF_INET, AF_NETLINK].contains(&family);
        let kind = if family == AF_NETLINK { SOCK_RAW } else { SOCK_DGRAM };
        let free = if everywhere { Free::Works } else { Free::Perhaps };
        all.numbered(format!("a socket of family {family}"), free, move |_| {
            Box::new(move || call!(SYS_socket, family, kind, 0))
        });
    }
    all.works("a TCP socket", |_| move || call!(SYS_socket, AF_INET, SOCK_STREAM, 0));
    all.works("a raw socket", |_| move || call!(SYS_socket, AF_INET, SOCK_RAW, libc::IPPROTO_ICMP));
    all.perhaps("a raw IPv6 socket", |_| move || call!(SYS_socket, AF_INET6, SOCK_RAW, libc::IPPROTO_ICMPV6));
    all.perhaps("a packet socket", |_| move || call!(SYS_socket, AF_PACKET, SOCK_RAW, 0));
    all.works("a pair of sockets", |_| {
        let mut pair = [0_i32; 2];
        move || call!(SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, pair.as_mut_ptr())
    });
    all.works("connect to a log's socket", |stage| {
        let (unix, (address, len)) = (stage.unix, unix_address("log"));
        move || call!(SYS_connect, unix, &raw const address, len)
    });
    all.perhaps("connect to /dev/log", |stage| {
        let (unix, (address, len)) = (stage.unix, unix_address("/dev/log"));
        move || call!(SYS_connect, unix, &raw const address, len)
    });
    all.works("send to a log's socket", |stage| {
        let (unix, (address, len)) = (stage.unix, unix_address("log"));
        let bytes = b"<6>a peer connected";
        move || call!(SYS_sendto, unix, bytes.as_ptr(), bytes.len(), 0, &raw const address, len)
    });
    all.works("pass a descriptor to another process", |stage| {
        let (unix, message) = (stage.unix, Message::with_descriptor(stage.file));
        move || message.send(unix)
    });
    all.works("take what another process passes", |stage| {
        let (unix, mut message) = (stage.unix, Message::with_descriptor(stage.file));
        message.send(unix + 1).unwrap();
        move || message.receive(unix)
    });
    all.works("listen for others", |stage| {
        let (unix, (address, len)) = (stage.unix, unix_address(""));
        // Of no length: the kernel chooses a name.
        move || call!(SYS_bind, unix, &raw const address, len - 1)
    });
    all.works("answer its peers", |_| bind(proto::sync::PORT));
    all.works("wait for others at a port", |_| bind(41_113));
    own(all);
}

/// A TCP socket of its own that is bound to a port.
fn bind(port: u16) -> impl FnOnce() -> Outcome {
    let socket = call!(SYS_socket, AF_INET, SOCK_STREAM, 0).unwrap() as i32;
    let address = libc::sockaddr_in {
        sin_family: AF_INET as u16,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes([127, 0, 0, 1]) },
        sin_zero: [0; 8],
    };
    move || call!(SYS_bind, socket, &raw const address, size_of_val(&address))
}

/// Its own sockets.
fn own(all: &mut List) {
    all.works("connect its own socket", |stage| {
        let udp = stage.held.udp[0];
        let address = libc::sockaddr_in {
            sin_family: AF_INET as u16,
            sin_port: 53_u16.to_be(),
            sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes([127, 0, 0, 1]) },
            sin_zero: [0; 8],
        };
        move || call!(SYS_connect, udp, &raw const address, size_of_val(&address))
    });
    all.perhaps("bind its own socket anew", |stage| {
        let (udp, address) = (stage.held.udp[0], [AF_INET as u16, 0, 0, 0, 0, 0, 0, 0]);
        move || call!(SYS_bind, udp, address.as_ptr(), 16)
    });
    all.works("mark its own socket's packets", |stage| {
        let (udp, mark) = (stage.held.udp[0], 7_i32);
        move || call!(SYS_setsockopt, udp, SOL_SOCKET, libc::SO_MARK, &raw const mark, 4)
    });
    all.works("bind its own socket to a device", |stage| {
        let (udp, name) = (stage.held.udp[0], text("lo"));
        move || call!(SYS_setsockopt, udp, SOL_SOCKET, libc::SO_BINDTODEVICE, name.as_ptr(), 3)
    });
    all.works("ask its own socket", |stage| {
        let (udp, mut room, mut len) = (stage.held.udp[0], 0_i32, 4_u32);
        move || call!(SYS_getsockopt, udp, SOL_SOCKET, libc::SO_TYPE, &raw mut room, &raw mut len)
    });
    all.works("its own socket's name", |stage| {
        let (udp, mut room, mut len) = (stage.held.udp[0], [0_u8; 128], 128_u32);
        move || call!(SYS_getsockname, udp, room.as_mut_ptr(), &raw mut len)
    });
    all.perhaps("shut its own socket down", |stage| {
        let udp = stage.held.udp[0];
        move || call!(SYS_shutdown, udp, libc::SHUT_RDWR)
    });
    all.perhaps("listen on its own socket", |stage| {
        let udp = stage.held.udp[0];
        move || call!(SYS_listen, udp, 1)
    });
    all.perhaps("accept on its own socket", |stage| {
        let udp = stage.held.udp[0];
        move || call!(SYS_accept4, udp, 0, 0, 0)
    });
    all.perhaps("send on its pipe as on a socket", |stage| {
        let (pipe, bytes) = (stage.held.tx, b"x");
        move || call!(SYS_sendto, pipe, bytes.as_ptr(), bytes.len(), 0, 0, 0)
    });
}

/// A byte, and a descriptor with it.
struct Message {
    byte: [u8; 1],
    /// `cmsghdr`, then the descriptor, padded.
    control: [u64; 3],
}

impl Message {
    fn with_descriptor(fd: i32) -> Self {
        let level_and_kind = u64::from(SOL_SOCKET as u32) | u64::from(libc::SCM_RIGHTS as u32) << 32;
        Self { byte: [7], control: [20, level_and_kind, fd as u64] }
    }

    fn vector(&self) -> libc::iovec {
        libc::iovec { iov_base: self.byte.as_ptr().cast_mut().cast(), iov_len: 1 }
    }

    fn header(&self, vector: &libc::iovec) -> [usize; 7] {
        [0, 0, std::ptr::from_ref(vector) as usize, 1, self.control.as_ptr() as usize, 24, 0]
    }

    fn send(&self, fd: i32) -> Outcome {
        let vector = self.vector();
        call!(SYS_sendmsg, fd, self.header(&vector).as_ptr(), 0)
    }

    fn receive(&mut self, fd: i32) -> Outcome {
        let vector = self.vector();
        call!(SYS_recvmsg, fd, self.header(&vector).as_ptr(), 0)
    }
}
