//! What a flow that waits for answers feels of one that fills the line.

use anyhow::{Context as _, Result};
use serde_json::json;
use tests::{Coordinator, Lab, Node};

use super::{
    Rounds,
    link::direct,
    load::{iperf, serve},
    median,
};
use crate::packages;

/// Three public machines. Large segments cross the links whole, as on a good network card.
const TOPOLOGY: &str = "a=none:3,@offload=1";

/// Pings a second.
const RATE: u32 = 50;

/// Who asks whom, and who fills the line meanwhile; machines by their numbers.
struct Case {
    name: &'static str,
    /// Sender and receiver.
    bulk: Option<[usize; 2]>,
    asks: [usize; 2],
}

const CASES: [Case; 4] = [
    Case { name: "nothing beside it", bulk: None, asks: [0, 1] },
    Case { name: "bulk to the same machine", bulk: Some([0, 1]), asks: [0, 1] },
    Case { name: "bulk to another machine", bulk: Some([0, 1]), asks: [0, 2] },
    Case { name: "bulk from another machine", bulk: Some([1, 0]), asks: [0, 2] },
];

/// Measures, and prints a table or a document.
pub(super) fn run(rounds: Rounds) -> Result<bool> {
    packages::prepare_lab()?;
    let lab = Lab::alone(TOPOLOGY)?;
    let coordinator = Coordinator::start(&lab.host("srv"))?;
    let start = |name: &str| Node::start(&lab.host(name));
    let nodes = [start("a-1")?, start("a-2")?, start("a-3")?];
    nodes[0].create_account("ann", &coordinator.enrol()?)?;
    nodes[0].create_network("home")?;
    for node in &nodes[1..] {
        node.join(&nodes[0].invite(&[])?)?;
    }
    for (from, to) in [(0, 1), (0, 2), (1, 0)] {
        direct(&nodes[from], &nodes[to])?;
    }
    let _servers = [serve(&nodes[0])?, serve(&nodes[1])?];
    let mut samples: [Vec<f64>; CASES.len()] = Default::default();
    let mut rates: [Vec<f64>; CASES.len()] = Default::default();
    for _ in 0..rounds.rounds {
        for (n, Case { bulk, asks, .. }) in CASES.iter().enumerate() {
            let (times, rate) = std::thread::scope(|scope| -> Result<_> {
                let transfer = bulk.map(|[from, to]| {
                    let (from, to) = (&nodes[from], &nodes[to]);
                    scope.spawn(move || iperf(from, to, rounds.seconds + 1, &["-P", "4"]))
                });
                let times = round_trips(&nodes[asks[0]], &nodes[asks[1]], rounds.seconds)?;
                let rate = match transfer.map(std::thread::ScopedJoinHandle::join) {
                    Some(Ok(received)) => received?.bits_per_second / 1e9,
                    _ => 0.0,
                };
                Ok((times, rate))
            })?;
            samples[n].extend(times);
            rates[n].push(rate);
        }
    }
    let mut lines = Vec::new();
    if !rounds.json {
        println!(
            "{:<28}{:>12}{:>12}{:>12}{:>14}",
            "round trip, µs", "median", "of 100, 99", "longest", "bulk Gbit/s"
        );
    }
    for (n, Case { name, .. }) in CASES.iter().enumerate() {
        let mut sorted = samples[n].clone();
        sorted.sort_by(f64::total_cmp);
        let at = |share: f64| sorted.get((sorted.len() as f64 * share) as usize).copied().unwrap_or(0.0);
        let (middle, high, longest) =
            (median(sorted.iter().copied()), at(0.99), sorted.last().copied().unwrap_or(0.0));
        let rate = median(rates[n].iter().copied());
        if !rounds.json {
            println!("{name:<28}{middle:>12.0}{high:>12.0}{longest:>12.0}{rate:>14.2}");
        }
        lines.push(json!({
            "case": name, "median": middle, "p99": high, "max": longest, "bulk_gbit_per_second": rate, "pings": sorted.len(),
        }));
    }
    if rounds.json {
        println!("{:#}", json!({ "round_trip_microseconds": lines }));
    }
    Ok(true)
}

/// Round trips in microseconds, of so many seconds.
fn round_trips(from: &Node, to: &Node, seconds: u32) -> Result<Vec<f64>> {
    let (count, pause) = ((seconds * RATE).to_string(), (1.0 / f64::from(RATE)).to_string());
    let output = from.host().output("ping", &["-n", "-c", &count, "-i", &pause, &to.address("ipv4")?])?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let times: Vec<f64> = printed
        .lines()
        .filter_map(|line| line.split_once("time=")?.1.split(' ').next()?.parse::<f64>().ok())
        .map(|milliseconds| milliseconds * 1_000.0)
        .collect();
    times.first().context("no ping came back")?;
    Ok(times)
}
