//! What a server does itself, behind its walls.
//!
//! Some of what the data path must not do is a server's work, or harms nobody beside it.

use nix::libc::{self, AT_FDCWD, O_CREAT, O_RDONLY, O_RDWR};

use crate::{
    attempts::{Attempt, List},
    kernel::call,
    stage::text,
    walls::{Kind, Who},
};

/// Asks about, ends or fills what is the server's own. The last is prepared on a socket that a server closed before.
const OF_EVERY_SERVER: [&str; 6] = [
    "listen on its own socket",
    "ask its own socket",
    "shut its own socket down",
    "accept on its own socket",
    "send on its pipe as on a socket",
    "take what another process passes",
];

/// SQLite looks around: Landlock hides contents, not whether a file is there. It lets go of what is not needed, and has a
/// thread of its own, with a name. What it opened it asks about, and marks to be closed at a program's start. It says on standard
/// output where it is reached, and then puts nothing in its place.
const OF_A_COORDINATOR: [&str; 12] = [
    "stat",
    "statx",
    "access",
    "readlink",
    "block a signal",
    "getcwd",
    "change its name",
    "write to descriptor 1",
    "write to descriptor 2",
    "dup over standard output",
    "ask about a descriptor",
    "keep a descriptor over exec",
];

/// It may look at what it is to read.
const OF_A_READER: [&str; 1] = ["statx"];

/// Whether `server` may do what the attempt of this name does.
pub(crate) fn may(server: Who, name: &str) -> bool {
    let more: &[&str] = match server {
        Who::RelayWithCertificate => &OF_A_READER,
        Who::Coordinator => &OF_A_COORDINATOR,
        _ => &[],
    };
    OF_EVERY_SERVER.contains(&name) || more.contains(&name)
}

/// What `server` must be able to do; a machine's processes are no servers.
pub(crate) fn needs(server: Who) -> Vec<Attempt> {
    let mut all = List::new();
    if server.kind() != Kind::Server {
        return all.attempts;
    }
    all.works("send on a connection", |stage| {
        let (tcp, bytes) = (stage.held.tcp.unwrap(), b"x");
        move || call!(SYS_sendto, tcp, bytes.as_ptr(), 1, 0, 0, 0)
    });
    all.works("accept a connection", |stage| {
        let listener = stage.held.device;
        move || call!(SYS_accept4, listener, 0, 0, libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC)
    });
    all.works("take memory", |_| {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        move || call!(SYS_mmap, 0, 4_096, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0)
    });
    if server == Who::RelayWithCertificate || server == Who::Coordinator {
        all.works("read a renewed certificate", |_| {
            let path = text("certificates/chain.pem");
            move || call!(SYS_openat, AT_FDCWD, path.as_ptr(), O_RDONLY)
        });
    }
    if server == Who::Coordinator {
        all.works("write to its database", |_| {
            let path = text("data/coordinator.db");
            move || call!(SYS_openat, AT_FDCWD, path.as_ptr(), O_RDWR)
        });
        all.works("make its journal", |_| {
            let path = text("data/coordinator.db-journal");
            move || call!(SYS_openat, AT_FDCWD, path.as_ptr(), O_RDWR | O_CREAT, 0o600)
        });
        all.works("take chance from the system", |_| {
            let path = text("/dev/urandom");
            move || call!(SYS_openat, AT_FDCWD, path.as_ptr(), O_RDONLY)
        });
        all.works("start a thread", |_| {
            move || {
                let started = std::thread::Builder::new().spawn(|| ());
                started.map(|_| 0).map_err(|error| error.raw_os_error().unwrap_or(libc::EIO))
            }
        });
    }
    all.attempts
}
