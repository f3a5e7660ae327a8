//! Around what control keeps: its state directory, its program, what it may read.

use nix::libc::{self, AF_NETLINK, AT_FDCWD, O_CREAT, O_RDONLY, O_RDWR, O_WRONLY, SOCK_RAW};

use super::{Free, List};
use crate::{
    kernel::call,
    stage::{text, unix_address},
};

const MODE: i32 = 0o600;

/// `NETLINK_NETFILTER` and `NETLINK_AUDIT` of `linux/netlink.h`.
const OTHER_PROTOCOLS: [(&str, i32); 2] = [("the firewall", 12), ("the audit log", 9)];

pub(crate) fn list(all: &mut List) {
    files(all);
    programs(all);
    reads(all);
    for (name, protocol) in OTHER_PROTOCOLS {
        all.numbered(format!("a socket to {name}"), Free::Perhaps, move |_| {
            Box::new(move || call!(SYS_socket, AF_NETLINK, SOCK_RAW, protocol))
        });
    }
    all.perhaps("a namespace of users", |_| move || call!(SYS_unshare, libc::CLONE_NEWUSER));
}

fn files(all: &mut List) {
    all.path("write a file of the state directory", |_| {
        let path = text("state/new");
        move || call!(SYS_openat, AT_FDCWD, path.as_ptr(), O_CREAT | O_WRONLY, MODE)
    });
    all.path("replace a file of the state directory", |_| {
        let (from, to) = (text("state/kept"), text("state/other"));
        move || call!(SYS_rename, from.as_ptr(), to.as_ptr())
    });
    all.path("write beside the state directory", |_| {
        let path = text("state/../secret");
        move || call!(SYS_openat, AT_FDCWD, path.as_ptr(), O_WRONLY)
    });
    all.path("write through a link in the state directory", |_| {
        std::os::unix::fs::symlink("../secret", "state/link").unwrap();
        let path = text("state/link");
        move || call!(SYS_openat, AT_FDCWD, path.as_ptr(), O_WRONLY)
    });
    all.path("move a file out of the state directory", |_| {
        let (from, to) = (text("state/kept"), text("moved"));
        move || call!(SYS_rename, from.as_ptr(), to.as_ptr())
    });
    all.path("move a file into the state directory", |_| {
        let (from, to) = (text("secret"), text("state/moved"));
        move || call!(SYS_rename, from.as_ptr(), to.as_ptr())
    });
    all.path("link a file into the state directory", |_| {
        let (from, to) = (text("secret"), text("state/linked"));
        move || call!(SYS_linkat, AT_FDCWD, from.as_ptr(), AT_FDCWD, to.as_ptr(), 0)
    });
    all.works("a socket in the state directory", |stage| {
        let (unix, (address, len)) = (stage.unbound, unix_address("state/socket"));
        move || call!(SYS_bind, unix, &raw const address, len)
    });
    all.path("a named pipe in the state directory", |_| {
        let path = text("state/pipe");
        move || call!(SYS_mknodat, AT_FDCWD, path.as_ptr(), (libc::S_IFIFO | 0o600) as i32, 0)
    });
    all.path("a device in the state directory", |_| {
        let path = text("state/null");
        move || call!(SYS_mknodat, AT_FDCWD, path.as_ptr(), (libc::S_IFCHR | 0o600) as i32, 0x103)
    });
    all.path("a new file beside the socket", |_| {
        let path = text("run/new");
        move || call!(SYS_openat, AT_FDCWD, path.as_ptr(), O_CREAT | O_WRONLY, MODE)
    });
    all.path("remove the socket", |_| {
        let path = text("run/socket");
        move || call!(SYS_unlink, path.as_ptr())
    });
    all.path("a new file in /etc", |_| {
        let path = text("/etc/tacet-was-here");
        // Made without the walls too: gone at once.
        move || {
            let made = call!(SYS_openat, AT_FDCWD, path.as_ptr(), O_CREAT | O_WRONLY, MODE);
            if made.is_ok() {
                let _ = call!(SYS_unlink, path.as_ptr());
            }
            made
        }
    });
    all.path("write the password file", |_| {
        let path = text("/etc/passwd");
        move || call!(SYS_openat, AT_FDCWD, path.as_ptr(), O_WRONLY | libc::O_APPEND)
    });
}

fn programs(all: &mut List) {
    all.path("start what it wrote into the state directory", |_| {
        std::fs::copy("/bin/sh", "state/sh").unwrap();
        shell("state/sh", &[])
    });
    all.path("start the shell through the loader", |_| shell("/lib64/ld-linux-x86-64.so.2", &["/bin/sh"]));
    all.path("start a program of another folder", |_| shell("/usr/bin/env", &["sh"]));
}

/// Exits with 200, as an attempt that worked.
fn shell(program: &str, before: &[&str]) -> impl FnOnce() -> crate::kernel::Outcome + 'static {
    let program = text(program);
    let words: Vec<_> = before.iter().chain(&["-c", "exit 200"]).map(|word| text(word)).collect();
    move || {
        let mut arguments = vec![program.as_ptr()];
        arguments.extend(words.iter().map(|word| word.as_ptr()));
        arguments.push(std::ptr::null());
        call!(SYS_execve, program.as_ptr(), arguments.as_ptr(), 0)
    }
}

fn reads(all: &mut List) {
    for (name, path, flags) in [
        ("read another process's environment", "/proc/1/environ", O_RDONLY),
        ("read another process's command line", "/proc/1/cmdline", O_RDONLY),
        ("list all processes", "/proc", O_RDONLY | libc::O_DIRECTORY),
        ("list root's folder", "/root", O_RDONLY | libc::O_DIRECTORY),
        ("read a program", "/bin/sh", O_RDONLY),
        ("open another device", "/dev/zero", O_RDWR),
        ("read the kernel's log", "/proc/kmsg", O_RDONLY | libc::O_NONBLOCK),
        ("write a setting of the network", "/proc/sys/net/core/somaxconn", O_WRONLY),
        ("read the memory of all", "/dev/mem", O_RDONLY),
    ] {
        // A container's root may not either.
        let free = if ["/dev/mem", "/proc/1/environ", "/proc/kmsg"].contains(&path) {
            Free::Perhaps
        } else {
            Free::Works
        };
        all.at_path(name.to_owned(), free, move |_| {
            let path = text(path);
            Box::new(move || call!(SYS_openat, AT_FDCWD, path.as_ptr(), flags))
        });
    }
}
