//! Descriptors by number, those that the process was born with, copies and new ones.

use nix::libc;

use super::{Free, List};
use crate::{
    kernel::call,
    stage::{NUMBERS, text},
};

pub(crate) fn list(all: &mut List) {
    every_number(all);
    born_with(all);
    copies(all);
    new(all);
    held(all);
}

/// Writes to each number. Those that the process lives from are written to at a place in the file: that is no way to write to
/// a device, a pipe or a connection.
fn every_number(all: &mut List) {
    for fd in 0..NUMBERS {
        all.numbered(format!("write to descriptor {fd}"), Free::Perhaps, move |stage| {
            let (bytes, own) = (b"x", stage.writes_to(fd));
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
        let (file, tx) = (stage.file, stage.held.tx);
        move || call!(SYS_sendfile, tx, file, 0, 3)
    });
    all.works("copy_file_range", |stage| {
        let (file, mut to) = (stage.file, 64_i64);
        move || call!(SYS_copy_file_range, file, 0, file, &raw mut to, 3, 0)
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
        let (file, name, value) = (stage.file, text("trusted.tacet"), [7_u8; 8]);
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
    all.works("close what is not its own", |stage| {
        let file = stage.file;
        move || call!(SYS_close, file)
    });
}

fn copies(all: &mut List) {
    all.works("dup", |stage| {
        let device = stage.held.device;
        move || call!(SYS_dup, device)
    });
    all.works("dup over standard output", |stage| {
        let device = stage.held.device;
        move || call!(SYS_dup2, device, 1)
    });
    all.works("dup over standard error", |stage| {
        let file = stage.file;
        move || call!(SYS_dup2, file, 2)
    });
    all.works("dup over its own pipe", |stage| {
        let (file, tx) = (stage.file, stage.held.tx);
        move || call!(SYS_dup3, file, tx, 0)
    });
    all.works("dup by fcntl", |stage| {
        let device = stage.held.device;
        move || call!(SYS_fcntl, device, libc::F_DUPFD, 100)
    });
    all.works("make a descriptor blocking", |stage| {
        let device = stage.held.device;
        move || call!(SYS_fcntl, device, libc::F_SETFL, 0)
    });
    all.works("keep a descriptor over exec", |stage| {
        let device = stage.held.device;
        move || call!(SYS_fcntl, device, libc::F_SETFD, 0)
    });
    all.works("ask about a descriptor", |stage| {
        let device = stage.held.device;
        move || call!(SYS_fcntl, device, libc::F_GETFL)
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

/// Its own, used for what it does not use them for.
fn held(all: &mut List) {
    all.works("poll", |stage| {
        let descriptor = [stage.held.device as u32, 1];
        move || call!(SYS_poll, descriptor.as_ptr(), 1, 0)
    });
    all.perhaps("type into a terminal", |stage| {
        let (device, byte) = (stage.held.device, b"x");
        move || call!(SYS_ioctl, device, libc::TIOCSTI as usize, byte.as_ptr())
    });
    all.works("ask for the interfaces", |stage| {
        let (udp, mut room) = (stage.held.udp[0], [0_u8; 40]);
        move || call!(SYS_ioctl, udp, libc::SIOCGIFCONF as usize, room.as_mut_ptr())
    });
}
