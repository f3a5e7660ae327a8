//! `coordinator inventory`.

use clap::Args;
use proto::inventory::Record;

use super::{Data, Failure, Output};

/// Shows all that is stored.
#[derive(Args)]
#[command(after_help = "Example:\n  tacet-coordinator inventory\n  tacet-coordinator inventory --json\n\n\
    Works while `tacet-coordinator serve` runs. Keys are told by kind and size. Exit code 1 if something is stored that is \
    not declared.")]
pub(super) struct Inventory {
    #[command(flatten)]
    data: Data,
}

impl Inventory {
    pub(super) async fn run(self, out: &Output) -> Result<(), Failure> {
        let failed = Failure::store("the record cannot be shown");
        let dir = self.data.dir();
        let store = dir.open().await.map_err(&failed)?;
        let record = store.record(&dir).await.map_err(&failed)?;
        store.close().await;
        out.show(&record, &text(&record))?;
        match record.undeclared.len() {
            0 => Ok(()),
            n => Err(Failure::new(
                "more is stored than declared",
                format!("{n} things in the data directory are not in the inventory; the record lists them"),
                "if they are not yours, report them as a fault of Tacet",
            )),
        }
    }
}

fn text(record: &Record) -> String {
    let wide = record.items.iter().map(|held| held.item.place.len()).max().unwrap_or(0);
    let mut text = format!("Your complete record: all that this coordinator stores in {}.\n\n", record.place);
    for held in &record.items {
        let mut values = held.values.iter();
        let first = values.next().map_or("-", String::as_str);
        text += &format!("{:wide$}  {}\n{:wide$}    {first}\n", held.item.place, held.item.field, "");
        for value in values {
            text += &format!("{:wide$}    {value}\n", "");
        }
    }
    for place in &record.undeclared {
        text += &format!("\nNOT DECLARED  {place}");
    }
    text + "\nPurpose, legal ground, retention and readers of each: --json, or docs/PRIVACY.md."
}
