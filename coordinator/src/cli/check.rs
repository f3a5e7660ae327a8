//! `coordinator check`.

use clap::Args;
use serde::Serialize;

use super::{Data, Failure, Output};
use crate::store::{Store, StoreError};

/// Checks the database.
#[derive(Args)]
#[command(after_help = "Example:\n  tacet-coordinator check\n\nWorks while `tacet-coordinator serve` runs.")]
pub(super) struct Check {
    #[command(flatten)]
    data: Data,
}

#[derive(Serialize)]
struct Document {
    ok: bool,
    accounts: usize,
    networks: usize,
    damaged: usize,
    unreadable: usize,
}

impl Check {
    pub(super) async fn run(self, out: &Output) -> Result<(), Failure> {
        const WHAT: &str = "the database is not in order";
        const NEXT: &str = "restore a backup with `tacet-coordinator restore`; machines then bring what is newer in it themselves";
        let store = self.data.dir().open().await.map_err(Failure::store(WHAT))?;
        let checked = check(&store).await;
        store.close().await;
        let document = checked.map_err(Failure::store(WHAT))?;
        let Document { accounts, networks, damaged, unreadable, .. } = document;
        if unreadable > 0 {
            let why = format!("{unreadable} rows cannot be opened with the keys beside it");
            return Err(Failure::new(WHAT, why, NEXT));
        }
        if damaged > 0 {
            let why = format!("the rosters of {damaged} of {networks} networks are not what was signed");
            return Err(Failure::new(WHAT, why, NEXT));
        }
        let text = format!(
            "The database is in order: {accounts} accounts, {networks} networks, every row opens, all signatures good."
        );
        out.show(&document, &text)
    }
}

async fn check(store: &Store) -> Result<Document, StoreError> {
    store.check_structure().await?;
    // A change that was interrupted is not damage, and what it left is erased now.
    store.settle().await?;
    let (_, unreadable) = store.unreadable().await?;
    let accounts = store.accounts().await?.len();
    let networks = store.networks().await?;
    let mut damaged = 0;
    for network in &networks {
        let sound = match store.state(network).await {
            Ok(Some(state)) => state.verify(network).is_ok(),
            Ok(None) | Err(_) => false,
        };
        damaged += usize::from(!sound);
    }
    let ok = damaged == 0 && unreadable == 0;
    Ok(Document { ok, accounts, networks: networks.len(), damaged, unreadable })
}
