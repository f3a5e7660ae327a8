//! Code that is not the program's own, memory that others see, files by mapping them.

use nix::libc::{self, MAP_ANONYMOUS, MAP_PRIVATE, MAP_SHARED, PROT_EXEC, PROT_READ, PROT_WRITE};

use super::List;
use crate::kernel::call;

const PAGE: usize = 4_096;

pub(crate) fn list(all: &mut List) {
    all.works("map an inherited file to write", |stage| {
        let file = stage.file;
        move || call!(SYS_mmap, 0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0)
    });
    all.works("map an inherited file to read", |stage| {
        let file = stage.file;
        move || call!(SYS_mmap, 0, PAGE, PROT_READ, MAP_PRIVATE, file, 0)
    });
    all.works("map memory to execute", |_| {
        let flags = MAP_PRIVATE | MAP_ANONYMOUS;
        move || call!(SYS_mmap, 0, PAGE, PROT_READ | PROT_EXEC, flags, -1, 0)
    });
    all.works("map memory to write and execute", |_| {
        let flags = MAP_PRIVATE | MAP_ANONYMOUS;
        move || call!(SYS_mmap, 0, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, flags, -1, 0)
    });
    all.works("map memory to share", |_| {
        move || call!(SYS_mmap, 0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)
    });
    all.works("make its data executable", |_| {
        let page = page();
        move || call!(SYS_mprotect, page, PAGE, PROT_READ | PROT_EXEC)
    });
    all.works("make its data executable with a key", |_| {
        let page = page();
        move || call!(SYS_pkey_mprotect, page, PAGE, PROT_READ | PROT_EXEC, -1)
    });
    all.works("memfd_create", |_| {
        let name = crate::stage::text("x");
        move || call!(SYS_memfd_create, name.as_ptr(), 0)
    });
    all.perhaps("memfd_secret", |_| move || call!(SYS_memfd_secret, 0));
    all.works("take shared memory", |_| {
        move || call!(SYS_shmget, libc::IPC_PRIVATE, PAGE, libc::IPC_CREAT | 0o600)
    });
    all.works("take a message queue", |_| {
        move || call!(SYS_msgget, libc::IPC_PRIVATE, libc::IPC_CREAT | 0o600)
    });
    all.works("take a semaphore", |_| {
        move || call!(SYS_semget, libc::IPC_PRIVATE, 1, libc::IPC_CREAT | 0o600)
    });
    all.works("open a named message queue", |_| {
        let name = crate::stage::text("tacet");
        move || call!(SYS_mq_open, name.as_ptr(), libc::O_CREAT | libc::O_RDWR, 0o600, 0)
    });
    all.perhaps("handle page faults", |_| move || call!(SYS_userfaultfd, 0));
    all.works("have its memory dumped", |_| {
        let page = page();
        move || call!(SYS_madvise, page, PAGE, libc::MADV_DODUMP)
    });
    all.works("unlock its memory", |_| move || call!(SYS_munlockall));
    all.works("read memory by process", |_| {
        let (from, mut to) = ([7_u8; 8], [0_u8; 8]);
        move || {
            let from = libc::iovec { iov_base: from.as_ptr().cast_mut().cast(), iov_len: from.len() };
            let to = libc::iovec { iov_base: to.as_mut_ptr().cast(), iov_len: to.len() };
            let pid = std::process::id() as i32;
            call!(SYS_process_vm_readv, pid, &raw const to, 1, &raw const from, 1, 0)
        }
    });
    all.works("write memory by process", |_| {
        let (from, mut to) = ([7_u8; 8], [0_u8; 8]);
        let pid = std::process::id() as i32;
        move || {
            let from = libc::iovec { iov_base: from.as_ptr().cast_mut().cast(), iov_len: from.len() };
            let to = libc::iovec { iov_base: to.as_mut_ptr().cast(), iov_len: to.len() };
            call!(SYS_process_vm_writev, pid, &raw const from, 1, &raw const to, 1, 0)
        }
    });
    all.works("write its parent's memory", |_| {
        let parent = nix::unistd::getppid().as_raw();
        // The parent runs the same program: an address in its data that nobody uses, with no bytes to write there.
        let (from, mut to) = ([7_u8; 8], [0_u8; 8]);
        move || {
            let from = libc::iovec { iov_base: from.as_ptr().cast_mut().cast(), iov_len: 0 };
            let to = libc::iovec { iov_base: to.as_mut_ptr().cast(), iov_len: 0 };
            call!(SYS_process_vm_writev, parent, &raw const from, 1, &raw const to, 1, 0)
        }
    });
}

/// A page of its own.
fn page() -> *mut u8 {
    let layout = std::alloc::Layout::from_size_align(PAGE, PAGE).unwrap();
    Box::leak(vec![0_u8; 2 * layout.size()].into_boxed_slice())
        .as_mut_ptr()
        .map_addr(|at| at.next_multiple_of(PAGE))
}
