//! vpnd: control by default, `vpnd data-path` for the child that carries the packets.

use clap::Parser;
use vpnd::cli::{Cli, Command};

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    match cli.command {
        Some(Command::DataPath(options)) => Ok(vpnd::data_path::run(&options)?),
        None => Ok(()),
    }
}
