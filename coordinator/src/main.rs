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
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return not_parsed(&error),
    };
    let json = cli.json;
    let Err(failure) = run(cli) else {
        return ExitCode::SUCCESS;
    };
    tell(&failure, json);
    ExitCode::FAILURE
}

fn tell(failure: &Failure, json: bool) {
    let text = if json {
        serde_json::json!({ "error": failure }).to_string()
    } else {
        format!("coordinator: {failure}")
    };
    // With stderr closed there is nobody left to tell.
    let _ = writeln!(io::stderr(), "{text}");
}

/// Help and version are results; the rest is a usage error, told in JSON if the line asks for JSON.
fn not_parsed(error: &clap::Error) -> ExitCode {
    let code = ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
    // With the stream closed there is nobody left to tell.
    if error.use_stderr() && std::env::args_os().any(|word| word == "--json") {
        let text = error.render().to_string();
        let reason: Vec<&str> = text.lines().take_while(|line| !line.is_empty()).map(str::trim).collect();
        let reason = reason.join(" ");
        let failure = Failure {
            what: "the command line is wrong".to_owned(),
            why: reason.strip_prefix("error: ").unwrap_or(&reason).to_owned(),
            next: "see --help, or --help after the command".to_owned(),
        };
        tell(&failure, true);
    } else {
        let _ = error.print();
    }
    code
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
