//! What the walls cost.
//!
//! A release cannot do without its walls, so the build that leaks on purpose is measured, which can: the same programs
//! with walls and without, on machines of one network. Both pairs live all the time and are measured in turn, so that
//! whatever else happens on this computer happens to both.

use std::fs;

use anyhow::{Result, bail};
use serde_json::json;
use tests::{Coordinator, Lab, Node, wait};

use super::{
    Rounds,
    load::{cpu_seconds, iperf, serve},
    median,
};
use crate::{audit, packages};

/// Pairs of public machines. Large segments cross the links whole, as on a good network card: there the data path makes
/// the most calls for each byte that waits.
const TOPOLOGY: &str = "a=none:2,b=none:2,@offload=1";

/// What stands in the environment of a vpnd that is to put up no walls.
const OPEN: &str = "TACET_LEAKS=no-walls";

/// Two machines that speak to each other.
struct Pair {
    name: &'static str,
    from: Node,
    to: Node,
    samples: Vec<Sample>,
}

/// One measurement.
struct Sample {
    gbit_per_second: f64,
    /// Of both data paths together.
    cpu_seconds_per_gigabyte: f64,
}

/// Measures, and prints a table or a document.
pub(super) fn run(rounds: Rounds) -> Result<bool> {
    packages::prepare_lab()?;
    let programs = audit::leaking_build()?;
    let lab = Lab::up(TOPOLOGY)?;
    let coordinator = Coordinator::start(&lab.host("srv"))?;
    let node = |host: &str, environment: &str| -> Result<Node> {
        let mut node = Node::prepare(&lab.host(host));
        node.before(&format!("export PATH={}:$PATH {environment}", programs.display()));
        node.start_again()?;
        Ok(node)
    };
    let mut pairs = [
        Pair { name: "with walls", from: node("a-1", "")?, to: node("b-1", "")?, samples: Vec::new() },
        Pair { name: "without", from: node("a-2", OPEN)?, to: node("b-2", OPEN)?, samples: Vec::new() },
    ];
    let first = &pairs[0].from;
    first.create_account("ann", &coordinator.enrol()?)?;
    first.create_network("home")?;
    for node in [&pairs[0].to, &pairs[1].from, &pairs[1].to] {
        node.join(&first.invite(&[])?)?;
    }
    let mut servers = Vec::new();
    for (pair, walled) in pairs.iter_mut().zip([true, false]) {
        pair.direct()?;
        for node in [&mut pair.from, &mut pair.to] {
            check(node.data_path()?, walled)?;
        }
        servers.push(serve(&pair.to)?);
    }
    for round in 0..rounds.rounds {
        // Neither is always first.
        for turn in 0..2 {
            let pair = &mut pairs[((round + turn) % 2) as usize];
            let sample = pair.measure(rounds.seconds)?;
            if !rounds.json {
                println!(
                    "{:<12}{:>8.2} Gbit/s {:>8.2} CPU s/GB",
                    pair.name, sample.gbit_per_second, sample.cpu_seconds_per_gigabyte
                );
            }
            pair.samples.push(sample);
        }
    }
    report(&pairs, rounds.json);
    Ok(true)
}

impl Pair {
    /// Waits until they speak without a relay between them.
    fn direct(&self) -> Result<()> {
        let address = self.to.address("ipv4")?;
        wait::until(&format!("the pair {} is direct", self.name), wait::SOON, || {
            self.from.pings(&address)
                && self.from.peer(self.to.name()).is_ok_and(|peer| peer["path"] == "direct")
        })?;
        Ok(())
    }

    fn measure(&mut self, seconds: u32) -> Result<Sample> {
        let processes = [self.from.data_path()?, self.to.data_path()?];
        let before = cpu_seconds(&processes)?;
        let received = iperf(&self.from, &self.to, seconds, &[])?;
        let used = cpu_seconds(&processes)? - before;
        Ok(Sample {
            gbit_per_second: received.bits_per_second / 1e9,
            cpu_seconds_per_gigabyte: used / (received.bytes / 1e9),
        })
    }

    fn median(&self, of: impl Fn(&Sample) -> f64) -> f64 {
        median(self.samples.iter().map(of))
    }
}

/// Makes sure that a data path is behind its walls, or is not: else nothing would be compared.
fn check(process: u32, walled: bool) -> Result<()> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let mode = status.lines().find_map(|line| line.strip_prefix("Seccomp:")).map(str::trim);
    if (mode == Some("2")) != walled {
        bail!("a data path has system call filters where it should not, or none where it should");
    }
    Ok(())
}

fn report(pairs: &[Pair; 2], as_json: bool) {
    let [walled, open] = pairs;
    let ratio = |of: fn(&Sample) -> f64| {
        median(walled.samples.iter().zip(&open.samples).map(|(with, without)| of(with) / of(without)))
    };
    let rate = |sample: &Sample| sample.gbit_per_second;
    let cost = |sample: &Sample| sample.cpu_seconds_per_gigabyte;
    if as_json {
        let samples = |pair: &Pair| {
            pair.samples.iter().map(|sample| json!([rate(sample), cost(sample)])).collect::<Vec<_>>()
        };
        let document = json!({
            "rounds": walled.samples.len(),
            "throughput_ratio": ratio(rate),
            "cpu_ratio": ratio(cost),
            "fields": ["gbit_per_second", "cpu_seconds_per_gigabyte"],
            "with_walls": samples(walled),
            "without": samples(open),
        });
        println!("{document:#}");
        return;
    }
    println!("\nmedians of {} rounds{:>11}{:>12}", walled.samples.len(), "Gbit/s", "CPU s/GB");
    for pair in pairs {
        println!("  {:<22}{:>12.3}{:>12.3}", pair.name, pair.median(rate), pair.median(cost));
    }
    println!("  {:<22}{:>12.3}{:>12.3}", "with / without", ratio(rate), ratio(cost));
}
