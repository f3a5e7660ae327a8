//! Networks on the way that carry less than others: routers that say so, and routers that drop without a word.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tests::{Lab, Node, wait};

use crate::world::World;

/// Two homes, and a third whose machine is not concerned.
const HOMES: &str = "home=easy:v6=1,flat=easy:v6=1,attic=easy:v6=1";
/// What an IPv4 path of 1,280 bytes carries whole: 60 bytes less. Over IPv6 it is 80.
const NARROW: [u64; 2] = [1_220, 1_200];
/// Bytes of one transfer, and in a long run.
const SHORT: usize = 10_000_000;
const WHOLE: usize = 100_000_000;
/// A transfer that hears nothing for so long has failed.
const STALLED: Duration = Duration::from_secs(20);
/// What a hole that opens under a transfer may cost: within a second large packets go in pieces, and TCP tries again
/// after pauses that double, after 0.2, 0.6, 1.4 and 3 s on a fast path.
const HOLE: Duration = Duration::from_secs(4);

/// What a transfer was like for its receiver.
struct Transfer {
    took: Duration,
    longest_silence: Duration,
}

fn amount() -> usize {
    if tests::long() { WHOLE } else { SHORT }
}

/// The byte at a place of what is transferred.
fn content(at: usize) -> u8 {
    (at * 31 % 251) as u8
}

/// Sends bytes over TCP, and checks each.
fn transfer(from: &Node, to: &Node, address: IpAddr, amount: usize) -> JoinHandle<Transfer> {
    let listener = to.host().inside(|| TcpListener::bind((address, 0)).unwrap()).unwrap();
    let there = SocketAddr::new(address, listener.local_addr().unwrap().port());
    let mut sender = from.host().inside(|| TcpStream::connect_timeout(&there, wait::SOON).unwrap()).unwrap();
    sender.set_write_timeout(Some(STALLED)).unwrap();
    thread::spawn(move || {
        let (mut receiver, _) = listener.accept().unwrap();
        receiver.set_read_timeout(Some(STALLED)).unwrap();
        let sending = thread::spawn(move || {
            let block: Vec<u8> = (0..251 * 256).map(content).collect();
            let mut left = amount;
            while left > 0 {
                let some = left.min(block.len());
                sender.write_all(&block[..some]).unwrap();
                left -= some;
            }
        });
        let began = Instant::now();
        let (mut last, mut longest, mut at) = (began, Duration::ZERO, 0);
        let mut buffer = vec![0; 1 << 16];
        loop {
            let len = receiver.read(&mut buffer).unwrap();
            longest = longest.max(last.elapsed());
            last = Instant::now();
            if len == 0 {
                break;
            }
            assert!(buffer[..len].iter().enumerate().all(|(n, byte)| *byte == content(at + n)));
            at += len;
        }
        sending.join().unwrap();
        assert_eq!(at, amount);
        Transfer { took: began.elapsed(), longest_silence: longest }
    })
}

fn addresses(node: &Node) -> [IpAddr; 2] {
    ["ipv4", "ipv6"].map(|family| node.address(family).unwrap().parse().unwrap())
}

fn mtu(from: &Node, to: &str) -> u64 {
    from.peer(to).unwrap()["mtu"].as_u64().unwrap()
}

fn is_narrow(from: &Node, to: &str) -> bool {
    NARROW.iter().any(|narrow| (narrow - 7..=*narrow).contains(&mtu(from, to)))
}

/// Two machines with a direct path between them.
fn two_homes() -> World {
    let world = World::of(Lab::up(HOMES).unwrap(), &["home-1", "flat-1", "attic-1"]);
    world.becomes_direct("home-1", "flat-1", wait::SOON);
    world.becomes_direct("flat-1", "home-1", wait::SOON);
    world
}

fn transfers_over(condition: &str) {
    let world = two_homes();
    let (home, flat) = (world.node("home-1"), world.node("flat-1"));
    world.becomes_direct("home-1", "attic-1", wait::SOON);
    world.lab.natlab(&[condition, "flat", "1280"]).unwrap();
    for (from, to) in [(home, flat), (flat, home)] {
        for address in addresses(to) {
            let done = transfer(from, to, address, amount()).join().unwrap();
            let rate = amount() as f64 * 8.0 / done.took.as_secs_f64() / 1e6;
            let silence = done.longest_silence;
            println!("{condition} 1280, to {}: {rate:.0} Mbit/s, longest silence {silence:.0?}", to.name());
            assert!(silence < HOLE, "{silence:?}");
        }
    }
    assert_eq!(home.peer("flat-1").unwrap()["path"], "direct");
    wait::until("the size is known", wait::SOON, || {
        home.reaches(&addresses(flat)[0].to_string(), wait::SOON).unwrap();
        is_narrow(home, "flat-1")
    })
    .unwrap();
    assert_eq!(mtu(home, "attic-1"), 1_420, "each peer has its own");
}

#[test]
fn tcp_passes_a_network_of_1280_bytes_that_says_so() {
    transfers_over("mtu");
}

#[test]
fn tcp_passes_a_network_of_1280_bytes_that_drops_the_rest_without_a_word() {
    transfers_over("hole");
}

#[test]
fn a_hole_that_opens_under_a_transfer_is_passed() {
    let world = two_homes();
    world.becomes_direct("home-1", "attic-1", wait::SOON);
    let home = world.node("home-1");
    // Each path is found small once.
    for (site, family) in [("flat", 0), ("attic", 1)] {
        let to = world.node(&format!("{site}-1"));
        world.lab.natlab(&["rate", site, "50mbit"]).unwrap();
        let running = transfer(home, to, addresses(to)[family], amount());
        thread::sleep(Duration::from_millis(500));
        world.lab.natlab(&["hole", site, "1280"]).unwrap();
        let done = running.join().unwrap();
        println!("a hole opens: {:.1?}, longest silence {:.0?}", done.took, done.longest_silence);
        assert!(done.longest_silence < HOLE, "{:?}", done.longest_silence);
        assert!(mtu(home, to.name()) < 1_280, "it was one");
    }
}

/// A packet of every length, and what its sender is told.
#[test]
fn senders_are_told_what_goes_through_and_ipv6_passes_whole() {
    let world = two_homes();
    let (home, flat) = (world.node("home-1"), world.node("flat-1"));
    world.lab.natlab(&["hole", "flat", "1280"]).unwrap();
    for address in addresses(flat) {
        transfer(home, flat, address, 1_000_000).join().unwrap();
    }
    wait::until("the size is certain", wait::SOON, || {
        let host = home.host();
        let [v4, v6] = addresses(flat).map(|address| address.to_string());
        let ping = |to: &str, size: &str| {
            let said = host.output("ping", &["-c", "1", "-W", "1", "-M", "do", "-s", size, to]).unwrap();
            (said.status.success(), String::from_utf8_lossy(&said.stdout).into_owned())
        };
        // 1,420 bytes; then what IPv6 asks of every link.
        let (_, told) = ping(&v4, "1392");
        let (passes, _) = ping(&v6, "1232");
        assert!(passes, "1,280 bytes of IPv6");
        told.contains("Frag needed") || told.contains("too long")
    })
    .unwrap();
}

/// The relay's connection is the one that such a hole would hold up; it was there before.
#[test]
fn relayed_packets_pass_a_hole_of_1280_bytes() {
    let world = World::of(Lab::up("home=hard,flat=hard").unwrap(), &["home-1", "flat-1"]);
    let (home, flat) = (world.node("home-1"), world.node("flat-1"));
    let [v4, _] = addresses(flat);
    home.reaches(&v4.to_string(), wait::SOON).unwrap();
    world.lab.natlab(&["hole", "flat", "1280"]).unwrap();
    for (from, to) in [(home, flat), (flat, home)] {
        let done = transfer(from, to, addresses(to)[0], 1_000_000).join().unwrap();
        assert!(done.longest_silence < HOLE, "{:?}", done.longest_silence);
    }
    assert_eq!(home.peer("flat-1").unwrap()["path"], "relay");
}
