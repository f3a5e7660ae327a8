//! What the process gives up before its first packet, and what it keeps.
//!
//! Two walls stand one behind the other, because each alone lets something through: Landlock with no path knows nothing
//! of descriptors that are open already, of standard output, of a datagram to `/dev/log`; seccomp cannot see which path
//! a pointer leads to. The filter allows system calls by number *and* by the descriptor that they are made on. Whoever
//! takes this process over can do with its own device, sockets and pipes what the process itself does with them,
//! and ends it by anything else: control starts a fresh one.

use std::{ops::RangeInclusive, os::fd::RawFd};

use nix::libc::{self, c_long};
use sandbox::{
    Missing, SandboxError,
    calls::{Argument, Calls, Violation},
    capabilities,
    files::{self, Reach},
    memory, process,
};

/// What the process ends with when something failed: control starts another.
const FAILED: u8 = 101;

/// The descriptors that the data path holds, by number.
#[derive(Clone)]
pub struct Held {
    /// The TUN device.
    pub tun: RawFd,
    /// The UDP sockets.
    pub udp: Vec<RawFd>,
    /// The UDP sockets of the pool, without a gap.
    pub pool: Option<RangeInclusive<RawFd>>,
    /// The pipe from control; one worker of several has it.
    pub rx: Option<RawFd>,
    /// The pipe to control; one worker of several has it.
    pub tx: Option<RawFd>,
    /// Its own epoll instance.
    pub epoll: RawFd,
    /// By which other workers wake this one, and this one them: a bell each, its own first.
    pub bells: Vec<RawFd>,
}

impl Held {
    fn sockets(&self) -> Vec<RawFd> {
        self.udp.iter().copied().chain(self.pool.iter().cloned().flatten()).collect()
    }

    fn all(&self) -> Vec<RawFd> {
        let mut all = self.sockets();
        all.extend([self.tun, self.epoll].iter().chain(&self.rx).chain(&self.tx).chain(&self.bells));
        all
    }

    fn read(&self) -> Vec<RawFd> {
        [Some(self.tun), self.rx, self.bells.first().copied()].into_iter().flatten().collect()
    }

    fn written(&self) -> Vec<RawFd> {
        [Some(self.tun), self.tx].into_iter().flatten().chain(self.bells.iter().copied()).collect()
    }
}

/// Puts up every wall.
///
/// # Errors
/// If one could not be put up: the process must not go on.
pub fn lockdown(held: &Held, missing: Missing) -> Result<(), SandboxError> {
    prepare(std::slice::from_ref(held), missing)?;
    missing.tolerate(close_calls(held))
}

/// Puts up every wall but the last, which each thread puts up for itself: before there is a thread besides this one, so that all
/// begin behind these. Of the descriptors those of every worker stay.
///
/// # Errors
/// As [`lockdown`].
pub(super) fn prepare(workers: &[Held], missing: Missing) -> Result<(), SandboxError> {
    silence_panics();
    give_up_all_but(&workers.iter().flat_map(Held::all).collect::<Vec<_>>())?;
    missing.tolerate(close_files())?;
    process::no_new_descriptors()?;
    // Under a limit that cannot be raised, secrets may be swapped out: `vpnctl privacy verify` says so.
    let _ = memory::lock();
    Ok(())
}

/// Gives up all descriptors but those held (standard input, output and error too), every capability and the ways to
/// regain one, and makes sure that nothing dumps this process's memory.
///
/// # Errors
/// As [`lockdown`].
pub fn give_up_powers(held: &Held) -> Result<(), SandboxError> {
    give_up_all_but(&held.all())
}

fn give_up_all_but(descriptors: &[RawFd]) -> Result<(), SandboxError> {
    process::single_threaded()?;
    process::close_all_but(descriptors)?;
    process::no_new_privileges()?;
    // Before the capability to raise it goes.
    let _ = memory::allow_locking();
    capabilities::keep(&[])?;
    // Last: a change of credentials may switch dumps on again.
    Ok(process::no_dumps()?)
}

/// Landlock: no path, no TCP, no unix socket, no signal to another process.
///
/// # Errors
/// As [`lockdown`].
pub fn close_files() -> Result<(), SandboxError> {
    files::confine(&[], Reach::NONE)
}

/// Seccomp: the calls that moving packets takes, on the descriptors held.
///
/// # Errors
/// As [`lockdown`].
pub fn close_calls(held: &Held) -> Result<(), SandboxError> {
    const RECEIVE: [c_long; 3] = [libc::SYS_recvfrom, libc::SYS_recvmsg, libc::SYS_recvmmsg];
    const SEND: [c_long; 3] = [libc::SYS_sendto, libc::SYS_sendmsg, libc::SYS_sendmmsg];
    let (sockets, all) = (held.sockets(), held.all());
    let mut calls = Calls::of_every_process()
        .on(&held.read(), &[libc::SYS_read, libc::SYS_readv])
        .on(&held.written(), &[libc::SYS_write, libc::SYS_writev])
        .on(&sockets, &RECEIVE)
        .on(&sockets, &SEND)
        .on(&[held.epoll], &[libc::SYS_epoll_pwait, libc::SYS_epoll_pwait2])
        // At the end. What is closed stays so: nothing opens a descriptor.
        .on(&all, &[libc::SYS_close]);
    let (epoll, modify) = (Argument::Fd(0, held.epoll), Argument::Is(1, libc::EPOLL_CTL_MOD as u32));
    for watched in Argument::among(2, &all) {
        calls = calls.only(&[libc::SYS_epoll_ctl], &[epoll, modify, watched]);
    }
    #[cfg(target_arch = "x86_64")]
    {
        calls = calls.on(&[held.epoll], &[libc::SYS_epoll_wait]);
    }
    calls.allow_only(Violation::Kill)
}

/// A panic ends the process at once, without a word: what it would print could hold metadata, and a process that is in
/// a state nobody thought of handles no more packets.
fn silence_panics() {
    std::panic::set_hook(Box::new(|_| fail()));
}

/// Ends the process with all its threads, without a word: what would be said of an error is a call that ends it, too.
pub(super) fn end<E>(ended: &Result<(), E>) -> ! {
    if ended.is_ok() { process::end(0) } else { fail() }
}

/// Ends it where it cannot go on.
pub(super) fn fail() -> ! {
    process::end(FAILED)
}
