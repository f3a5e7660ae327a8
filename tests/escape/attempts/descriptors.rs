//! Descriptors by number, those that the process was born with, and what else can be done with its own.

use std::os::fd::RawFd;

use nix::libc;

use super::{Free, List};
use crate::kernel::call;

/// Numbers below this are written to one by one.
const NUMBERS: RawFd = 65;

pub(crate) fn list(all: &mut List) {
    every_number(all);
    born_with(all);
    copies(all);
    new(all);
    own(all);
}

/// Writes to each number. A pair of sockets between two ends of the process itself leads nowhere, and its connection is
/// what it lives from: at a place in the file is what is tried there.
fn every_number(all: &mut List) {
    for fd in 0..NUMBERS {
        all.numbered(format!("write to descriptor {fd}"), Free::Perhaps, move |stage| {
            let own = [stage.tcp, stage.held.tx, stage.held.tx + 1].contains(&fd);
            let bytes = b"x";
            Box::new(move || match own {
                true => call!(SYS_pwrite64, fd, bytes.as_ptr(), 1, 0),
                false => call!(SYS_write, fd, bytes.as_ptr(), 1),
            })
        });
    }
}

fn born_with(all: &mut List) {
    all.works("write to a file it was born with", |stage| {
        let (file, bytes) = (stage.file, b"x");
        move || call!(SYS_write, file, bytes.as_ptr(), 1)
    });
    all.works("write a list of buffers to a file", |stage| {
        let (file, bytes) = (stage.file, b"x");
        move || {
            let vector = [bytes.as_ptr() as usize, 1];
            call!(SYS_writev, file, vector.as_ptr(), 1)
        }
    });
    all.works("write in the middle of a file", |stage| {
        let (file, bytes) = (stage.file, b"x");
        move || call!(SYS_pwrite64, file, bytes.as_ptr(), 1, 3)
    });
    all.works("write a list in the middle of a file", |stage| {
        let (file, bytes) = (stage.file, b"x");
        move || {
            let vector = [bytes.as_ptr() as usize, 1];
            call!(SYS_pwritev2, file, vector.as_ptr(), 1, 3, 0, 0)
        }
    });
    all.works("read from a file it was born with", |stage| {
        let (file, mut room) = (stage.file, [0_u8; 8]);
        move || call!(SYS_read, file, room.as_mut_ptr(), room.len())
    });
    all.works("sendfile", |stage| {
        let (file, to) = (stage.file, stage.held.tx);
        move || call!(SYS_sendfile, to, file, 0, 3)
    });
    all.works("copy_file_range", |stage| {
        let (file, mut to) = (stage.file, 64_i64);
        move || call!(SYS_copy_file_range, file, 0, file, &raw mut to, 3, 0)
    });
    all.perhaps("splice", |stage| {
        let (file, tx) = (stage.file, stage.held.tx);
        move || call!(SYS_splice, file, 0, tx, 0, 3, 0)
    });
    all.works("ftruncate", |stage| {
        let file = stage.file;
        move || call!(SYS_ftruncate, file, 3)
    });
    all.works("fallocate", |stage| {
        let file = stage.file;
        move || call!(SYS_fallocate, file, 0, 0, 65_536)
    });
    all.works("fchmod", |stage| {
        let file = stage.file;
        move || call!(SYS_fchmod, file, 0o777)
    });
    all.works("fchown", |stage| {
        let file = stage.file;
        move || call!(SYS_fchown, file, 1, 1)
    });
    all.works("fsetxattr", |stage| {
        let (file, name, value) = (stage.file, crate::stage::text("trusted.tacet"), [7_u8; 8]);
        move || call!(SYS_fsetxattr, file, name.as_ptr(), value.as_ptr(), value.len(), 0)
    });
    all.works("list an open folder", |stage| {
        let (folder, mut room) = (stage.folder, [0_u8; 512]);
        move || call!(SYS_getdents64, folder, room.as_mut_ptr(), room.len())
    });
    all.works("change to an open folder", |stage| {
        let folder = stage.folder;
        move || call!(SYS_fchdir, folder)
    });
}

fn copies(all: &mut List) {
    all.works("dup", |stage| {
        let tcp = stage.tcp;
        move || call!(SYS_dup, tcp)
    });
    all.works("dup over standard error", |stage| {
        let file = stage.file;
        move || call!(SYS_dup2, file, 2)
    });
    all.works("dup over a connection", |stage| {
        let (file, tcp) = (stage.file, stage.tcp);
        move || call!(SYS_dup3, file, tcp, 0)
    });
    all.works("dup by fcntl", |stage| {
        let tcp = stage.tcp;
        move || call!(SYS_fcntl, tcp, libc::F_DUPFD, 100)
    });
    all.works("make a descriptor blocking", |stage| {
        let tcp = stage.tcp;
        move || call!(SYS_fcntl, tcp, libc::F_SETFL, 0)
    });
    all.works("close standard error", |_| move || call!(SYS_close, 2));
    all.works("close everything", |_| move || call!(SYS_close_range, 3, i32::MAX, 0));
}

fn new(all: &mut List) {
    all.works("a pipe", |_| {
        let mut pipe = [0_i32; 2];
        move || call!(SYS_pipe2, pipe.as_mut_ptr(), 0)
    });
    all.works("an event", |_| move || call!(SYS_eventfd2, 0, 0));
    all.works("a timer", |_| move || call!(SYS_timerfd_create, libc::CLOCK_MONOTONIC, 0));
    all.works("a signal's descriptor", |_| {
        let set = 0_u64;
        move || call!(SYS_signalfd4, -1, &raw const set, 8, 0)
    });
    all.works("another epoll", |_| move || call!(SYS_epoll_create1, 0));
}

/// Its own descriptors, used for what it does not use them for.
fn own(all: &mut List) {
    all.works("poll", |stage| {
        let descriptor = [stage.held.epoll as u32, 1];
        move || call!(SYS_poll, descriptor.as_ptr(), 1, 0)
    });
    all.perhaps("type into a terminal", |stage| {
        let (tcp, byte) = (stage.tcp, b"x");
        move || call!(SYS_ioctl, tcp, libc::TIOCSTI as usize, byte.as_ptr())
    });
    all.works("ask for the interfaces", |stage| {
        let (udp, mut room) = (stage.held.udp[0], [0_u8; 40]);
        move || call!(SYS_ioctl, udp, libc::SIOCGIFCONF as usize, room.as_mut_ptr())
    });
    all.works("its peer's address", |stage| {
        let (tcp, mut room, mut len) = (stage.tcp, [0_u8; 128], 128_u32);
        move || call!(SYS_getpeername, tcp, room.as_mut_ptr(), &raw mut len)
    });
    all.perhaps("connect a connection elsewhere", |stage| {
        let (tcp, address) = (stage.tcp, [0_u8; 16]);
        move || call!(SYS_connect, tcp, address.as_ptr(), address.len())
    });
    all.perhaps("wrap a connection in another protocol", |stage| {
        let (tcp, name) = (stage.tcp, crate::stage::text("tls"));
        move || call!(SYS_setsockopt, tcp, libc::IPPROTO_TCP, libc::TCP_ULP, name.as_ptr(), 4)
    });
    all.perhaps("filter a connection by a program", |stage| {
        let (tcp, program) = (stage.tcp, [0_u8; 16]);
        move || call!(SYS_setsockopt, tcp, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, program.as_ptr(), 16)
    });
}
