//! The coordinator as a program; installed as `tacet-coordinator`.
//!
//! It prints what a command answers or why it failed, where it met a fault of its own, and nothing else.

use std::{
    io::{self, Write},
    panic::PanicHookInfo,
    process::ExitCode,
};

use clap::Parser;
use coordinator::cli::{Cli, Failure};
use relay::walls;

/// What was freed holds nothing.
#[global_allocator]
static MEMORY: sandbox::wipe::Wiping = sandbox::wipe::Wiping;

fn main() -> ExitCode {
    std::panic::set_hook(Box::new(say_where));
    let cli = Cli::parse();
    let json = cli.json;
    let Err(failure) = run(cli) else {
        return ExitCode::SUCCESS;
    };
    let text = if json {
        serde_json::json!({ "error": failure }).to_string()
    } else {
        format!("coordinator: {failure}")
    };
    // With stderr closed there is nobody left to tell.
    let _ = writeln!(io::stderr(), "{text}");
    ExitCode::FAILURE
}

fn run(cli: Cli) -> Result<(), Failure> {
    // It holds keys, whatever the command.
    walls::prepare().map_err(|error| refused(&error))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| refused(&error))?;
    runtime.block_on(cli.run())
}

/// The system refuses what every command needs.
fn refused(error: &io::Error) -> Failure {
    Failure {
        what: "the coordinator cannot start".to_owned(),
        why: format!("the system refuses what it needs for that ({error})"),
        next: "look at the limits of the account or service that it runs as".to_owned(),
    }
}

/// A panic's place in the source, and nothing of what it was about.
fn say_where(panic: &PanicHookInfo<'_>) {
    if let Some(place) = panic.location() {
        let _ = writeln!(io::stderr(), "coordinator: a fault at {}:{}", place.file(), place.line());
    }
}
