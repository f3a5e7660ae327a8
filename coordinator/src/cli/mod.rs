//! The command line. Every command works on one data directory; all but `serve` and `restore` while `serve` runs.

mod accounts;
mod backup;
mod check;
mod confirm;
mod enrol;
mod failure;
mod inventory;
mod networks;
mod relay_key;
mod serve;
mod url;

use std::{
    ffi::OsString,
    io::{self, Write},
    path::{Path, PathBuf},
};

use clap::{Args, Parser, Subcommand};
use serde::Serialize;

pub use failure::Failure;

use crate::store::DataDir;

/// Where the data is if nobody says otherwise.
pub const DATA_DIR: &str = "/var/lib/tacet-coordinator";

/// The coordinator of a Tacet network.
#[derive(Parser)]
#[command(
    name = "coordinator",
    version,
    about = "Hands out a private network's sealed rosters, which it cannot read. Keeps no record of anybody's use.",
    after_help = "Start with `tacet-coordinator serve --help`.\n\nExit codes: 0 done, 1 failed, 2 usage."
)]
pub struct Cli {
    /// Print one JSON document instead of text.
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the coordinator (with a relay and a STUN server, unless told not to) in the foreground.
    Serve(serve::Serve),
    /// Make a single-use code for one new account, and print the token that carries it.
    Enrol(enrol::Enrol),
    /// List the accounts, or remove one.
    Accounts(accounts::Accounts),
    /// List the networks, or remove one.
    Networks(networks::Networks),
    /// Check the database: its structure, its keys, and the signatures of every network in it.
    Check(check::Check),
    /// Show all that is stored: every field, what for, and what is in it now.
    Inventory(inventory::Inventory),
    /// Write a consistent copy of the database to a file.
    Backup(backup::Backup),
    /// Put a backup in the database's place.
    Restore(backup::Restore),
    /// Make the key file for a relay that runs elsewhere, and offer that relay to networks.
    RelayKey(relay_key::RelayKey),
}

/// Which database.
#[derive(Args)]
struct Data {
    /// Where the coordinator keeps its database.
    #[arg(long, global = true, value_name = "DIR", default_value = DATA_DIR)]
    data_dir: PathBuf,
    /// A database elsewhere: sqlite:PATH. Its keys lie beside it.
    #[arg(long, global = true, value_name = "URL", value_parser = database_path)]
    database_url: Option<PathBuf>,
}

impl Data {
    fn dir(&self) -> DataDir {
        DataDir::new(&self.data_dir, self.database_url.as_deref())
    }

    /// What to append to another command so that it finds the same data.
    fn flags(&self) -> String {
        let mut flags = String::new();
        if self.data_dir != Path::new(DATA_DIR) {
            flags += &format!(" --data-dir {}", self.data_dir.display());
        }
        if let Some(path) = &self.database_url {
            flags += &format!(" --database-url sqlite:{}", path.display());
        }
        flags
    }
}

fn database_path(url: &str) -> Result<PathBuf, String> {
    let path = url.strip_prefix("sqlite:").ok_or("only sqlite:PATH is supported")?;
    let path = path.strip_prefix("//").unwrap_or(path);
    if path.is_empty() { Err("the path after sqlite: is missing".to_owned()) } else { Ok(path.into()) }
}

impl Cli {
    /// Does what the command line says.
    ///
    /// # Errors
    /// [`Failure`], to be shown to the person who typed it.
    pub async fn run(self) -> Result<(), Failure> {
        let out = Output { json: self.json };
        match self.command {
            Command::Serve(serve) => serve.run(&out).await,
            Command::Enrol(enrol) => enrol.run(&out).await,
            Command::Accounts(accounts) => accounts.run(&out).await,
            Command::Networks(networks) => networks.run(&out).await,
            Command::Check(check) => check.run(&out).await,
            Command::Inventory(inventory) => inventory.run(&out).await,
            Command::Backup(backup) => backup.run(&out).await,
            Command::Restore(restore) => restore.run(&out).await,
            Command::RelayKey(relay_key) => relay_key.run(&out).await,
        }
    }
}

/// Where answers go.
struct Output {
    json: bool,
}

impl Output {
    /// Prints `document` or `text`, as was asked.
    fn show(&self, document: &impl Serialize, text: &str) -> Result<(), Failure> {
        let text = if self.json {
            serde_json::to_string(document).expect("documents are structs of plain values")
        } else {
            text.to_owned()
        };
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{}", text.trim_end()).and_then(|()| stdout.flush()).map_err(|_| Failure {
            what: "the answer could not be printed".to_owned(),
            why: "standard output is closed".to_owned(),
            next: "run the command again with its output going somewhere".to_owned(),
        })
    }
}

/// How this program was called, for the lines that people type next.
fn program() -> String {
    let name = std::env::args_os().next().unwrap_or_else(|| OsString::from("coordinator"));
    Path::new(&name).file_name().map_or("coordinator".into(), |name| name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_every_command_shows_an_example() {
        let mut command = Cli::command();
        command.clone().debug_assert();
        for sub in command.get_subcommands_mut().filter(|sub| sub.get_name() != "help") {
            assert!(sub.render_long_help().to_string().contains("Example"), "{}", sub.get_name());
        }
    }

    /// clap breaks lines where the terminal ends; a break in the text itself would leave half a line.
    #[test]
    fn no_paragraph_of_the_help_is_broken_by_hand_and_examples_name_the_installed_program() {
        let command = Cli::command();
        let subs: Vec<&clap::Command> = command.get_subcommands().collect();
        let inner = subs.iter().flat_map(|sub| sub.get_subcommands());
        for command in inner.chain(subs.iter().copied()).chain([&command]) {
            let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            for (line, next) in text.lines().zip(text.lines().skip(1)) {
                let apart = line.is_empty() || next.is_empty();
                let listed = next.starts_with(' ') && (line.starts_with(' ') || line.ends_with(':'));
                assert!(apart || listed, "{}: {line}", command.get_name());
                assert!(!listed || next.chars().count() <= 100, "clap would break it: {next}");
                let typed = next.trim_start();
                assert!(!typed.starts_with("coordinator ") && !typed.starts_with("relay "), "{typed}");
            }
        }
    }

    #[test]
    fn the_manual_has_every_command_and_its_documents_read_as_json() {
        const MANUAL: &str = include_str!("../../../docs/coordinator.md");
        let command = Cli::command();
        for sub in command.get_subcommands() {
            for name in std::iter::once(sub.get_name().to_owned())
                .chain(sub.get_subcommands().map(|inner| format!("{} {}", sub.get_name(), inner.get_name())))
            {
                assert!(MANUAL.contains(&format!("| `{name}")), "{name}");
            }
        }
        for document in MANUAL.split("```json\n").skip(1) {
            let document = document.split("```").next().unwrap();
            assert!(serde_json::from_str::<serde_json::Value>(document).is_ok(), "{document}");
        }
    }

    #[test]
    fn a_database_elsewhere_is_named_by_its_url() {
        for url in ["sqlite:/srv/a.db", "sqlite:///srv/a.db"] {
            assert_eq!(database_path(url).unwrap(), Path::new("/srv/a.db"));
        }
        assert!(database_path("postgres://host/a").is_err());
        assert!(database_path("sqlite:").is_err());
    }
}
