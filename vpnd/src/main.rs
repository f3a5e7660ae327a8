//! vpnd: control by default, `vpnd data-path` for the child that carries the packets.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Parser;
use vpnd::cli::{Cli, Command};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The sentence alone: a backtrace is of no use to an operator. A closed stderr is no error.
            let _ = writeln!(io::stderr(), "vpnd: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    let cli = Cli::parse();
    vpnd::harden::process()?;
    match cli.command {
        Some(Command::DataPath(options)) => Ok(vpnd::data_path::run(&options)?),
        None => {
            // Control waits most of the time: one thread does, and keeps it small.
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            Ok(runtime.block_on(vpnd::daemon::run(cli.daemon))?)
        }
    }
}
