//! What a process has by birth: descriptors, privileges of the programs that it starts, dumps.

use std::{
    ffi::CStr,
    fs, io,
    os::{fd::RawFd, unix::fs::MetadataExt},
};

use nix::sys::{
    prctl,
    resource::{Resource, setrlimit},
};

use crate::SandboxError;

/// Links to the folder of a process's threads, besides one for each thread: its name and its `.`.
const OWN_LINKS: u64 = 2;

/// Refuses where this process has other threads, which a wall would leave outside.
///
/// The folder's links are counted, not its entries: Landlock lets a process that may read nothing ask for them.
///
/// # Errors
/// [`SandboxError::Threads`]; also where `/proc` is not mounted.
pub fn single_threaded() -> Result<(), SandboxError> {
    let threads = fs::metadata("/proc/self/task")?.nlink().saturating_sub(OWN_LINKS);
    if threads == 1 { Ok(()) } else { Err(SandboxError::Threads) }
}

/// Gives this process the name that `ps` and `/proc/PID/comm` show; 15 bytes of it at most.
///
/// # Errors
/// As `prctl(2)`.
pub fn call_it(name: &CStr) -> io::Result<()> {
    Ok(prctl::set_name(name)?)
}

/// No debugger of the same user may attach, `/proc/self` belongs to root, and no core is dumped, to a file or to a
/// pipe (a piped core handler ignores the limit on core files).
///
/// # Errors
/// As `prctl(2)`, `setrlimit(2)`.
pub fn no_dumps() -> io::Result<()> {
    prctl::set_dumpable(false)?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    Ok(())
}

/// `execve` can give no new privileges any more, to this process or its children.
///
/// # Errors
/// As `prctl(2)`.
pub fn no_new_privileges() -> io::Result<()> {
    Ok(prctl::set_no_new_privs()?)
}

/// No descriptor can be opened any more, and no file can grow: both limits are 0.
///
/// # Errors
/// As `setrlimit(2)`.
pub fn no_new_descriptors() -> io::Result<()> {
    setrlimit(Resource::RLIMIT_NOFILE, 0, 0)?;
    setrlimit(Resource::RLIMIT_FSIZE, 0, 0)?;
    Ok(())
}

/// Closes every descriptor but `keep`, standard input, output and error included.
///
/// To be called before anything else in the process owns a descriptor that is not in `keep`.
///
/// # Errors
/// As `close_range(2)`.
pub fn close_all_but(keep: &[RawFd]) -> io::Result<()> {
    let mut keep: Vec<u32> = keep.iter().filter_map(|&fd| u32::try_from(fd).ok()).collect();
    keep.sort_unstable();
    let mut first = 0;
    for fd in keep {
        if fd > first {
            close_range(first, fd - 1)?;
        }
        first = first.max(fd + 1);
    }
    close_range(first, u32::MAX)
}

fn close_range(first: u32, last: u32) -> io::Result<()> {
    // SAFETY: takes numbers only; that nobody else owns a descriptor in the range is the caller's promise.
    #[allow(unsafe_code)]
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Ends the process with all its threads at once, by one system call: several threads may do so at the same time, behind any
/// filter.
pub fn end(code: u8) -> ! {
    // SAFETY: `_exit` takes a number, and does not return.
    #[allow(unsafe_code)]
    unsafe {
        libc::_exit(code.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_thread_is_counted() {
        // A test runs on a thread of its own beside the main one.
        assert!(matches!(single_threaded(), Err(SandboxError::Threads)));
        let threads = fs::metadata("/proc/self/task").unwrap().nlink() - OWN_LINKS;
        assert_eq!(threads, fs::read_dir("/proc/self/task").unwrap().count() as u64);
    }
}
