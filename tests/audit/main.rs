//! The canary audit: does anything of what a network does stay anywhere?
//!
//! A coordinator, a relay and three machines live in the laboratory, each on a fresh disk of its own, among addresses,
//! ports, names and bytes that were drawn for this run and are nowhere else. They join, talk directly and over the relay,
//! look up names, change their addresses; one is removed; all are killed. Then every place where something might stay is
//! searched for those canaries, in some fifty forms each. Two lives with different canaries begin on copies of the same
//! disks and must leave the same files. And a build that leaks on purpose must be caught at every leak: an audit that finds
//! nothing must be able to find something.
//!
//! | file | what is in it |
//! |---|---|
//! | [`canary`], [`encode`] | what is searched for, and in which forms |
//! | [`plan`], [`house`], [`life`] | where the machines stand, how they are watched, what they do |
//! | [`search`], [`memory`], [`disk`], [`writes`], [`kernel`], [`kernel_log`] | where is looked |
//! | [`rules`], [`stage`], [`finding`] | who may hold what; one life and what was found in it |
//! | [`leaks`], [`report`] | what must be caught; what a person reads |
//!
//! `cargo xtask audit` builds what it needs and runs it. It needs root and the laboratory.

#![allow(clippy::print_stdout, reason = "it talks to a person")]

mod canary;
mod disk;
mod encode;
mod finding;
mod house;
mod kernel;
mod kernel_log;
mod leaks;
mod life;
mod memory;
mod plan;
mod report;
mod rules;
mod search;
mod stage;
mod writes;

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use nix::sys::signal::Signal;
use tests::{Result, Trouble, binaries};

use crate::{
    canary::Dice,
    disk::Disk,
    finding::{Detector, Finding},
    house::{COMPONENTS, Outfit},
    kernel_log::Log,
    plan::Plan,
    report::Report,
    stage::{Evidence, Way},
};

const HELP: &str = "\
Usage: audit --leaking DIR [--quick] [--json] [--keep]

  --leaking DIR  the folder of the build that leaks on purpose
  --quick        one life of the release instead of two, which are not compared then
  --json         print one JSON document in place of the report
  --keep         leave the disks and records, and say where

The programs under test are those of TACET_BIN_DIR, else of the folder where this program is.";

/// What the command line says.
#[derive(Default)]
struct Options {
    leaking: Option<PathBuf>,
    quick: bool,
    json: bool,
    keep: bool,
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            println!("{error}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    match audit(&options) {
        Ok(report) => {
            if options.json {
                println!("{:#}", report.json());
            } else {
                report.print();
            }
            if report.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            println!("the audit could not be made: {error}");
            ExitCode::FAILURE
        }
    }
}

fn options() -> Result<Option<Options>> {
    let mut options = Options::default();
    let mut words = env::args_os().skip(1);
    while let Some(word) = words.next() {
        match word.to_str() {
            Some("--leaking") => options.leaking = words.next().map(PathBuf::from),
            Some("--quick") => options.quick = true,
            Some("--json") => options.json = true,
            Some("--keep") => options.keep = true,
            Some("--help" | "-h") => return Ok(None),
            _ => return Err(Trouble::new(format!("{} is not understood", word.display()))),
        }
    }
    Ok(Some(options))
}

/// All of it.
///
/// # Errors
/// Where nothing can be said: no root, no loop device, a network that does not work.
fn audit(options: &Options) -> Result<Report> {
    let began = Instant::now();
    let leaking = options.leaking.as_deref().ok_or_else(|| Trouble::new("--leaking DIR is missing"))?;
    let programs = binaries::folder()?;
    marked(leaking, true)?;
    marked(&programs, false)?;
    disk::available()?;
    let mut folder = tempfile::Builder::new().prefix("tacet-audit-").tempdir()?;
    folder.disable_cleanup(options.keep);
    let work = folder.path();
    let mut blind = Vec::new();
    if !kernel::cores_stay_in_the_folder(&work.join("crash"))? {
        let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default();
        blind.push(format!(
            "core files: this host sends them elsewhere (kernel.core_pattern is {})",
            pattern.trim()
        ));
    }

    if let Err(error) = Log::now() {
        blind.push(format!("the kernel's log: {error}"));
    }

    let files: Vec<PathBuf> = binaries::PROGRAMS.iter().map(|(name, _)| programs.join(name)).collect();
    let files: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
    let mut dice = Dice::new()?;
    let names = plan::names(&mut dice, &files)?;
    let release = Outfit { programs: &programs, names: &names, leaks: &BTreeMap::new() };

    let say = |what: &str| {
        if !options.json {
            println!("{:>4} s  {what}", began.elapsed().as_secs());
        }
    };
    say("three machines join");
    let joining = Plan::draw(&mut dice, &files)?;
    let disks = (0..COMPONENTS.len())
        .map(|number| Disk::make(work.join(format!("joined-{number}.img"))))
        .collect::<Result<Vec<Disk>>>()?;
    let (members, joined) = stage::found(work, &disks, &joining, &release)?;
    let mut live = |tag: &str, outfit: &Outfit<'_>, removal: bool, end, walled| -> Result<(Evidence, Plan)> {
        let plan = Plan::draw(&mut dice, &files)?;
        let copies = disks.iter().enumerate();
        let copies = copies.map(|(number, disk)| disk.copy(work.join(format!("{tag}-{number}.img"))));
        let copies = copies.collect::<Result<Vec<Disk>>>()?;
        let way = Way { plan: &plan, earlier: &joining, members: &members, outfit, removal, end, walled };
        Ok((stage::live(work, &copies, &way)?, plan))
    };

    say("a life, and the removal of a machine");
    let (first, plan) = live("first", &release, true, Signal::SIGKILL, None)?;
    let mut lives = vec![first];
    if !options.quick {
        say("another life from the same disks, elsewhere and with other traffic, which ends by a crash");
        lives.push(live("second", &release, false, Signal::SIGABRT, None)?.0);
    }
    say("a life of the build that leaks");
    let planted = leaks::planted();
    let leaky = Outfit { programs: leaking, names: &names, leaks: &planted };
    let (caught, _) = live("leaking", &leaky, true, Signal::SIGKILL, Some(leaks::STOPPED))?;

    let canaries = plan.canaries(&members);
    blind.extend([&joined].into_iter().chain(&lives).flat_map(|life| life.blind.clone()));
    Ok(Report {
        programs: programs.display().to_string(),
        canaries: canaries.len(),
        forms: canaries.iter().map(|canary| canary.forms().len()).sum(),
        blind,
        findings: joined.findings.into_iter().chain(findings(&lives)).collect(),
        joined: joined.state_bytes[2],
        lives,
        leaks: leaks::outcomes(&caught),
        stopped: caught.stopped.first().cloned(),
        took: began.elapsed(),
    })
}

/// What the lives show together: each one's findings, short matches that show in every one of them, and states that
/// are not the same.
fn findings(lives: &[Evidence]) -> Vec<Finding> {
    let mut findings: Vec<Finding> = lives.iter().flat_map(|life| life.findings.clone()).collect();
    let [first, second] = lives else { return findings };
    findings.extend(first.chance.iter().filter(|finding| finding.again_in(&second.chance)).cloned());
    for (component, (one, other)) in first.states.iter().zip(&second.states).enumerate() {
        let differences = one.other_contents(other);
        findings.extend(
            differences.iter().map(|difference| Finding::plain(Detector::SameState, component, difference)),
        );
    }
    findings
}

/// Whether the programs in a folder leak on purpose, as they should or should not.
fn marked(folder: &Path, expected: bool) -> Result<()> {
    for program in ["vpnd", "coordinator", "relay"] {
        if binaries::leaks(&folder.join(program))? != expected {
            let what = if expected { "has no leaks to be caught" } else { "leaks on purpose: build it anew" };
            return Err(Trouble::new(format!("{} {what}", folder.join(program).display())));
        }
    }
    Ok(())
}
