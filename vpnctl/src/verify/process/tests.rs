use std::{fs, os::unix::fs::symlink, path::Path};

use super::*;

/// A `/proc` with one process 7 that is locked down as it should be.
fn locked() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let process = root.path().join("proc/7");
    for folder in ["task/7", "fd", "fdinfo", "net"] {
        fs::create_dir_all(process.join(folder)).unwrap();
    }
    status(root.path(), "");
    fs::write(process.join("limits"), LIMITS).unwrap();
    fs::write(process.join("net/udp"), "sl ...\n 1: a b c d e f g h 55 2\n").unwrap();
    fs::write(process.join("environ"), "").unwrap();
    for (number, to) in [
        (3, "/dev/net/tun"),
        (4, "socket:[55]"),
        (5, "pipe:[8]"),
        (6, "pipe:[9]"),
        (7, "anon_inode:[eventpoll]"),
    ] {
        symlink(to, process.join(format!("fd/{number}"))).unwrap();
    }
    root
}

const LIMITS: &str = "Limit   Soft Limit  Hard Limit  Units\nMax file size   0   0   bytes\n\
                      Max core file size   0   0   bytes\nMax open files   0   0   files\n";

/// Its status, with lines that replace others.
fn status(root: &Path, other: &str) {
    let usual = "Uid: 0 0 0 0\nTracerPid: 0\nVmSwap: 0 kB\nCapInh: 0\nCapPrm: 0\nCapEff: 0\nCapAmb: 0\n\
                 NoNewPrivs: 1\nSeccomp: 2\nSeccomp_filters: 1\n";
    for place in ["proc/7/status", "proc/7/task/7/status"] {
        fs::write(root.join(place), format!("{usual}{other}")).unwrap();
    }
}

fn broken(root: &Path) -> Vec<&'static str> {
    let findings = data_path(&Kernel::at(root), 7);
    findings.iter().filter(|f| f.standing == Standing::Broken).map(|f| f.point).collect()
}

#[test]
fn a_data_path_within_its_walls_is_as_promised() {
    let root = locked();
    assert_eq!(broken(root.path()), [""; 0]);
    let findings = data_path(&Kernel::at(root.path()), 7);
    let descriptors = findings.iter().find(|f| f.point == "descriptors").unwrap();
    assert_eq!(descriptors.seen, "1 TUN, 1 UDP, 2 pipes, 1 epoll and timers; no file");
}

#[test]
fn each_missing_wall_is_seen() {
    let root = locked();
    for (line, point) in [
        ("Seccomp: 0\n", "system calls"),
        ("NoNewPrivs: 0\n", "new privileges"),
        ("CapEff: 0000000000001000\n", "capabilities"),
        ("CapAmb: 0000000000000400\n", "capabilities"),
        ("TracerPid: 99\n", "debugger"),
    ] {
        status(root.path(), line);
        assert_eq!(broken(root.path()), [point], "{line}");
    }
    status(root.path(), "");
    for (limit, point) in [
        ("Max core file size", "core files"),
        ("Max open files", "new files"),
        ("Max file size", "new files"),
    ] {
        let raised = LIMITS.replace(&format!("{limit}   0   0"), &format!("{limit}   0   unlimited"));
        fs::write(root.path().join("proc/7/limits"), raised).unwrap();
        assert_eq!(broken(root.path()), [point], "{limit}");
    }
}

#[test]
fn one_thread_outside_of_the_walls_is_enough() {
    let root = locked();
    fs::create_dir(root.path().join("proc/7/task/8")).unwrap();
    fs::write(root.path().join("proc/7/task/8/status"), "NoNewPrivs: 1\nSeccomp: 0\n").unwrap();
    assert_eq!(broken(root.path()), ["system calls"]);
}

#[test]
fn a_descriptor_of_any_other_kind_is_seen() {
    for (number, to) in [
        (9, "/var/log/tacet"),
        (9, "/dev/null"),
        (9, "socket:[56]"),
        (9, "anon_inode:[io_uring]"),
        (9, "pipe:[10]"),
        (2, "pipe:[9]"),
    ] {
        let root = locked();
        symlink(to, root.path().join(format!("proc/7/fd/{number}"))).unwrap();
        assert_eq!(broken(root.path()), ["descriptors"], "{number} {to}");
    }
}

#[test]
fn each_wall_that_a_server_lacks_is_broken() {
    let root = locked();
    let broken = |of| {
        let findings = server(&Kernel::at(root.path()), of, 7);
        findings.iter().filter(|f| f.standing == Standing::Broken).map(|f| f.point).collect::<Vec<_>>()
    };
    for of in ["coordinator", "relay"] {
        for (line, point) in [
            ("Seccomp: 0\n", "system calls"),
            ("NoNewPrivs: 0\n", "new privileges"),
            ("CapPrm: 0000000000000400\n", "capabilities"),
            ("TracerPid: 99\n", "debugger"),
        ] {
            status(root.path(), line);
            assert!(broken(of).contains(&point), "{of}: {line}");
        }
        status(root.path(), "");
        assert!(!broken(of).contains(&"capabilities"));
    }
}

#[test]
fn each_wall_that_a_plain_interface_lacks_is_broken() {
    let root = locked();
    let broken = || {
        let findings = device(&Kernel::at(root.path()), 7);
        findings.iter().filter(|f| f.standing == Standing::Broken).map(|f| f.point).collect::<Vec<_>>()
    };
    for (line, points) in [
        ("", &[][..]),
        ("CapEff: 0000000000001400\n", &[]),
        ("CapEff: 0000000000001401\n", &["capabilities"]),
        ("Seccomp: 0\n", &["system calls"]),
        ("NoNewPrivs: 0\n", &["new privileges"]),
        ("TracerPid: 99\n", &["debugger"]),
    ] {
        status(root.path(), line);
        assert_eq!(broken(), points, "{line}");
    }
    status(root.path(), "");
    symlink("/var/log/peers", root.path().join("proc/7/fd/9")).unwrap();
    fs::write(root.path().join("proc/7/fdinfo/9"), "pos: 0\nflags: 0100001\n").unwrap();
    assert_eq!(broken(), ["files"]);
}

#[test]
fn a_server_of_roots_user_is_warned_of() {
    let root = locked();
    let seen = || server(&Kernel::at(root.path()), "relay", 7).into_iter().next().unwrap();
    assert_eq!((seen().point, seen().standing), ("user", Standing::Warns));
    status(root.path(), "Uid: 990 990 990 990\n");
    assert_eq!(seen().standing, Standing::Holds);
}

#[test]
fn any_file_of_a_relay_is_seen() {
    for (number, to, standing) in [
        (8, "/etc/passwd", Standing::Broken),
        (8, "/dev/null", Standing::Holds),
        (2, "/dev/null", Standing::Holds),
        (2, "/dev/pts/0", Standing::Broken),
        (8, "socket:[99]", Standing::Holds),
    ] {
        let root = locked();
        for number in [3, 5, 6] {
            fs::remove_file(root.path().join(format!("proc/7/fd/{number}"))).unwrap();
        }
        symlink(to, root.path().join(format!("proc/7/fd/{number}"))).unwrap();
        let findings = server(&Kernel::at(root.path()), "relay", 7);
        assert_eq!(findings.iter().find(|f| f.point == "files").unwrap().standing, standing, "{to}");
    }
}

#[test]
fn a_file_that_a_server_writes_is_seen_unless_it_is_its_own() {
    let root = locked();
    let open = |number: u32, path: &str, flags: &str| {
        symlink(path, root.path().join(format!("proc/7/fd/{number}"))).unwrap();
        fs::write(root.path().join(format!("proc/7/fdinfo/{number}")), format!("pos: 0\nflags: {flags}\n"))
            .unwrap();
        let findings = server(&Kernel::at(root.path()), "coordinator", 7);
        findings.into_iter().find(|f| f.point == "files").unwrap().standing
    };
    assert_eq!(open(10, "/etc/ssl/cert.pem", "0100000"), Standing::Holds);
    assert_eq!(open(11, "/srv/coordinator.db", "0100002"), Standing::Holds);
    assert_eq!(open(0, "pipe:[76]", "00"), Standing::Holds);
    assert_eq!(open(1, "pipe:[77]", "01"), Standing::Warns);
    assert_eq!(open(2, "/srv/output", "0100001"), Standing::Warns);
    assert_eq!(open(12, "/srv/access.log", "0102001"), Standing::Broken);
}
