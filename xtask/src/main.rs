//! Developer commands: `cargo xtask test`, `demo`, `install` and their like.
//!
//! | file | what it does |
//! |---|---|
//! | [`suite`] | `test` and `nightly`: every check in turn, one line each at the end |
//! | [`outcome`] | reads how many tests passed out of a test runner's output |
//! | [`packages`] | the Debian packages that the laboratory needs |

#![allow(clippy::print_stdout, reason = "these commands talk to a person")]

mod outcome;
mod packages;
mod suite;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, Subcommand};

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
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Test { no_lab } => suite::test(&suite::Scope { lab: !no_lab, long: false }),
        Command::Nightly => suite::test(&suite::Scope { lab: true, long: true }),
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
