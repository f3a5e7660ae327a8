//! Files, folders and mounts, by path.

use nix::libc::{self, AT_FDCWD, O_CREAT, O_DIRECTORY, O_RDONLY, O_RDWR, O_TMPFILE, O_WRONLY};

use super::List;
use crate::{kernel::call, stage::text};

const MODE: i32 = 0o600;

pub(crate) fn list(all: &mut List) {
    open(all);
    make(all);
    change(all);
    look(all);
    mounts(all);
}

fn open(all: &mut List) {
    all.path("open a file to write", |_| {
        let path = text("secret");
        move || call!(SYS_open, path.as_ptr(), O_WRONLY)
    });
    all.path("open a file to append, relative to a folder", |_| {
        let path = text("secret");
        move || call!(SYS_openat, AT_FDCWD, path.as_ptr(), O_WRONLY | libc::O_APPEND)
    });
    all.path("open a file to read", |_| {
        let path = text("secret");
        move || call!(SYS_openat, AT_FDCWD, path.as_ptr(), O_RDONLY)
    });
    all.path("open the password file", |_| {
        let path = text("/etc/passwd");
        move || call!(SYS_openat, AT_FDCWD, path.as_ptr(), O_RDONLY)
    });
    all.path("open a new file", |_| {
        let path = text("new");
        move || call!(SYS_openat, AT_FDCWD, path.as_ptr(), O_CREAT | O_RDWR, MODE)
    });
    all.works("open a new file within an open folder", |stage| {
        let (folder, path) = (stage.folder, text("new"));
        move || call!(SYS_openat, folder, path.as_ptr(), O_CREAT | O_RDWR, MODE)
    });
    all.path("openat2", |_| {
        let (path, how) = (text("secret"), [O_RDWR as u64, 0, 0]);
        move || call!(SYS_openat2, AT_FDCWD, path.as_ptr(), how.as_ptr(), size_of_val(&how))
    });
    all.path("creat", |_| {
        let path = text("new");
        move || call!(SYS_creat, path.as_ptr(), MODE)
    });
    all.path("open a file without a name", |_| {
        let path = text(".");
        move || call!(SYS_openat, AT_FDCWD, path.as_ptr(), O_TMPFILE | O_RDWR, MODE)
    });
    all.path("open its own memory", |_| {
        let path = text("/proc/self/mem");
        move || call!(SYS_openat, AT_FDCWD, path.as_ptr(), O_RDWR)
    });
    all.path("open the kernel's log", |_| {
        let path = text("/dev/kmsg");
        move || call!(SYS_openat, AT_FDCWD, path.as_ptr(), O_WRONLY)
    });
    all.path("open /dev/null to write", |_| {
        let path = text("/dev/null");
        move || call!(SYS_openat, AT_FDCWD, path.as_ptr(), O_WRONLY)
    });
    all.path("open /dev/net/tun", |_| {
        let path = text("/dev/net/tun");
        move || call!(SYS_openat, AT_FDCWD, path.as_ptr(), O_RDWR)
    });
    all.path("open a kernel setting", |_| {
        let path = text("/proc/sys/kernel/core_pattern");
        move || call!(SYS_openat, AT_FDCWD, path.as_ptr(), O_WRONLY)
    });
    all.path("list a folder", |_| {
        let path = text(".");
        move || call!(SYS_openat, AT_FDCWD, path.as_ptr(), O_RDONLY | O_DIRECTORY)
    });
    all.perhaps("open by a file's handle", |_| {
        let handle = [8_u32, 1, 0, 0];
        move || call!(SYS_open_by_handle_at, AT_FDCWD, handle.as_ptr(), O_RDONLY)
    });
}

fn make(all: &mut List) {
    all.path("mkdir", |_| {
        let path = text("new");
        move || call!(SYS_mkdir, path.as_ptr(), 0o700)
    });
    all.path("mkdirat", |_| {
        let path = text("new");
        move || call!(SYS_mkdirat, AT_FDCWD, path.as_ptr(), 0o700)
    });
    all.path("make a named pipe", |_| {
        let path = text("new");
        move || call!(SYS_mknod, path.as_ptr(), (libc::S_IFIFO | 0o600) as i32, 0)
    });
    all.path("make a device", |_| {
        let path = text("new");
        // 1:3 is /dev/null.
        move || call!(SYS_mknodat, AT_FDCWD, path.as_ptr(), (libc::S_IFCHR | 0o600) as i32, 0x103)
    });
    all.path("link", |_| {
        let (from, to) = (text("secret"), text("new"));
        move || call!(SYS_link, from.as_ptr(), to.as_ptr())
    });
    all.path("linkat", |_| {
        let (from, to) = (text("secret"), text("folder/new"));
        move || call!(SYS_linkat, AT_FDCWD, from.as_ptr(), AT_FDCWD, to.as_ptr(), 0)
    });
    all.path("symlink", |_| {
        let (from, to) = (text("what it was told"), text("new"));
        move || call!(SYS_symlink, from.as_ptr(), to.as_ptr())
    });
    all.path("symlinkat", |_| {
        let (from, to) = (text("what it was told"), text("new"));
        move || call!(SYS_symlinkat, from.as_ptr(), AT_FDCWD, to.as_ptr())
    });
}

fn change(all: &mut List) {
    all.path("rename", |_| {
        let (from, to) = (text("secret"), text("new"));
        move || call!(SYS_rename, from.as_ptr(), to.as_ptr())
    });
    all.path("renameat", |_| {
        let (from, to) = (text("secret"), text("other"));
        move || call!(SYS_renameat, AT_FDCWD, from.as_ptr(), AT_FDCWD, to.as_ptr())
    });
    all.path("exchange two files", |_| {
        let (from, to) = (text("secret"), text("other"));
        let exchange = libc::RENAME_EXCHANGE as i32;
        move || call!(SYS_renameat2, AT_FDCWD, from.as_ptr(), AT_FDCWD, to.as_ptr(), exchange)
    });
    all.path("unlink", |_| {
        let path = text("secret");
        move || call!(SYS_unlink, path.as_ptr())
    });
    all.path("unlinkat", |_| {
        let path = text("secret");
        move || call!(SYS_unlinkat, AT_FDCWD, path.as_ptr(), 0)
    });
    all.path("rmdir", |_| {
        let path = text("empty");
        move || call!(SYS_rmdir, path.as_ptr())
    });
    all.works("truncate", |_| {
        let path = text("secret");
        move || call!(SYS_truncate, path.as_ptr(), 3)
    });
    all.works("chmod", |_| {
        let path = text("secret");
        move || call!(SYS_chmod, path.as_ptr(), 0o777)
    });
    all.works("fchmodat", |_| {
        let path = text("secret");
        move || call!(SYS_fchmodat, AT_FDCWD, path.as_ptr(), 0o4755)
    });
    all.works("chown", |_| {
        let path = text("secret");
        move || call!(SYS_chown, path.as_ptr(), 1, 1)
    });
    all.works("lchown", |_| {
        let path = text("symlink");
        move || call!(SYS_lchown, path.as_ptr(), 1, 1)
    });
    all.works("fchownat", |_| {
        let path = text("secret");
        move || call!(SYS_fchownat, AT_FDCWD, path.as_ptr(), 1, 1, 0)
    });
    all.works("setxattr", |_| {
        let (path, name, value) = (text("secret"), text("trusted.tacet"), [7_u8; 64]);
        move || call!(SYS_setxattr, path.as_ptr(), name.as_ptr(), value.as_ptr(), value.len(), 0)
    });
    all.works("lsetxattr", |_| {
        let (path, name, value) = (text("symlink"), text("trusted.tacet"), [7_u8; 64]);
        move || call!(SYS_lsetxattr, path.as_ptr(), name.as_ptr(), value.as_ptr(), value.len(), 0)
    });
    all.perhaps("removexattr", |_| {
        let (path, name) = (text("secret"), text("trusted.tacet"));
        move || call!(SYS_removexattr, path.as_ptr(), name.as_ptr())
    });
    all.works("utimensat", |_| {
        let path = text("secret");
        move || call!(SYS_utimensat, AT_FDCWD, path.as_ptr(), 0, 0)
    });
    all.works("utimes", |_| {
        let path = text("secret");
        move || call!(SYS_utimes, path.as_ptr(), 0)
    });
    all.works("utime", |_| {
        let path = text("secret");
        move || call!(SYS_utime, path.as_ptr(), 0)
    });
}

fn look(all: &mut List) {
    all.works("stat", |_| {
        let (path, mut room) = (text("secret"), [0_u8; 256]);
        move || call!(SYS_stat, path.as_ptr(), room.as_mut_ptr())
    });
    all.works("statx", |_| {
        let (path, mut room) = (text("secret"), [0_u8; 256]);
        move || call!(SYS_statx, AT_FDCWD, path.as_ptr(), 0, 0x7ff, room.as_mut_ptr())
    });
    all.works("statfs", |_| {
        let (path, mut room) = (text("secret"), [0_u8; 256]);
        move || call!(SYS_statfs, path.as_ptr(), room.as_mut_ptr())
    });
    all.works("access", |_| {
        let path = text("secret");
        move || call!(SYS_access, path.as_ptr(), 0)
    });
    all.works("readlink", |_| {
        let (path, mut room) = (text("symlink"), [0_u8; 64]);
        move || call!(SYS_readlink, path.as_ptr(), room.as_mut_ptr(), room.len())
    });
    all.works("chdir", |_| {
        let path = text("/");
        move || call!(SYS_chdir, path.as_ptr())
    });
    all.works("getcwd", |_| {
        let mut room = [0_u8; 4_096];
        move || call!(SYS_getcwd, room.as_mut_ptr(), room.len())
    });
    all.works("watch files", |_| move || call!(SYS_inotify_init1, 0));
    all.perhaps("watch a file system", |_| move || call!(SYS_fanotify_init, 0, 0));
}

fn mounts(all: &mut List) {
    all.path("mount", |_| {
        let (what, to) = (text("tmpfs"), text("folder"));
        move || call!(SYS_mount, what.as_ptr(), to.as_ptr(), what.as_ptr(), 0, 0)
    });
    all.perhaps("umount", |_| {
        let path = text("folder");
        move || call!(SYS_umount2, path.as_ptr(), 0)
    });
    all.perhaps("pivot_root", |_| {
        let path = text("folder");
        move || call!(SYS_pivot_root, path.as_ptr(), path.as_ptr())
    });
    all.works("chroot", |_| {
        let path = text("folder");
        move || call!(SYS_chroot, path.as_ptr())
    });
    all.works("open a file system to mount", |_| {
        let what = text("tmpfs");
        move || call!(SYS_fsopen, what.as_ptr(), 0)
    });
    all.works("open a tree to mount", |_| {
        let path = text("folder");
        move || call!(SYS_open_tree, AT_FDCWD, path.as_ptr(), 0)
    });
}
