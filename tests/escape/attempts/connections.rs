//! What a server holds: a listening socket, connections, its own pair of sockets.

use nix::libc;

use super::List;
use crate::{kernel::call, stage::text};

pub(crate) fn list(all: &mut List) {
    all.perhaps("splice", |stage| {
        let (file, tx) = (stage.file, stage.held.tx);
        move || call!(SYS_splice, file, 0, tx, 0, 3, 0)
    });
    all.works("dup a connection", |stage| {
        let tcp = stage.held.tcp.unwrap();
        move || call!(SYS_dup, tcp)
    });
    all.works("dup over a connection", |stage| {
        let (file, tcp) = (stage.file, stage.held.tcp.unwrap());
        move || call!(SYS_dup3, file, tcp, 0)
    });
    all.works("dup a connection by fcntl", |stage| {
        let tcp = stage.held.tcp.unwrap();
        move || call!(SYS_fcntl, tcp, libc::F_DUPFD, 100)
    });
    all.works("make a connection blocking", |stage| {
        let tcp = stage.held.tcp.unwrap();
        move || call!(SYS_fcntl, tcp, libc::F_SETFL, 0)
    });
    all.perhaps("type into a terminal by a connection", |stage| {
        let (tcp, byte) = (stage.held.tcp.unwrap(), b"x");
        move || call!(SYS_ioctl, tcp, libc::TIOCSTI as usize, byte.as_ptr())
    });
    all.works("its peer's address", |stage| {
        let (tcp, mut room, mut len) = (stage.held.tcp.unwrap(), [0_u8; 128], 128_u32);
        move || call!(SYS_getpeername, tcp, room.as_mut_ptr(), &raw mut len)
    });
    all.perhaps("connect a connection elsewhere", |stage| {
        let (tcp, address) = (stage.held.tcp.unwrap(), [0_u8; 16]);
        move || call!(SYS_connect, tcp, address.as_ptr(), address.len())
    });
    all.perhaps("wrap a connection in another protocol", |stage| {
        let (tcp, name) = (stage.held.tcp.unwrap(), text("tls"));
        move || call!(SYS_setsockopt, tcp, libc::IPPROTO_TCP, libc::TCP_ULP, name.as_ptr(), 4)
    });
    all.perhaps("filter a connection by a program", |stage| {
        let (tcp, program) = (stage.held.tcp.unwrap(), [0_u8; 16]);
        move || call!(SYS_setsockopt, tcp, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, program.as_ptr(), 16)
    });
}
