//! What a machine's process holds: a TUN device, pipes, sockets for datagrams.

use std::{ops::RangeInclusive, os::fd::RawFd};

use nix::libc;

use super::{Free, List};
use crate::{
    kernel::call,
    stage::{NUMBERS, Stage},
};

pub(crate) fn list(all: &mut List) {
    every_number(all);
    pipes(all);
    held(all);
    beside_the_pool(all);
}

/// On the numbers right before and right after the pool's, and on the pool's own what its sockets are not for.
fn beside_the_pool(all: &mut List) {
    type Place = fn(&Stage) -> RawFd;
    let (before, after): (Place, Place) = (|stage| pool(stage).start() - 1, |stage| pool(stage).end() + 1);
    for (name, place) in [("before", before), ("after", after)] {
        all.numbered(format!("receive on the number {name} the pool"), Free::Perhaps, move |stage| {
            let (fd, mut room) = (place(stage), [0_u8; 8]);
            Box::new(move || call!(SYS_recvfrom, fd, room.as_mut_ptr(), room.len(), libc::MSG_DONTWAIT, 0, 0))
        });
        all.numbered(format!("send on the number {name} the pool"), Free::Perhaps, move |stage| {
            let (fd, bytes) = (place(stage), b"x");
            Box::new(move || call!(SYS_sendto, fd, bytes.as_ptr(), bytes.len(), libc::MSG_DONTWAIT, 0, 0))
        });
        all.numbered(format!("watch the number {name} the pool"), Free::Perhaps, move |stage| {
            let (epoll, fd, event) = (stage.held.epoll, place(stage), [0_u8; 12]);
            Box::new(move || call!(SYS_epoll_ctl, epoll, libc::EPOLL_CTL_MOD, fd, event.as_ptr()))
        });
        all.numbered(format!("close the number {name} the pool"), Free::Perhaps, move |stage| {
            let fd = place(stage);
            Box::new(move || call!(SYS_close, fd))
        });
    }
    all.works("connect a socket of the pool", |stage| {
        let (udp, address) = (*pool(stage).end(), [libc::AF_INET as u16, 0, 0, 0, 0, 0, 0, 0]);
        move || call!(SYS_connect, udp, address.as_ptr(), 16)
    });
    all.works("bind a socket of the pool", |stage| {
        let (udp, address) = (*pool(stage).start(), [libc::AF_INET as u16, 0, 0, 0, 0, 0, 0, 0]);
        move || call!(SYS_bind, udp, address.as_ptr(), 16)
    });
    all.perhaps("write to a socket of the pool as to a file", |stage| {
        let (udp, bytes) = (*pool(stage).start(), b"x");
        move || call!(SYS_write, udp, bytes.as_ptr(), 1)
    });
}

fn pool(stage: &Stage) -> RangeInclusive<RawFd> {
    stage.held.pool.clone().unwrap()
}

/// Reads from each number. From its device and its pipe it may: at a place in the file is what is tried there.
fn every_number(all: &mut List) {
    for fd in 0..NUMBERS {
        all.numbered(format!("read from descriptor {fd}"), Free::Perhaps, move |stage| {
            let (mut room, own) = ([0_u8; 8], stage.reads_from(fd));
            Box::new(move || match own {
                true => call!(SYS_pread64, fd, room.as_mut_ptr(), room.len(), 0),
                false => call!(SYS_read, fd, room.as_mut_ptr(), room.len()),
            })
        });
    }
}

fn pipes(all: &mut List) {
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
    all.perhaps("write to its pipe's reading end", |stage| {
        let (rx, bytes) = (stage.held.rx, b"x");
        move || call!(SYS_write, rx, bytes.as_ptr(), 1)
    });
    all.perhaps("read from its pipe's writing end", |stage| {
        let (tx, mut room) = (stage.held.tx, [0_u8; 8]);
        move || call!(SYS_read, tx, room.as_mut_ptr(), room.len())
    });
    all.works("stop watching its pipe", |stage| {
        let (epoll, tx) = (stage.held.epoll, stage.held.tx);
        move || call!(SYS_epoll_ctl, epoll, libc::EPOLL_CTL_DEL, tx, 0)
    });
}

fn held(all: &mut List) {
    all.works("ask its device", |stage| {
        let (tun, mut room) = (stage.held.device, [0_u8; 40]);
        move || call!(SYS_ioctl, tun, libc::TUNGETIFF as usize, room.as_mut_ptr())
    });
    all.works("keep its device for ever", |stage| {
        let tun = stage.held.device;
        move || call!(SYS_ioctl, tun, libc::TUNSETPERSIST as usize, 0)
    });
    all.works("fstat", |stage| {
        let (tun, mut room) = (stage.held.device, [0_u8; 256]);
        move || call!(SYS_fstat, tun, room.as_mut_ptr())
    });
    all.works("watch another descriptor", |stage| {
        let (epoll, unix, event) = (stage.held.epoll, stage.unix, [0_u8; 12]);
        move || call!(SYS_epoll_ctl, epoll, libc::EPOLL_CTL_ADD, unix, event.as_ptr())
    });
    all.perhaps("write to its socket as to a file", |stage| {
        let (udp, bytes) = (stage.held.udp[0], b"x");
        move || call!(SYS_write, udp, bytes.as_ptr(), 1)
    });
    all.perhaps("send on its device as on a socket", |stage| {
        let (tun, message) = (stage.held.device, [0_usize; 7]);
        move || call!(SYS_sendmsg, tun, message.as_ptr(), 0)
    });
}
