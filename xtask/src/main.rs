//! Developer commands: `cargo xtask test`, `demo`, `install` and their like.
//!
//! | file | what it does |
//! |---|---|
//! | [`suite`] | `test` and `nightly`: every check in turn, one line each at the end |
//! | [`outcome`] | reads how many tests passed out of a test runner's output |
//! | [`packages`] | the Debian packages that the laboratory needs |
//! | [`mod@bench`] | `bench`: what things cost, as ratios between what ran side by side |
//! | [`audit`] | `audit`: does anything of what a network does stay anywhere? |
//! | [`demo`] | `demo`: a coordinator and three machines, and what a person would type |
//! | [`matrix`] | `matrix`: every kind of NAT against every other, and bad days |
//! | [`lab`] | `lab`: shells on the machines of a demonstration that was kept, and its end |
//! | [`docs`] | `docs`: docs/PRIVACY.md from the inventories |
//! | [`install`] | `install` and `uninstall` |
//! | [`dist`] | `dist`: one tarball per role |
//! | [`roles`] | what a role consists of, for the three above |

#![allow(clippy::print_stdout, reason = "these commands talk to a person")]

mod audit;
mod bench;
mod demo;
mod dist;
mod docs;
mod install;
mod lab;
mod matrix;
mod outcome;
mod packages;
mod roles;
mod suite;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{CommandFactory as _, Parser, Subcommand, error::ErrorKind};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Developer commands of Tacet", disable_version_flag = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Check everything that CI checks: format, lints, build, documentation, unit and end-to-end tests.
    ///
    /// The end-to-end tests need root: they build networks out of namespaces. The Debian packages they need are
    /// installed when they are missing.
    Test {
        /// Leave out the end-to-end tests, and with them the need for root.
        #[arg(long)]
        no_lab: bool,
    },
    /// Everything of `test`, and what takes longer.
    Nightly,
    /// Show a private network from nothing: a coordinator, and three machines that join and reach each other.
    ///
    /// Everything happens in network namespaces on this machine and is gone afterwards. Needs root; the Debian
    /// packages it needs are installed when they are missing.
    Demo {
        /// Leave it running at the end, to look around.
        #[arg(long)]
        keep: bool,
    },
    /// The canary audit: does anything of what a network does stay anywhere?
    ///
    /// A coordinator, a relay and three machines live among addresses, names and bytes that are nowhere else; then
    /// memory, disks, calls, output and the kernel are searched for them. A build that leaks on purpose must be caught at
    /// each of its leaks. Needs root; takes under five minutes.
    Audit {
        /// One life of the release instead of two, which are not compared then.
        #[arg(long)]
        quick: bool,
        /// Print one JSON document in place of the report.
        #[arg(long)]
        json: bool,
        /// Leave the disks and records, in the folder for temporary files.
        #[arg(long)]
        keep: bool,
        /// Audit the programs as they are shipped (profile `dist`), whose build takes minutes.
        #[arg(long)]
        dist: bool,
    },
    /// What things cost, as ratios between what ran side by side. Needs root.
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Every kind of NAT against every other, and bad days: who is reached how fast, on which path, and what is lost.
    ///
    /// All of it takes about half an hour; `--rounds 1` a few minutes. Needs root; everything happens in network
    /// namespaces. Ends with 1 if a bound was missed.
    Matrix(matrix::Options),
    /// Write docs/PRIVACY.md anew from the inventories of what is stored.
    Docs,
    /// The demonstration that was kept, and the laboratory under it.
    #[command(subcommand)]
    Lab(Lab),
    /// Build the release and put it on this machine: programs, systemd units, accounts.
    Install(install::Install),
    /// Take it off again. A machine that is in a network is asked whether to leave it; without a terminal, and for
    /// the coordinator and the relay, keys and data stay.
    Uninstall(install::Uninstall),
    /// One tarball per role (machine, coordinator, relay) with an install.sh that needs no Rust and no network.
    Dist(dist::Options),
}

#[derive(Subcommand)]
enum Lab {
    /// A shell on one of its machines: srv, cloud-1, home-1, flat-1.
    Shell {
        /// Which machine.
        host: String,
        /// A command instead of a shell.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Take it down.
    Down,
    /// What natlab.sh can do: conditions, NAT types, roaming. `lab nat help` lists it.
    #[command(disable_help_flag = true)]
    Nat {
        /// Its arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Test { no_lab } => suite::test(&suite::Scope { lab: !no_lab, long: false }),
        Command::Nightly => suite::test(&suite::Scope { lab: true, long: true }),
        Command::Audit { quick, json, keep, dist } => audit::run(audit::Options { quick, json, keep, dist }),
        Command::Bench(bench) => bench::run(&bench),
        Command::Matrix(options) => matrix::run(&options),
        Command::Docs => docs::write().map(|()| true),
        Command::Demo { keep } => demo::run(keep),
        Command::Lab(Lab::Shell { host, command }) => lab::shell(&host, &command),
        Command::Lab(Lab::Down) => lab::down(),
        Command::Lab(Lab::Nat { arguments }) => lab::nat(&arguments),
        Command::Install(options) => install::install(&options),
        Command::Uninstall(options) => install::uninstall(&options),
        Command::Dist(options) => dist::run(&options).map(|()| true),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Ends as every wrong option does: with a sentence, and 2.
fn wrong_options(why: &str) -> ! {
    Arguments::command().error(ErrorKind::ValueValidation, why).exit()
}

/// The root of the workspace: where this crate's folder lies.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is a folder of the workspace").to_owned()
}

/// Cargo itself, in the root of the workspace.
fn cargo() -> std::process::Command {
    let mut cargo = std::process::Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root());
    cargo
}

/// Builds what a user would run.
fn build() -> anyhow::Result<()> {
    if !cargo().args(["build", "--release", "--locked", "--workspace"]).status()?.success() {
        anyhow::bail!("the build failed");
    }
    Ok(())
}
