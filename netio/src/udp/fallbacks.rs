//! What a kernel lacks or a network card refuses costs speed and no datagram. Kernels that lack something are this one behind a
//! seccomp filter, which the test's thread cannot take off again; links that change are real ones, in a namespace of the thread's.

use std::{
    collections::BTreeMap,
    fs::File,
    os::fd::AsRawFd,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use nix::sched::{CloneFlags, setns, unshare};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter,
};

use super::*;

/// From now on, on this thread, a call whose arguments are these numbers fails so.
fn refuse(call: libc::c_long, arguments: &[(u8, libc::c_int)], errno: i32) {
    let is = |&(index, number): &(u8, libc::c_int)| {
        let number = u64::from(number.cast_unsigned());
        SeccompCondition::new(index, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, number).unwrap()
    };
    let conditions: Vec<_> = arguments.iter().map(is).collect();
    let rules = if conditions.is_empty() { vec![] } else { vec![SeccompRule::new(conditions).unwrap()] };
    let filter = SeccompFilter::new(
        BTreeMap::from([(call, rules)]),
        SeccompAction::Allow,
        SeccompAction::Errno(errno as u32),
        std::env::consts::ARCH.try_into().unwrap(),
    );
    let program: BpfProgram = filter.unwrap().try_into().unwrap();
    apply_filter(&program).unwrap();
}

/// Runs a test in a thread of its own.
fn apart(test: impl FnOnce() + Send + 'static) {
    thread::spawn(test).join().unwrap();
}

/// The same, with a network of its own; it needs root.
fn in_namespace(test: impl FnOnce() + Send + 'static) {
    if nix::unistd::geteuid().is_root() {
        apart(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            ip("link set lo up");
            test();
        });
    }
}

fn run(program: &str, arguments: &str) {
    let done = Command::new(program).args(arguments.split(' ')).status().unwrap();
    assert!(done.success(), "{program} {arguments}");
}

fn ip(arguments: &str) {
    run("ip", arguments);
}

fn pair() -> (Socket, Socket, SocketAddr) {
    let (a, b) = (Socket::bind(Family::V4, 0, None).unwrap(), Socket::bind(Family::V4, 0, None).unwrap());
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, b.port().unwrap()));
    (a, b, to)
}

/// Datagrams of `segment` bytes, each of another content, the last of one byte.
fn datagrams(segment: usize, count: usize) -> Vec<u8> {
    (0..segment * (count - 1) + 1).map(|i| (i / segment + i) as u8).collect()
}

/// What arrives until `bytes` have, datagram by datagram, and in how many buffers.
fn received(socket: &Socket, bytes: usize) -> (Vec<Vec<u8>>, usize) {
    let end = Instant::now() + Duration::from_secs(5);
    received_until(socket, |got, _| got >= bytes || Instant::now() > end)
}

/// What arrives before nothing does any more.
fn received_all(socket: &Socket) -> Vec<Vec<u8>> {
    let end = Instant::now() + Duration::from_secs(5);
    let quiet = Duration::from_millis(100);
    received_until(socket, |got, last| got > 0 && last.elapsed() > quiet || Instant::now() > end).0
}

fn received_until(socket: &Socket, enough: impl Fn(usize, Instant) -> bool) -> (Vec<Vec<u8>>, usize) {
    let (mut batch, mut out, mut buffers) = (Batch::new(), Vec::<Vec<u8>>::new(), 0);
    let mut last = Instant::now();
    while !enough(out.iter().map(Vec::len).sum(), last) {
        let count = socket.recv(&mut batch).unwrap();
        if count > 0 {
            last = Instant::now();
        }
        buffers += count;
        for datagram in batch.datagrams() {
            out.extend(datagram.data.chunks(datagram.segment).map(<[u8]>::to_vec));
        }
    }
    (out, buffers)
}

/// Sends a batch, all of which must arrive as it was sent; in how many buffers it did.
fn crosses(a: &mut Socket, b: &Socket, to: SocketAddr) -> usize {
    let data = datagrams(1_000, 100);
    assert_eq!(a.send(to, 0, 1_000, &data), Ok(()));
    let (got, buffers) = received(b, data.len());
    assert!(got.len() == 100 && got[..99].iter().all(|d| d.len() == 1_000) && got.concat() == data);
    buffers
}

#[test]
fn where_the_kernel_joins_nothing_that_arrives_every_datagram_comes_by_itself() {
    apart(|| {
        refuse(libc::SYS_setsockopt, &[(1, libc::SOL_UDP), (2, libc::UDP_GRO)], libc::ENOPROTOOPT);
        let (mut a, b, to) = pair();
        assert_eq!(crosses(&mut a, &b, to), 100);
        assert!(a.segments, "that is another thing");
    });
}

#[test]
fn a_kernel_that_knows_no_segmentation_is_asked_before_a_batch_would_go_out_as_one_datagram() {
    apart(|| {
        refuse(libc::SYS_getsockopt, &[(1, libc::SOL_UDP), (2, libc::UDP_SEGMENT)], libc::ENOPROTOOPT);
        // Such a kernel passes over a control message that it does not know: nothing may be sent with one.
        refuse(libc::SYS_sendmsg, &[], libc::EPERM);
        let (mut a, b, to) = pair();
        assert!(!a.segments);
        assert_eq!(crosses(&mut a, &b, to), 100);
    });
}

#[test]
fn segmentation_that_is_refused_at_any_time_costs_no_datagram_and_is_not_tried_again() {
    // No checksums by the card, or IPsec on the way; a kernel or a driver that takes it back.
    for errno in [libc::EIO, libc::EINVAL, libc::EOPNOTSUPP, libc::ENOPROTOOPT] {
        apart(move || {
            let (mut a, b, to) = pair();
            assert!(crosses(&mut a, &b, to) < 100 && a.segments);
            refuse(libc::SYS_sendmsg, &[], errno);
            assert_eq!(crosses(&mut a, &b, to), 100);
            assert!(!a.segments);
            assert_eq!(crosses(&mut a, &b, to), 100);
        });
    }
}

#[test]
fn where_there_is_no_ipv6_the_port_is_that_of_ipv4_alone() {
    apart(|| {
        refuse(libc::SYS_socket, &[(0, libc::AF_INET6)], libc::EAFNOSUPPORT);
        let pair = bind_pair(0, true, None).unwrap();
        assert!(pair.v6.is_none() && pair.v4.port().unwrap() == pair.port);
    });
}

#[test]
fn where_any_port_will_do_one_is_found_that_is_free_in_both_families() {
    in_namespace(|| {
        std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "50000 50001").unwrap();
        let taken = Socket::bind(Family::V6, 50_000, None).unwrap();
        for _ in 0..8 {
            assert_eq!(bind_pair(0, false, None).unwrap().port, 50_001);
        }
        drop(taken);
    });
}

#[test]
fn the_largest_datagrams_that_there_are_arrive_and_so_does_what_follows() {
    for (family, most) in [(Family::V4, 65_507), (Family::V6, 65_488)] {
        let (mut a, b) = (Socket::bind(family, 0, None).unwrap(), Socket::bind(family, 0, None).unwrap());
        let ip = if family == Family::V4 { "127.0.0.1" } else { "::1" };
        let to = SocketAddr::new(ip.parse().unwrap(), b.port().unwrap());
        let data = vec![7; most];
        for _ in 0..2 {
            assert_eq!(a.send(to, 0, most, &data), Ok(()));
        }
        assert_eq!(a.send(to, 0, 1_000, &datagrams(1_000, 64)), Ok(()));
        let (got, _) = received(&b, 2 * most + 63_001);
        let lens: Vec<usize> = got.iter().map(Vec::len).collect();
        assert!(lens[..2] == [most, most] && lens[2..65] == [1_000; 63] && lens[65..] == [1]);
    }
}

#[test]
fn a_system_without_room_ends_the_batch_and_no_more() {
    for errno in [libc::ENOBUFS, libc::ENOMEM, libc::EAGAIN] {
        apart(move || {
            let (mut a, ..) = pair();
            let to = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
            refuse(libc::SYS_sendmsg, &[], errno);
            refuse(libc::SYS_sendmmsg, &[], errno);
            for segments in [true, false] {
                a.segments = segments;
                assert_eq!(a.send(to, 0, 1_000, &datagrams(1_000, 200)), Err(SendError::Full));
                assert_eq!(a.segments, segments);
            }
        });
    }
}

#[test]
fn of_a_batch_that_finds_the_buffer_full_the_beginning_leaves_in_order_and_the_next_goes_on() {
    in_namespace(|| {
        let (mut a, b, to) = cable(1_500);
        setsockopt(&a.fd, sockopt::SndBuf, &10_000).unwrap();
        for segments in [false, true] {
            a.segments = segments;
            // Until it is known where the other end is, what is sent there fills the buffer.
            lost(to);
            let data = datagrams(1_000, 60);
            let mut left = 0;
            let full = loop {
                match a.send(to, 0, 1_000, &data) {
                    Ok(()) if left < 10 => left += 1,
                    sent => break sent,
                }
            };
            assert_eq!((full, a.segments), (Err(SendError::Full), segments));
            found(to);
            let got = received_all(&b);
            let began = got.len() - 60 * left;
            assert!(if segments { left > 0 && began == 0 } else { left == 0 && (1..60).contains(&began) });
            assert!(got.iter().flatten().eq(data.iter().cycle().take(got.iter().map(Vec::len).sum())));
            assert_eq!(a.send(to, 0, 1_000, &datagrams(1_000, 5)), Ok(()));
            assert_eq!(received(&b, 4_001).0.len(), 5);
        }
    });
}

#[test]
fn of_a_batch_of_which_some_are_refused_all_others_leave_once_and_in_order() {
    in_namespace(|| {
        let (mut a, b, to) = pair();
        let data = datagrams(1_000, 100);
        // The first and the last, two in a row, and those where one call ends and the next begins. What differs is the first byte
        // behind UDP's header.
        let refused = [0, 30, 31, 63, 64, 80, 99];
        run("nft", "add table ip forbid");
        run("nft", "add chain ip forbid out { type filter hook output priority 0 ; }");
        for n in refused {
            run(
                "nft",
                &format!("add rule ip forbid out udp dport {} @th,64,8 {} drop", to.port(), data[n * 1_000]),
            );
        }
        a.segments = false;
        assert_eq!(a.send(to, 0, 1_000, &data), Err(SendError::Unreachable));
        let passed = data.chunks(1_000).enumerate().filter(|(n, _)| !refused.contains(n));
        assert!(received_all(&b).iter().eq(passed.map(|(_, datagram)| datagram)));
    });
}

#[test]
fn a_destination_that_is_refused_costs_the_others_nothing_whatever_the_reason() {
    in_namespace(|| {
        let (mut a, b, to) = pair();
        for (kind, net) in [("unreachable", "10.7.0.1"), ("prohibit", "10.7.0.2"), ("blackhole", "10.7.0.3")]
        {
            ip(&format!("route add {kind} {net}/32"));
        }
        ip("address add 10.8.0.1/24 dev lo");
        run("nft", "add table ip forbid");
        run("nft", "add chain ip forbid out { type filter hook output priority 0 ; }");
        run("nft", "add rule ip forbid out ip daddr 10.8.0.1 drop");
        // The fourth has no route at all; the fifth is forbidden by the firewall.
        for segments in [true, false] {
            a.segments = segments;
            for refused in ["10.7.0.1", "10.7.0.2", "10.7.0.3", "10.9.0.1", "10.8.0.1"] {
                crosses(&mut a, &b, to);
                let refused = SocketAddr::new(refused.parse().unwrap(), 9);
                assert_eq!(a.send(refused, 0, 1_000, &datagrams(1_000, 100)), Err(SendError::Unreachable));
                assert_eq!(a.segments, segments);
            }
            assert!(if segments { crosses(&mut a, &b, to) < 100 } else { crosses(&mut a, &b, to) == 100 });
        }
    });
}

#[test]
fn a_link_that_becomes_narrower_takes_what_fits_and_elsewhere_batches_leave_as_before() {
    in_namespace(|| {
        let (mut a, b, to) = cable(1_500);
        let (other, _, _) = pair();
        let elsewhere = SocketAddr::from((Ipv4Addr::LOCALHOST, other.port().unwrap()));
        let data = datagrams(1_400, 20);
        assert_eq!(a.send(to, 0, 1_400, &data), Ok(()));
        assert!(received(&b, data.len()).0.concat() == data);
        ip("link set near mtu 1300");
        assert_eq!(a.send(to, 0, 1_400, &data), Err(SendError::TooBig));
        let (last, _) = received(&b, 1);
        assert!(last.concat() == data[19 * 1_400..], "the last of them is smaller than the others");
        assert!(a.segments && crosses(&mut a, &other, elsewhere) < 100);
        // What its owner makes of it: smaller ones, in one call again.
        crosses(&mut a, &b, to);
        assert!(a.segments);
        ip("link set near mtu 1500");
        assert_eq!(a.send(to, 0, 1_400, &data), Ok(()));
        assert!(received(&b, data.len()).0.concat() == data);
    });
}

/// The address of the far end of [`cable`].
const FAR: &str = "02:00:00:00:00:02";

/// A socket in the thread's network, and one in another, at the end of a cable, where nobody answers who has which address.
fn cable(mtu: u32) -> (Socket, Socket, SocketAddr) {
    let here = File::open("/proc/thread-self/ns/net").unwrap();
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    let there = File::open("/proc/thread-self/ns/net").unwrap();
    setns(&here, CloneFlags::CLONE_NEWNET).unwrap();
    ip(&format!("link add near mtu {mtu} type veth peer name far mtu {mtu} address {FAR}"));
    ip(&format!("link set far netns /proc/{}/fd/{}", std::process::id(), there.as_raw_fd()));
    ip("address add 10.5.0.1/24 dev near");
    ip("link set near up");
    let mut a = Socket::bind(Family::V4, 0, None).unwrap();
    setns(&there, CloneFlags::CLONE_NEWNET).unwrap();
    ip("address add 10.5.0.2/24 dev far");
    ip("link set far arp off up");
    let b = Socket::bind(Family::V4, 0, None).unwrap();
    setns(&here, CloneFlags::CLONE_NEWNET).unwrap();
    let to = SocketAddr::from(([10, 5, 0, 2], b.port().unwrap()));
    // A link that is up loses what is sent until the kernel has noticed that it is.
    found(to);
    let end = Instant::now() + Duration::from_secs(5);
    let mut batch = Batch::new();
    while b.recv(&mut batch).unwrap() == 0 {
        assert!(Instant::now() < end, "the cable carries nothing");
        let _ = a.send(to, 0, 1, b"?");
        thread::sleep(Duration::from_millis(5));
    }
    thread::sleep(Duration::from_millis(5));
    while b.recv(&mut batch).unwrap() > 0 {}
    (a, b, to)
}

/// Says where the other end is; and that nobody knows any more.
fn found(to: SocketAddr) {
    ip(&format!("neighbour replace {} lladdr {FAR} dev near nud permanent", to.ip()));
}

fn lost(to: SocketAddr) {
    ip(&format!("neighbour del {} dev near", to.ip()));
}
