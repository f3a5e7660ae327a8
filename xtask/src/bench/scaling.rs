//! What several workers carry, on the processors that are here, and what that says of a computer with more.
//!
//! Each arrangement of processors and workers is measured by itself (`tests/bench/src/bin/crowd`), all in turn in each round.

use std::iter;

use anyhow::{Result, bail};
use clap::{Args, value_parser};
use nix::{
    sched::{CpuSet, sched_getaffinity},
    unistd::Pid,
};
use serde_json::{Value, json};

use super::{
    crowd::{Crowd, Output, SIDES, number},
    median,
    model::Model,
};

/// What is measured, as the crowd calls it and as tables do.
pub(super) const WAYS: [(&str, &str); 3] =
    [("in", "in"), ("out", "out"), ("out_unanswered", "out, unanswered")];

#[derive(Args)]
#[command(after_help = "Example, a glance at the plain interface alone:\n  \
    cargo xtask bench scaling --rounds 1 --side device --workers 1,2")]
pub(crate) struct Options {
    /// How many workers share all processors, one measurement each. The model needs 1 and 4.
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_values_t = [1, 2, 4, 8], value_parser = value_parser!(u8).range(1..=16))]
    workers: Vec<u8>,
    /// How many peers share the workers, all of them active.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = value_parser!(u32).range(1..=10_000))]
    peers: u32,
    /// How often each arrangement is measured.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = value_parser!(u32).range(1..))]
    rounds: u32,
    /// Seconds of each transfer.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u32).range(1..))]
    seconds: u32,
    /// Measure this alone: device or mesh.
    #[arg(long, value_name = "SIDE", value_parser = SIDES.map(|(side, _)| side))]
    side: Option<String>,
    #[command(flatten)]
    output: Output,
}

/// Who has which processors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    measured: Vec<usize>,
    crowd: Vec<usize>,
    workers: u8,
}

/// One arrangement of one side, with what was measured in each round.
pub(super) struct Row {
    pub(super) side: &'static str,
    name: &'static str,
    pub(super) layout: Layout,
    samples: Vec<Value>,
}

/// Measures, and prints tables or a document.
pub(super) fn run(options: &Options) -> Result<bool> {
    let present = present()?;
    let sides = SIDES.iter().filter(|(side, _)| options.side.as_deref().is_none_or(|only| only == *side));
    let mut rows: Vec<Row> = sides
        .flat_map(|&(side, name)| {
            let layouts = layouts(&present, &options.workers);
            layouts.into_iter().map(move |layout| Row { side, name, layout, samples: Vec::new() })
        })
        .collect();
    if rows.iter().any(|row| row.layout.crowd.len() > options.peers as usize) {
        bail!("there are fewer peers than processors: --peers takes more");
    }
    let crowd = Crowd::prepare()?;
    for _ in 0..options.rounds {
        for row in &mut rows {
            row.measure(&crowd, options)?;
            if options.output.is_read() {
                println!(
                    "{}",
                    row.line(|way, what| row.samples.last().map_or(0.0, |last| number(&last[way][what])))
                );
            }
        }
        // Nobody is always first.
        rows.reverse();
    }
    if options.rounds % 2 == 1 {
        rows.reverse();
    }
    let models = SIDES.map(|(side, name)| (name, Model::of(&rows, side, &present)));
    let mut tables = table(&rows);
    let mut document = json!({
        "seconds": options.seconds,
        "rounds": options.rounds,
        "peers": options.peers,
        "rows": rows.iter().map(Row::json).collect::<Vec<_>>(),
    });
    for (name, model) in models {
        let Some(model) = model else { continue };
        tables += &model.table(name);
        document["model"][name] = model.json();
    }
    options.output.publish("scaling", "Several workers", &tables, document)?;
    Ok(true)
}

/// The processors that this process may use.
fn present() -> Result<Vec<usize>> {
    let set = sched_getaffinity(Pid::from_raw(0))?;
    Ok((0..CpuSet::count()).filter(|at| set.is_set(*at).unwrap_or(false)).collect())
}

/// Everything on 1, 2, 4, ... processors with the workers that vpnd has there; workers with a processor each, and the crowd on
/// the others; then all processors for all, with as many workers as were asked for.
fn layouts(present: &[usize], workers: &[u8]) -> Vec<Layout> {
    let doubling = || iter::successors(Some(1), |count| Some(count * 2));
    let shared = doubling().take_while(|count| *count < present.len()).map(|count| {
        let these = present[..count].to_vec();
        Layout { measured: these.clone(), crowd: these, workers: count.div_ceil(2).min(8) as u8 }
    });
    let apart = doubling().take_while(|count| count * 2 <= present.len() && *count <= 16).map(|count| {
        let (these, others) = present.split_at(count);
        Layout { measured: these.to_vec(), crowd: others.to_vec(), workers: count as u8 }
    });
    let all = workers.iter().map(|&workers| Layout {
        measured: present.to_vec(),
        crowd: present.to_vec(),
        workers,
    });
    shared.chain(apart).chain(all).collect()
}

fn list(processors: &[usize]) -> String {
    processors.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

impl Layout {
    fn line(&self) -> String {
        let crowd = if self.crowd == self.measured {
            "the same".to_owned()
        } else {
            format!("{} other", self.crowd.len())
        };
        format!("| {} | {crowd} | {}", self.measured.len(), self.workers)
    }

    /// Whether everything is on so many processors.
    pub(super) fn shares(&self, processors: usize, workers: u8) -> bool {
        self.measured == self.crowd && self.measured.len() == processors && self.workers == workers
    }
}

impl Row {
    fn measure(&mut self, crowd: &Crowd, options: &Options) -> Result<()> {
        let Layout { measured, crowd: others, workers } = &self.layout;
        let sizes = [options.peers, options.seconds].map(|number| number.to_string());
        let arrangement = [self.side.to_owned(), workers.to_string(), list(measured), list(others)];
        self.samples.push(crowd.measure("scaling", sizes.into_iter().chain(arrangement))?);
        Ok(())
    }

    /// One of the table's, with these values.
    fn line(&self, value: impl Fn(&str, &str) -> f64) -> String {
        let cells = WAYS.map(|(way, _)| {
            format!(" {:.2} | {:.2} |", value(way, "gbit_per_second"), value(way, "cpu_seconds_per_gigabyte"))
        });
        format!("| {} {} |{}", self.name, self.layout.line(), cells.concat())
    }

    /// The middle of the rounds.
    fn middle(&self, way: &str, what: &str) -> f64 {
        median(self.samples.iter().map(|sample| number(&sample[way][what])))
    }

    pub(super) fn cost(&self, way: &str) -> f64 {
        self.middle(way, "cpu_seconds_per_gigabyte")
    }

    fn json(&self) -> Value {
        let Layout { measured, crowd, workers } = &self.layout;
        json!({
            "side": self.side,
            "processors": measured,
            "processors_of_the_crowd": crowd,
            "workers": workers,
            "samples": self.samples,
        })
    }
}

fn table(rows: &[Row]) -> String {
    let mut table = "| | processors | the crowd's | workers |".to_owned();
    table += &WAYS.map(|(_, head)| format!(" {head}, Gbit/s | CPU s/GB |")).concat();
    table += &format!("\n|---|---:|---:|---:{}|\n", "|---:|---:".repeat(WAYS.len()));
    for row in rows {
        table += &row.line(|way, what| row.middle(way, what));
        table.push('\n');
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_that_are_there_are_used_and_no_others() {
        let layout = |measured: &[usize], crowd: &[usize], workers| Layout {
            measured: measured.to_vec(),
            crowd: crowd.to_vec(),
            workers,
        };
        assert_eq!(layouts(&[3], &[1, 2]), [layout(&[3], &[3], 1), layout(&[3], &[3], 2)]);
        let two = [layout(&[3], &[3], 1), layout(&[3], &[5], 1), layout(&[3, 5], &[3, 5], 4)];
        assert_eq!(layouts(&[3, 5], &[4]), two);
        let four = layouts(&[0, 1, 2, 3], &[]);
        let four: Vec<_> =
            four.iter().map(|one| (one.measured.len(), one.crowd.len(), one.workers)).collect();
        assert_eq!(four, [(1, 1, 1), (2, 2, 1), (1, 3, 1), (2, 2, 2)]);
    }
}
