//! Other processes, its own privileges, and the system as a whole.

use nix::libc;

use super::List;
use crate::{
    kernel::{self, Outcome, call},
    stage::text,
};

pub(crate) fn list(all: &mut List) {
    start(all);
    others(all);
    itself(all);
    system(all);
    tables(all);
}

/// The new process ends at once.
fn parent_of(forked: Outcome) -> Outcome {
    if forked == Ok(0) { call!(SYS_exit_group, 0) } else { forked }
}

fn start(all: &mut List) {
    all.works("fork", |_| move || parent_of(call!(SYS_fork)));
    all.works("clone", |_| move || parent_of(call!(SYS_clone, libc::SIGCHLD, 0, 0, 0, 0)));
    all.works("clone into a namespace", |_| {
        move || parent_of(call!(SYS_clone, libc::SIGCHLD | libc::CLONE_NEWUTS, 0, 0, 0, 0))
    });
    all.works("clone3", |_| {
        // flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls
        let arguments = [0, 0, 0, 0, libc::SIGCHLD as u64, 0, 0, 0];
        move || parent_of(call!(SYS_clone3, arguments.as_ptr(), size_of_val(&arguments)))
    });
    all.path("execve", |_| {
        // Exits with 200, as an attempt that worked.
        let (path, flag, script) = (text("/bin/sh"), text("-c"), text("exit 200"));
        let arguments = [path.as_ptr(), flag.as_ptr(), script.as_ptr(), std::ptr::null()];
        move || {
            let _kept = (&flag, &script);
            call!(SYS_execve, path.as_ptr(), arguments.as_ptr(), 0)
        }
    });
    all.path("execveat", |_| {
        let (path, flag, script) = (text("/bin/sh"), text("-c"), text("exit 200"));
        let arguments = [path.as_ptr(), flag.as_ptr(), script.as_ptr(), std::ptr::null()];
        move || {
            let _kept = (&flag, &script);
            call!(SYS_execveat, libc::AT_FDCWD, path.as_ptr(), arguments.as_ptr(), 0, 0)
        }
    });
    all.works("unshare", |_| move || call!(SYS_unshare, libc::CLONE_NEWUTS));
    all.perhaps("setns", |stage| {
        let folder = stage.folder;
        move || call!(SYS_setns, folder, 0)
    });
}

fn others(all: &mut List) {
    all.works("signal its parent", |_| {
        let parent = nix::unistd::getppid().as_raw();
        move || call!(SYS_kill, parent, 0)
    });
    all.works("signal everybody", |_| move || call!(SYS_kill, -1, 0));
    all.works("signal itself", |_| {
        let pid = std::process::id() as i32;
        move || call!(SYS_kill, pid, libc::SIGCONT)
    });
    all.works("signal a thread", |_| {
        let pid = std::process::id() as i32;
        move || call!(SYS_tgkill, pid, pid, 0)
    });
    all.works("signal a task", |_| {
        let parent = nix::unistd::getppid().as_raw();
        move || call!(SYS_tkill, parent, 0)
    });
    all.perhaps("queue a signal", |_| {
        let (parent, info) = (nix::unistd::getppid().as_raw(), [0_u8; 128]);
        move || call!(SYS_rt_sigqueueinfo, parent, 0, info.as_ptr())
    });
    all.works("hold its parent", |_| {
        let parent = nix::unistd::getppid().as_raw();
        move || call!(SYS_pidfd_open, parent, 0)
    });
    all.perhaps("signal a held process", |stage| {
        let file = stage.file;
        move || call!(SYS_pidfd_send_signal, file, 0, 0, 0)
    });
    all.perhaps("take a descriptor out of a process", |stage| {
        let file = stage.file;
        move || call!(SYS_pidfd_getfd, file, 0, 0)
    });
    all.works("be traced", |_| move || call!(SYS_ptrace, libc::PTRACE_TRACEME as i32, 0, 0, 0));
    all.works("trace its parent", |_| {
        let parent = nix::unistd::getppid().as_raw();
        // Seizing does not stop it, and ends with this process.
        move || call!(SYS_ptrace, libc::PTRACE_SEIZE as i32, parent, 0, 0)
    });
    all.works("compare with its parent", |_| {
        let (pid, parent) = (std::process::id() as i32, nix::unistd::getppid().as_raw());
        move || call!(SYS_kcmp, pid, parent, 2, 0, 0)
    });
    all.perhaps("wait for a child", |_| move || call!(SYS_wait4, -1, 0, libc::WNOHANG, 0));
}

fn itself(all: &mut List) {
    all.works("be dumpable", |_| move || call!(SYS_prctl, libc::PR_SET_DUMPABLE, 1, 0, 0, 0));
    all.works("change its name", |_| {
        let name = text("innocent");
        move || call!(SYS_prctl, libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0)
    });
    all.works("die with its parent", |_| move || call!(SYS_prctl, libc::PR_SET_PDEATHSIG, 0, 0, 0, 0));
    all.perhaps("raise a capability", |_| {
        let (header, sets) = ([0x2008_0522_u32, 0], [u32::MAX; 6]);
        move || call!(SYS_capset, header.as_ptr(), sets.as_ptr())
    });
    all.works("become another user", |_| move || call!(SYS_setuid, 1));
    all.works("become another group", |_| move || call!(SYS_setgid, 1));
    all.works("join groups", |_| {
        let groups = [0_u32, 1];
        move || call!(SYS_setgroups, 2, groups.as_ptr())
    });
    all.works("become all three users", |_| move || call!(SYS_setresuid, 1, 1, 1));
    all.works("raise a limit", |_| {
        let limit = [1_u64 << 20; 2];
        move || call!(SYS_prlimit64, 0, libc::RLIMIT_CORE as i32, limit.as_ptr(), 0)
    });
    all.works("set a limit", |_| {
        let limit = [0_u64; 2];
        move || call!(SYS_setrlimit, libc::RLIMIT_CORE as i32, limit.as_ptr())
    });
    all.works("be more urgent", |_| move || call!(SYS_setpriority, 0, 0, -5));
    all.works("choose a processor", |_| {
        let set = [1_u64; 16];
        move || call!(SYS_sched_setaffinity, 0, size_of_val(&set), set.as_ptr())
    });
    all.works("change its personality", |_| move || call!(SYS_personality, 0x0040_0000));
    all.works("be its own session", |_| {
        // The leader of a process group may not; who it is asked of may.
        move || match call!(SYS_setsid) {
            Err(libc::EPERM) => Ok(0),
            outcome => outcome,
        }
    });
    all.works("handle a signal", |_| {
        let action = [0_u64; 4];
        move || call!(SYS_rt_sigaction, libc::SIGTERM, action.as_ptr(), 0, 8)
    });
    all.works("block a signal", |_| {
        let set = u64::MAX;
        move || call!(SYS_rt_sigprocmask, libc::SIG_BLOCK, &raw const set, 0, 8)
    });
    all.works("mask new files", |_| move || call!(SYS_umask, 0));
    all.works("filter its own calls anew", |_| {
        // One instruction: everything is allowed.
        let filter = [0x06_u64 | 0x7fff_0000 << 32];
        move || {
            let program = [1_usize, filter.as_ptr() as usize];
            call!(SYS_seccomp, 1, 0, program.as_ptr())
        }
    });
    all.works("make a set of paths", |_| {
        let handled = [1_u64];
        move || call!(SYS_landlock_create_ruleset, handled.as_ptr(), 8, 0)
    });
    all.works("hand its own calls to a handler", |_| {
        // `PR_SET_SYSCALL_USER_DISPATCH`, off.
        move || call!(SYS_prctl, 59, 0, 0, 0, 0)
    });
    all.works("move its thread's base", |_| {
        let mut room = 0_u64;
        // `ARCH_GET_FS`.
        move || call!(SYS_arch_prctl, 0x1003, &raw mut room)
    });
}

fn system(all: &mut List) {
    all.perhaps("io_uring_setup", |_| {
        let mut parameters = [0_u8; 120];
        move || call!(SYS_io_uring_setup, 4, parameters.as_mut_ptr())
    });
    all.works("io_setup", |_| {
        let mut context = 0_usize;
        move || call!(SYS_io_setup, 1, &raw mut context)
    });
    all.perhaps("bpf", |_| {
        // BPF_MAP_CREATE: an array of one number.
        let map = [2_u32, 4, 4, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        move || call!(SYS_bpf, 0, map.as_ptr(), size_of_val(&map))
    });
    all.perhaps("perf_event_open", |_| {
        let event = [0_u8; 112];
        move || call!(SYS_perf_event_open, event.as_ptr(), 0, -1, -1, 0)
    });
    all.perhaps("add_key", |_| {
        let (kind, name) = (text("user"), text("tacet"));
        // KEY_SPEC_PROCESS_KEYRING
        move || call!(SYS_add_key, kind.as_ptr(), name.as_ptr(), name.as_ptr(), 5, -2)
    });
    all.perhaps("keyctl", |_| move || call!(SYS_keyctl, 0, -2, 1));
    all.works("read the kernel's log", |_| {
        // SYSLOG_ACTION_SIZE_BUFFER
        move || call!(SYS_syslog, 10, 0, 0)
    });
    all.works("change the host's name", |_| {
        let name = text("leak");
        move || call!(SYS_sethostname, name.as_ptr(), 4)
    });
    all.works("change the domain's name", |_| {
        let name = text("leak");
        move || call!(SYS_setdomainname, name.as_ptr(), 4)
    });
    all.perhaps("set the clock", |_| move || call!(SYS_clock_settime, 0, 0));
    all.perhaps("set the time of day", |_| {
        let time = [-1_i64, -1];
        move || call!(SYS_settimeofday, time.as_ptr(), 0)
    });
    all.perhaps("restart the machine", |_| move || call!(SYS_reboot, 0, 0, 0, 0));
    all.perhaps("load another kernel", |_| move || call!(SYS_kexec_load, 0, 0x7fff, 0, 0x7fff));
    all.perhaps("load a module", |_| move || call!(SYS_init_module, 0, 0, 0));
    all.perhaps("load a module from a file", |stage| {
        let (file, none) = (stage.file, text(""));
        move || call!(SYS_finit_module, file, none.as_ptr(), 0)
    });
    all.perhaps("unload a module", |_| {
        let name = text("no_such_module_of_tacet");
        move || call!(SYS_delete_module, name.as_ptr(), 0)
    });
    all.perhaps("swap to a file", |_| {
        let path = text("no such file");
        move || call!(SYS_swapon, path.as_ptr(), 0)
    });
    all.perhaps("account for processes in a file", |_| {
        let path = text("no such file");
        move || call!(SYS_acct, path.as_ptr())
    });
    all.perhaps("set a quota", |_| move || call!(SYS_quotactl, -1, 0, 0, 0));
    all.works("write everything back", |_| move || call!(SYS_sync));
    all.works("ask for the system's name", |_| {
        let mut room = [0_u8; 6 * 65];
        move || call!(SYS_uname, room.as_mut_ptr())
    });
}

/// Other doors to the same calls.
fn tables(all: &mut List) {
    // The upper table of x86-64, whose calls have this bit: a filter by number alone would see another call.
    all.perhaps("getpid of the x32 table", |_| move || kernel::make(libc::SYS_getpid | 0x4000_0000, &[]));
    all.perhaps("write of the x32 table", |stage| {
        let (device, bytes) = (stage.held.device as usize, b"x");
        move || kernel::make(libc::SYS_write | 0x4000_0000, &[device, bytes.as_ptr() as usize, 1])
    });
    all.perhaps("getpid of the 32-bit table", |_| kernel::getpid_of_i386);
    all.perhaps("a call that no kernel has", |_| move || kernel::make(9_999, &[]));
}
