//! What a relay on the way costs.
//!
//! Everything lives in one laboratory and is measured in turn, so that whatever else happens on this computer happens
//! to all: two machines whose UDP is blocked, with a relay between them; two others that speak directly; and coturn
//! ([`super::turn`]) on the relay's host. Another build's programs can take part, as two more machines with coordinator
//! and relay of their own.
//!
//! A TCP transfer shows what a way carries at most. Datagrams of one size at one rate, which is what coturn's own
//! client can send, show what a packet costs where there is no crowd to hide in.

use std::{fs, os::unix::fs::symlink, path::Path};

use anyhow::{Context as _, Result, bail};
use serde_json::json;
use tests::{Coordinator, Host, Lab, Node, RelayProcess, binaries, process::Process, wait};

use super::{
    Rounds,
    load::{cpu_seconds, iperf, serve},
    median,
    turn::{DATAGRAM, RATE, Turn},
};
use crate::packages;

/// Public machines, and two servers for each build. Large segments cross the links whole, as on a good network card.
const TOPOLOGY: &str = "a=none:3,b=none:3,@servers=4,@offload=1";

/// Lets nothing out of a machine but TCP; what goes through the tunnel is not touched.
const NO_UDP: &str = "add table inet block; \
    add chain inet block out { type filter hook output priority 0; }; \
    add rule inet block out oifname != \"tacet*\" meta l4proto udp drop";

/// Two machines of a network with a relay between them, and their servers.
struct House {
    pair: Pair,
    relay: RelayProcess,
    _coordinator: Coordinator,
}

/// Two machines, one of which sends to the other.
struct Pair {
    from: Node,
    to: Node,
    _server: Process,
}

/// One way from one machine to another, and what is sent on it.
struct Way<'a> {
    name: &'static str,
    /// The process in the middle.
    middle: Option<u32>,
    load: Load<'a>,
    samples: Vec<Sample>,
}

enum Load<'a> {
    /// iperf3 between a pair: the process ids of vpnd and data path on both, and options.
    Pair(&'a Pair, [u32; 4], &'a [&'a str]),
    /// coturn's own client, with options.
    Turn(&'a Turn, &'a [&'a str]),
}

/// One measurement.
struct Sample {
    megabit_per_second: f64,
    /// Of the process in the middle, for each gigabyte that arrived.
    middle_seconds: f64,
    /// Of vpnd and data path on both machines.
    machine_seconds: f64,
}

/// Measures, and prints a table or a document.
pub(super) fn run(rounds: Rounds, beside: Option<&Path>) -> Result<bool> {
    packages::prepare_lab()?;
    let lab = Lab::alone(TOPOLOGY)?;
    let hosts = |names: [&str; 4]| names.map(|name| lab.host(name));
    let mut house = House::build(hosts(["srv", "srv2", "a-1", "b-1"]), None)?;
    let mut other = match beside {
        Some(folder) => Some(House::build(hosts(["srv3", "srv4", "a-2", "b-2"]), Some(folder))?),
        None => None,
    };
    let mut direct = house.direct(&lab.host("a-3"), &lab.host("b-3"))?;
    let turn = Turn::start(house.relay.host(), &lab.host("a-3"))?;
    if turn.is_none() && !rounds.json {
        println!("coturn is not here: apt-get install --no-install-recommends coturn");
    }
    let datagrams = ["-u", "-b", RATE, "-l", DATAGRAM];
    let machines = direct.processes()?;
    let mut ways = vec![Way::new("direct, TCP", None, Load::Pair(&direct, machines, &[]))];
    let houses = [
        Some((&mut house, ["relay, TCP", "relay, datagrams"])),
        other.as_mut().map(|other| (other, ["other build, TCP", "other build, datagrams"])),
    ];
    for (house, [stream, paced]) in houses.into_iter().flatten() {
        let middle = Some(house.relay.process()?.pid());
        let machines = house.pair.processes()?;
        ways.push(Way::new(stream, middle, Load::Pair(&house.pair, machines, &[])));
        ways.push(Way::new(paced, middle, Load::Pair(&house.pair, machines, &datagrams)));
    }
    if let Some(turn) = &turn {
        let middle = Some(turn.pid());
        ways.push(Way::new("coturn, datagrams by TLS", middle, Load::Turn(turn, &["-t", "-S"])));
        ways.push(Way::new("coturn, datagrams by UDP", middle, Load::Turn(turn, &[])));
    }
    for round in 0..rounds.rounds as usize {
        for turn in 0..ways.len() {
            // None is always first.
            let at = (round + turn) % ways.len();
            let sample = ways[at].measure(rounds.seconds)?;
            if !rounds.json {
                println!("{:<26}{}", ways[at].name, sample.row());
            }
            ways[at].samples.push(sample);
        }
    }
    report(&ways, rounds);
    Ok(true)
}

impl House {
    /// Coordinator, relay and two machines on four hosts, out of the programs in `folder` where one is given.
    fn build([coordinator, relay, from, to]: [Host; 4], folder: Option<&Path>) -> Result<Self> {
        for host in [&coordinator, &relay, &from, &to] {
            replace_programs(host, folder)?;
        }
        for host in [&from, &to] {
            host.run("nft", &[NO_UDP])?;
        }
        let mut coordinator = Coordinator::start_with(&coordinator, &["--no-relay"])?;
        let relay = coordinator.start_relay(&relay)?;
        let from = Node::start(&from)?;
        from.create_account("ann", &coordinator.enrol()?)?;
        from.create_network("home")?;
        let to = joined(&from, &to)?;
        Ok(Self { pair: Pair::of(from, to, "relay")?, relay, _coordinator: coordinator })
    }

    /// Two more machines of the network, which speak directly.
    fn direct(&self, from: &Host, to: &Host) -> Result<Pair> {
        let signer = &self.pair.from;
        Pair::of(joined(signer, from)?, joined(signer, to)?, "direct")
    }
}

impl Pair {
    /// Waits until one reaches the other on a path of this kind.
    fn of(from: Node, to: Node, path: &str) -> Result<Self> {
        let address = to.address("ipv4")?;
        wait::until(&format!("a path is {path}"), wait::SOON, || {
            from.pings(&address) && from.peer(to.name()).is_ok_and(|peer| peer["path"] == path)
        })?;
        let server = serve(&to)?;
        Ok(Self { from, to, _server: server })
    }

    fn processes(&mut self) -> Result<[u32; 4]> {
        let (from, to) = (&mut self.from, &mut self.to);
        Ok([from.process()?.pid(), from.data_path()?, to.process()?.pid(), to.data_path()?])
    }
}

impl<'a> Way<'a> {
    fn new(name: &'static str, middle: Option<u32>, load: Load<'a>) -> Self {
        Self { name, middle, load, samples: Vec::new() }
    }

    fn measure(&self, seconds: u32) -> Result<Sample> {
        let middle: Vec<u32> = self.middle.into_iter().collect();
        let machines = match &self.load {
            Load::Pair(_, machines, _) => machines.to_vec(),
            Load::Turn(..) => Vec::new(),
        };
        let before = (cpu_seconds(&middle)?, cpu_seconds(&machines)?);
        let received = match &self.load {
            Load::Pair(pair, _, options) => iperf(&pair.from, &pair.to, seconds, options)?,
            Load::Turn(turn, options) => turn.load(seconds, options)?,
        };
        let gigabytes = received.bytes / 1e9;
        Ok(Sample {
            megabit_per_second: received.bits_per_second / 1e6,
            middle_seconds: (cpu_seconds(&middle)? - before.0) / gigabytes,
            machine_seconds: (cpu_seconds(&machines)? - before.1) / gigabytes,
        })
    }

    fn median(&self) -> Sample {
        let of = |field: fn(&Sample) -> f64| median(self.samples.iter().map(field));
        Sample {
            megabit_per_second: of(|sample| sample.megabit_per_second),
            middle_seconds: of(|sample| sample.middle_seconds),
            machine_seconds: of(|sample| sample.machine_seconds),
        }
    }
}

impl Sample {
    fn row(&self) -> String {
        format!(
            "{:>10.1}{:>14.3}{:>14.3}",
            self.megabit_per_second, self.middle_seconds, self.machine_seconds
        )
    }
}

/// A machine that joins by an invite of `signer`.
fn joined(signer: &Node, host: &Host) -> Result<Node> {
    let node = Node::start(host)?;
    node.join(&signer.invite(&[])?)?;
    Ok(node)
}

/// Puts the programs of `folder` in the place of those of this build, on one host.
fn replace_programs(host: &Host, folder: Option<&Path>) -> Result<()> {
    let Some(folder) = folder else { return Ok(()) };
    let folder = folder.canonicalize().with_context(|| format!("{} is no folder", folder.display()))?;
    host.run("true", &[])?; // makes its folders
    for (built, installed) in binaries::PROGRAMS {
        let program = folder.join(built);
        if !program.is_file() {
            bail!("there is no {}: --beside wants a folder with all four programs", program.display());
        }
        let place = host.folder().join("bin").join(installed);
        fs::remove_file(&place)?;
        symlink(program, place)?;
    }
    Ok(())
}

fn report(ways: &[Way<'_>], rounds: Rounds) {
    let ratios: Vec<(&str, f64)> = ways
        .iter()
        .filter(|way| way.name.ends_with(", TCP") && way.middle.is_some())
        .map(|way| {
            let rates = way.samples.iter().zip(&ways[0].samples);
            (way.name, median(rates.map(|(way, direct)| way.megabit_per_second / direct.megabit_per_second)))
        })
        .collect();
    if rounds.json {
        let ways: Vec<_> = ways
            .iter()
            .map(|way| {
                let sample = |s: &Sample| json!([s.megabit_per_second, s.middle_seconds, s.machine_seconds]);
                json!({
                    "way": way.name,
                    "median": sample(&way.median()),
                    "samples": way.samples.iter().map(sample).collect::<Vec<_>>(),
                })
            })
            .collect();
        let fields =
            ["megabit_per_second", "relay_cpu_seconds_per_gigabyte", "machines_cpu_seconds_per_gigabyte"];
        let ratios: serde_json::Map<_, _> =
            ratios.into_iter().map(|(name, ratio)| (name.to_owned(), json!(ratio))).collect();
        println!("{:#}", json!({ "fields": fields, "ways": ways, "throughput_to_direct": ratios }));
        return;
    }
    println!(
        "\nmedians of {} rounds{:>15}{:>14}{:>14}",
        rounds.rounds, "Mbit/s", "relay s/GB", "machines s/GB"
    );
    for way in ways {
        println!("  {:<26}{}", way.name, way.median().row());
    }
    for (name, ratio) in ratios {
        println!("  {name} to direct: {ratio:.3}");
    }
}
