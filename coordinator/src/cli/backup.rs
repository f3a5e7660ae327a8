//! `coordinator backup` and `coordinator restore`.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::{Data, Failure, Output};

/// Writes a backup.
#[derive(Args)]
#[command(after_help = "Example:\n  tacet-coordinator backup /root/tacet-coordinator.backup\n\n\
    Works while `tacet-coordinator serve` runs. The file holds the coordinator's own keys, and the keys of all rows: keep it as \
    you keep those, and no longer than you need it. What is removed later is in it still.")]
pub(super) struct Backup {
    #[command(flatten)]
    data: Data,
    /// The file to write; it must not exist.
    file: PathBuf,
}

/// Puts a backup back.
#[derive(Args)]
#[command(after_help = "Example:\n  systemctl stop tacet-coordinator\n  \
    tacet-coordinator restore /root/tacet-coordinator.backup --replace\n  systemctl start tacet-coordinator\n\n\
    Machines notice that rosters went back, and bring the newest again by themselves. What the backup replaces is \
    overwritten.")]
pub(super) struct Restore {
    #[command(flatten)]
    data: Data,
    /// The file that `coordinator backup` wrote.
    file: PathBuf,
    /// Overwrite the database that is there.
    #[arg(long)]
    replace: bool,
}

#[derive(Serialize)]
struct Document {
    file: String,
}

impl Backup {
    pub(super) async fn run(self, out: &Output) -> Result<(), Failure> {
        let failed = Failure::store("no backup was written");
        self.data.dir().backup(&self.file).await.map_err(failed)?;
        let file = self.file.display().to_string();
        let text = format!(
            "Written: {file}. It holds the coordinator's own keys and what may be removed later: keep it safe, and not for ever."
        );
        out.show(&Document { file }, &text)
    }
}

impl Restore {
    pub(super) async fn run(self, out: &Output) -> Result<(), Failure> {
        let failed = Failure::store("the backup was not restored");
        let dir = self.data.dir();
        let lock = dir.lock().map_err(&failed)?;
        dir.restore(&self.file, self.replace, &lock).await.map_err(&failed)?;
        let file = self.file.display().to_string();
        out.show(&Document { file }, "Restored. Start the coordinator again.")
    }
}
