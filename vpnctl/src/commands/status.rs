//! `status`: how the networks are, and which way each machine is reached.

use proto::api::{Answer, Command, NetworkStatus, Path, Peer};

use super::{
    Context,
    network::{NO_NETWORK, addresses, damage_text, state_style, state_word},
};
use crate::{
    client::not_understood,
    failure::Failure,
    show::{Cell, Style, Table, Ui, bytes, milliseconds, printable},
    words::{advice, warning_text},
};

pub(super) fn run(context: &Context<'_>) -> Result<(), Failure> {
    let Answer::Status(status) = context.ask(Command::Status {})? else {
        return Err(not_understood());
    };
    context.show(&status, || {
        if status.networks.is_empty() {
            return NO_NETWORK.to_owned();
        }
        let sections: Vec<String> =
            status.networks.iter().map(|network| section(context.ui, network)).collect();
        sections.join("\n")
    })
}

fn section(ui: &Ui, network: &NetworkStatus) -> String {
    if let Some(damage) = &network.damage {
        let name = ui.paint(&printable(&network.name), Style::Strong);
        let state = ui.paint(state_word(network.state), state_style(network.state));
        return format!("{name}  {state}\n{}", damage_text(damage));
    }
    let own = &network.machine;
    let signer = if own.signer { ", signer" } else { "" };
    let mut text = format!(
        "{name}  {state}  generation {generation}, version {version}, epoch {epoch}\n  {machine} (this machine{signer})\n  {addresses}\n",
        name = ui.paint(&printable(&network.name), Style::Strong),
        state = ui.paint(state_word(network.state), state_style(network.state)),
        generation = network.generation,
        version = network.version,
        epoch = network.epoch,
        machine = printable(&own.name),
        addresses = addresses(own.ipv4, own.ipv6),
    );
    if let Some(own) = &network.roster_name {
        text.push_str(&format!("  Its signers call it {}.\n", printable(own)));
    }
    text.extend(advice(network.state).iter().map(|line| format!("  {line}\n")));
    for warning in &network.warnings {
        text.push_str(&format!("  {} {}\n", ui.paint("warning:", Style::Fair), warning_text(*warning)));
    }
    text.push('\n');
    if network.peers.is_empty() {
        text.push_str("  No other machine yet. Let one in: vpnctl invite\n");
        return text;
    }
    let mut table = Table::new(&["MACHINE", "ADDRESS", "PATH", ">RTT", ">RECEIVED", ">SENT"]);
    for peer in &network.peers {
        table.row(row(peer));
    }
    text + &table.render(ui, "  ")
}

fn row(peer: &Peer) -> Vec<Cell> {
    // A machine that no signer has taken in yet has only the long address, which would break the columns.
    let address =
        peer.ipv4.map_or_else(|| Cell::new("IPv6 only").style(Style::Dim), |ip| Cell::new(ip.to_string()));
    vec![
        Cell::new(&peer.name),
        address,
        if peer.silent {
            Cell::new("no answer").style(Style::Bad)
        } else {
            Cell::new(path_word(peer.path)).style(path_style(peer.path))
        },
        Cell::or_hyphen(peer.rtt_ms.map(milliseconds)),
        Cell::new(bytes(peer.rx_bytes)),
        Cell::new(bytes(peer.tx_bytes)),
    ]
}

/// The path as the JSON has it.
pub(super) fn path_word(path: Path) -> &'static str {
    match path {
        Path::Direct => "direct",
        Path::Relay => "relay",
        Path::Idle => "idle",
    }
}

pub(super) fn path_style(path: Path) -> Style {
    match path {
        Path::Direct => Style::Good,
        Path::Relay => Style::Fair,
        Path::Idle => Style::Dim,
    }
}
