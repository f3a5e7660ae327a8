//! What many peers cost: memory of each that is configured and of each that is active, and speed among them.
//!
//! `tests/bench/src/bin/crowd` measures and is the crowd; here its document becomes tables.

use std::{
    env, fs,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde_json::{Value, json};
use tests::turn::Turn;

use super::machine::{self, Machine};
use crate::{cargo, packages, root};

/// Where results are kept.
const KEPT: &str = "docs/benchmarks";

#[derive(Args)]
pub(crate) struct Options {
    /// How many are configured.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(2..=60_000))]
    configured: u32,
    /// How many of them are active, one measurement each, in rising order.
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_values_t = [1, 100, 1_000])]
    active: Vec<u32>,
    /// Seconds of each transfer.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// Write the tables and the document to docs/benchmarks/peers.md and .json.
    #[arg(long)]
    save: bool,
    /// Print one JSON document in place of the tables.
    #[arg(long)]
    json: bool,
}

/// One side that was measured, by its name in the document.
const SIDES: [(&str, &str); 2] = [("device", "plain interface"), ("mesh", "mesh")];

/// Measures, and prints tables or a document.
pub(super) fn run(options: &Options) -> Result<bool> {
    packages::prepare_lab()?;
    let built = cargo()
        .args("build --release --locked --workspace --bin crowd --bin vpnd".split(' '))
        .status()?
        .success();
    if !built {
        bail!("the build failed");
    }
    let program = |name: &str| -> Result<_> { Ok(env::current_exe()?.with_file_name(name)) };
    let _alone = Turn::alone()?;
    let output = Command::new(program("crowd")?)
        .arg(program("vpnd")?)
        .args([options.configured, options.seconds].map(|number| number.to_string()))
        .args(options.active.iter().map(ToString::to_string))
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        bail!("the crowd could not be measured");
    }
    let measured: Value = serde_json::from_slice(&output.stdout).context("the crowd printed no document")?;
    let document = json!({
        "machine": Machine::here(),
        "version": machine::own_version(),
        "seconds": options.seconds,
        "measured": measured,
    });
    let page = page(&measured);
    if options.json {
        println!("{document:#}");
    } else {
        println!("{page}");
    }
    if options.save {
        let folder = root().join(KEPT);
        let head = format!(
            "# Many peers\n\n`cargo xtask bench peers`; [README.md](README.md) says what is measured.\n\n{}; vpnd {}.\n\n",
            Machine::here().line(),
            machine::own_version()
        );
        fs::write(folder.join("peers.md"), head + &page)?;
        fs::write(folder.join("peers.json"), document.to_string() + "\n")?;
    }
    Ok(true)
}

/// The tables.
fn page(measured: &Value) -> String {
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

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(0.0)
}
