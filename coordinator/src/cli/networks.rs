//! `coordinator networks`.

use clap::{Args, Subcommand};
use proto::identity::NetworkId;
use serde::Serialize;

use super::{Data, Failure, Output, confirm::confirm};
use crate::store::Store;

/// Digits of a network's id that a person has to type at least.
const DIGITS: usize = 8;

/// Lists the networks, or removes one.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  tacet-coordinator networks --json\n  tacet-coordinator networks remove 3f9a02c41b77\n\n\
    Works while `tacet-coordinator serve` runs. A network's name, machines and addresses are sealed: nobody here knows them."
)]
pub(super) struct Networks {
    #[command(flatten)]
    data: Data,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Remove a network for good.
    #[command(after_help = "Examples:\n  tacet-coordinator networks remove 3f9a02c41b77\n  \
        tacet-coordinator networks remove 3f9a02c41b77 --yes --json\n\n\
        What was kept of it is overwritten: it cannot be brought back but from a backup. Tunnels between its machines go \
        on; no machine can be added to it or removed from it any more.")]
    Remove {
        /// The network's id, or how it begins: 8 digits or more.
        id: String,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Serialize)]
struct Document {
    networks: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    id: String,
    account: Option<String>,
    entries: u32,
    joins: u32,
    bytes: u64,
}

#[derive(Serialize)]
struct Removed {
    network: String,
}

impl Networks {
    pub(super) async fn run(self, out: &Output) -> Result<(), Failure> {
        match self.command {
            None => list(&self.data, out).await,
            Some(Command::Remove { id, yes }) => remove(&self.data, &id, yes, out).await,
        }
    }
}

async fn list(data: &Data, out: &Output) -> Result<(), Failure> {
    let failed = Failure::store("the networks cannot be listed");
    let store = data.dir().open().await.map_err(&failed)?;
    let networks = store.network_summaries().await.map_err(&failed)?;
    store.close().await;
    let row = |network: crate::store::NetworkSummary| Row {
        id: network.id.to_hex(),
        account: network.account.map(|name| name.as_str().to_owned()),
        entries: network.entries,
        joins: network.joins,
        bytes: network.bytes,
    };
    let networks: Vec<Row> = networks.into_iter().map(row).collect();
    let mut text =
        format!("{:<64}  {:<32}  {:>7}  {:>5}  {:>10}\n", "ID", "ACCOUNT", "ENTRIES", "JOINS", "BYTES");
    for Row { id, account, entries, joins, bytes } in &networks {
        let account = account.as_deref().unwrap_or("-");
        text += &format!("{id:<64}  {account:<32}  {entries:>7}  {joins:>5}  {bytes:>10}\n");
    }
    if networks.is_empty() {
        text = "There are no networks yet.".to_owned();
    }
    out.show(&Document { networks }, &text)
}

async fn remove(data: &Data, id: &str, yes: bool, out: &Output) -> Result<(), Failure> {
    const WHAT: &str = "the network was not removed";
    let failed = Failure::store(WHAT);
    let store = data.dir().open().await.map_err(&failed)?;
    let network = find(&store, id, WHAT).await?;
    let text = network.to_hex();
    confirm(out, WHAT, &format!("The network {text} is to be removed for good."), &text[..DIGITS], yes)?;
    if !store.remove_network(&network).await.map_err(&failed)? {
        return Err(unknown(WHAT));
    }
    store.close().await;
    let said = format!("Removed {text}. What was kept of it is overwritten.");
    out.show(&Removed { network: text }, &said)
}

/// The one network whose id begins like this.
async fn find(store: &Store, id: &str, what: &str) -> Result<NetworkId, Failure> {
    let id = id.to_ascii_lowercase();
    if id.len() < DIGITS {
        let next = format!("give {DIGITS} digits of it or more");
        return Err(Failure::new(what, "the id is too short to be sure", next));
    }
    let networks = store.networks().await.map_err(Failure::store(what))?;
    let mut found = networks.into_iter().filter(|network| network.to_hex().starts_with(&id));
    match (found.next(), found.next()) {
        (Some(network), None) => Ok(network),
        (Some(_), Some(_)) => {
            Err(Failure::new(what, "several ids begin like this", "give more digits of it"))
        }
        (None, _) => Err(unknown(what)),
    }
}

fn unknown(what: &str) -> Failure {
    Failure::new(what, "there is no network of this id", "list them: coordinator networks")
}
