//! What many peers cost: memory of each that is configured and of each that is active, and speed among them.
//!
//! `tests/bench/src/bin/crowd` measures and is the crowd; here its document becomes tables.

use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};

use super::crowd::{Crowd, Output, SIDES, number};
use crate::wrong_options;

#[derive(Args)]
pub(crate) struct Options {
    /// How many are configured.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(2..=60_000))]
    configured: u32,
    /// How many of them are active, one measurement each, in rising order.
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_values_t = [1, 100, 1_000], value_parser = clap::value_parser!(u32).range(1..))]
    active: Vec<u32>,
    /// Seconds of each transfer.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    #[command(flatten)]
    output: Output,
}

impl Options {
    /// What is wrong with them together.
    fn wrong(&self) -> Option<&'static str> {
        if !self.active.is_sorted_by(|fewer, more| fewer < more) {
            return Some("--active takes numbers in rising order");
        }
        let most = self.active.last().copied().unwrap_or_default();
        (most > self.configured)
            .then_some("--active takes no more than --configured, which is 10000 unless told")
    }
}

/// Measures, and prints tables or a document.
pub(super) fn run(options: &Options) -> Result<bool> {
    if let Some(why) = options.wrong() {
        wrong_options(why);
    }
    let crowd = Crowd::prepare()?;
    let numbers = [options.configured, options.seconds].into_iter().chain(options.active.iter().copied());
    let measured = crowd.measure("peers", numbers.map(|number| number.to_string()))?;
    let tables = tables(&measured);
    let document = json!({ "seconds": options.seconds, "measured": measured });
    options.output.publish("peers", "Many peers", &tables, document)?;
    Ok(true)
}

/// The tables.
fn tables(measured: &Value) -> String {
    let configured = number(&measured["configured"]);
    let most = |side: &Value| {
        let steps = side["active"].as_array().map(Vec::as_slice).unwrap_or_default();
        (steps.first().cloned().unwrap_or_default(), steps.last().cloned().unwrap_or_default())
    };
    let mut page =
        format!("| memory | empty, MiB | {configured} peers, MiB | each, KiB | each active, KiB |\n");
    page += "|---|---:|---:|---:|---:|\n";
    for (side, name) in SIDES {
        let side = &measured[side];
        let processes = side["processes"].as_array().map(Vec::as_slice).unwrap_or_default();
        for (at, process) in processes.iter().enumerate() {
            let resident = |of: &Value| number(&of["rss_kib"][at]);
            let (empty, full) = (resident(&side["empty"]), resident(&side["configured"]));
            let (one, many) = most(side);
            let more = resident(&many["loaded"]) - resident(&one["loaded"]);
            page += &format!(
                "| {name}, {} | {:.1} | {:.1} | {:.2} | {:.1} |\n",
                process.as_str().unwrap_or_default(),
                empty / 1_024.0,
                full / 1_024.0,
                (full - empty) / configured,
                more / (number(&many["peers"]) - number(&one["peers"])),
            );
        }
    }
    page +=
        "\n| active peers | in, Gbit/s | CPU s/GB | out, Gbit/s | CPU s/GB |\n|---|---:|---:|---:|---:|\n";
    for (side, name) in SIDES {
        for step in measured[side]["active"].as_array().into_iter().flatten() {
            let [rate_in, cost_in, rate_out, cost_out] = ["in", "out"]
                .map(|way| &step[way])
                .map(|way| [number(&way["gbit_per_second"]), number(&way["cpu_seconds_per_gigabyte"])])
                .concat()[..]
            else {
                continue;
            };
            page += &format!(
                "| {name}, {} | {rate_in:.2} | {cost_in:.2} | {rate_out:.2} | {cost_out:.2} |\n",
                number(&step["peers"])
            );
        }
    }
    page += "\n| with all of them | configure, s | say all, s | wake-ups a second: configured | after data | silent sessions |\n";
    page += "|---|---:|---:|---:|---:|---:|\n";
    for (side, name) in SIDES {
        let side = &measured[side];
        let wakeups = ["configured", "after_data", "silent_sessions"].map(|when| {
            let each = side["wakeups_per_second"][when].as_array().into_iter().flatten().map(number);
            each.map(|count| format!("{count:.1}")).collect::<Vec<_>>().join(" + ")
        });
        page += &format!(
            "| {name} | {:.2} | {:.3} | {} |\n",
            number(&side["configure_seconds"]),
            number(&side["ask_seconds"]),
            wakeups.join(" | ")
        );
    }
    page
}

#[cfg(test)]
mod tests {
    use clap::{Args, Command, FromArgMatches as _};

    use super::Options;

    #[test]
    fn no_more_are_active_than_configured_and_they_become_more() {
        let read = |line: &str| {
            let command = Options::augment_args(Command::new("peers").no_binary_name(true));
            command
                .try_get_matches_from(line.split(' '))
                .map(|matches| Options::from_arg_matches(&matches).unwrap())
        };
        assert!(read("--active 0").is_err());
        assert!(read("--active 1,100,1000").unwrap().wrong().is_none());
        assert!(read("--active 3 --configured 3").unwrap().wrong().is_none());
        assert!(read("--active 4 --configured 3").unwrap().wrong().unwrap().contains("--configured"));
        assert!(read("--active 10,5").unwrap().wrong().unwrap().contains("rising"));
        assert!(read("--active 5,5").unwrap().wrong().is_some());
    }
}
