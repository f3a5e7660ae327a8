//! Machines on one LAN, and nothing else: no coordinator, no relay, no way out.

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    thread::sleep,
    time::Duration,
};

use nix::sys::socket::{setsockopt, sockopt};
use tests::{Host, Lab};

use crate::world::World;

/// Where beacons go.
const PORT: u16 = 21_420;
const ALL_HOSTS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 1);
/// Where WireGuard is reached.
const WIREGUARD: u16 = 51_820;
/// From the first packet that waits to its answer: a beacon, one back, a handshake, a probe; and once more if one is lost.
const FOUND: Duration = Duration::from_secs(5);
/// Long enough for whoever would answer.
const MOMENT: Duration = Duration::from_millis(600);

/// A computer without Tacet: it hears what all hosts hear, and can say the same.
struct Outsider(UdpSocket);

impl Outsider {
    fn on(host: &Host) -> Self {
        let bound = || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT)).unwrap();
        let socket = host.inside(bound).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        // It has no Tacet that was to hear it.
        setsockopt(&socket, sockopt::IpMulticastLoop, &false).unwrap();
        Self(socket)
    }

    /// What was said since it was asked last, with where it came from.
    fn heard(&self) -> Vec<(SocketAddr, Vec<u8>)> {
        let mut bytes = [0; 2_048];
        let next = || self.0.recv_from(&mut bytes).ok().map(|(len, from)| (from, bytes[..len].to_vec()));
        std::iter::from_fn(next).collect()
    }

    fn say(&self, bytes: &[u8]) {
        self.0.send_to(bytes, (ALL_HOSTS, PORT)).unwrap();
    }
}

/// A network of these machines, cut off from everything but their LAN, and all of them started anew.
fn cut_off(hosts: &[&str]) -> World {
    let mut world = World::of(Lab::up("home=easy:4:v6=1").unwrap(), hosts);
    world.coordinator.kill();
    world.lab.natlab(&["cut", "home"]).unwrap();
    for node in &mut world.nodes {
        node.kill();
        node.start_again().unwrap();
    }
    world
}

/// A host's address on its LAN.
fn ipv4(world: &World, host: &str) -> Ipv4Addr {
    let listed = world.lab.host(host).run("ip", &["-4", "-o", "addr", "show", "dev", "eth0"]).unwrap();
    let address = listed.split_whitespace().nth(3).and_then(|prefix| prefix.split('/').next());
    address.unwrap().parse().unwrap()
}

#[test]
fn two_machines_on_one_lan_meet_without_coordinator_relay_and_internet() {
    let world = cut_off(&["home-1", "home-2", "home-3"]);
    let [one, two, third] = ["home-1", "home-2", "home-3"].map(|name| world.node(name));
    let outsider = Outsider::on(&world.lab.host("home-4"));
    sleep(MOMENT);
    assert!(outsider.heard().is_empty(), "machines that want nobody say nothing");

    let took = one.reaches(&two.address("ipv4").unwrap(), FOUND).unwrap();
    println!("found after {took:.2?}");
    assert_eq!(one.peer("home-2").unwrap()["path"], "direct");
    one.reaches(&two.address("ipv6").unwrap(), FOUND).unwrap();
    let said = outsider.heard();
    let from: Vec<SocketAddr> = said.iter().map(|(from, _)| *from).collect();
    for host in ["home-1", "home-2"] {
        let own = SocketAddr::from((ipv4(&world, host), WIREGUARD));
        assert!(from.contains(&own), "{host} speaks from where it is reached: {from:?}");
    }
    assert!(from.iter().all(|from| from.ip() != ipv4(&world, "home-3")), "who is not looked for is silent");
    assert!(from.len() <= 4, "asked and answered, and that is all: {from:?}");
    // The third is looked for by both.
    third.reaches(&one.address("ipv4").unwrap(), FOUND).unwrap();
    two.reaches(&third.address("ipv4").unwrap(), FOUND).unwrap();
}

#[test]
fn beacons_have_nothing_in_common_and_an_outsider_gets_no_answer_by_repeating_them() {
    let mut world = cut_off(&["home-1", "home-2"]);
    let outsider = Outsider::on(&world.lab.host("home-4"));
    let address = world.node("home-2").address("ipv4").unwrap();
    let key = world.node("home-1").address("ipv6").unwrap();
    world.node("home-1").reaches(&address, FOUND).unwrap();
    // Nobody answers now: it is asked again.
    world.node_mut("home-2").stop().unwrap();
    world.node_mut("home-1").kill();
    world.node_mut("home-1").start_again().unwrap();
    assert!(world.node("home-1").reaches(&address, Duration::from_secs(3)).is_err());
    let said: Vec<Vec<u8>> = outsider.heard().into_iter().map(|(_, bytes)| bytes).collect();
    assert!(said.len() >= 3, "{} beacons", said.len());
    for (n, one) in said.iter().enumerate() {
        assert_eq!(one.len(), said[0].len(), "one length");
        for other in &said[..n] {
            let common = one.windows(4).zip(other.windows(4)).filter(|(a, b)| a == b).count();
            assert_eq!(common, 0, "two beacons share four bytes at one place");
        }
        for named in ["home", "home-1", "home-2", &address, &key] {
            let found = one.windows(named.len()).any(|bytes| bytes == named.as_bytes());
            assert!(!found, "a beacon names {named}");
        }
        let octets = ipv4(&world, "home-1").octets();
        assert!(!one.windows(4).any(|bytes| bytes == octets), "a beacon shows an address");
    }

    world.node_mut("home-2").start_again().unwrap();
    world.node_mut("home-1").stop().unwrap();
    sleep(MOMENT);
    outsider.heard();
    for bytes in &said {
        outsider.say(bytes);
        outsider.say(&bytes[1..]);
        outsider.say(&vec![0x5a; bytes.len()]);
    }
    sleep(MOMENT);
    assert!(outsider.heard().is_empty(), "who repeats what a member said is not answered");
}

#[test]
fn with_discovery_switched_off_nothing_is_said_and_nothing_heard() {
    let mut world = cut_off(&["home-1", "home-2"]);
    let outsider = Outsider::on(&world.lab.host("home-4"));
    let node = world.node_mut("home-1");
    node.stop().unwrap();
    node.options(&["--no-lan-discovery"]);
    node.start_again().unwrap();
    let address = world.node("home-1").address("ipv4").unwrap();
    assert!(world.node("home-2").reaches(&address, Duration::from_secs(2)).is_err());
    let silent = ipv4(&world, "home-1");
    let heard = outsider.heard();
    assert!(!heard.is_empty() && heard.iter().all(|(from, _)| from.ip() != silent));
    let sockets = world.lab.host("home-1").run("ss", &["-Hulna"]).unwrap();
    assert!(!sockets.contains(&PORT.to_string()), "{sockets}");
}

/// Two homes that cannot know: the router does not let them speak to each other by its outer address.
#[test]
fn two_machines_behind_one_router_without_hairpin_speak_by_their_lan() {
    let world = World::of(Lab::up("home=hard:2,cloud=none").unwrap(), &["cloud-1", "home-1", "home-2"]);
    world.becomes_direct("home-1", "home-2", Duration::from_secs(5));
    let peer = world.node("home-1").peer("home-2").unwrap();
    let there = SocketAddr::from((ipv4(&world, "home-2"), WIREGUARD));
    assert_eq!(peer["endpoint"], there.to_string());
}
