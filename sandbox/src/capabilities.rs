//! Root's powers, one by one.

use std::io;

/// A capability, by its number in `linux/capability.h`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Capability {
    /// Ports below 1024.
    NetBindService = 10,
    /// Interfaces, addresses, routes.
    NetAdmin = 12,
}

/// `_LINUX_CAPABILITY_VERSION_3` of `linux/capability.h`: two 32-bit words for each set.
const VERSION_3: u32 = 0x2008_0522;

/// More than the kernel has; those that it does not know are refused without effect.
const ALL: u8 = 64;

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

/// Gives up every capability but those of `kept` that this process has: effective, permitted, inheritable, ambient, and,
/// where it still may, the bounding set, so that no program that it starts has more.
///
/// # Errors
/// As `capset(2)`.
pub fn keep(kept: &[Capability]) -> io::Result<()> {
    let kept = kept.iter().fold(0, |bits, &capability| bits | 1_u64 << capability as u8);
    for capability in (0..ALL).filter(|&capability| kept & 1 << capability == 0) {
        // SAFETY: takes numbers only; fails without effect for a capability that the kernel does not know (EINVAL)
        // or that this process may not drop (EPERM), in which case it cannot regain it by exec either, having none.
        #[allow(unsafe_code)]
        unsafe {
            libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(capability), 0, 0, 0);
        }
    }
    // SAFETY: takes numbers only.
    #[allow(unsafe_code)]
    unsafe {
        libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    }
    let header = Header { version: VERSION_3, pid: 0 };
    let mut sets = [Sets { effective: 0, permitted: 0, inheritable: 0 }; 2];
    // SAFETY: `header` and `sets` are laid out as `__user_cap_header_struct` and two `__user_cap_data_struct`, which
    // version 3 writes, and live over the call.
    #[allow(unsafe_code)]
    let read = unsafe { libc::syscall(libc::SYS_capget, &raw const header, sets.as_mut_ptr()) };
    if read != 0 {
        return Err(io::Error::last_os_error());
    }
    for (set, kept) in sets.iter_mut().zip([kept as u32, (kept >> 32) as u32]) {
        let permitted = set.permitted & kept;
        *set = Sets { effective: permitted, permitted, inheritable: 0 };
    }
    // SAFETY: as above; the kernel only reads.
    #[allow(unsafe_code)]
    let done = unsafe { libc::syscall(libc::SYS_capset, &raw const header, sets.as_ptr()) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
