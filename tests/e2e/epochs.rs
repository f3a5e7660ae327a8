//! A new epoch under traffic: nobody notices.

use std::time::Duration;

use tests::{Lab, Node, process::Process};

use crate::world::{FIRST_ANSWER, THREE, THREE_HOSTS, World};

/// Epochs in a test.
const CHANGES: u64 = 20;

/// Pings in a flood, 5 ms apart: for as long as the changes take, and the last move after them.
const PINGS: u64 = 10_000;

/// Pings from one machine to another, 200 a second.
struct Flood(Process);

impl Flood {
    fn start(from: &Node, to: &Node) -> Self {
        let log = from.host().folder().join(format!("flood-{}.log", to.name()));
        let mut command = from.host().command("ping").unwrap();
        let (count, address) = (PINGS.to_string(), to.address("ipv4").unwrap());
        command.args(["-n", "-q", "-i", "0.005", "-W", "2", "-c", &count, &address]);
        Self(Process::start("ping", &mut command, log).unwrap())
    }

    /// How many were sent and how many came back.
    fn end(mut self) -> (u64, u64) {
        self.0.ended(Duration::from_secs(120)).unwrap();
        let printed = self.0.printed();
        let summary = printed.lines().find(|line| line.contains("packets transmitted")).unwrap();
        let mut numbers = summary.split_whitespace().filter_map(|word| word.parse().ok());
        (numbers.next().unwrap(), numbers.next().unwrap())
    }
}

#[test]
fn no_packet_is_lost_over_twenty_epoch_changes_under_200_packets_a_second() {
    let world = World::of(Lab::alone(THREE).unwrap(), &THREE_HOSTS);
    world.all_reach_all(FIRST_ANSWER);
    let [cloud, home, flat] = THREE_HOSTS.map(|name| world.node(name));
    world.becomes_direct("home-1", "flat-1", Duration::from_secs(20));
    world.becomes_direct("home-1", "cloud-1", Duration::from_secs(20));
    let before = cloud.status().unwrap()["epoch"].as_u64().unwrap();
    let floods = [Flood::start(home, flat), Flood::start(home, cloud)];
    for _ in 0..CHANGES {
        let made = cloud.ask(&["invite", "create"]).unwrap();
        cloud.ask(&["invite", "revoke", made["id"].as_str().unwrap()]).unwrap();
        std::thread::sleep(Duration::from_millis(1_500));
    }
    let told = floods.map(Flood::end);
    for node in &world.nodes {
        assert_eq!(node.status().unwrap()["epoch"], before + CHANGES, "{}", node.name());
    }
    for (name, (sent, received)) in ["flat-1", "cloud-1"].iter().zip(told) {
        println!("home-1 to {name}: {CHANGES} epochs, {sent} packets, {} lost", sent - received);
        assert_eq!((sent, received), (PINGS, PINGS), "to {name}");
    }
}
