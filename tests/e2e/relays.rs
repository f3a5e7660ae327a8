//! Relays that come, leave and are crowded, and days that end, under traffic: nobody notices.

use std::{
    fs, thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::Value;
use tests::{Coordinator, Lab, Node, clock::Clock, process::Process, wait};

use crate::world::{FIRST_ANSWER, World};

const DAY: u64 = 86_400;

/// For a machine to connect to a relay that is new, or back.
const CONNECTED: Duration = Duration::from_millis(1_500);

/// Two machines that have no way to each other but relays, and these not near: some pings are always on their way.
const SHUT_IN: &str = "a=udpblocked:delay=20,b=udpblocked:delay=20";

/// Pings from one machine to another, a hundred a second.
struct Pings(Process);

/// What became of them.
struct Counted {
    sent: u64,
    answered: u64,
    /// The mean round trip in milliseconds.
    mean: f64,
}

impl Pings {
    fn start(from: &Node, to: &Node, count: u32) -> Self {
        let log = from.host().folder().join(format!("pings-{count}.log"));
        let mut command = from.host().command("ping").unwrap();
        let address = to.address("ipv4").unwrap();
        command.args(["-n", "-q", "-i", "0.01", "-W", "2", "-c", &count.to_string(), &address]);
        Self(Process::start("ping", &mut command, log).unwrap())
    }

    fn end(mut self) -> Counted {
        self.0.ended(Duration::from_secs(30)).unwrap();
        let printed = self.0.printed();
        let summary = printed.lines().find(|line| line.contains("packets transmitted")).unwrap();
        let mut numbers = summary.split_whitespace().filter_map(|word| word.parse().ok());
        let times = printed.lines().find_map(|line| line.strip_prefix("rtt min/avg/max/mdev = "));
        let mean = times.and_then(|times| times.split('/').nth(1)?.parse().ok()).unwrap_or(f64::INFINITY);
        Counted { sent: numbers.next().unwrap(), answered: numbers.next().unwrap(), mean }
    }

    fn all_are_answered(self, over: &str) {
        let counted = self.end();
        println!("over {over}: {} pings, {} lost", counted.sent, counted.sent - counted.answered);
        assert_eq!(counted.sent, counted.answered, "over {over}");
    }
}

fn over_a_relay(world: &World, from: &str, to: &str) {
    let (from, to) = (world.node(from), world.node(to));
    from.reaches(&to.address("ipv4").unwrap(), FIRST_ANSWER).unwrap();
    assert_eq!(from.peer(to.name()).unwrap()["path"], "relay");
}

#[test]
fn relays_come_and_leave_and_no_packet_is_lost_nor_a_connection() {
    let lab = Lab::up(&format!("{SHUT_IN},@servers=2")).unwrap();
    let mut world = World::of(lab, &["a-1", "b-1"]);
    over_a_relay(&world, "a-1", "b-1");
    let [a, b] = ["a-1", "b-1"].map(|name| world.nodes.iter().find(|node| node.name() == name).unwrap());

    let pings = Pings::start(a, b, 200);
    let mut relay = world.coordinator.start_relay(&world.lab.host("srv2")).unwrap();
    a.ask(&["relay", "add"]).unwrap();
    pings.all_are_answered("a relay that is added");
    thread::sleep(CONNECTED);

    let mut command = b.host().command("iperf3").unwrap();
    let server = Process::start(
        "iperf3",
        command.args(["-s", "-1", "--forceflush"]),
        b.host().folder().join("iperf3.log"),
    );
    let server = server.unwrap();
    wait::until("iperf3 listens", wait::SOON, || server.printed().contains("listening")).unwrap();
    let mut command = a.host().command("iperf3").unwrap();
    let address = b.address("ipv4").unwrap();
    command.args(["-c", &address, "-b", "2M", "-l", "8K", "-t", "6", "-i", "0.5", "-J"]);
    let mut stream = Process::start("iperf3", &mut command, a.host().folder().join("iperf3.log")).unwrap();
    let pings = Pings::start(a, b, 550);
    // One after the other, so that whichever carries the traffic leaves once.
    relay.process().unwrap().stop().unwrap();
    relay.start_again().unwrap();
    thread::sleep(CONNECTED);
    world.coordinator.process().unwrap().stop().unwrap();
    world.coordinator.start_again().unwrap();
    pings.all_are_answered("one relay and then the other that leaves");
    let ended = stream.ended(Duration::from_secs(20)).unwrap();
    assert!(ended.success(), "{}", stream.printed());
    let report: Value = serde_json::from_str(&stream.printed()).unwrap();
    let halves = report["intervals"].as_array().unwrap();
    assert!(
        halves.len() >= 11 && halves.iter().all(|half| half["sum"]["bytes"].as_f64() > Some(0.0)),
        "{report}"
    );
}

#[test]
fn a_day_ends_over_a_relay_and_no_packet_is_lost() {
    let lab = Lab::up(SHUT_IN).unwrap();
    lab.keep_changes_apart();
    let coordinator = Coordinator::start(&lab.host("srv")).unwrap();
    let mut nodes = ["a-1", "b-1"].map(|name| Node::prepare(&lab.host(name)));
    let midnight = || DAY - SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() % DAY;
    // Half an hour before the end of the day, in the hour in which the next day's mailboxes are open too.
    let clocks = nodes.each_mut().map(|node| {
        let clock = Clock::of(node).unwrap();
        clock.set(midnight().cast_signed() - 1_800).unwrap();
        node.start_again().unwrap();
        clock
    });
    let [a, b] = &nodes;
    a.create_account("ann", &coordinator.enrol().unwrap()).unwrap();
    a.create_network("home").unwrap();
    b.join(&a.invite(&[]).unwrap()).unwrap();
    a.reaches(&b.address("ipv4").unwrap(), FIRST_ANSWER).unwrap();
    let pings = Pings::start(a, b, 300);
    thread::sleep(Duration::from_millis(500));
    for clock in &clocks {
        clock.set(midnight().cast_signed() - 1).unwrap();
    }
    pings.all_are_answered("midnight");
    assert_eq!(a.peer(b.name()).unwrap()["path"], "relay");
}

/// The most that a relay of four machines may hold while two of them send as much as they can.
const RELAY_HOLDS_KIB: u64 = 48 << 10;

#[test]
fn a_network_that_floods_a_relay_leaves_room_for_another() {
    let lab = Lab::alone("a=udpblocked,b=udpblocked,c=udpblocked,d=udpblocked,@servers=2").unwrap();
    let mut coordinator = Coordinator::start_with(&lab.host("srv"), &["--no-relay"]).unwrap();
    let mut relay = coordinator.start_relay(&lab.host("srv2")).unwrap();
    let pair = |names: [&str; 2], account: &str| {
        let [first, second] = names.map(|name| Node::start(&lab.host(name)).unwrap());
        first.create_account(account, &coordinator.enrol().unwrap()).unwrap();
        first.create_network("home").unwrap();
        second.join(&first.invite(&[]).unwrap()).unwrap();
        first.reaches(&second.address("ipv4").unwrap(), FIRST_ANSWER).unwrap();
        [first, second]
    };
    let [a, b] = pair(["a-1", "b-1"], "ann");
    let [c, d] = pair(["c-1", "d-1"], "bob");
    let mut command = d.host().command("iperf3").unwrap();
    let server =
        Process::start("iperf3", command.args(["-s", "--forceflush"]), d.host().folder().join("iperf3.log"));
    let server = server.unwrap();
    wait::until("iperf3 listens", wait::SOON, || server.printed().contains("listening")).unwrap();
    let mut command = c.host().command("iperf3").unwrap();
    let address = d.address("ipv4").unwrap();
    command.args(["-c", &address, "-u", "-b", "3G", "-l", "1200", "-t", "4", "-J"]);
    let mut flood = Process::start("iperf3", &mut command, c.host().folder().join("iperf3.log")).unwrap();
    thread::sleep(Duration::from_millis(500));
    let counted = Pings::start(&a, &b, 300).end();
    flood.ended(Duration::from_secs(20)).unwrap();
    let report: Value = serde_json::from_str(&flood.printed()).unwrap_or_default();
    let held = most_held(relay.process().unwrap().pid());
    println!(
        "beside a flood of {:.0} Mbit/s: {} pings, {} lost, mean round trip {} ms; the relay held {held} KiB at most",
        report["end"]["sum"]["bits_per_second"].as_f64().unwrap_or_default() / 1e6,
        counted.sent,
        counted.sent - counted.answered,
        counted.mean
    );
    assert!(counted.answered * 100 >= counted.sent * 98 && counted.mean < 100.0);
    assert!(held < RELAY_HOLDS_KIB, "{held} KiB");
}

/// The most that a process held of memory, in KiB.
fn most_held(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
