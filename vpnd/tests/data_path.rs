//! The data path's process on real devices: two machines in network namespaces joined by a cable, each with a TUN, two
//! sockets and a `vpnd data-path`, told about each other by hand. Needs root; without it the tests say that they were
//! skipped.

#![allow(
    clippy::disallowed_macros,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that cannot go on fails, one that is skipped says so"
)]

mod machine;

use std::{
    fs::{self, Permissions},
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    thread,
    time::{Duration, Instant},
};

use machine::{Cable, Family, Machine, PROGRAM, in_test_thread};

/// Sockets for hard NATs.
const POOL: usize = 248;

#[test]
fn two_machines_reach_each_other_over_each_family() {
    for outside in [Family::V4, Family::V6] {
        in_test_thread(async move || {
            let (a, b) = Cable::lay(outside).machines().await;
            for family in [Family::V4, Family::V6] {
                assert!(a.ping(b.inner(family), 3).await && b.ping(a.inner(family), 3).await);
            }
            a.stop().await;
            b.stop().await;
        });
    }
}

#[test]
fn a_tcp_transfer_arrives_whole() {
    in_test_thread(async || {
        const BYTES: usize = 200 << 20;
        let (a, b) = Cable::lay(Family::V4).machines().await;
        assert!(a.ping(b.inner(Family::V4), 1).await);
        for family in [Family::V4, Family::V6] {
            let to = b.inner(family);
            let server = b.within(|| TcpListener::bind((to, 7_000)).unwrap());
            let mut sender = a.within(|| TcpStream::connect((to, 7_000)).unwrap());
            let transfer = thread::spawn(move || {
                let (mut receiver, _) = server.accept().unwrap();
                let byte = |i: usize| (i.wrapping_mul(2_654_435_761) >> 13) as u8;
                let chunk: Vec<u8> = (0..1 << 20).map(byte).collect();
                let start = Instant::now();
                thread::scope(|scope| {
                    scope.spawn(|| (0..BYTES >> 20).for_each(|_| sender.write_all(&chunk).unwrap()));
                    let mut received = vec![0; 1 << 20];
                    for _ in 0..BYTES >> 20 {
                        receiver.read_exact(&mut received).unwrap();
                        assert!(received == chunk);
                    }
                });
                BYTES as f64 * 8.0 / start.elapsed().as_secs_f64() / 1e9
            });
            while !transfer.is_finished() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            eprintln!("TCP inside: {:.2} Gbit/s", transfer.join().unwrap());
        }
        a.stop().await;
        b.stop().await;
    });
}

#[test]
fn a_data_path_that_is_killed_is_back_in_two_seconds() {
    in_test_thread(async || {
        let (a, b) = Cable::lay(Family::V4).machines().await;
        assert!(a.ping(b.inner(Family::V4), 1).await);
        let answered = async |from: &Machine, to: &Machine, deadline: Duration| {
            let start = Instant::now();
            while !from.ping(to.inner(Family::V4), 1).await {
                assert!(start.elapsed() < deadline);
            }
            start.elapsed().as_millis()
        };
        for (killed, other) in [(&b, &a), (&a, &b)] {
            killed.kill_data_path();
            let itself = answered(killed, other, Duration::from_secs(2)).await;
            // It makes a new session as soon as it has something to send. Here it has nothing, and the other side must
            // notice that the old session leads nowhere.
            killed.kill_data_path();
            let noticed = answered(other, killed, Duration::from_secs(4)).await;
            eprintln!("back after {itself} ms, the other side noticed after {noticed} ms");
        }
        a.stop().await;
        b.stop().await;
    });
}

#[test]
fn the_process_holds_nothing_but_its_device_sockets_epoll_and_pipes() {
    in_test_thread(async || {
        let (a, b) = Cable::lay(Family::V4).machines().await;
        let proc = format!("/proc/{}", a.pid());
        let mut held: Vec<String> = fs::read_dir(format!("{proc}/fd"))
            .unwrap()
            .map(|entry| fs::read_link(entry.unwrap().path()).unwrap().to_str().unwrap().to_owned())
            .map(|kind| kind.split(":[").next().unwrap().to_owned())
            .collect();
        held.sort();
        assert_eq!(
            held,
            [
                ["/dev/net/tun", "anon_inode", "pipe", "pipe", "socket", "socket"].as_slice(),
                &["socket"; POOL]
            ]
            .concat()
        );
        // A socket of the pool has no port before it is sent from: the kernel lists none.
        for table in ["udp", "udp6"] {
            let listed = fs::read_to_string(format!("{proc}/net/{table}")).unwrap();
            assert_eq!(listed.lines().skip(1).count(), 1, "{listed}");
        }
        let status = fs::read_to_string(format!("{proc}/status")).unwrap();
        for (field, value) in [
            ("CapInh:", "0000000000000000"),
            ("CapPrm:", "0000000000000000"),
            ("CapEff:", "0000000000000000"),
            ("CapBnd:", "0000000000000000"),
            ("CapAmb:", "0000000000000000"),
            ("NoNewPrivs:", "1"),
            // By filter.
            ("Seccomp:", "2"),
            ("Threads:", "1"),
        ] {
            let line = status.lines().find(|line| line.starts_with(field)).unwrap();
            assert_eq!(line.split_whitespace().nth(1), Some(value), "{field}");
        }
        let limits = fs::read_to_string(format!("{proc}/limits")).unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        assert_eq!(core.split_whitespace().nth(4), Some("0"));
        assert_eq!(fs::read(format!("{proc}/environ")).unwrap(), b"");
        // From Linux 6.12 on; before, nobody can ask for one.
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        let mut release =
            release.split(|c: char| !c.is_ascii_digit()).map_while(|part| part.parse::<u32>().ok());
        if release.next().zip(release.next()) >= Some((6, 12)) {
            assert!(slice(&proc) > slice("/proc/self"), "the data path runs in long slices");
        }
        a.stop().await;
        b.stop().await;
    });
}

/// Nanoseconds that a process may run in one go.
fn slice(proc: &str) -> u64 {
    let sched = fs::read_to_string(format!("{proc}/sched")).unwrap();
    let line = sched.lines().find(|line| line.starts_with("se.slice")).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn the_process_ends_with_its_control() {
    in_test_thread(async || {
        let (a, b) = Cable::lay(Family::V4).machines().await;
        let (first, second) = (a.pid(), b.pid());
        a.stop().await;
        assert!(!fs::exists(format!("/proc/{first}")).unwrap());
        // Dropped without a word, as when control is killed: its ends of the pipes close.
        drop(b);
        let end = Instant::now() + Duration::from_secs(2);
        while fs::read_to_string(format!("/proc/{second}/stat")).is_ok_and(|stat| !stat.contains(") Z ")) {
            assert!(Instant::now() < end);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
}

#[test]
fn a_process_whose_interface_is_deleted_ends_by_itself_and_not_by_its_own_filter() {
    in_test_thread(async || {
        for workers in [1, 2, 4] {
            // How each process ended, as a shell tells it: by a signal 128 and more.
            let folder = tempfile::tempdir().unwrap();
            let (program, ends) = (folder.path().join("program"), folder.path().join("ends"));
            let script = format!("#!/bin/sh\n{PROGRAM} \"$@\"\necho $? >> {}\n", ends.display());
            fs::write(&program, script).unwrap();
            fs::set_permissions(&program, Permissions::from_mode(0o700)).unwrap();
            let machine = Cable::lay(Family::V4).machine(&program, workers).await;
            assert!(!ends.exists());
            machine.delete_interface();
            let deadline = Instant::now() + Duration::from_secs(5);
            let mut ended = String::new();
            while !ended.ends_with('\n') {
                assert!(Instant::now() < deadline);
                tokio::time::sleep(Duration::from_millis(10)).await;
                ended = fs::read_to_string(&ends).unwrap_or_default();
            }
            assert_eq!(ended.lines().next(), Some("0"), "{workers} workers");
            machine.stop().await;
        }
    });
}
