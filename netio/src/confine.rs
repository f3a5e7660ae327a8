//! Walls of a process that handles traffic: each function takes one power away for good.

use std::{io, os::fd::RawFd};

use nix::sys::{
    prctl,
    resource::{Resource, setrlimit},
};

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

/// Gives up every capability: effective, permitted, inheritable, ambient, and, where this process still may, the
/// bounding set.
///
/// # Errors
/// As `capset(2)`.
pub fn drop_capabilities() -> io::Result<()> {
    /// `_LINUX_CAPABILITY_VERSION_3` of `linux/capability.h`: two 32-bit words for each set.
    const VERSION_3: u32 = 0x2008_0522;
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    #[repr(C)]
    #[derive(Clone, Copy)]
    struct Sets {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }

    for capability in 0..64 {
        // SAFETY: takes numbers only; fails without effect for a capability that the kernel does not know (EINVAL)
        // or that this process may not drop (EPERM), in which case it cannot regain it by exec either, having none.
        #[allow(unsafe_code)]
        unsafe {
            libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0);
        }
    }
    // SAFETY: takes numbers only.
    #[allow(unsafe_code)]
    unsafe {
        libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    }
    let header = Header { version: VERSION_3, pid: 0 };
    let none = [Sets { effective: 0, permitted: 0, inheritable: 0 }; 2];
    // SAFETY: `header` and `none` are laid out as `__user_cap_header_struct` and two `__user_cap_data_struct`, which
    // version 3 reads, and live over the call.
    #[allow(unsafe_code)]
    let done = unsafe { libc::syscall(libc::SYS_capset, &raw const header, none.as_ptr()) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
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
