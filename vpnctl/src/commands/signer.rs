//! `signer list`, `signer add`, `signer remove`, `recover`.

use std::{collections::BTreeSet, io};

use proto::api::{Answer, Command, ErrorCode, Machine, RecoverFrom, Recovery, RecoveryRoster};
use serde::Serialize;

use super::{Context, network::addresses};
use crate::{
    cli::{self, SignerCommand},
    client::not_understood,
    failure::Failure,
    password,
    show::{Cell, Style, Table, printable},
};

const NOT_RECOVERED: &str = "the network was not recovered";

pub(super) fn run(context: &Context<'_>, args: cli::Signer) -> Result<(), Failure> {
    match args.command {
        None | Some(SignerCommand::List) => list(context),
        Some(SignerCommand::Add { name }) => {
            let text = format!("{} may sign now.\n", printable(&name));
            context.ask_done(Command::SignerAdd { name }, &text)
        }
        Some(SignerCommand::Remove { name }) => {
            let text = format!("{} may not sign any more. It is in the network still.\n", printable(&name));
            context.ask_done(Command::SignerRemove { name }, &text)
        }
    }
}

fn list(context: &Context<'_>) -> Result<(), Failure> {
    let Answer::Machines(mut signers) = context.ask(Command::MachinesList {})? else {
        return Err(not_understood());
    };
    signers.retain(|machine| machine.signer);
    context.show(&Signers { signers: signers.iter().map(Signer::of).collect() }, || {
        let mut table = Table::new(&["SIGNER", "NOTES"]);
        for signer in &signers {
            let notes = if signer.this { "this one" } else { "-" };
            table.row(vec![Cell::new(&signer.name), Cell::new(notes).style(Style::Dim)]);
        }
        table.render(context.ui, "")
    })
}

pub(super) fn recover(context: &Context<'_>, args: cli::Recover) -> Result<(), Failure> {
    context.check_daemon()?;
    let key = password::recovery_key(&args.key)?;
    let Answer::Recovery(found) = context.ask(Command::RecoveryShow { key: key.clone() })? else {
        return Err(not_understood());
    };
    if !args.yes {
        context.ui.progress(&shown(context, &found));
    }
    let from = match args.from {
        Some(cli::Base::Newest) => RecoverFrom::Newest,
        Some(cli::Base::Own) => RecoverFrom::Own,
        None => choose(&found, args.yes)?,
    };
    let keep = match (args.keep, args.yes) {
        (Some(keep), _) => Some(keep),
        (None, true) => None,
        (None, false) => {
            let typed = context.asked(NOT_RECOVERED, "Keep which machines? Names, or Enter for all:")?;
            let names: Vec<String> = typed.split([' ', ',']).map(str::to_owned).collect();
            let names: Vec<String> = names.into_iter().filter(|name| !name.is_empty()).collect();
            (!names.is_empty()).then_some(names)
        }
    };
    let question = "Recover it? This machine becomes the only signer, and all invites end.";
    if !args.yes && !context.agreed(NOT_RECOVERED, question)? {
        context.ui.progress("Nothing was recovered.");
        return Ok(());
    }
    let command = Command::Recover { key, from, keep, machine: args.machine, alias: args.alias };
    let Answer::Recovered(recovered) = context.ask(command)? else {
        return Err(not_understood());
    };
    context.show(&recovered, || {
        let (network, machine) = (printable(&recovered.network), printable(&recovered.machine));
        let mut text = format!(
            "Recovered {network}. This machine is in it as {machine}, its only signer: {}\n",
            addresses(recovered.ipv4, recovered.ipv6)
        );
        if !recovered.removed.is_empty() {
            text += &format!("Removed: {}\n", printable(&recovered.removed.join(", ")));
        }
        text + "Make another machine a signer too: vpnctl signer add NAME\n"
    })
}

/// Where to start from, if the person did not say.
fn choose(found: &Recovery, yes: bool) -> Result<RecoverFrom, Failure> {
    match (&found.newest, &found.own) {
        (None, _) => Ok(RecoverFrom::Own),
        (_, None) => Ok(RecoverFrom::Newest),
        (Some(newest), Some(own)) if newest == own => Ok(RecoverFrom::Newest),
        _ => {
            let why = "the coordinator's roster and this machine's last one differ";
            let next = if yes {
                "see them without --yes, then say --from newest or --from own"
            } else {
                "if a thief signed the newest one: vpnctl recover --from own, otherwise --from newest"
            };
            Err(Failure::new(ErrorCode::Usage, NOT_RECOVERED, why, next))
        }
    }
}

/// Both rosters side by side.
fn shown(context: &Context<'_>, found: &Recovery) -> String {
    let of = |roster: &Option<RecoveryRoster>| match roster {
        None => "none".to_owned(),
        Some(roster) => format!("generation {}, version {}", roster.generation, roster.version),
    };
    let mut text = format!(
        "{}\n  newest (the coordinator's): {}\n  own (this machine's last):  {}\n\n",
        printable(&found.network),
        of(&found.newest),
        of(&found.own)
    );
    let sides = [&found.newest, &found.own];
    let names: BTreeSet<&str> = sides
        .iter()
        .filter_map(|roster| roster.as_ref())
        .flat_map(|r| &r.machines)
        .map(|m| m.name.as_str())
        .collect();
    let mut table = Table::new(&["MACHINE", "NEWEST", "OWN"]);
    for name in names {
        let mut row = vec![Cell::new(name)];
        for roster in sides {
            let machine =
                roster.iter().flat_map(|roster| &roster.machines).find(|machine| machine.name == name);
            row.push(Cell::or_hyphen(
                machine.map(|machine| if machine.signer { "signer" } else { "member" }),
            ));
        }
        table.row(row);
    }
    text += &table.render(&context.ui.aside(), "  ");
    text
}

impl Context<'_> {
    /// A line that the person types.
    fn asked(&self, what: &str, question: &str) -> Result<String, Failure> {
        self.need_terminal(what)?;
        self.ui.ask(question);
        let mut answer = String::new();
        io::stdin().read_line(&mut answer)?;
        Ok(answer.trim().to_owned())
    }
}

#[derive(Serialize)]
struct Signers<'a> {
    signers: Vec<Signer<'a>>,
}

#[derive(Serialize)]
struct Signer<'a> {
    name: &'a str,
    this: bool,
}

impl<'a> Signer<'a> {
    fn of(machine: &'a Machine) -> Self {
        Self { name: &machine.name, this: machine.this }
    }
}
