//! A machine whose peers several workers share: to its peers it is one, whichever way leads to it.

use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use serde_json::Value;
use tests::{
    Lab, Node,
    process::{kill_process, shortest_slice},
    wait,
};

use crate::world::{FIRST_ANSWER, World};

/// One for each peer that a direct path leads to, and for the one that is reached over the relay alone.
const WORKERS: usize = 4;

/// Public, behind routers that map every destination alike, behind one that does not, without UDP.
const TOPOLOGY: &str = "cloud=none:v6=1,home=easy,flat=easy,cafe=hard,office=udpblocked";

/// Machines that nothing is between.
const PUBLIC: [&str; 5] = ["cloud-1", "cloud-2", "cloud-3", "cloud-4", "cloud-5"];

/// A packet of [`sends`], in bytes, and what of it is IPv4's and UDP's header.
const INNER: u64 = 500;
const HEADERS: usize = 28;

/// Pings with each peer, in a row.
const PINGS: u64 = 40;

/// Longer than any session lives (WireGuard's REJECT_AFTER_TIME is 180 s).
const LIFE: Duration = Duration::from_secs(185);

#[test]
fn peers_that_four_workers_share_are_reached_directly_and_over_the_relay_whatever_happens() {
    let mut world =
        sharing(TOPOLOGY, &["home-1", "cloud-1", "flat-1", "cafe-1", "office-1"], "home-1", WORKERS);
    world.all_reach_all(FIRST_ANSWER);
    for peer in ["cloud-1", "flat-1"] {
        world.becomes_direct("home-1", peer, wait::SOON);
        world.becomes_direct(peer, "home-1", wait::SOON);
    }
    assert_eq!(world.node("home-1").peer("office-1").unwrap()["path"], "relay");
    each_worker_has_peers(&mut world, "home-1", WORKERS);

    // All end with one of them, and others take their place.
    let before = world.node_mut("home-1").data_path().unwrap();
    kill_process(before).unwrap();
    world.all_reach_all(FIRST_ANSWER);
    assert_ne!(world.node_mut("home-1").data_path().unwrap(), before);
    world.becomes_direct("home-1", "cloud-1", wait::SOON);

    // It goes elsewhere, where it is seen at another address; a peer does.
    world.lab.natlab(&["roam", "home-1", "flat"]).unwrap();
    world.all_reach_all(FIRST_ANSWER);
    world.lab.natlab(&["roam", "cloud-1", "home"]).unwrap();
    world.all_reach_all(FIRST_ANSWER);
    for peer in ["cloud-1", "flat-1"] {
        world.becomes_direct("home-1", peer, wait::SOON);
    }
    each_worker_has_peers(&mut world, "home-1", WORKERS);

    if std::env::var_os(tests::LONG).is_some() {
        sessions_are_renewed(&world, "home-1", &["cloud-1", "flat-1"]);
    }
}

#[test]
fn a_peer_of_a_later_worker_is_met_by_the_ports_that_the_first_alone_has() {
    let world = sharing("home=easy,cafe=hard", &["home-1", "cafe-1"], "cafe-1", WORKERS);
    world.becomes_direct("home-1", "cafe-1", Duration::from_secs(60));
    world.becomes_direct("cafe-1", "home-1", Duration::from_secs(60));
    for _ in 0..5 {
        world.becomes_direct("cafe-1", "home-1", Duration::from_millis(300));
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn status_counts_for_each_peer_what_passed_whichever_worker_has_it() {
    let mut world = sharing("cloud=none:5", &PUBLIC, PUBLIC[0], 2);
    world.all_reach_all(FIRST_ANSWER);
    each_worker_has_peers(&mut world, PUBLIC[0], 2);
    let before = quiet(&world);
    for (n, name) in (1..).zip(&PUBLIC[1..]) {
        sends(&world, PUBLIC[0], name, 100 * n);
        sends(&world, name, PUBLIC[0], 10 * n);
    }
    let after = quiet(&world);
    for (n, name) in (1..).zip(&PUBLIC[1..]) {
        let passed = |view: &Views, at: &str, of: &str| {
            ["tx_bytes", "rx_bytes"].map(|count| {
                let count = |views: &Views| views[at][of][count].as_u64().unwrap();
                count(view) - count(&before)
            })
        };
        let (there, back) = (100 * n * INNER, 10 * n * INNER);
        assert_eq!(passed(&after, PUBLIC[0], name), [there, back], "{name}");
        assert_eq!(passed(&after, name, PUBLIC[0]), [back, there], "{name}");
    }
}

/// What each machine says of each other.
type Views = BTreeMap<String, BTreeMap<String, Value>>;

/// The same once nothing changes any more that is counted: what machines tell each other unasked has passed.
fn quiet(world: &World) -> Views {
    let counted = |views: &Views| {
        let all = views.values().flat_map(BTreeMap::values);
        all.map(|peer| (peer["rx_bytes"].as_u64(), peer["tx_bytes"].as_u64())).collect::<Vec<_>>()
    };
    let look = || -> Views {
        let of = |node: &Node| {
            let status = node.status().unwrap();
            let peers = status["peers"].as_array().unwrap();
            peers.iter().map(|peer| (peer["name"].as_str().unwrap().to_owned(), peer.clone())).collect()
        };
        world.nodes.iter().map(|node| (node.name().to_owned(), of(node))).collect()
    };
    let mut last = look();
    wait::until("nothing is counted any more", wait::SOON, || {
        std::thread::sleep(Duration::from_secs(1));
        let before = std::mem::replace(&mut last, look());
        counted(&before) == counted(&last)
    })
    .unwrap();
    last
}

/// Sends so many datagrams that are each [`INNER`] long inside the tunnel, and sees them arrive.
fn sends(world: &World, from: &str, to: &str, count: u64) {
    let (from, to) = (world.node(from), world.node(to));
    let bound = |node: &Node| {
        let address: Ipv4Addr = node.address("ipv4").unwrap().parse().unwrap();
        node.host().inside(move || UdpSocket::bind((address, 0)).unwrap()).unwrap()
    };
    let (near, far) = (bound(from), bound(to));
    far.set_read_timeout(Some(wait::SOON)).unwrap();
    let (payload, mut room) = ([7; INNER as usize - HEADERS], [0; 2_000]);
    for _ in 0..count {
        near.send_to(&payload, far.local_addr().unwrap()).unwrap();
        assert_eq!(far.recv(&mut room).unwrap(), payload.len());
    }
}

/// A network of these hosts, one of which has several workers.
fn sharing(topology: &str, hosts: &[&str], one: &str, workers: usize) -> World {
    let mut world = World::of(Lab::up(topology).unwrap(), hosts);
    let node = world.node_mut(one);
    node.stop().unwrap();
    node.options(&[&format!("--workers={workers}")]);
    node.start_again().unwrap();
    world
}

/// Every thread has something to do when all peers are spoken with; each is behind the walls, and has what was asked for before them.
fn each_worker_has_peers(world: &mut World, one: &str, workers: usize) {
    let process = world.node_mut(one).data_path().unwrap();
    assert!(shortest_slice(process).unwrap().is_none_or(|slice| slice == 4_000_000));
    let before = turns(world.node_mut(one));
    assert_eq!(before.len(), workers);
    let node = world.node(one);
    for other in world.others(node) {
        let (address, count) = (other.address("ipv4").unwrap(), PINGS.to_string());
        node.host().run("ping", &["-n", "-q", "-c", &count, "-i", "0.02", "-W", "2", &address]).unwrap();
    }
    let after = turns(world.node_mut(one));
    for (worker, before) in before {
        let turns = after[&worker] - before;
        assert!(turns >= PINGS, "a worker had {turns} turns");
    }
}

/// Everybody is reached for longer than a session lives; and with those that are reached directly, handshakes are seen to pass.
fn sessions_are_renewed(world: &World, one: &str, direct: &[&str]) {
    let one = world.node(one);
    // From and to whom: answers to initiations, by how they begin and how long they are with UDP's header.
    one.host()
        .run(
            "nft",
            &["add table inet renewed
             add set inet renewed answered { type ipv4_addr; flags dynamic; }
             add chain inet renewed in { type filter hook input priority 0; }
             add chain inet renewed out { type filter hook output priority 0; }
             add rule inet renewed in udp length 100 @th,64,32 0x02000000 add @answered { ip saddr }
             add rule inet renewed out udp length 100 @th,64,32 0x02000000 add @answered { ip daddr }"],
        )
        .unwrap();
    let end = Instant::now() + LIFE;
    while Instant::now() < end {
        world.all_reach_all(Duration::from_secs(2));
        std::thread::sleep(Duration::from_secs(1));
    }
    let answered = one.host().run("nft", &["list", "set", "inet", "renewed", "answered"]).unwrap();
    for peer in direct {
        let endpoint: SocketAddr = one.peer(peer).unwrap()["endpoint"].as_str().unwrap().parse().unwrap();
        let with = |word: &str| word.trim_matches(',') == endpoint.ip().to_string();
        assert!(answered.split_whitespace().any(with), "no new handshake with {peer}: {answered}");
    }
}

/// How often each thread of the data path has waited.
fn turns(node: &mut Node) -> BTreeMap<String, u64> {
    let tasks = fs::read_dir(format!("/proc/{}/task", node.data_path().unwrap())).unwrap();
    let turns = tasks.map(|task| {
        let status = fs::read_to_string(task.as_ref().unwrap().path().join("status")).unwrap();
        for wall in ["Seccomp:\t2", "NoNewPrivs:\t1", "CapEff:\t0000000000000000"] {
            assert!(status.contains(wall), "{status}");
        }
        let turns = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:\t")).unwrap();
        (task.unwrap().file_name().into_string().unwrap(), turns.parse().unwrap())
    });
    turns.collect()
}
