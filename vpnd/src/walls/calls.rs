//! The system calls that control keeps.
//!
//! A list of what is allowed: what control's own code, its runtime, the C library's name resolution, and a data path
//! make before that has walls of its own. Any other call is answered as by a kernel that does not have it, so that the C
//! library falls back to an older one where it tries a new one first. Not on the list are, among others, `ptrace`,
//! `process_vm_*`, `bpf`, `perf_event_open`, `io_uring_*`, `userfaultfd`, `keyctl`, `mount` and its family, `unshare`,
//! `setns`, `chroot`, modules, `kexec_*`, `chmod`, `chown`, extended attributes, and changes of the user.

use std::ffi::{c_int, c_long};

use nix::libc;
use sandbox::{
    SandboxError,
    calls::{Argument, Calls, Violation},
};

const FILES: &[c_long] = &[
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fadvise64,
    libc::SYS_fcntl,
    libc::SYS_fdatasync,
    libc::SYS_flock,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_lseek,
    libc::SYS_mkdirat,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_pipe2,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_read,
    libc::SYS_readlinkat,
    libc::SYS_readv,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_statfs,
    libc::SYS_statx,
    libc::SYS_umask,
    libc::SYS_unlinkat,
    libc::SYS_write,
    libc::SYS_writev,
];

const MEMORY: &[c_long] = &[
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    libc::SYS_mincore,
    libc::SYS_mlock,
    libc::SYS_mlock2,
    libc::SYS_mlockall,
    libc::SYS_mremap,
    libc::SYS_munmap,
];

const WAITING: &[c_long] = &[
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
    libc::SYS_futex,
    libc::SYS_gettimeofday,
    libc::SYS_nanosleep,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_sigaltstack,
];

/// Starting a data path, waiting for its end and ending it; what a program does when it starts.
const PROCESSES: &[c_long] = &[
    libc::SYS_capget,
    libc::SYS_capset,
    libc::SYS_chdir,
    libc::SYS_execve,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getgroups,
    libc::SYS_getpgid,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getrandom,
    libc::SYS_getresgid,
    libc::SYS_getresuid,
    libc::SYS_getrusage,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_kill,
    libc::SYS_landlock_add_rule,
    libc::SYS_landlock_create_ruleset,
    libc::SYS_landlock_restrict_self,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_send_signal,
    libc::SYS_rseq,
    libc::SYS_seccomp,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_setpgid,
    libc::SYS_sysinfo,
    libc::SYS_tgkill,
    libc::SYS_uname,
    libc::SYS_wait4,
    libc::SYS_waitid,
];

/// On sockets that exist; which may be made is said below.
const SOCKETS: &[c_long] = &[
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_bind,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_recvfrom,
    libc::SYS_recvmmsg,
    libc::SYS_recvmsg,
    libc::SYS_sendmmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
];

/// To find somebody to speak with.
const PARTNERS: &[c_long] = &[libc::SYS_connect, libc::SYS_listen];

/// Calls of older interfaces, which newer architectures do not have and C libraries still make.
#[cfg(target_arch = "x86_64")]
const OLDER: &[c_long] = &[
    libc::SYS_access,
    libc::SYS_arch_prctl,
    libc::SYS_dup2,
    libc::SYS_epoll_create,
    libc::SYS_epoll_wait,
    libc::SYS_getdents,
    libc::SYS_getpgrp,
    libc::SYS_getrlimit,
    libc::SYS_lstat,
    libc::SYS_mkdir,
    libc::SYS_open,
    libc::SYS_pipe,
    libc::SYS_poll,
    libc::SYS_readlink,
    libc::SYS_rename,
    libc::SYS_rmdir,
    libc::SYS_select,
    libc::SYS_setrlimit,
    libc::SYS_stat,
    libc::SYS_time,
    libc::SYS_unlink,
];
#[cfg(not(target_arch = "x86_64"))]
const OLDER: &[c_long] = &[];

/// What may be asked of this process's own state. Dumps may be switched off, and not on again.
const OPTIONS: [c_int; 8] = [
    libc::PR_CAP_AMBIENT,
    libc::PR_CAPBSET_DROP,
    libc::PR_CAPBSET_READ,
    libc::PR_GET_DUMPABLE,
    libc::PR_GET_NAME,
    libc::PR_SET_NAME,
    libc::PR_SET_NO_NEW_PRIVS,
    // The C library names its memory for whoever reads `/proc/PID/maps`.
    libc::PR_SET_VMA,
];

/// What may be asked of a descriptor beyond reading and writing: of the TUN device, of sockets, whether it is a terminal.
const CONTROLS: &[u64] = &[
    libc::TUNSETIFF,
    libc::TUNGETIFF,
    libc::TUNSETOFFLOAD,
    libc::FIONREAD,
    libc::FIONBIO,
    libc::FIOCLEX,
    libc::FIONCLEX,
    libc::SIOCGIFINDEX,
    libc::SIOCGIFNAME,
    libc::TCGETS,
];

/// Namespaces: a new one of users would bring every capability back inside of it.
const NAMESPACES: c_int = libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWUTS;

/// The sockets that may be made, beside the one to routing. No raw ones, no other families.
const SOCKET_KINDS: [(c_int, c_int); 7] = [
    (libc::AF_INET, libc::SOCK_STREAM),
    (libc::AF_INET, libc::SOCK_DGRAM),
    (libc::AF_INET6, libc::SOCK_STREAM),
    (libc::AF_INET6, libc::SOCK_DGRAM),
    (libc::AF_UNIX, libc::SOCK_STREAM),
    (libc::AF_UNIX, libc::SOCK_DGRAM),
    // On which a child tells the standard library that it could not be started.
    (libc::AF_UNIX, libc::SOCK_SEQPACKET),
];

/// The bits of a socket's type that say which it is; the others are flags.
const TYPE: u32 = 0xf;

/// What is allowed to whom, of sockets.
pub(super) struct Sockets {
    /// What may be made, beside the one to routing. No raw ones, no other families.
    kinds: &'static [(c_int, c_int)],
    /// Calls on those that are there.
    calls: &'static [&'static [c_long]],
}

/// Control: it connects to servers, and listens to its peers.
pub(super) const OF_CONTROL: Sockets = Sockets { kinds: &SOCKET_KINDS, calls: &[SOCKETS, PARTNERS] };

/// A plain interface: it binds UDP ports and answers on a socket that is open already.
pub(super) const OF_DEVICE: Sockets = Sockets {
    kinds: &[
        (libc::AF_INET, libc::SOCK_DGRAM),
        (libc::AF_INET6, libc::SOCK_DGRAM),
        // On which its runtime tells itself of signals, and a child that it could not be started.
        (libc::AF_UNIX, libc::SOCK_STREAM),
        (libc::AF_UNIX, libc::SOCK_SEQPACKET),
    ],
    calls: &[SOCKETS],
};

pub(super) fn close(sockets: &Sockets) -> Result<(), SandboxError> {
    const EXEC: u32 = libc::PROT_EXEC as u32;
    const WRITE: u32 = libc::PROT_WRITE as u32;

    let mut calls = [FILES, MEMORY, WAITING, PROCESSES, OLDER]
        .iter()
        .chain(sockets.calls)
        .copied()
        .fold(Calls::new(), Calls::any)
        // Code is mapped, never written: what can be written cannot run.
        .only(&[libc::SYS_mmap], &[Argument::Without(2, EXEC)])
        .only(&[libc::SYS_mmap], &[Argument::Without(2, WRITE)])
        .only(&[libc::SYS_mprotect], &[Argument::Without(2, EXEC)])
        // `clone3` hides its flags in memory: the C library falls back to this.
        .only(&[libc::SYS_clone], &[Argument::Without(0, NAMESPACES.cast_unsigned())])
        // Its own limits, not another process's.
        .only(&[libc::SYS_prlimit64], &[Argument::Is(0, 0)])
        .only(&[libc::SYS_prctl], &[option(libc::PR_SET_DUMPABLE), Argument::Is(1, 0)]);
    for known in OPTIONS {
        calls = calls.only(&[libc::SYS_prctl], &[option(known)]);
    }
    for &known in CONTROLS {
        calls = calls.only(&[libc::SYS_ioctl], &[Argument::Is(1, known as u32)]);
    }
    for &(family, kind) in sockets.kinds {
        let (family, kind) = (Argument::Is(0, family.cast_unsigned()), kind.cast_unsigned());
        let kind = [family, Argument::With(1, kind), Argument::Without(1, TYPE & !kind)];
        calls = calls.only(&[libc::SYS_socket, libc::SYS_socketpair], &kind);
    }
    // Interfaces, addresses and routes; not the firewall, audit or any other of its protocols.
    let netlink = Argument::Is(0, libc::AF_NETLINK.cast_unsigned());
    let routes = Argument::Is(2, libc::NETLINK_ROUTE.cast_unsigned());
    calls.only(&[libc::SYS_socket], &[netlink, routes]).allow_only(Violation::Fail(libc::ENOSYS))
}

fn option(option: c_int) -> Argument {
    Argument::Is(0, option.cast_unsigned())
}
