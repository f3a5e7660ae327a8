//! `network create`, `network list`, `up`, `down`, `join`, `leave`.

use std::{fmt::Display, net::Ipv6Addr, process::ExitCode};

use proto::api::{Answer, Command, Damage, NetworkState, NetworkSummary};
use serde::Serialize;

use super::{Context, Outcome};
use crate::{
    cli::{Join, Leave, Network},
    client::not_understood,
    failure::Failure,
    password,
    show::{Cell, Style, Table, printable},
};

/// What a person in no network does next.
pub(super) const NO_NETWORK: &str = "\
This machine is in no network.
  To join one:   vpnctl join TOKEN            (a machine in it prints the token with vpnctl invite)
  To make one:   vpnctl account create NAME --enrol TOKEN
                 vpnctl network create NAME
";

pub(super) fn run(context: &Context<'_>, command: Network) -> Result<(), Failure> {
    match command {
        Network::Create { name, machine, alias, coordinator } => {
            create(context, Command::NetworkCreate { name, machine, alias, coordinator })
        }
        Network::List => {
            let networks = networks(context, Command::NetworkList {})?;
            context.show(&Networks { networks: &networks }, || list(context, &networks))
        }
    }
}

/// Ends with 1 if this machine was removed from one of them: no wish of its own brings that up.
pub(super) fn up(context: &Context<'_>) -> Outcome {
    let networks = networks(context, Command::Up {})?;
    context.show(&Networks { networks: &networks }, || sentences(&networks))?;
    let removed = networks.iter().any(|network| network.state == NetworkState::Removed);
    Ok(if removed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

pub(super) fn down(context: &Context<'_>) -> Result<(), Failure> {
    let networks = networks(context, Command::Down {})?;
    context.show(&Networks { networks: &networks }, || sentences(&networks))
}

pub(super) fn join(context: &Context<'_>, args: &Join) -> Result<(), Failure> {
    let token = password::token(&args.token)?;
    let command = Command::Join { token, machine: args.machine.clone(), alias: args.alias.clone() };
    let Answer::Joined(joined) = context.ask(command)? else {
        return Err(not_understood());
    };
    context.show(&joined, || {
        let mut text = format!(
            "Joined {} as {}: {}\n",
            named(joined.roster_name.as_ref().unwrap_or(&joined.network), &joined.network),
            printable(&joined.machine),
            addresses(joined.ipv4, joined.ipv6)
        );
        if let Some(wanted) = &joined.wanted {
            text.push_str(&format!("Another machine is named {} already.\n", printable(wanted)));
        }
        if joined.provisional {
            text.push_str("The membership is provisional until a signer that is up takes it into the roster");
            text.push_str(if joined.ipv4.is_some() {
                ".\n"
            } else {
                ",\nwhich also gives it an IPv4 address.\n"
            });
        }
        text.push_str("See the others: vpnctl status\n");
        text
    })
}

pub(super) fn leave(context: &Context<'_>, args: &Leave) -> Result<(), Failure> {
    if !args.yes {
        // Which one is left is vpnd's to say; the person should see its name before.
        let mut networks = networks(context, Command::NetworkList {})?;
        networks.retain(|network| context.network.as_ref().is_none_or(|name| *name == network.name));
        let question = match networks.as_slice() {
            [network] => format!(
                "Leave {}? This machine's keys in it are erased; it needs a new invite to come back.",
                printable(&network.name)
            ),
            _ => String::new(),
        };
        if !question.is_empty() && !context.agreed("the network was not left", &question)? {
            context.ui.progress("Nothing was left.");
            return Ok(());
        }
    }
    let Answer::Left(left) = context.ask(Command::Leave { force: args.force })? else {
        return Err(not_understood());
    };
    context.show(&left, || {
        let (network, machine) = (printable(&left.network), printable(&left.machine));
        let mut text = format!("Left {network}. What this machine kept of it is erased.\n");
        if left.listed {
            text += &format!(
                "{network} lists it still. On a signer: vpnctl machines remove {machine}\n\
                 If this was the last one, its recovery key takes the network back: vpnctl recover\n"
            );
        }
        text
    })
}

fn create(context: &Context<'_>, command: Command) -> Result<(), Failure> {
    let Answer::NetworkCreated(made) = context.ask(command)? else {
        return Err(not_understood());
    };
    let text = || {
        let rule = "=".repeat(78);
        let own = made.roster_name.as_ref().unwrap_or(&made.network);
        let (network, machine) = (printable(own), printable(&made.machine));
        let heading = context
            .ui
            .paint(&format!("RECOVERY KEY of {network}: shown this once, kept nowhere"), Style::Strong);
        format!(
            "Made {made}, and this machine is in it as {machine}, its first signer.\n\
             {addresses}\n\
             \n\
             {rule}\n\
             {heading}\n\
             \n\
             {key}\n\
             \n\
             Write it down or print it, and keep it away from this machine. Whoever has it\n\
             owns the network; without it, a lost or stolen signer cannot be undone.\n\
             {rule}\n\
             \n\
             Let another machine in: vpnctl invite\n",
            made = named(own, &made.network),
            addresses = addresses(made.ipv4, made.ipv6),
            key = printable(made.recovery_key.expose()),
        )
    };
    let here = printable(&made.network);
    let next = format!("leave it and make it anew: vpnctl --network {here} leave --force");
    context.show_once(&made, text, "the network is made, and its recovery key is lost", next)
}

/// A network's own name, and the one that this machine has for it if that is another.
pub(super) fn named(own: &str, here: &str) -> String {
    if own == here {
        return printable(own);
    }
    format!("{} (here: {})", printable(own), printable(here))
}

fn networks(context: &Context<'_>, command: Command) -> Result<Vec<NetworkSummary>, Failure> {
    let Answer::Networks(networks) = context.ask(command)? else {
        return Err(not_understood());
    };
    Ok(networks)
}

fn list(context: &Context<'_>, networks: &[NetworkSummary]) -> String {
    if networks.is_empty() {
        return NO_NETWORK.to_owned();
    }
    let mut table = Table::new(&["NETWORK", "STATE", "THIS MACHINE", ">MACHINES", "COORDINATOR"]);
    for network in networks {
        let known = network.damage.is_none();
        table.row(vec![
            Cell::new(&network.name),
            Cell::new(state_word(network.state)).style(state_style(network.state)),
            Cell::or_hyphen(known.then_some(&network.machine)),
            Cell::or_hyphen(known.then(|| network.machines.to_string())),
            Cell::or_hyphen(known.then_some(&network.coordinator)),
        ]);
    }
    let damaged = networks.iter().filter_map(|network| Some((network, network.damage.as_ref()?)));
    let told = damaged.map(|(network, damage)| {
        format!("\n{} is damaged.\n{}", printable(&network.name), damage_text(damage))
    });
    table.render(context.ui, "") + &told.collect::<String>()
}

fn sentences(networks: &[NetworkSummary]) -> String {
    if networks.is_empty() {
        return NO_NETWORK.to_owned();
    }
    networks
        .iter()
        .map(|network| format!("{} is {}.\n", printable(&network.name), state_phrase(network.state)))
        .collect()
}

fn state_phrase(state: NetworkState) -> &'static str {
    match state {
        NetworkState::Up => "up",
        NetworkState::Down => "down",
        NetworkState::Pending => "coming up; see vpnctl status",
        NetworkState::Stale => "up with an old roster; see vpnctl status",
        NetworkState::Forked => "forked; see vpnctl status",
        NetworkState::Removed => "no longer open to this machine: it was removed; see vpnctl status",
        NetworkState::Damaged => "damaged; see vpnctl status",
    }
}

/// The state as the JSON has it.
pub(super) fn state_word(state: NetworkState) -> &'static str {
    match state {
        NetworkState::Up => "up",
        NetworkState::Down => "down",
        NetworkState::Pending => "pending",
        NetworkState::Stale => "stale",
        NetworkState::Forked => "forked",
        NetworkState::Removed => "removed",
        NetworkState::Damaged => "damaged",
    }
}

pub(super) fn state_style(state: NetworkState) -> Style {
    match state {
        NetworkState::Up => Style::Good,
        NetworkState::Down => Style::Dim,
        NetworkState::Pending | NetworkState::Stale => Style::Fair,
        NetworkState::Forked | NetworkState::Removed | NetworkState::Damaged => Style::Bad,
    }
}

/// What keeps a network from being read, and what to do.
pub(super) fn damage_text(damage: &Damage) -> String {
    let (why, next) = (printable(&damage.why), printable(&damage.next));
    format!(
        "  why:  {why}\n  next: {next}\nNothing of it was changed. The other networks are not concerned.\n"
    )
}

/// `10.1.2.3, fd00::1`, or the IPv6 address alone.
pub(super) fn addresses(ipv4: Option<impl Display>, ipv6: Ipv6Addr) -> String {
    ipv4.map_or_else(|| ipv6.to_string(), |ipv4| format!("{ipv4}, {ipv6}"))
}

#[derive(Serialize)]
struct Networks<'a> {
    networks: &'a [NetworkSummary],
}
