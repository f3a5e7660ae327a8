//! `coordinator accounts`.

use clap::{Args, Subcommand};
use proto::account::AccountName;
use serde::Serialize;

use super::{Data, Failure, Output, confirm::confirm};

/// Lists the accounts, or removes one.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  tacet-coordinator accounts --json\n  tacet-coordinator accounts remove ann\n\n\
    Works while `tacet-coordinator serve` runs."
)]
pub(super) struct Accounts {
    #[command(flatten)]
    data: Data,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Remove an account and its networks for good.
    #[command(
        after_help = "Examples:\n  tacet-coordinator accounts remove ann\n  tacet-coordinator accounts remove ann --yes --json\n\n\
        What was kept of them is overwritten: it cannot be brought back but from a backup. Tunnels between machines go \
        on; no machine can be added to these networks or removed from them any more."
    )]
    Remove {
        /// The account's name.
        #[arg(value_parser = name)]
        name: AccountName,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Serialize)]
struct Document {
    accounts: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    name: String,
    networks: u32,
    bytes: u64,
}

#[derive(Serialize)]
struct Removed<'a> {
    account: &'a str,
    networks: usize,
}

impl Accounts {
    pub(super) async fn run(self, out: &Output) -> Result<(), Failure> {
        match self.command {
            None => list(&self.data, out).await,
            Some(Command::Remove { name, yes }) => remove(&self.data, &name, yes, out).await,
        }
    }
}

async fn list(data: &Data, out: &Output) -> Result<(), Failure> {
    let failed = Failure::store("the accounts cannot be listed");
    let store = data.dir().open().await.map_err(&failed)?;
    let accounts = store.accounts().await.map_err(&failed)?;
    store.close().await;
    let row = |account: crate::store::AccountSummary| Row {
        name: account.name.as_str().to_owned(),
        networks: account.networks,
        bytes: account.bytes,
    };
    let accounts: Vec<Row> = accounts.into_iter().map(row).collect();
    let mut text = format!("{:<32}  {:>8}  {:>10}\n", "NAME", "NETWORKS", "BYTES");
    for Row { name, networks, bytes } in &accounts {
        text += &format!("{name:<32}  {networks:>8}  {bytes:>10}\n");
    }
    if accounts.is_empty() {
        text = "There are no accounts yet: `tacet-coordinator enrol` makes a token for one.".to_owned();
    }
    out.show(&Document { accounts }, &text)
}

async fn remove(data: &Data, name: &AccountName, yes: bool, out: &Output) -> Result<(), Failure> {
    const WHAT: &str = "the account was not removed";
    let failed = Failure::store(WHAT);
    let store = data.dir().open().await.map_err(&failed)?;
    let unknown =
        || Failure::new(WHAT, "there is no account of this name", "list them: coordinator accounts");
    let accounts = store.accounts().await.map_err(&failed)?;
    let account = accounts.iter().find(|account| account.name == *name).ok_or_else(unknown)?;
    let question = format!("{} and {} networks are to be removed for good.", name.as_str(), account.networks);
    confirm(out, WHAT, &question, name.as_str(), yes)?;
    let networks = store.remove_account(name).await.map_err(&failed)?.ok_or_else(unknown)?;
    store.close().await;
    let text =
        format!("Removed {} and {networks} networks. What was kept of them is overwritten.", name.as_str());
    out.show(&Removed { account: name.as_str(), networks }, &text)
}

fn name(text: &str) -> Result<AccountName, String> {
    AccountName::parse(text).map_err(|error| error.to_string())
}
