//! `cargo xtask matrix`: every kind of NAT against every other, machines that are closer to each other than two homes, and bad
//! days, measured in the laboratory.

use std::{collections::VecDeque, io::IsTerminal as _, sync::Mutex, thread, time::Duration};

use ::tests::{
    matrix::{
        case::{self, Case, Measured},
        condition::{Condition, Outcome},
        crowd::Crowd,
        idle,
        nat::{Expected, Nat},
        pair::{self, Row},
    },
    wait,
};
use anyhow::{Context as _, Result, anyhow, bail};
use clap::Args;
use serde_json::{Value, json};

use crate::{build, packages};

/// Samples of each pair and condition, unless another number is asked for.
const ROUNDS: u32 = 10;

/// What to measure, and how often.
#[derive(Args)]
pub(crate) struct Options {
    /// How often each pair begins from nothing, and each condition occurs.
    #[arg(long, value_name = "N", default_value_t = ROUNDS, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Only these, separated by commas: a pair as `easy-hard`, all pairs of a kind as `hard`, a case as
    /// `same-lan`, a condition as `roam`.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    only: Vec<String>,
    /// Print one JSON document in place of the tables.
    #[arg(long)]
    json: bool,
    /// Measure instead what a machine with ten peers sends and receives while nobody uses its network, for so many minutes.
    #[arg(long, value_name = "MINUTES", conflicts_with = "only", value_parser = clap::value_parser!(u64).range(1..))]
    idle: Option<u64>,
}

/// What an idle machine may cost in a day, in bytes.
const IDLE_DAY: f64 = 1e6;

/// Pairs that are measured side by side; each has machines of its own.
const SIDE_BY_SIDE: usize = 2;

/// All of it, with as many samples as by default.
///
/// # Errors
/// As [`run`].
pub(crate) fn whole() -> Result<bool> {
    run(&Options { rounds: ROUNDS, only: Vec::new(), json: false, idle: None })
}

/// Measures and prints. True if all is as it should be.
///
/// # Errors
/// If a name is unknown, or the laboratory does not come about.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let Chosen { pairs, cases, conditions } = chosen(&options.only)?;
    packages::prepare_lab()?;
    build()?;
    if let Some(minutes) = options.idle {
        return idle(minutes, options.json);
    }
    let rows = if pairs.is_empty() { Vec::new() } else { measure_pairs(&pairs, options.rounds)? };
    let mut measured = Vec::new();
    if !cases.is_empty() {
        progress(&format!("{} cases ({} times)", cases.len(), options.rounds));
        measured = case::measure(&cases, options.rounds as usize)?;
    }
    let mut outcomes = Vec::new();
    for condition in conditions {
        progress(&format!("{} ({} times)", condition.name(), options.rounds));
        // What was measured before is not lost by what could not be.
        outcomes.push(
            condition.measure(options.rounds as usize).unwrap_or_else(|error| condition.failed(&error)),
        );
    }
    if options.json {
        println!("{:#}", document(&rows, &measured, &outcomes));
    } else {
        print_rows(&rows);
        print_cases(&measured);
        print_outcomes(&outcomes);
    }
    let cases_hold = measured.iter().all(Measured::holds);
    Ok(rows.iter().all(Row::holds) && cases_hold && outcomes.iter().all(Outcome::holds))
}

/// What is to be measured.
#[derive(Debug, PartialEq)]
struct Chosen {
    pairs: Vec<(Nat, Nat)>,
    cases: Vec<Case>,
    conditions: Vec<Condition>,
}

/// Measures an idle machine.
fn idle(minutes: u64, json: bool) -> Result<bool> {
    let idle = idle::measure(Duration::from_secs(60 * minutes))?;
    let (packets, bytes) = (idle.packets_per_hour(), idle.bytes_per_day());
    if json {
        println!("{}", json!({"minutes": minutes, "packets_per_hour": packets, "bytes_per_day": bytes}));
    } else {
        let peers = idle::PEERS;
        println!(
            "idle with {peers} peers and 2 relays, both ways: {packets:.0} packets/h, {:.2} MB/day",
            bytes / 1e6
        );
    }
    Ok(bytes < IDLE_DAY)
}

/// The pairs, cases and conditions that a list names; all of them without one.
fn chosen(only: &[String]) -> Result<Chosen> {
    let every = || {
        let numbered = Nat::ALL.into_iter().enumerate();
        numbered.flat_map(|(at, one)| Nat::ALL[at..].iter().map(move |other| (one, *other)))
    };
    if only.is_empty() {
        let (cases, conditions) = (Case::ALL.to_vec(), Condition::ALL.to_vec());
        return Ok(Chosen { pairs: every().collect(), cases, conditions });
    }
    let (mut pairs, mut cases, mut conditions) = (Vec::new(), Vec::new(), Vec::new());
    for name in only {
        let pair = name.split_once('-').and_then(|(one, other)| Some((Nat::of(one)?, Nat::of(other)?)));
        match (pair, Nat::of(name), Case::of(name), Condition::of(name)) {
            (Some(pair), ..) => pairs.push(pair),
            (_, Some(nat), ..) => pairs.extend(every().filter(|(one, other)| *one == nat || *other == nat)),
            (_, _, Some(case), _) => cases.push(case),
            (.., Some(condition)) => conditions.push(condition),
            _ => {
                let nats = Nat::ALL.map(Nat::name).join(", ");
                let cases = Case::ALL.map(Case::name).join(", ");
                let conditions = Condition::ALL.map(Condition::name).join(", ");
                bail!(
                    "{name} is neither a NAT ({nats}), nor two of them (easy-hard), nor a case ({cases}), nor a condition \
                     ({conditions})"
                );
            }
        }
    }
    // Two kinds have a pair in common.
    let mut seen = Vec::new();
    pairs.retain(|pair| {
        !seen.contains(pair) && {
            seen.push(*pair);
            true
        }
    });
    cases.dedup();
    Ok(Chosen { pairs, cases, conditions })
}

/// Each pair has a machine behind each of its two NATs; the machines of all pairs are one network.
fn measure_pairs(pairs: &[(Nat, Nat)], rounds: u32) -> Result<Vec<Row>> {
    let sites = |nat: Nat| {
        let at = Nat::ALL.iter().position(|other| *other == nat).unwrap_or_default();
        (format!("a{at}"), format!("b{at}"))
    };
    let mut kinds: Vec<Nat> = Vec::new();
    for nat in pairs.iter().flat_map(|(one, other)| [*one, *other]) {
        if !kinds.contains(&nat) {
            kinds.push(nat);
        }
    }
    let places: Vec<(String, Nat)> =
        kinds.iter().flat_map(|nat| [(sites(*nat).0, *nat), (sites(*nat).1, *nat)]).collect();
    progress(&format!("a network of {} machines", places.len()));
    let crowd = Crowd::up(&places)?;
    let rows: Vec<Row> = pairs
        .iter()
        .map(|nats| Row { nats: *nats, expected: nats.0.expected(nats.1), samples: Vec::new() })
        .collect();
    let work =
        Mutex::new(Work { left: (0..rows.len()).map(|at| (at, rounds)).collect(), busy: Vec::new(), rows });
    thread::scope(|scope| {
        let workers: Vec<_> = (0..SIDE_BY_SIDE)
            .map(|_| {
                scope.spawn(|| -> Result<()> {
                    while let Some((at, nats)) = next(&work)? {
                        let pair = (sites(nats.0).0, sites(nats.1).1);
                        let sample = pair::measure(&crowd, (&pair.0, &pair.1), nats)
                            .with_context(|| format!("{} and {}", pair.0, pair.1));
                        let mut work = locked(&work)?;
                        work.busy.retain(|nat| *nat != nats.0 && *nat != nats.1);
                        work.rows[at].samples.push(sample?);
                    }
                    Ok(())
                })
            })
            .collect();
        for worker in workers {
            worker.join().map_err(|_| anyhow!("a measurement panicked"))??;
        }
        Ok::<_, anyhow::Error>(())
    })?;
    work.into_inner().map(|work| work.rows).map_err(|_| anyhow!("a measurement panicked"))
}

/// What is left to do, which kinds are being measured, and what was found.
struct Work {
    left: VecDeque<(usize, u32)>,
    busy: Vec<Nat>,
    rows: Vec<Row>,
}

fn locked(work: &Mutex<Work>) -> Result<std::sync::MutexGuard<'_, Work>> {
    work.lock().map_err(|_| anyhow!("a measurement panicked"))
}

/// The next beginning of a pair of which no kind is busy. Waits for one if there is none; nothing when all is done.
fn next(work: &Mutex<Work>) -> Result<Option<(usize, (Nat, Nat))>> {
    loop {
        {
            let mut work = locked(work)?;
            if work.left.is_empty() {
                return Ok(None);
            }
            let free = work.left.iter().position(|(at, _)| {
                let (one, other) = work.rows[*at].nats;
                !work.busy.contains(&one) && !work.busy.contains(&other)
            });
            if let Some((at, rounds)) = free.and_then(|place| work.left.remove(place)) {
                let nats = work.rows[at].nats;
                work.busy.extend([nats.0, nats.1]);
                if rounds > 1 {
                    work.left.push_back((at, rounds - 1));
                }
                let left: u32 = work.left.iter().map(|(_, rounds)| *rounds).sum();
                progress(&format!("{} and {}; {left} beginnings are left", nats.0, nats.1));
                return Ok(Some((at, nats)));
            }
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// For whoever waits at a terminal.
#[allow(clippy::print_stderr, reason = "what is printed for a program stays apart")]
fn progress(what: &str) {
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K{what}");
    }
}

fn milliseconds(samples: &[Duration]) -> String {
    match samples.iter().max() {
        Some(worst) => format!("{} / {}", wait::median(samples).as_millis(), worst.as_millis()),
        None => "-".to_owned(),
    }
}

fn print_rows(rows: &[Row]) {
    if rows.is_empty() {
        return;
    }
    progress("");
    println!(
        "{:<10} {:<10} {:<8} {:<11} {:>16} {:>16} {:>5}",
        "NAT", "NAT", "EXPECTED", "DIRECT", "FIRST PACKET ms", "DIRECT ms", "LOST"
    );
    println!("{:<42} {:>16} {:>16}", "", "median / worst", "median / worst");
    for row in rows {
        let directs = row.directs();
        println!(
            "{:<10} {:<10} {:<8} {:<11} {:>16} {:>16} {:>5}{}",
            row.nats.0,
            row.nats.1,
            row.expected,
            format!("{} of {}", directs.len(), row.samples.len()),
            milliseconds(&row.firsts()),
            milliseconds(&directs),
            row.lost(),
            if row.holds() { "" } else { "  MISSED" }
        );
    }
    let all = rows.iter().flat_map(|row| row.samples.iter()).count();
    let direct = rows.iter().map(|row| row.directs().len()).sum::<usize>();
    let punchable: Vec<&Row> = rows.iter().filter(|row| row.expected == Expected::Direct).collect();
    let tried: Vec<&Row> = rows.iter().filter(|row| row.expected == Expected::Birthday).collect();
    let possible = punchable.iter().map(|row| row.samples.len()).sum::<usize>();
    let reached = punchable.iter().map(|row| row.directs().len()).sum::<usize>();
    println!(
        "\ndirect: {direct} of {all} beginnings ({:.0} %); of those where a simultaneous open works {reached} of {possible}",
        100.0 * direct as f64 / all.max(1) as f64
    );
    if !tried.is_empty() {
        println!(
            "by many ports (birthday): {} of {} within 15 s",
            tried.iter().map(|row| row.directs().len()).sum::<usize>(),
            tried.iter().map(|row| row.samples.len()).sum::<usize>()
        );
    }
}

fn print_cases(measured: &[Measured]) {
    if measured.is_empty() {
        return;
    }
    progress("");
    println!(
        "\n{:<21} {:<8} {:<11} {:>16} {:>16} {:>5}",
        "CASE", "EXPECTED", "DIRECT", "FIRST PACKET ms", "DIRECT ms", "LOST"
    );
    for Measured { case, row, faults } in measured {
        let directs = row.directs();
        println!(
            "{:<21} {:<8} {:<11} {:>16} {:>16} {:>5}{}",
            case.name(),
            row.expected,
            format!("{} of {}", directs.len(), row.samples.len()),
            milliseconds(&row.firsts()),
            milliseconds(&directs),
            row.lost(),
            if row.holds() && faults.is_empty() { "" } else { "  MISSED" }
        );
        for fault in faults {
            println!("    {fault}");
        }
    }
}

fn print_outcomes(outcomes: &[Outcome]) {
    if outcomes.is_empty() {
        return;
    }
    progress("");
    println!("\n{:<16} {:<36} {:>16} {:>9}", "CONDITION", "MEASURED", "ms median / worst", "BOUND ms");
    for outcome in outcomes {
        println!(
            "{:<16} {:<36} {:>16} {:>9}{}",
            outcome.condition.name(),
            outcome.condition.measures(),
            milliseconds(&outcome.samples),
            outcome.bound.as_millis(),
            if outcome.holds() { "" } else { "  MISSED" }
        );
        for name in names(outcome) {
            let values = outcome.figures.iter().filter(|(figure, _)| *figure == name);
            println!(
                "    {name}: {}",
                values.map(|(_, value)| value.as_str()).collect::<Vec<_>>().join(", ")
            );
        }
        for fault in &outcome.faults {
            println!("    {fault}");
        }
    }
}

/// The names of an outcome's figures, each once.
fn names(outcome: &Outcome) -> Vec<&'static str> {
    let mut names: Vec<&'static str> = Vec::new();
    for (name, _) in &outcome.figures {
        if !names.contains(name) {
            names.push(name);
        }
    }
    names
}

fn document(rows: &[Row], measured: &[Measured], outcomes: &[Outcome]) -> Value {
    let ms = |samples: &[Duration]| {
        samples.iter().map(Duration::as_millis).map(|ms| json!(ms as u64)).collect::<Vec<_>>()
    };
    let of_row = |row: &Row| {
        json!({
            "nats": [row.nats.0.name(), row.nats.1.name()],
            "expected": row.expected.to_string(),
            "holds": row.holds(),
            "first_ms": ms(&row.firsts()),
            "direct_ms": ms(&row.directs()),
            "samples": row.samples.len(),
            "lost": row.lost(),
        })
    };
    let pairs: Vec<Value> = rows.iter().map(of_row).collect();
    let cases: Vec<Value> = measured
        .iter()
        .map(|measured| {
            let mut one = of_row(&measured.row);
            one["case"] = json!(measured.case.name());
            one["holds"] = json!(measured.holds());
            one["faults"] = json!(measured.faults);
            one
        })
        .collect();
    let conditions: Vec<Value> = outcomes
        .iter()
        .map(|outcome| {
            json!({
                "condition": outcome.condition.name(),
                "measures": outcome.condition.measures(),
                "holds": outcome.holds(),
                "samples_ms": ms(&outcome.samples),
                "bound_ms": outcome.bound.as_millis() as u64,
                "figures": outcome.figures.iter().map(|(name, value)| json!({"name": name, "value": value})).collect::<Vec<_>>(),
                "faults": outcome.faults,
            })
        })
        .collect();
    json!({"pairs": pairs, "cases": cases, "conditions": conditions})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_names_pairs_kinds_cases_and_conditions() {
        let all = chosen(&[]).unwrap();
        let kinds = Nat::ALL.len();
        assert_eq!(all.pairs.len(), kinds * (kinds + 1) / 2);
        assert_eq!((all.cases.len(), all.conditions.len()), (Case::ALL.len(), Condition::ALL.len()));
        let some = chosen(&["easy-hard", "roam", "same-lan"].map(str::to_owned)).unwrap();
        let (pairs, cases) = (vec![(Nat::Easy, Nat::Hard)], vec![Case::SameLan]);
        assert_eq!(some, Chosen { pairs, cases, conditions: vec![Condition::Roam] });
        assert_eq!(chosen(&["hard".to_owned()]).unwrap().pairs.len(), kinds);
        let both = chosen(&["hard", "easy", "hard-easy"].map(str::to_owned)).unwrap().pairs;
        assert_eq!(both.len(), 2 * kinds, "each pair once, and one the other way round");
        let error = chosen(&["soft".to_owned()]).unwrap_err().to_string();
        for known in ["soft", "easy-hard", "same-lan", "roam"] {
            assert!(error.contains(known), "{error}");
        }
    }
}
