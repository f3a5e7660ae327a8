//! `relay list`, `relay add`, `relay remove`.

use proto::api::{Answer, Command, Relay};
use serde::Serialize;

use super::Context;
use crate::{
    cli::{self, RelayCommand},
    client::not_understood,
    failure::Failure,
    show::{Cell, Style, Table, printable},
};

pub(super) fn run(context: &Context<'_>, args: cli::Relay) -> Result<(), Failure> {
    match args.command {
        None | Some(RelayCommand::List) => list(context),
        Some(RelayCommand::Add { url }) => {
            let text = match &url {
                Some(url) => format!("{} is a relay of the network now.\n", printable(url)),
                None => "The relays that the coordinator offers are in the network now.\n".to_owned(),
            };
            context.ask_done(Command::RelayAdd { url }, &text)
        }
        Some(RelayCommand::Remove { url }) => {
            let text = format!("{} is no relay of the network any more.\n", printable(&url));
            context.ask_done(Command::RelayRemove { url }, &text)
        }
    }
}

fn list(context: &Context<'_>) -> Result<(), Failure> {
    let Answer::Relays(relays) = context.ask(Command::RelayList {})? else {
        return Err(not_understood());
    };
    context.show(&Relays { relays: &relays }, || {
        if relays.is_empty() {
            return "There are no relays: only direct paths work.\n".to_owned();
        }
        let mut table = Table::new(&["RELAY", "NOTES"]);
        for relay in &relays {
            let notes = match (relay.used, relay.offered) {
                (false, _) => "offered, not used",
                (true, Some(false)) => "not offered any more",
                (true, _) => "in use",
            };
            table.row(vec![Cell::new(&relay.url), Cell::new(notes).style(Style::Dim)]);
        }
        table.render(context.ui, "")
    })
}

#[derive(Serialize)]
struct Relays<'a> {
    relays: &'a [Relay],
}
