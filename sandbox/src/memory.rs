//! Memory that never goes to swap.
//!
//! Where locked memory is not limited, or root may lift the limit, all of a process is locked for good. Elsewhere (a
//! container, an ordinary user) the limit is 8 MiB as a rule: too little for all, enough for where secrets live. Then the
//! stack is locked, and the heap with a reserve that it grows into. In both cases pages are locked when they are first
//! used: what is never touched takes no memory.
//!
//! Code is in memory too, and a locked page of it stays. Most of what a process runs, it runs once, at its start: that is given
//! back before ([`forget_start`]).

use std::{hint::black_box, io};

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};

/// How far the heap may grow and still be locked, where there is a limit. Control with one network and the data path
/// use a third of it.
#[cfg(target_env = "gnu")]
const RESERVE: usize = 6 << 20;

/// The part of the stack that is locked where there is a limit: what the kernel maps for it at the start.
const STACK: usize = 128 << 10;

const PAGE: usize = 4_096;

/// Locks this process's memory as far as the system lets it. The lock does not pass to children; the limit does.
///
/// # Errors
/// Where nothing could be locked: secrets may reach the swap then.
pub fn lock() -> io::Result<()> {
    forget_start();
    match allow_locking() {
        Ok(()) => lock_all(),
        Err(_) => lock_stack_and_heap(),
    }
}

/// Gives back all pages of code and constants, which the start has filled memory with. Those that are needed again come back
/// by themselves, out of the system's cache of files: a page fault for each sixteen.
fn forget_start() {
    // SAFETY: the linker calls it, with what it shows of an object that is loaded.
    #[allow(unsafe_code)]
    unsafe extern "C" fn each(
        object: *mut libc::dl_phdr_info,
        _: usize,
        _: *mut libc::c_void,
    ) -> libc::c_int {
        // SAFETY: the linker shows an object that is loaded, with so many headers, for as long as this call takes.
        #[allow(unsafe_code)]
        let (base, headers) = unsafe {
            let object = &*object;
            let headers = std::slice::from_raw_parts(object.dlpi_phdr, object.dlpi_phnum.into());
            (object.dlpi_addr as usize, headers)
        };
        for header in headers {
            if header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_W == 0 {
                let from = (base + header.p_vaddr as usize).next_multiple_of(PAGE);
                let to = (base + (header.p_vaddr + header.p_memsz) as usize) & !(PAGE - 1);
                // SAFETY: nobody can have written to what is mapped from a file to be read: the same bytes come back. Where the
                // kernel refuses, all stays as it is.
                #[allow(unsafe_code)]
                unsafe {
                    libc::syscall(libc::SYS_madvise, from, to.saturating_sub(from), libc::MADV_DONTNEED);
                }
            }
        }
        0
    }
    // SAFETY: the function is as the linker wants it, and is given nothing.
    #[allow(unsafe_code)]
    unsafe {
        libc::dl_iterate_phdr(Some(each), std::ptr::null_mut());
    }
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

/// Under a limit, an allocation would fail one day instead.
fn lock_all() -> io::Result<()> {
    let flags = libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT;
    // SAFETY: takes a number only.
    #[allow(unsafe_code)]
    let done = unsafe { libc::mlockall(flags) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn lock_stack_and_heap() -> io::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_MEMLOCK)?;
    setrlimit(Resource::RLIMIT_MEMLOCK, hard, hard)?;
    let limit = usize::try_from(hard).unwrap_or(usize::MAX);

    // All but the lowest page: the stack grows downwards, and a locked part could not grow beyond the limit.
    let here = std::ptr::from_ref(&limit).addr() & !(PAGE - 1);
    let low = lowest_mapped(here, here.saturating_sub(STACK)) + PAGE;
    let high = first_unmapped(here, here + STACK);
    lock_range(low, high)?;
    lock_heap(limit.saturating_sub(high - low))
}

/// Locks at most `limit` bytes of the heap.
fn lock_heap(limit: usize) -> io::Result<()> {
    let somewhere = Box::new(0_u8);
    let here = std::ptr::from_ref(black_box(&*somewhere)).addr() & !(PAGE - 1);
    let low = lowest_mapped(here, here.saturating_sub(limit));
    grow_heap(limit.saturating_sub(end_of_heap().saturating_sub(low)));
    let high = end_of_heap().min(low + limit) & !(PAGE - 1);
    if high <= here {
        return Err(io::ErrorKind::Unsupported.into());
    }
    lock_range(low, high)
}

/// Makes the heap larger by [`RESERVE`], at most by `limit`, and lets it keep what it has.
#[cfg(target_env = "gnu")]
fn grow_heap(limit: usize) {
    const BLOCK: usize = 64 << 10;
    let reserve = RESERVE.min(limit.saturating_sub(2 * BLOCK));
    let options = [
        (libc::M_TOP_PAD, libc::c_int::try_from(reserve).unwrap_or_default()),
        (libc::M_TRIM_THRESHOLD, libc::c_int::MAX),
        // Threads share it.
        (libc::M_ARENA_MAX, 1),
    ];
    for (option, value) in options {
        // SAFETY: sets a number that the allocator consults.
        #[allow(unsafe_code)]
        unsafe {
            libc::mallopt(option, value);
        }
    }
    // The reserve comes with the next growth: blocks are asked for until there is one, and given back.
    let before = end_of_heap();
    let mut blocks: Vec<Vec<u8>> = Vec::new();
    while end_of_heap() == before && blocks.len() < RESERVE / BLOCK {
        blocks.push(black_box(Vec::with_capacity(BLOCK)));
    }
    // Only once: later growth is not locked, and need not be large.
    // SAFETY: as above.
    #[allow(unsafe_code)]
    unsafe {
        libc::mallopt(libc::M_TOP_PAD, BLOCK as libc::c_int);
    }
}

/// Another C library's heap is locked as it is.
#[cfg(not(target_env = "gnu"))]
fn grow_heap(_: usize) {}

fn end_of_heap() -> usize {
    // SAFETY: 0 is no address that the heap can end at: the call changes nothing, and returns where it ends.
    #[allow(unsafe_code)]
    let end = unsafe { libc::syscall(libc::SYS_brk, 0) };
    end as usize
}

/// The lowest page, from `here` downwards, with nothing unmapped in between.
fn lowest_mapped(here: usize, not_below: usize) -> usize {
    let mut page = here;
    while page >= not_below + PAGE && mapped(page - PAGE) {
        page -= PAGE;
    }
    page
}

/// The end of what is mapped from `here` upwards.
fn first_unmapped(here: usize, not_above: usize) -> usize {
    let mut page = here;
    while page < not_above && mapped(page) {
        page += PAGE;
    }
    page
}

fn mapped(page: usize) -> bool {
    let mut resident = 0_u8;
    // SAFETY: asks about one page by its address, which need not be valid, and writes one byte to `resident`.
    #[allow(unsafe_code)]
    let known = unsafe { libc::syscall(libc::SYS_mincore, page, PAGE, &raw mut resident) };
    known == 0
}

fn lock_range(low: usize, high: usize) -> io::Result<()> {
    // SAFETY: takes addresses as numbers, and changes no content.
    #[allow(unsafe_code)]
    let done = unsafe { libc::syscall(libc::SYS_mlock2, low, high.saturating_sub(low), libc::MLOCK_ONFAULT) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// KiB of files that are in this process's memory.
    fn of_files() -> u64 {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssFile:")).unwrap();
        line.trim().split(' ').next().unwrap().parse().unwrap()
    }

    #[test]
    fn what_only_the_start_needed_is_given_back() {
        let before = of_files();
        forget_start();
        let after = of_files();
        assert!(after < before * 3 / 4, "{after} KiB of {before}");
    }
}
