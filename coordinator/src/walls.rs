//! What the coordinator keeps once it serves: what any server keeps ([`relay::walls`]), its database, and the two
//! sentences that it may have to say.
//!
//! The walls are put up before the database is opened, because that starts a thread, and a thread has the walls of
//! the one that started it.

use std::{
    ffi::c_long,
    path::{Path, PathBuf},
};

use relay::walls::{self, Kept};
use sandbox::{
    Missing, SandboxError,
    calls::{Argument, Calls, Violation},
    files::Grant,
    user::User,
};

use crate::store::DataDir;

/// Where SQLite takes chance from; without it, it would go by the clock.
const CHANCE: &str = "/dev/urandom";

/// What a coordinator that serves needs besides connections.
pub struct Needs<'a> {
    /// Whom it runs as from now on; `None`: as whoever started it.
    pub user: Option<User>,
    /// The database and its folder.
    pub data: &'a DataDir,
    /// Folders with a certificate that is read again.
    pub certificates: &'a [PathBuf],
}

/// Puts up every wall, for good. Must be called before anything starts a thread.
///
/// # Errors
/// If one could not be put up: the process must not go on.
pub fn put_up(needs: &Needs<'_>, missing: Missing) -> Result<(), SandboxError> {
    refuse_clone3(missing)?;
    let mut paths: Vec<(&Path, Grant)> = vec![(Path::new(CHANCE), Grant::Read)];
    paths.extend(needs.data.folders().into_iter().map(|folder| (folder, Grant::Write)));
    paths.extend(needs.certificates.iter().map(|folder| (folder.as_path(), Grant::Read)));
    walls::put_up(Kept { user: needs.user, paths: &paths, calls: calls(), silent: false }, missing)
}

/// The system calls of a coordinator.
#[must_use]
pub fn calls() -> Calls {
    speaking(threads(database(walls::serving())))
}

/// What SQLite does with files; with which ones, the granted paths say.
fn database(calls: Calls) -> Calls {
    const FILES: [c_long; 22] = [
        libc::SYS_openat,
        libc::SYS_newfstatat,
        libc::SYS_fstat,
        libc::SYS_statx,
        libc::SYS_faccessat,
        libc::SYS_faccessat2,
        libc::SYS_readlinkat,
        libc::SYS_unlinkat,
        libc::SYS_getcwd,
        libc::SYS_lseek,
        libc::SYS_pread64,
        libc::SYS_pwrite64,
        libc::SYS_fsync,
        libc::SYS_fdatasync,
        libc::SYS_ftruncate,
        libc::SYS_fallocate,
        libc::SYS_fchmod,
        // Where root runs it: a new file belongs to whom the database belongs to.
        libc::SYS_fchown,
        libc::SYS_geteuid,
        // Where a database of before is sealed, and the one that it replaces is overwritten.
        libc::SYS_linkat,
        libc::SYS_renameat,
        libc::SYS_getpid,
    ];
    /// Locks of ranges, and closing at a program's start.
    const CONTROL: [i32; 5] = [libc::F_SETLK, libc::F_GETLK, libc::F_GETFD, libc::F_SETFD, libc::F_GETFL];
    // Waiting for another process's lock.
    let mut calls = calls.any(&FILES).any(&[libc::SYS_clock_nanosleep, libc::SYS_nanosleep]);
    for control in CONTROL {
        calls = calls.only(&[libc::SYS_fcntl], &[Argument::Is(1, control as u32)]);
    }
    #[cfg(target_arch = "x86_64")]
    {
        calls = calls.any(&[
            libc::SYS_open,
            libc::SYS_stat,
            libc::SYS_lstat,
            libc::SYS_access,
            libc::SYS_readlink,
            libc::SYS_unlink,
            libc::SYS_rename,
        ]);
    }
    calls
}

/// A thread of its own for the database. No process: that would be a clone without these flags.
fn threads(calls: Calls) -> Calls {
    /// The signal by which libc has all threads change their user; it is prepared with the first thread.
    const SET_IDS: u32 = 33;
    const THREAD: u32 = (libc::CLONE_VM | libc::CLONE_SIGHAND | libc::CLONE_THREAD) as u32;
    calls
        .only(&[libc::SYS_clone], &[Argument::With(0, THREAD)])
        // Refused by another filter: see there.
        .any(&[libc::SYS_clone3])
        .any(&[
            libc::SYS_rseq,
            libc::SYS_set_robust_list,
            libc::SYS_rt_sigprocmask,
            libc::SYS_sched_getaffinity,
            libc::SYS_gettid,
        ])
        .only(&[libc::SYS_rt_sigaction], &[Argument::Is(0, SET_IDS)])
        .only(&[libc::SYS_prctl], &[Argument::Is(0, libc::PR_SET_NAME as u32)])
}

/// Where it is reached, once, on standard output, which leads nowhere afterwards; its sentences on standard error.
fn speaking(calls: Calls) -> Calls {
    const OUTPUT: u32 = 1;
    const ERROR: u32 = 2;
    let calls = calls
        .only(&[libc::SYS_write], &[Argument::Is(0, OUTPUT)])
        .only(&[libc::SYS_write], &[Argument::Is(0, ERROR)])
        .only(&[libc::SYS_dup3], &[Argument::Is(1, OUTPUT)]);
    #[cfg(target_arch = "x86_64")]
    let calls = calls.only(&[libc::SYS_dup2], &[Argument::Is(1, OUTPUT)]);
    calls
}

/// A filter sees the flags of `clone`, which tell a thread from a process, and not those of `clone3`, which lie in memory.
/// As if the kernel did not have it: then libc takes the other.
fn refuse_clone3(missing: Missing) -> Result<(), SandboxError> {
    missing.tolerate(Calls::new().any(&[libc::SYS_clone3]).forbid(Violation::Fail(libc::ENOSYS)))
}
