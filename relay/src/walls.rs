//! What a server gives up before it serves anybody: relay and coordinator alike, whoever starts them.
//!
//! What needs root, a path or a new socket is done first: keys and certificate are read, ports bound, systemd's socket
//! is connected to. Then, while there is one thread, the server becomes an ordinary user if it was started as root, gives
//! up every capability, and puts up the walls: no path but those granted (Landlock), no system call but those that it
//! serves with (seccomp). A call that is not among them ends the process; whoever started it starts another.
//!
//! A relay is granted no path at all, unless it is to read a renewed certificate, and nothing to write to: its standard input
//! and output lead nowhere. What it holds are sockets.

use std::{ffi::c_long, io, path::Path};

use nix::libc;
use sandbox::{
    Missing, SandboxError,
    calls::{Argument, Calls, Violation},
    capabilities,
    files::{self, Grant, Reach},
    memory, process,
    user::{self, Nothing, User},
};

use crate::tls;

/// What a server keeps.
pub struct Kept<'a> {
    /// Whom it runs as from now on; `None`: as whoever started it.
    pub user: Option<User>,
    /// Its paths.
    pub paths: &'a [(&'a Path, Grant)],
    /// Its system calls.
    pub calls: Calls,
    /// Whether it has nothing to say from now on: standard input and output lead nowhere, and a panic ends the
    /// process without a word, with status 101.
    pub silent: bool,
}

/// The highest number of a standard stream.
const STANDARD: u32 = 2;

/// Closes whatever the process was born with but standard input, output and error; makes sure that nothing dumps its
/// memory. To be called first, before anything in the process owns a descriptor.
///
/// # Errors
/// As `close_range(2)`, `prctl(2)`.
pub fn prepare() -> io::Result<()> {
    #[cfg(feature = "leaks")]
    if crate::leaks::chosen("no-walls") {
        return Ok(());
    }
    process::close_all_but(&[0, 1, STANDARD as i32])?;
    process::no_dumps()
}

/// Puts up every wall, for good.
///
/// # Errors
/// If one could not be put up: the process must not go on.
pub fn put_up(kept: Kept<'_>, missing: Missing) -> Result<(), SandboxError> {
    #[cfg(feature = "leaks")]
    if crate::leaks::chosen("no-walls") {
        return Ok(());
    }
    // While there are paths.
    let nothing = kept.silent.then(Nothing::open).transpose()?;
    give_up_powers(kept.user)?;
    missing.tolerate(files::confine(kept.paths, Reach::NONE))?;
    // Under a limit that cannot be raised, secrets may be swapped out: `vpnctl privacy verify` says so.
    let _ = memory::lock();
    if let Some(nothing) = nothing {
        fall_silent(&nothing)?;
    }
    missing.tolerate(kept.calls.allow_only(Violation::Kill))
}

/// Becomes `user`, gives up every capability and the ways to regain one, and makes sure that nothing dumps this process's memory.
///
/// # Errors
/// As [`put_up`].
pub fn give_up_powers(user: Option<User>) -> Result<(), SandboxError> {
    process::single_threaded()?;
    draw_once();
    // Before the capability to raise it goes.
    let _ = memory::allow_locking();
    if let Some(user) = user {
        user::run_as(user)?;
    }
    process::no_new_privileges()?;
    capabilities::keep(&[])?;
    // Last: a change of user switches dumps on again.
    Ok(process::no_dumps()?)
}

/// The calls of a relay: [`serving`], and reading files if it is to read its certificate again.
#[must_use]
pub fn relay(reads_files: bool) -> Calls {
    let calls = serving();
    if reads_files { reading(calls) } else { calls }
}

/// What serving takes of the kernel: connections that come in, datagrams, waiting, memory, the end. No new socket but an
/// accepted one, no descriptor for anything else, no program, no thread; no code but the program's own, and no
/// memory but its own; nothing is written to standard output or error.
#[must_use]
pub fn serving() -> Calls {
    const WAITING: [c_long; 3] = [libc::SYS_epoll_pwait, libc::SYS_epoll_pwait2, libc::SYS_epoll_ctl];
    const CONVERSING: [c_long; 13] = [
        libc::SYS_accept4,
        libc::SYS_getsockopt,
        // Nobody can reach a server before its walls stand: it listens on the port that it bound before.
        libc::SYS_listen,
        libc::SYS_read,
        libc::SYS_readv,
        libc::SYS_recvfrom,
        libc::SYS_recvmsg,
        libc::SYS_sendmsg,
        libc::SYS_sendto,
        libc::SYS_shutdown,
        libc::SYS_write,
        libc::SYS_writev,
        libc::SYS_close,
    ];
    /// What the listener sets on each connection.
    const OPTIONS: [(i32, i32); 7] = [
        (libc::SOL_SOCKET, libc::SO_KEEPALIVE),
        (libc::IPPROTO_TCP, libc::TCP_NODELAY),
        (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE),
        (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL),
        (libc::IPPROTO_TCP, libc::TCP_KEEPCNT),
        (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT),
        (libc::IPPROTO_TCP, libc::TCP_THIN_LINEAR_TIMEOUTS),
    ];

    let mut calls =
        Calls::of_every_process().any(&WAITING).only(&CONVERSING, &[Argument::Above(0, STANDARD)]);
    for (level, option) in OPTIONS {
        let named = [Argument::Is(1, level as u32), Argument::Is(2, option as u32)];
        calls = calls.only(&[libc::SYS_setsockopt], &named);
    }
    #[cfg(target_arch = "x86_64")]
    {
        calls = calls.any(&[libc::SYS_epoll_wait]);
    }
    calls
}

/// Adds opening files to read them; which ones, the granted paths say.
#[must_use]
pub fn reading(calls: Calls) -> Calls {
    const WRITING: u32 =
        (libc::O_WRONLY | libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC | libc::O_APPEND) as u32;
    calls.only(&[libc::SYS_openat], &[Argument::Without(2, WRITING)]).any(&[
        libc::SYS_fstat,
        libc::SYS_newfstatat,
        libc::SYS_statx,
        libc::SYS_lseek,
    ])
}

/// The TLS library asks the kernel, the first time that it draws a number, what becomes of memory over a fork.
fn draw_once() {
    // Where it cannot, no connection comes about later.
    let _ = tls::provider().secure_random.fill(&mut [0; 16]);
}

fn fall_silent(nothing: &Nothing) -> io::Result<()> {
    nothing.as_input()?;
    nothing.as_output()?;
    nothing.as_error()?;
    std::panic::set_hook(Box::new(|_| {
        #[allow(clippy::exit)]
        std::process::exit(101)
    }));
    Ok(())
}
