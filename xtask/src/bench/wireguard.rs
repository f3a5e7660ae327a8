//! Beside the other userspace WireGuards, and Nebula: `tests/bench/wgbench.sh` with everything that is installed here.
//!
//! Two network namespaces with a veth pair between them; in each round every implementation in turn is started on both
//! sides, measured and stopped. Ours takes part twice: as a plain interface that `wg` configures like the others, and as
//! two machines of a mesh that found each other by a coordinator.
//!
//! A veth pair carries what `UDP_SEGMENT` sends in one piece, as the best network cards do; with `--veth-gso-segs 1` every
//! datagram crosses by itself, as on a card without offloads. Both are measured, for the first flatters whoever uses it.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use tests::turn::Turn;

use super::{
    machine::{self, Machine},
    median,
    table::{BOUNDS, Column, columns},
};
use crate::{build, dist, packages, root};

/// Where results are kept.
const KEPT: &str = "docs/benchmarks";

/// What others are compared with.
const BASE: &str = "boringtun-cli";

#[derive(Args)]
pub(crate) struct Options {
    /// How often each is measured; medians of fewer than five say little.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Seconds of each of the four transfers.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(2..))]
    seconds: u32,
    /// How datagrams cross the link; both unless told.
    #[arg(long, value_enum)]
    wire: Option<Wire>,
    /// A folder with more programs, searched before PATH.
    #[arg(long, value_name = "DIR", value_parser = folder)]
    tools: Vec<PathBuf>,
    /// One more: a daemon that stays in the foreground, makes the interface {if} and serves WireGuard's UAPI socket.
    #[arg(long, value_name = "NAME=COMMAND", value_parser = named)]
    with: Vec<(String, String)>,
    /// Only these of what is found, separated by commas.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    only: Vec<String>,
    /// Wait up to so many seconds before each measurement until the rest of the machine is quiet.
    #[arg(long, value_name = "N", default_value_t = 60)]
    settle: u32,
    /// Measure our programs as they are shipped (profile `dist`), whose build takes minutes.
    #[arg(long)]
    dist: bool,
    /// Write table and samples to docs/benchmarks/wireguard.md and .json.
    #[arg(long)]
    save: bool,
    /// Print one JSON document in place of the tables.
    #[arg(long)]
    json: bool,
}

/// A folder that is there.
fn folder(text: &str) -> Result<PathBuf, &'static str> {
    let path = PathBuf::from(text);
    if path.is_dir() { Ok(path) } else { Err("there is no such folder") }
}

/// A name and a command.
fn named(text: &str) -> Result<(String, String), &'static str> {
    match text.split_once('=') {
        Some((name, command)) if !name.is_empty() && !command.is_empty() => {
            Ok((name.to_owned(), command.to_owned()))
        }
        _ => Err("it takes NAME=COMMAND"),
    }
}

/// How datagrams cross the link between the two.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Wire {
    /// Segments of one send together, as a card with offloads does it.
    Whole,
    /// Each by itself.
    Single,
}

/// Something to be measured.
struct Contender {
    name: String,
    version: String,
    /// As `wgbench.sh` wants it: `--impl` is configured by wg, `--custom` by itself.
    option: &'static str,
    command: String,
}

/// What wgbench.sh writes: samples by implementation and metric.
#[derive(Deserialize)]
struct Measured {
    results: BTreeMap<String, BTreeMap<String, Vec<f64>>>,
}

/// All that came out.
#[derive(Serialize)]
struct Report {
    machine: Machine,
    rounds: u32,
    seconds: u32,
    versions: BTreeMap<String, String>,
    /// In the order in which they were measured.
    order: Vec<String>,
    wire: BTreeMap<Wire, BTreeMap<String, BTreeMap<String, Vec<f64>>>>,
}

/// Measures, and prints tables or a document.
pub(super) fn run(options: &Options) -> Result<bool> {
    packages::prepare_lab()?;
    let programs = if options.dist { dist::build_shipped()? } else { built()? };
    let shared = tempfile::tempdir()?;
    let mut contenders = found(options, &programs, shared.path())?;
    contenders.retain(|one| options.only.is_empty() || options.only.contains(&one.name));
    if contenders.len() < 2 {
        bail!("there is nothing to compare: install boringtun-cli, wireguard-go, gotatun-cli or nebula");
    }
    if !options.json {
        for one in &contenders {
            println!("{:<16} {}", one.name, one.version);
        }
    }
    let _alone = Turn::alone()?;
    let mut report = Report {
        machine: Machine::here(),
        rounds: options.rounds,
        seconds: options.seconds,
        versions: contenders.iter().map(|one| (one.name.clone(), one.version.clone())).collect(),
        order: contenders.iter().map(|one| one.name.clone()).collect(),
        wire: BTreeMap::new(),
    };
    for wire in [Wire::Whole, Wire::Single] {
        if options.wire.is_none_or(|only| only == wire) {
            let measured = measure(options, wire, &contenders, shared.path())?;
            report.wire.insert(wire, measured.results);
        }
    }
    if options.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("\n{}", report.page());
    }
    if options.save {
        let folder = root().join(KEPT);
        fs::write(folder.join("wireguard.json"), serde_json::to_string(&report)? + "\n")?;
        fs::write(folder.join("wireguard.md"), report.page())?;
    }
    Ok(true)
}

/// The folder of the release, which is where this program is.
fn built() -> Result<PathBuf> {
    build()?;
    Ok(env::current_exe()?.parent().context("a program is in a folder")?.to_owned())
}

/// Everything that can be measured here.
fn found(options: &Options, programs: &Path, shared: &Path) -> Result<Vec<Contender>> {
    let script = |name: &str| root().join("tests/bench").join(name).display().to_string();
    let shared = shared.display();
    // They give up root by asking who logged in, and fail where nobody did.
    let others = [
        (BASE, BASE, "--version", "{program} -f --disable-drop-privileges {if}"),
        ("wireguard-go", "wireguard-go", "--version", "{program} -f {if}"),
        ("gotatun-cli", "gotatun", "--version", "{program} -f --disable-drop-privileges {if}"),
    ];
    let mut all = Vec::new();
    let plain = |name: &str, version: String, command: String| Contender {
        name: name.to_owned(),
        version,
        option: "--impl",
        command,
    };
    for (name, program, argument, command) in others {
        let Some(program) = find(program, &options.tools) else { continue };
        let version = machine::version(&program, argument);
        all.push(plain(name, version, command.replace("{program}", &program)));
    }
    for (name, command) in &options.with {
        all.push(plain(name, "?".to_owned(), command.clone()));
    }
    if let (Some(nebula), Some(cert)) = (find("nebula", &options.tools), find("nebula-cert", &options.tools))
    {
        let folder = format!("{shared}/nebula");
        fs::create_dir(&folder)?;
        let made =
            Command::new(&cert).current_dir(&folder).args(["ca", "-name", "bench"]).status()?.success();
        if !made {
            bail!("nebula-cert makes no authority");
        }
        all.push(Contender {
            name: "nebula".to_owned(),
            version: machine::version(&nebula, "-version"),
            option: "--custom",
            command: format!(
                "{} {nebula} {cert} {folder} {{if}} {{side}} {{ip}} {{peer}} {{uip}} {{upeer}} {{dir}}",
                script("nebula.sh")
            ),
        });
    }
    let (vpnd, version) = (programs.join("vpnd"), machine::own_version());
    let serves = Command::new(&vpnd)
        .args(["device", "--help"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .context("vpnd does not start")?;
    if serves.success() {
        let command = format!("{} device --foreground {{if}}", vpnd.display());
        all.push(plain("vpnd device", version.clone(), command));
    }
    all.push(Contender {
        name: "vpnd mesh".to_owned(),
        version,
        option: "--custom",
        command: format!(
            "{} {} {shared} {{if}} {{side}} {{uip}} {{dir}} {{address}}",
            script("mesh.sh"),
            programs.display()
        ),
    });
    Ok(all)
}

/// The full path of a program.
fn find(program: &str, tools: &[PathBuf]) -> Option<String> {
    let path = env::var_os("PATH").unwrap_or_default();
    let home = env::home_dir().map(|home| home.join(".cargo/bin"));
    tools
        .iter()
        .cloned()
        .chain(env::split_paths(&path))
        .chain(home)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
        .map(|file| file.display().to_string())
}

fn measure(options: &Options, wire: Wire, contenders: &[Contender], folder: &Path) -> Result<Measured> {
    let json = folder.join("measured.json");
    let mut command = Command::new(root().join("tests/bench/wgbench.sh"));
    for (option, value) in
        [("--rounds", options.rounds), ("--time", options.seconds), ("--settle", options.settle)]
    {
        command.arg(option).arg(value.to_string());
    }
    if wire == Wire::Single {
        command.args(["--veth-gso-segs", "1"]);
    }
    for one in contenders {
        command.arg(one.option).arg(format!("{}={}", one.name, one.command));
    }
    command.arg("--json").arg(&json).stdin(Stdio::null()).stdout(Stdio::null());
    if !command.status().context("wgbench.sh did not start")?.success() {
        bail!("wgbench.sh failed");
    }
    serde_json::from_str(&fs::read_to_string(&json)?).context("wgbench.sh wrote what cannot be read")
}

impl Report {
    /// The tables, as a page.
    fn page(&self) -> String {
        let mut page = format!(
            "# Beside other implementations\n\n\
             `cargo xtask bench wireguard`: medians of {} interleaved rounds of {} s each; in brackets the ratio to the\n\
             first line. [README.md](README.md) says what the columns are; `wireguard.json` has every sample.\n\n\
             On a {}.\n\n",
            self.rounds,
            self.seconds,
            self.machine.line()
        );
        for (name, version) in &self.versions {
            page += &format!("* {name} {version}\n");
        }
        for (wire, results) in &self.wire {
            page += match wire {
                Wire::Whole => "\n## Segments of one send cross the link together\n\n",
                Wire::Single => "\n## Every datagram crosses the link by itself (`--veth-gso-segs 1`)\n\n",
            };
            page += &self.table(results);
            page += "\n";
            page += &Self::bounds(*wire, results);
        }
        page
    }

    fn table(&self, results: &BTreeMap<String, BTreeMap<String, Vec<f64>>>) -> String {
        let columns = columns();
        let mut table = String::from("|");
        for Column { head, .. } in &columns {
            table += &format!(" | {head}");
        }
        table += &format!(" |\n|---|{}\n", "---:|".repeat(columns.len()));
        let base = self.order.first().and_then(|name| results.get(name));
        for name in &self.order {
            table += &format!("| {name}");
            for column in &columns {
                let of = |samples: Option<&BTreeMap<String, Vec<f64>>>| {
                    samples
                        .and_then(|samples| samples.get(column.metric))
                        .map(|samples| median(samples.iter().copied()))
                };
                table += &match (of(results.get(name)), of(base)) {
                    (Some(value), Some(base)) if base > 0.0 => {
                        format!(" | {} ({:.2})", column.show(value), value / base)
                    }
                    (Some(value), _) => format!(" | {}", column.show(value)),
                    (None, _) => " | -".to_owned(),
                };
            }
            table += " |\n";
        }
        table
    }

    /// What is promised, and whether it holds.
    fn bounds(wire: Wire, results: &BTreeMap<String, BTreeMap<String, Vec<f64>>>) -> String {
        let mut lines = String::new();
        for bound in &BOUNDS {
            let of = |name: &str| {
                results.get(name)?.get(bound.metric).map(|samples| median(samples.iter().copied()))
            };
            let base = if bound.beside.is_empty() { Some(1.0) } else { of(bound.beside) };
            let (Some(value), Some(base)) = (of(bound.of), base.filter(|base| *base > 0.0)) else { continue };
            let limit = bound.limit[usize::from(wire == Wire::Single)];
            let ratio = value / base;
            let (word, holds) =
                if bound.at_least { ("at least", ratio >= limit) } else { ("at most", ratio <= limit) };
            lines += &format!(
                "* {}: {ratio:.2}, {word} {limit}: {}\n",
                bound.what,
                if holds { "holds" } else { "**missed**" }
            );
        }
        lines
    }
}
