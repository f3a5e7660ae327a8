//! `coordinator accounts`.

use clap::Args;
use serde::Serialize;

use super::{Data, Failure, Output};

/// Lists the accounts.
#[derive(Args)]
#[command(after_help = "Example:\n  coordinator accounts --json")]
pub(super) struct Accounts {
    #[command(flatten)]
    data: Data,
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

impl Accounts {
    pub(super) async fn run(self, out: &Output) -> Result<(), Failure> {
        let failed = Failure::store("the accounts cannot be listed");
        let store = self.data.dir().open().await.map_err(&failed)?;
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
            text = "There are no accounts yet: `coordinator enrol` makes a token for one.".to_owned();
        }
        out.show(&Document { accounts }, &text)
    }
}
