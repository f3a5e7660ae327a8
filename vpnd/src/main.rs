//! vpnd: control by default, `vpnd data-path` for the child that carries the packets, `vpnd device` for a plain WireGuard
//! interface.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Parser;
use vpnd::cli::{Cli, Command};

/// What was freed holds nothing.
#[global_allocator]
static MEMORY: sandbox::wipe::Wiping = sandbox::wipe::Wiping;

#[expect(clippy::disallowed_methods, reason = "why it cannot start")]
fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The sentence alone, which says what is behind it: a backtrace is of no use to an operator. A closed stderr is no error.
            let _ = writeln!(io::stderr(), "vpnd: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    let cli = Cli::parse();
    vpnd::harden::process()?;
    // For the data path, which inherits it from control: behind control's walls nobody can ask for it any more.
    netio::slice::lengthen();
    match cli.command {
        Some(Command::DataPath(options)) => Ok(vpnd::data_path::run(&options)?),
        Some(Command::Device(options)) => Ok(vpnd::device::run(&options)?),
        None => Ok(vpnd::daemon::run(cli.daemon)?),
    }
}
