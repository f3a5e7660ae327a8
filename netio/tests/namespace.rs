//! The device, sockets and netlink against a real kernel, each test in a network namespace that goes with its thread.
//! Needs root; without it the tests say that they were skipped.

#![allow(
    clippy::disallowed_macros,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that cannot go on fails, one that is skipped says so"
)]

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::AsFd,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use netio::{
    epoll::{Epoll, Interest},
    netlink::{Change, Netlink, NetlinkError, Prefix, changes},
    tun::{Coalescer, Frame, Tun, TunError},
    udp::{Batch, Family, SendError, Socket, hear},
};
use nix::{
    libc,
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter,
};

const V6: Ipv6Addr = Ipv6Addr::new(0xfd09, 0, 0, 0, 0, 0, 0, 1);
const HERE: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::new(10, 9, 0, 1)), IpAddr::V6(V6)];
const THERE: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(10, 9, 0, 2)), IpAddr::V6(Ipv6Addr::from_bits(V6.to_bits() + 1))];

/// Runs a test in a network namespace of its own.
fn in_namespace(test: impl AsyncFnOnce(Netlink) + Send + 'static) {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: needs root for a network namespace");
        return;
    }
    let body = move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let netlink = Netlink::connect().unwrap();
            let lo = netlink.index("lo").await.unwrap();
            netlink.set_up(lo).await.unwrap();
            test(netlink).await;
        });
    };
    thread::spawn(body).join().unwrap();
}

/// Runs `ip` with these words.
fn ip(arguments: &str) {
    assert!(Command::new("ip").args(arguments.split(' ')).status().unwrap().success(), "{arguments}");
}

async fn device(netlink: &Netlink, name: &str) -> (Tun, u32) {
    let tun = Tun::create(name).unwrap();
    let link = netlink.index(name).await.unwrap();
    netlink.set_mtu(link, 1_420, Some(45)).await.unwrap();
    for ip in HERE {
        let len = if ip.is_ipv4() { 24 } else { 64 };
        netlink.add_address(link, (ip, len)).await.unwrap();
    }
    netlink.set_up(link).await.unwrap();
    netlink.add_route(link, (THERE[1], 128), None).await.unwrap();
    (tun, link)
}

/// What the reflector saw.
#[derive(Default)]
struct Seen {
    reads: usize,
    packets: usize,
    writes: usize,
    dropped: usize,
}

/// Sends every packet back with its addresses exchanged, which leaves its checksums right: whoever speaks to `THERE`
/// finds itself.
fn reflect(tun: &mut Tun, stop: &AtomicBool) -> Seen {
    let (mut frame, mut coalescer, mut seen) = (Frame::new(), Coalescer::new(), Seen::default());
    let mut epoll = Epoll::new().unwrap();
    epoll.add(tun.as_fd(), 0, Interest::Read).unwrap();
    while !stop.load(Ordering::Relaxed) {
        let _ = epoll.wait(Some(Duration::from_millis(20))).unwrap().count();
        let mut packets: Vec<Vec<u8>> = Vec::new();
        while packets.len() < 200
            && let Some(split) = tun.read(&mut frame).unwrap()
        {
            let mut split = split.unwrap();
            seen.reads += 1;
            while let Some(packet) = split.next_packet() {
                assert!(packet.len() <= 1_420);
                let (at, len) = if packet[0] >> 4 == 4 { (12, 4) } else { (8, 16) };
                let (src, dst) = packet[at..at + 2 * len].split_at_mut(len);
                src.swap_with_slice(dst);
                packets.push(packet.to_vec());
            }
        }
        seen.packets += packets.len();
        let written = tun.write(packets.iter().map(Vec::as_slice), &mut coalescer);
        seen.writes += written.writes;
        seen.dropped += written.dropped;
    }
    seen
}

/// Runs `traffic` beside the reflector.
fn beside_reflector(tun: Tun, traffic: impl FnOnce()) -> Seen {
    with_reflector(tun, traffic).1
}

/// The same, for a device that is used again.
fn with_reflector(mut tun: Tun, traffic: impl FnOnce()) -> (Tun, Seen) {
    let stop = Arc::new(AtomicBool::new(false));
    let reflector = thread::spawn({
        let stop = stop.clone();
        move || {
            let seen = reflect(&mut tun, &stop);
            (tun, seen)
        }
    });
    traffic();
    stop.store(true, Ordering::Relaxed);
    reflector.join().unwrap()
}

/// Sends so many bytes over TCP, in each family, and compares what comes back.
fn tcp_traffic(bytes: usize) {
    for (here, there) in HERE.into_iter().zip(THERE) {
        let listener = TcpListener::bind((here, 7_000)).unwrap();
        let mut client = TcpStream::connect((there, 7_000)).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let sent: Vec<u8> = (0..bytes).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        thread::scope(|scope| {
            scope.spawn(|| client.write_all(&sent).unwrap());
            let mut received = vec![0; bytes];
            server.read_exact(&mut received).unwrap();
            assert!(received == sent);
        });
    }
}

/// Sends a batch of datagrams, in each family, and compares what comes back.
fn udp_traffic() {
    for (family, there) in [Family::V4, Family::V6].into_iter().zip(THERE) {
        let mut socket = Socket::bind(family, 0, None).unwrap();
        // The reflector leaves ports alone: what is sent to our own port comes back to us.
        let dst = SocketAddr::new(there, socket.port().unwrap());
        let sent: Vec<u8> = (0..40 * 1_300_usize + 7).map(|i| (i / 1_300 + i) as u8).collect();
        socket.send(dst, 0, 1_300, &sent).unwrap();
        let (mut batch, mut received) = (Batch::new(), Vec::<Vec<u8>>::new());
        let end = Instant::now() + Duration::from_secs(5);
        while received.concat().len() < sent.len() && Instant::now() < end {
            socket.recv(&mut batch).unwrap();
            for datagram in batch.datagrams() {
                assert!(datagram.src == dst);
                received.extend(datagram.data.chunks(datagram.segment).map(<[u8]>::to_vec));
            }
        }
        assert!(received.concat() == sent);
        assert!(received[..40].iter().all(|datagram| datagram.len() == 1_300));
    }
}

/// The sum of the namespace's counters of this name, TCP and UDP, IPv4 and IPv6.
fn kernel_count(name: &str) -> u64 {
    let snmp = fs::read_to_string("/proc/thread-self/net/snmp").unwrap();
    let lines: Vec<Vec<&str>> = snmp.lines().map(|line| line.split(' ').collect()).collect();
    let v4: u64 = lines
        .chunks(2)
        .filter_map(|pair| {
            pair[0].iter().position(|n| *n == name).map(|at| pair[1][at].parse::<u64>().unwrap())
        })
        .sum();
    let snmp6 = fs::read_to_string("/proc/thread-self/net/snmp6").unwrap();
    let v6: u64 = snmp6
        .lines()
        .filter_map(|line| line.split_once(char::is_whitespace))
        .filter(|(n, _)| n.ends_with(&format!("6{name}")))
        .map(|(_, value)| value.trim().parse::<u64>().unwrap())
        .sum();
    v4 + v6
}

#[test]
fn tcp_passes_through_split_and_coalesce_unharmed() {
    in_namespace(async |netlink| {
        let (tun, _) = device(&netlink, "split0").await;
        let seen = beside_reflector(tun, || tcp_traffic(30 << 20));
        assert_eq!(kernel_count("InCsumErrors"), 0);
        // A busy machine lets a timer of TCP fire early now and then; what is lost or cut wrongly costs thousands.
        assert!(kernel_count("RetransSegs") < 10);
        assert_eq!(seen.dropped, 0);
        assert!(seen.packets > 5 * seen.reads, "{} packets in {} reads", seen.packets, seen.reads);
        assert!(seen.packets > 5 * seen.writes, "{} packets in {} writes", seen.packets, seen.writes);
    });
}

#[test]
fn udp_passes_through_split_and_coalesce_unharmed() {
    in_namespace(async |netlink| {
        let (tun, _) = device(&netlink, "split1").await;
        let seen = beside_reflector(tun, udp_traffic);
        assert_eq!(kernel_count("InCsumErrors"), 0);
        assert_eq!(seen.dropped, 0);
        assert!(seen.packets > 5 * seen.reads, "{} packets in {} reads", seen.packets, seen.reads);
        assert!(seen.packets > 5 * seen.writes, "{} packets in {} writes", seen.packets, seen.writes);
    });
}

/// From now on, on this thread and those that it starts, such a call fails with `EINVAL`, as on a kernel that lacks something.
fn refuse(call: libc::c_long, argument: u8, is: SeccompCmpOp, number: u64) {
    let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, is, number).unwrap();
    let filter = SeccompFilter::new(
        BTreeMap::from([(call, vec![SeccompRule::new(vec![condition]).unwrap()])]),
        SeccompAction::Allow,
        SeccompAction::Errno(libc::EINVAL as u32),
        std::env::consts::ARCH.try_into().unwrap(),
    );
    let program: BpfProgram = filter.unwrap().try_into().unwrap();
    apply_filter(&program).unwrap();
}

#[test]
fn without_segmentation_of_udp_its_datagrams_pass_one_by_one_and_tcp_passes_as_ever() {
    in_namespace(async |netlink| {
        // Before Linux 6.2. (The flags are the third argument; no other call here has these bits in it.)
        let uso = u64::from(libc::TUN_F_USO4 | libc::TUN_F_USO6);
        refuse(libc::SYS_ioctl, 2, SeccompCmpOp::MaskedEq(!0x1f & 0xffff_ffff), uso);
        let (tun, _) = device(&netlink, "old0").await;
        let (tun, seen) = with_reflector(tun, udp_traffic);
        assert!(seen.packets >= 82 && seen.reads == seen.packets && seen.writes == seen.packets);
        assert_eq!(seen.dropped, 0);
        let seen = beside_reflector(tun, || tcp_traffic(3 << 20));
        assert!(seen.packets > 5 * seen.reads && seen.packets > 5 * seen.writes && seen.dropped == 0);
        assert_eq!(kernel_count("InCsumErrors"), 0);
    });
}

#[test]
fn a_device_without_any_offload_carries_packets_one_by_one() {
    in_namespace(async |netlink| {
        refuse(libc::SYS_ioctl, 1, SeccompCmpOp::Eq, u64::from(libc::TUNSETOFFLOAD as u32));
        let (tun, _) = device(&netlink, "old1").await;
        let seen = beside_reflector(tun, || {
            udp_traffic();
            tcp_traffic(3 << 20);
        });
        assert!(seen.packets > 2_000 && seen.reads == seen.packets && seen.writes == seen.packets);
        assert_eq!((seen.dropped, kernel_count("InCsumErrors")), (0, 0));
    });
}

#[test]
fn a_kernel_that_takes_no_joined_packets_gets_single_ones_and_none_is_lost() {
    in_namespace(async |netlink| {
        let (tun, _) = device(&netlink, "old2").await;
        // A packet by itself has two buffers, its header's and its own.
        refuse(libc::SYS_writev, 2, SeccompCmpOp::Gt, 2);
        let seen = beside_reflector(tun, || {
            udp_traffic();
            tcp_traffic(3 << 20);
        });
        // What is read is as large as ever; for each packet written there is an acknowledgement to be read.
        assert!(seen.packets > seen.reads + 1_000, "{} packets in {} reads", seen.packets, seen.reads);
        // More writes than packets by those that were refused: of the first batch of each protocol.
        assert!(seen.writes > seen.packets && seen.writes < seen.packets + 100);
        assert_eq!((seen.dropped, kernel_count("InCsumErrors")), (0, 0));
        assert!(kernel_count("RetransSegs") < 10);
    });
}

#[test]
fn datagrams_are_never_cut_into_fragments_and_those_over_the_links_mtu_are_refused() {
    in_namespace(async |netlink| {
        let (tun, _link) = device(&netlink, "small0").await;
        let mut frame = Frame::new();
        let mut read = || match tun.read(&mut frame).unwrap() {
            Some(Ok(mut split)) => split.next_packet().map(|packet| packet.to_vec()),
            _ => None,
        };
        // What the kernel itself says when a link comes up.
        while read().is_some() {}
        for (family, there, headers) in [(Family::V4, THERE[0], 28), (Family::V6, THERE[1], 48)] {
            let mut socket = Socket::bind(family, 0, None).unwrap();
            let dst = SocketAddr::new(there, 9);
            let most = 1_420 - headers;
            socket.send(dst, 0, most, &vec![7; most]).unwrap();
            let packet = std::iter::from_fn(&mut read).find(|p| p.len() == 1_420).unwrap();
            assert!(family == Family::V6 || packet[6] == 0x40, "DF, and no fragment");
            for count in [1, 20] {
                let sent = socket.send(dst, 0, most + 1, &vec![7; (most + 1) * count]);
                assert_eq!(sent, Err(SendError::TooBig));
                assert!(std::iter::from_fn(&mut read).all(|p| p.len() < 1_000), "nothing of it leaves");
            }
            // That says nothing about segmentation.
            socket.send(dst, 0, 1_000, &[7; 3_000]).unwrap();
        }
    });
}

#[test]
fn what_is_wrong_with_a_device_is_said() {
    in_namespace(async |_| {
        for name in ["", "a/b", "sixteen-letters-", "with space", "tun%d", ".."] {
            assert!(matches!(Tun::create(name), Err(TunError::NameInvalid)));
        }
        assert!(matches!(Tun::create("lo"), Err(TunError::NameTaken)));
        let tun = Tun::create("taken0").unwrap();
        assert!(matches!(Tun::create("taken0"), Err(TunError::NameTaken)));
        let (rx, _tx) = std::io::pipe().unwrap();
        assert!(matches!(Tun::from_fd(rx.into()), Err(TunError::NotTun)));
        // A second descriptor keeps the device, and is as good as the first.
        let again = Tun::from_fd(tun.as_fd().try_clone_to_owned().unwrap()).unwrap();
        drop(tun);
        assert!(matches!(Tun::create("taken0"), Err(TunError::NameTaken)));
        drop(again);
        Tun::create("taken0").unwrap();

        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
        mount(Some("none"), "/dev/net", Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
        assert!(matches!(Tun::create("gone0"), Err(TunError::Missing)));
    });
}

#[test]
fn the_kernel_takes_the_mtu_and_how_much_it_may_join_and_keeps_what_is_not_named() {
    in_namespace(async |netlink| {
        let (_tun, link) = device(&netlink, "net0").await;
        for (mtu, segments, kept) in [(1_420, None, 45), (1_400, Some(7), 7)] {
            netlink.set_mtu(link, mtu, segments).await.unwrap();
            let shown = Command::new("ip").args("-d -j link show net0".split(' ')).output().unwrap();
            let shown = String::from_utf8(shown.stdout).unwrap();
            for expected in [format!("\"mtu\":{mtu},"), format!("\"gso_max_segs\":{kept},")] {
                assert!(shown.contains(&expected), "{expected} is not in {shown}");
            }
        }
    });
}

#[test]
fn netlink_states_what_is_wanted_and_may_state_it_again() {
    in_namespace(async |netlink| {
        let (_tun, link) = device(&netlink, "net0").await;
        let v4 = |d| IpAddr::V4(Ipv4Addr::new(10, 9, 0, d));
        for _ in 0..2 {
            netlink.set_addresses(link, &[(v4(7), 24), (HERE[1], 128)]).await.unwrap();
            let mut have = netlink.addresses(link).await.unwrap();
            have.retain(|address| address.global);
            assert!(
                have.len() == 2 && have.iter().all(|a| (a.ip == v4(7) || a.ip == HERE[1]) && !a.transient)
            );
        }
        let wanted = [((v4(200), 32), Some(v4(7))), ((THERE[1], 128), None), ((v4(128), 25), None)];
        for _ in 0..2 {
            netlink.set_routes(link, &wanted).await.unwrap();
            let have = netlink.routes(link).await.unwrap();
            assert!(have.len() == 3 && wanted.iter().all(|(net, _)| have.contains(net)));
        }
        netlink.set_routes(link, &wanted[..1]).await.unwrap();
        assert!(netlink.routes(link).await.unwrap() == [wanted[0].0]);
        netlink.remove_route(link, (v4(99), 32)).await.unwrap();
        netlink.remove_address(link, (v4(99), 24)).await.unwrap();

        let local = netlink.local_addresses(None).await.unwrap();
        assert!(
            local.iter().any(|address| address.ip == v4(7) && address.global && address.prefix_len == 24)
        );
        assert!(!local.iter().any(|address| address.ip.is_loopback()));
        assert!(netlink.local_addresses(Some(link)).await.unwrap().is_empty());
        assert!(matches!(netlink.index("absent0").await, Err(NetlinkError::NoLink)));
        assert!(matches!(netlink.set_up(9_999).await, Err(NetlinkError::NoLink)));
    });
}

#[test]
fn the_prefix_of_an_address_becomes_a_route_in_both_families() {
    in_namespace(async |netlink| {
        let (_tun, _link) = device(&netlink, "net0").await;
        let routes = netlink.other_routes(None).await.unwrap();
        for (here, len) in [(HERE[0], 24), (HERE[1], 64)] {
            let within = |(net, net_len): &Prefix| match (*net, here) {
                (IpAddr::V4(net), IpAddr::V4(here)) => {
                    *net_len == len && net.octets()[..3] == here.octets()[..3]
                }
                (IpAddr::V6(net), IpAddr::V6(here)) => {
                    *net_len == len && net.octets()[..8] == here.octets()[..8]
                }
                _ => false,
            };
            assert!(routes.iter().any(within));
        }
    });
}

#[test]
fn the_router_is_that_of_the_best_default_route_which_is_not_ours() {
    in_namespace(async |netlink| {
        let (_near, near) = device(&netlink, "net0").await;
        assert_eq!(netlink.gateway(None).await.unwrap(), None);
        ip("route add default via 10.9.0.7 dev net0 metric 200");
        ip("route add default via 10.9.0.8 dev net0 metric 100");
        ip("route add default via 10.9.0.9 dev net0 table 77");
        ip("route add 192.0.2.0/24 via 10.9.0.10 dev net0");
        assert_eq!(netlink.gateway(None).await.unwrap(), Some(Ipv4Addr::new(10, 9, 0, 8)));
        assert_eq!(netlink.gateway(Some(near)).await.unwrap(), None);
        ip("route add default via 10.9.0.6 dev net0");
        assert_eq!(netlink.gateway(None).await.unwrap(), Some(Ipv4Addr::new(10, 9, 0, 6)));
    });
}

#[test]
fn changes_of_addresses_routes_and_links_are_told() {
    in_namespace(async |netlink| {
        let next = async |changes: &mut tokio::sync::mpsc::Receiver<Change>| {
            tokio::time::timeout(Duration::from_secs(5), changes.recv()).await.unwrap().unwrap()
        };
        let mut changes = changes().unwrap();
        let (_tun, link) = device(&netlink, "net1").await;
        let mut seen = (false, false, false);
        while seen != (true, true, true) {
            match next(&mut changes).await {
                Change::Address(l) => seen.0 |= l == link,
                Change::Link(l) => seen.1 |= l == link,
                Change::Down(_) => {}
                Change::Route => seen.2 = true,
                Change::Lost => panic!("nothing was lost"),
            }
        }
        ip("link set net1 down");
        while next(&mut changes).await != Change::Down(link) {}
        ip("link set net1 up");
        while next(&mut changes).await != Change::Link(link) {}
        // However many go by without a reader, that some were lost is told.
        let lo = netlink.index("lo").await.unwrap();
        for n in 0..100_u8 {
            netlink.add_address(lo, (IpAddr::V4(Ipv4Addr::new(127, 9, 9, n)), 32)).await.unwrap();
        }
        loop {
            if next(&mut changes).await == Change::Lost {
                break;
            }
        }
    });
}

#[test]
fn what_is_said_to_every_host_of_a_link_comes_from_the_address_and_port_that_others_answer_to() {
    in_namespace(async |netlink| {
        let (_tun, tunnel) = device(&netlink, "t0").await;
        ip("link add lan type veth peer name other");
        ip("link set other up");
        let link = netlink.index("lan").await.unwrap();
        let own: [IpAddr; 2] = ["10.8.0.1".parse().unwrap(), "fd08::1".parse().unwrap()];
        // The second address is not what the kernel would choose.
        for (ip, len) in [("10.8.0.9", 24), ("10.8.0.1", 24), ("fd08::9", 64), ("fd08::1", 64)] {
            netlink.add_address(link, (ip.parse().unwrap(), len)).await.unwrap();
        }
        netlink.set_up(link).await.unwrap();
        let shared = netlink.shared_addresses(None).await.unwrap();
        assert!(own.iter().all(|own| shared.iter().any(|shared| shared.ip == *own)));
        assert!(shared.iter().all(|shared| shared.link != tunnel), "a tunnel is no LAN");

        for (family, own) in [(Family::V4, own[0]), (Family::V6, own[1])] {
            // Two programs hear the same.
            let ears = [hear(family, 21_420).unwrap(), hear(family, 21_420).unwrap()];
            let socket = Socket::bind(family, 0, None).unwrap();
            // The kernel makes the route of its multicast a moment after the link is up.
            let until = Instant::now() + Duration::from_secs(5);
            while socket.say(link, own, 21_420, b"said") == Err(SendError::Unreachable) {
                assert!(Instant::now() < until, "{own}");
                thread::sleep(Duration::from_millis(10));
            }
            for ear in ears {
                ear.set_nonblocking(false).unwrap();
                ear.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                let mut bytes = [0; 16];
                let (len, from) = ear.recv_from(&mut bytes).unwrap();
                assert_eq!(&bytes[..len], b"said");
                assert_eq!((from.ip(), from.port()), (own, socket.port().unwrap()));
            }
            assert_eq!(socket.say(9_999, own, 21_420, b"said"), Err(SendError::Unreachable), "no such link");
        }
    });
}

#[test]
fn a_flow_comes_to_the_queue_that_its_answers_were_written_to() {
    in_namespace(async |netlink| {
        let mut queues = Tun::create_queues("many0", 3).unwrap();
        assert!(matches!(Tun::create("many0"), Err(TunError::NameTaken)));
        let link = netlink.index("many0").await.unwrap();
        netlink.add_address(link, (HERE[0], 24)).await.unwrap();
        netlink.set_up(link).await.unwrap();
        let (mut frame, mut coalescer) = (Frame::new(), Coalescer::new());
        let mut read = |queues: &[Tun]| {
            let end = Instant::now() + Duration::from_secs(5);
            loop {
                for (at, queue) in queues.iter().enumerate() {
                    let Some(Ok(mut split)) = queue.read(&mut frame).unwrap() else { continue };
                    let packet = split.next_packet().unwrap().to_vec();
                    // What the kernel says to routers of its own accord is no flow of ours.
                    if packet[0] >> 4 == 4 {
                        return (at, packet);
                    }
                }
                assert!(Instant::now() < end, "no packet came");
            }
        };
        for n in 0..12 {
            let socket = std::net::UdpSocket::bind((HERE[0], 0)).unwrap();
            socket.send_to(b"question", (THERE[0], 7)).unwrap();
            let (came, mut packet) = read(&queues);
            let (src, dst) = packet[12..20].split_at_mut(4);
            src.swap_with_slice(dst);
            let (src, dst) = packet[20..24].split_at_mut(2);
            src.swap_with_slice(dst);
            let answered = (came + 1 + n % 2) % 3;
            assert_eq!(queues[answered].write([&packet[..]], &mut coalescer).dropped, 0);
            socket.recv(&mut [0; 16]).unwrap();
            socket.send_to(b"once more", (THERE[0], 7)).unwrap();
            assert_eq!(read(&queues).0, answered);
        }
    });
}
