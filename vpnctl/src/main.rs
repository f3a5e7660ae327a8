//! vpnctl: Tacet's command line, a client of vpnd's local API and of nothing else.
//!
//! | room | what is in it |
//! |---|---|
//! | [`cli`] | what may be typed |
//! | [`client`] | one command to vpnd and its answer |
//! | [`commands`] | one function per command: ask vpnd, show the answer |
//! | [`doctor`] | from what is seen to what is wrong |
//! | [`words`] | what states and warnings mean |
//! | [`failure`] | why it failed, in words, in JSON and as an exit code |
//! | [`password`] | passwords from a prompt, standard input or a file |
//! | [`verify`] | what the kernel says of the running processes |
//! | [`show`] | tables, units, times, colours, QR codes |
//!
//! Standard output carries the result, and with `--json` exactly one document, be it the result or the error. Progress
//! and errors for people go to standard error. Exit codes: 0 done, 1 failed, 2 usage, 3 vpnd is not running, 4 login or
//! second factor needed, 5 not permitted.

mod cli;
mod client;
mod commands;
mod doctor;
mod duration;
mod failure;
mod password;
mod show;
mod verify;
mod words;

use std::{ffi::OsString, process::ExitCode};

use clap::Parser;
use proto::api::ErrorCode;

use crate::{cli::Cli, failure::Failure, show::Ui};

fn main() -> ExitCode {
    // Passwords and recovery keys come through here: no core file is to hold them. Linux refuses this to nobody.
    let _ = nix::sys::prctl::set_dumpable(false);
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => return not_parsed(&error, &arguments),
    };
    let ui = Ui::of_this_process(cli.global.json);
    commands::run(cli, &ui).unwrap_or_else(|failure| failure.report(&ui))
}

/// Help and version are results; the rest is a usage error, told in JSON if the line asks for JSON.
fn not_parsed(error: &clap::Error, arguments: &[OsString]) -> ExitCode {
    if error.use_stderr() && arguments.iter().any(|a| a == "--json") {
        let text = error.render().to_string();
        let reason: Vec<&str> = text.lines().take_while(|line| !line.is_empty()).map(str::trim).collect();
        let reason = reason.join(" ");
        let why = reason.strip_prefix("error: ").unwrap_or(&reason);
        let next = "see vpnctl --help, or --help after the command";
        let failure = Failure::new(ErrorCode::Usage, "the command line is wrong", why, next);
        return failure.report(&Ui::of_this_process(true));
    }
    // Nothing is left to do if the stream is gone.
    let _ = error.print();
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}
