//! Descriptors by number, and what else can be done with those that the process holds.

use nix::libc;

use super::{Free, List};
use crate::{kernel::call, stage::DESCRIPTORS};

pub(crate) fn list(all: &mut List) {
    every_number(all);
    copies(all);
    new(all);
    transfers(all);
    held(all);
}

/// Reads and writes on each number. On its device and pipes they are what it lives from: at a place in the file is
/// what is tried there.
fn every_number(all: &mut List) {
    for fd in 0..DESCRIPTORS {
        all.numbered(format!("write to descriptor {fd}"), Free::Perhaps, move |stage| {
            let (bytes, own) = (b"x", [stage.held.tun, stage.held.tx].contains(&fd));
            Box::new(move || match own {
                true => call!(SYS_pwrite64, fd, bytes.as_ptr(), 1, 0),
                false => call!(SYS_write, fd, bytes.as_ptr(), 1),
            })
        });
        all.numbered(format!("read from descriptor {fd}"), Free::Perhaps, move |stage| {
            let (mut room, own) = ([0_u8; 8], [stage.held.tun, stage.held.rx].contains(&fd));
            Box::new(move || match own {
                true => call!(SYS_pread64, fd, room.as_mut_ptr(), room.len(), 0),
                false => call!(SYS_read, fd, room.as_mut_ptr(), room.len()),
            })
        });
    }
}

fn copies(all: &mut List) {
    all.works("dup", |stage| {
        let tun = stage.held.tun;
        move || call!(SYS_dup, tun)
    });
    all.works("dup over standard output", |stage| {
        let tun = stage.held.tun;
        move || call!(SYS_dup2, tun, 1)
    });
    all.works("dup over its own pipe", |stage| {
        let (file, tx) = (stage.file, stage.held.tx);
        move || call!(SYS_dup3, file, tx, 0)
    });
    all.works("dup by fcntl", |stage| {
        let tun = stage.held.tun;
        move || call!(SYS_fcntl, tun, libc::F_DUPFD, 100)
    });
    all.works("keep a descriptor over exec", |stage| {
        let tun = stage.held.tun;
        move || call!(SYS_fcntl, tun, libc::F_SETFD, 0)
    });
    all.works("make a descriptor blocking", |stage| {
        let tun = stage.held.tun;
        move || call!(SYS_fcntl, tun, libc::F_SETFL, 0)
    });
    all.works("ask about a descriptor", |stage| {
        let tun = stage.held.tun;
        move || call!(SYS_fcntl, tun, libc::F_GETFL)
    });
    all.works("close what is not its own", |stage| {
        let file = stage.file;
        move || call!(SYS_close, file)
    });
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

fn transfers(all: &mut List) {
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
    all.works("sendfile", |stage| {
        let (file, unix) = (stage.file, stage.held.tx);
        move || call!(SYS_sendfile, unix, file, 0, 3)
    });
    all.works("copy_file_range", |stage| {
        let (file, mut to) = (stage.file, 64_i64);
        move || call!(SYS_copy_file_range, file, 0, file, &raw mut to, 3, 0)
    });
    all.works("splice", |stage| {
        let (file, tx) = (stage.file, stage.held.tx);
        move || call!(SYS_splice, file, 0, tx, 0, 3, 0)
    });
    all.works("vmsplice", |stage| {
        let (tx, bytes) = (stage.held.tx, b"xyz");
        move || {
            let vector = [bytes.as_ptr() as usize, 3];
            call!(SYS_vmsplice, tx, vector.as_ptr(), 1, 0)
        }
    });
    all.perhaps("tee", |stage| {
        let (rx, tx) = (stage.held.rx, stage.held.tx);
        move || call!(SYS_tee, rx, tx, 1, libc::SPLICE_F_NONBLOCK as i32)
    });
    all.works("ftruncate", |stage| {
        let file = stage.file;
        move || call!(SYS_ftruncate, file, 3)
    });
    all.works("fallocate", |stage| {
        let file = stage.file;
        move || call!(SYS_fallocate, file, 0, 0, 65_536)
    });
    all.works("fsync", |stage| {
        let file = stage.file;
        move || call!(SYS_fsync, file)
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
    all.works("lock a file", |stage| {
        let file = stage.file;
        move || call!(SYS_flock, file, libc::LOCK_EX | libc::LOCK_NB)
    });
    all.works("list an open folder", |stage| {
        let (folder, mut room) = (stage.folder, [0_u8; 512]);
        move || call!(SYS_getdents64, folder, room.as_mut_ptr(), room.len())
    });
    all.works("change to an open folder", |stage| {
        let folder = stage.folder;
        move || call!(SYS_fchdir, folder)
    });
    all.works("seek", |stage| {
        let file = stage.file;
        move || call!(SYS_lseek, file, 0, 0)
    });
    all.works("fstat", |stage| {
        let (tun, mut room) = (stage.held.tun, [0_u8; 256]);
        move || call!(SYS_fstat, tun, room.as_mut_ptr())
    });
}

/// Its own descriptors, used for what it does not use them for.
fn held(all: &mut List) {
    all.works("ask its device", |stage| {
        let (tun, mut room) = (stage.held.tun, [0_u8; 40]);
        move || call!(SYS_ioctl, tun, libc::TUNGETIFF as usize, room.as_mut_ptr())
    });
    all.works("keep its device for ever", |stage| {
        let tun = stage.held.tun;
        move || call!(SYS_ioctl, tun, libc::TUNSETPERSIST as usize, 0)
    });
    all.perhaps("type into a terminal", |stage| {
        let (tun, byte) = (stage.held.tun, b"x");
        move || call!(SYS_ioctl, tun, libc::TIOCSTI as usize, byte.as_ptr())
    });
    all.works("watch another descriptor", |stage| {
        let (epoll, unix, event) = (stage.held.epoll, stage.unix, [0_u8; 12]);
        move || call!(SYS_epoll_ctl, epoll, libc::EPOLL_CTL_ADD, unix, event.as_ptr())
    });
    all.works("stop watching its pipe", |stage| {
        let (epoll, tx) = (stage.held.epoll, stage.held.tx);
        move || call!(SYS_epoll_ctl, epoll, libc::EPOLL_CTL_DEL, tx, 0)
    });
    all.works("poll", |stage| {
        let descriptor = [stage.held.tun as u32, 1];
        move || call!(SYS_poll, descriptor.as_ptr(), 1, 0)
    });
    all.perhaps("write to its pipe's reading end", |stage| {
        let (rx, bytes) = (stage.held.rx, b"x");
        move || call!(SYS_write, rx, bytes.as_ptr(), 1)
    });
    all.perhaps("read from its pipe's writing end", |stage| {
        let (tx, mut room) = (stage.held.tx, [0_u8; 8]);
        move || call!(SYS_read, tx, room.as_mut_ptr(), room.len())
    });
    all.perhaps("write to its socket as to a file", |stage| {
        let (udp, bytes) = (stage.held.udp[0], b"x");
        move || call!(SYS_write, udp, bytes.as_ptr(), 1)
    });
    all.perhaps("send on its device as on a socket", |stage| {
        let (tun, message) = (stage.held.tun, [0_usize; 7]);
        move || call!(SYS_sendmsg, tun, message.as_ptr(), 0)
    });
}
