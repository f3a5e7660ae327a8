//! `coordinator check`.

use clap::Args;
use serde::Serialize;

use super::{Data, Failure, Output};

/// Checks the database.
#[derive(Args)]
#[command(after_help = "Example:\n  coordinator check\n\nWorks while `coordinator serve` runs.")]
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
}

impl Check {
    pub(super) async fn run(self, out: &Output) -> Result<(), Failure> {
        let failed = Failure::store("the database is not in order");
        let store = self.data.dir().open().await.map_err(&failed)?;
        store.check_structure().await.map_err(&failed)?;
        let accounts = store.accounts().await.map_err(&failed)?.len();
        let networks = store.networks().await.map_err(&failed)?;
        let mut damaged = 0;
        for network in &networks {
            let sound = match store.state(network).await {
                Ok(Some(state)) => state.verify(network).is_ok(),
                Ok(None) | Err(_) => false,
            };
            damaged += usize::from(!sound);
        }
        store.close().await;
        let document = Document { ok: damaged == 0, accounts, networks: networks.len(), damaged };
        if damaged > 0 {
            return Err(Failure::new(
                "the database is not in order",
                format!("the rosters of {damaged} of {} networks are not what was signed", networks.len()),
                "restore a backup with `coordinator restore`; machines then bring what is newer in it themselves",
            ));
        }
        let text = format!(
            "The database is in order: {accounts} accounts, {} networks, all signatures good.",
            networks.len()
        );
        out.show(&document, &text)
    }
}
