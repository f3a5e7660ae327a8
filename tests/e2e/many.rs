//! Many machines in one network: what one more costs, and that each reaches each. `TACET_MACHINES` says how many: 64 in
//! the nightly run.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use tests::{Coordinator, Host, Lab, Node, wait};

/// Sizes at which the cost of a join is stated.
const STATED: [usize; 3] = [8, 32, 64];

/// Joins that such a figure is the mean of: the last ones before the network has that size.
const SAMPLE: usize = 4;

/// Machines behind one router: in a crowd on one link the kernel, which is one for all of the laboratory, would forget
/// neighbours (1,024 of them, `gc_thresh3`) as fast as it learns them.
const TOGETHER: usize = 4;

/// For machines that all begin to speak at once.
const ALL_AT_ONCE: u32 = 60;

/// What joins cost, all in all.
#[derive(Clone, Copy, Default)]
struct Cost {
    joining: Duration,
    known: Duration,
    coordinator: Duration,
    machines: Duration,
    wire: u64,
}

impl Cost {
    fn add(&mut self, other: Self) {
        self.joining += other.joining;
        self.known += other.known;
        self.coordinator += other.coordinator;
        self.machines += other.machines;
        self.wire += other.wire;
    }
}

/// Time that a process has had on a processor, all its threads together, in the kernel's ticks of 10 ms.
fn processor_time(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // After the name, which may hold anything: the fields from the third on; user and kernel time are the 14th and 15th.
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let ticks = fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap());
    Duration::from_millis(10 * ticks.sum::<u64>())
}

/// Bytes that went through a host's interface, both directions.
fn wire_bytes(host: &Host) -> u64 {
    let count = |name: &str| {
        let path = format!("/sys/class/net/eth0/statistics/{name}_bytes");
        host.run("cat", &[&path]).unwrap().parse::<u64>().unwrap()
    };
    count("rx") + count("tx")
}

/// Time of all machines' processes so far.
fn machines_time(nodes: &mut [Node]) -> Duration {
    let of = |node: &mut Node| {
        let control = processor_time(node.process().unwrap().pid());
        control + node.data_path().ok().map(processor_time).unwrap_or_default()
    };
    nodes.iter_mut().map(of).sum()
}

/// Whether a machine has that many others, each with its final address.
fn knows(node: &Node, others: usize) -> bool {
    node.status().is_ok_and(|status| {
        let peers = status["peers"].as_array().unwrap();
        peers.len() == others && peers.iter().all(|peer| peer["ipv4"].is_string())
    })
}

/// Bytes in the files of a folder.
fn bytes_below(folder: &std::path::Path) -> u64 {
    let entries = fs::read_dir(folder).unwrap().flatten();
    entries
        .map(|entry| {
            let about = entry.metadata().unwrap();
            if about.is_dir() { bytes_below(&entry.path()) } else { about.len() }
        })
        .sum()
}

/// One more machine joins; returns once all have their addresses of it.
fn one_more(nodes: &mut Vec<Node>, coordinator: &mut Coordinator, host: &Host) -> Cost {
    let server = coordinator.process().unwrap().pid();
    nodes.push(Node::start(host).unwrap());
    let before = (processor_time(server), machines_time(nodes), wire_bytes(coordinator.host()));
    let token = nodes[0].invite(&[]).unwrap();
    let began = Instant::now();
    nodes.last().unwrap().join(&token).unwrap();
    let joining = began.elapsed();
    let others = nodes.len() - 1;
    // The signer folds, then the change reaches all; the one that is asked last is as good as any.
    for node in [&nodes[0], &nodes[others], &nodes[others / 2]] {
        wait::until(&format!("{} knows {others} others", node.name()), wait::SOON, || knows(node, others))
            .unwrap();
    }
    let known = began.elapsed();
    Cost {
        joining,
        known,
        coordinator: processor_time(server) - before.0,
        machines: machines_time(nodes) - before.1,
        wire: wire_bytes(coordinator.host()) - before.2,
    }
}

/// One machine pings each address, once a second until an answer comes, all at once; returns how many stayed silent.
fn silent(node: &Node, addresses: &[String]) -> usize {
    let wait = ALL_AT_ONCE.to_string();
    let script = r#"wait=$1; shift
        for address in "$@"; do
            ping -n -c 1 -w "$wait" "$address" >/dev/null || echo "$address" &
        done
        wait"#;
    let mut arguments = vec!["-c", script, "sh", &wait];
    arguments.extend(addresses.iter().map(String::as_str));
    node.host().run("sh", &arguments).unwrap().lines().count()
}

#[test]
fn each_of_many_machines_reaches_each_other() {
    let size: usize = std::env::var("TACET_MACHINES").map_or(24, |size| size.parse().unwrap());
    let sites = size.div_ceil(TOGETHER);
    // Every second one a home.
    let kind = |site: usize| if site.is_multiple_of(2) { "none" } else { "easy" };
    let topology: Vec<String> =
        (1..=sites).map(|site| format!("s{site}={}:{TOGETHER}:v6=1", kind(site))).collect();
    let lab = Lab::up(&topology.join(",")).unwrap();
    let host = |number: usize| lab.host(&format!("s{}-{}", number / TOGETHER + 1, number % TOGETHER + 1));
    let mut coordinator = Coordinator::start(&lab.host("srv")).unwrap();
    let first = Node::start(&host(0)).unwrap();
    first.create_account("ann", &coordinator.enrol().unwrap()).unwrap();
    first.create_network("home").unwrap();
    let mut nodes = vec![first];
    let mut sample = Cost::default();
    for number in 2..=size {
        let stated = STATED.iter().find(|stated| (number..number + SAMPLE).contains(*stated));
        let cost = one_more(&mut nodes, &mut coordinator, &host(number - 1));
        if stated.is_none() {
            continue;
        }
        sample.add(cost);
        if STATED.contains(&number) {
            let mean = |time: Duration| time.as_secs_f64() * 1_000.0 / SAMPLE as f64;
            println!(
                "the {number}th machine: joined in {:.0} ms, known to all after {:.0} ms; {} bytes at the coordinator; \
                 processor time: coordinator {:.1} ms, all machines {:.1} ms",
                mean(sample.joining),
                mean(sample.known),
                sample.wire / SAMPLE as u64,
                mean(sample.coordinator),
                mean(sample.machines),
            );
            sample = Cost::default();
        }
    }
    for node in &nodes {
        wait::until(&format!("{} knows all", node.name()), wait::SOON, || knows(node, size - 1)).unwrap();
    }
    println!(
        "state directory of a machine with {size} machines: {} bytes",
        bytes_below(&nodes[size - 1].state(""))
    );

    for family in ["ipv4", "ipv6"] {
        let addresses: Vec<String> = nodes.iter().map(|node| node.address(family).unwrap()).collect();
        let began = Instant::now();
        let silent: usize = thread::scope(|scope| {
            let pinging: Vec<_> = nodes.iter().map(|node| scope.spawn(|| silent(node, &addresses))).collect();
            pinging.into_iter().map(|pinging| pinging.join().unwrap()).sum()
        });
        assert_eq!(silent, 0, "pairs without an answer over {family}");
        println!("{} pairs over {family} in {:.1?}", size * (size - 1), began.elapsed());
    }
}
