//! Memory that never goes to swap.

use std::io;

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};

/// Keeps every page that this process touches from now on in memory until it ends. Pages that are never touched take
/// no memory: they are locked when they are first used.
///
/// It takes an unlimited `RLIMIT_MEMLOCK`, or the right to raise it ([`allow_locking`]): under a limit, an allocation
/// would fail one day instead. The lock does not pass to children; the limit does.
///
/// # Errors
/// If the limit is in the way, or as `mlockall(2)`: secrets may reach the swap then.
pub fn lock() -> io::Result<()> {
    allow_locking()?;
    let flags = libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT;
    // SAFETY: takes a number only.
    #[allow(unsafe_code)]
    let done = unsafe { libc::mlockall(flags) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Removes the limit on locked memory, for this process and its children.
///
/// # Errors
/// If it is not unlimited and may not be raised.
pub fn allow_locking() -> io::Result<()> {
    let (now, _) = getrlimit(Resource::RLIMIT_MEMLOCK)?;
    if now != RLIM_INFINITY {
        setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY)?;
    }
    Ok(())
}
