//! `machines list`, `machines rename`, `machines remove`, `ip`.

use std::net::{Ipv4Addr, Ipv6Addr};

use proto::api::{Answer, Command, ErrorCode, Machine};
use serde::Serialize;

use super::Context;
use crate::{
    cli::{self, MachinesCommand},
    client::not_understood,
    failure::Failure,
    show::{Cell, Style, Table, printable},
};

pub(super) fn run(context: &Context<'_>, args: cli::Machines) -> Result<(), Failure> {
    match args.command {
        None | Some(MachinesCommand::List) => list(context),
        Some(MachinesCommand::Rename { old, new }) => {
            let text = format!("{} is now {}.\n", printable(&old), printable(&new));
            context.ask_done(Command::MachinesRename { old, new }, &text)
        }
        Some(MachinesCommand::Remove { name, yes }) => remove(context, name, yes),
    }
}

pub(super) fn ip(context: &Context<'_>, args: cli::Ip) -> Result<(), Failure> {
    let Answer::Machine(machine) = context.ask(Command::Ip { name: args.name })? else {
        return Err(not_understood());
    };
    if args.ipv4 && machine.ipv4.is_none() {
        return Err(Failure::new(
            ErrorCode::Failed,
            "there is no IPv4 address",
            "the machine gets one when a signer takes it into the roster",
            "use its IPv6 address, which works at once: vpnctl ip -6",
        ));
    }
    let ipv4 = machine.ipv4.filter(|_| !args.ipv6);
    let ipv6 = Some(machine.ipv6).filter(|_| !args.ipv4);
    context.show(&Addresses { name: &machine.name, ipv4: machine.ipv4, ipv6: machine.ipv6 }, || {
        let lines = ipv4.iter().map(ToString::to_string).chain(ipv6.iter().map(ToString::to_string));
        lines.map(|line| line + "\n").collect()
    })
}

fn list(context: &Context<'_>) -> Result<(), Failure> {
    let Answer::Machines(machines) = context.ask(Command::MachinesList {})? else {
        return Err(not_understood());
    };
    context.show(&Machines { machines: &machines }, || {
        let mut table = Table::new(&["MACHINE", "IPV4", "IPV6", "GROUPS", "NOTES"]);
        for machine in &machines {
            let groups = (!machine.groups.is_empty()).then(|| machine.groups.join(","));
            table.row(vec![
                Cell::new(&machine.name),
                Cell::or_hyphen(machine.ipv4),
                Cell::new(machine.ipv6.to_string()),
                Cell::or_hyphen(groups),
                Cell::new(notes(machine)).style(Style::Dim),
            ]);
        }
        table.render(context.ui, "")
    })
}

fn remove(context: &Context<'_>, name: String, yes: bool) -> Result<(), Failure> {
    let question =
        format!("Remove {}? It is cut off at once, and needs a new invite to come back.", printable(&name));
    context.check_daemon()?;
    if !yes && !context.agreed("the machine was not removed", &question)? {
        context.ui.progress("Nothing was removed.");
        return Ok(());
    }
    let Answer::MachineRemoved(removed) = context.ask(Command::MachinesRemove { name })? else {
        return Err(not_understood());
    };
    context.show(&removed, || {
        let invites = match removed.invites {
            0 => String::new(),
            1 => " One invite ended with it.".to_owned(),
            many => format!(" {many} invites ended with it."),
        };
        format!("{} is removed.{invites}\n", printable(&removed.name))
    })
}

fn notes(machine: &Machine) -> String {
    let notes =
        [(machine.this, "this one"), (machine.signer, "signer"), (machine.provisional, "provisional")];
    let notes: Vec<&str> = notes.iter().filter(|(holds, _)| *holds).map(|(_, note)| *note).collect();
    notes.join(", ")
}

#[derive(Serialize)]
struct Machines<'a> {
    machines: &'a [Machine],
}

#[derive(Serialize)]
struct Addresses<'a> {
    name: &'a str,
    ipv4: Option<Ipv4Addr>,
    ipv6: Ipv6Addr,
}
