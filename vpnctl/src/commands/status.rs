//! `status`: how the networks are, and which way each machine is reached.

use proto::api::{Answer, Command, NetworkState, NetworkStatus, Path, Peer, Warning};

use super::{
    Context,
    network::{NO_NETWORK, addresses, damage_text, state_style, state_word},
};
use crate::{
    client::not_understood,
    failure::Failure,
    show::{Cell, Style, Table, Ui, bytes, milliseconds, printable},
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

/// What a state that nobody chose means, and what to do.
fn advice(state: NetworkState) -> &'static [&'static str] {
    match state {
        NetworkState::Stale => &[
            "No signer has renewed the network for a month: who was removed or added",
            "since is not known here. Start a signer (vpnctl signer list) and the",
            "coordinator, and check this machine's clock.",
        ],
        NetworkState::Forked => &[
            "The signers' history has two ends: one of them was stolen, or the coordinator",
            "lost a change. This machine keeps what it saw first and takes no more changes.",
            "The recovery key decides, on one machine: vpnctl recover",
        ],
        NetworkState::Removed => &[
            "A signer removed this machine; nobody answers it any more.",
            "Ask for a new invite, then: vpnctl leave, vpnctl join TOKEN",
        ],
        NetworkState::Up | NetworkState::Down | NetworkState::Pending | NetworkState::Damaged => &[],
    }
}

fn row(peer: &Peer) -> Vec<Cell> {
    // A machine that no signer has taken in yet has only the long address, which would break the columns.
    let address =
        peer.ipv4.map_or_else(|| Cell::new("IPv6 only").style(Style::Dim), |ip| Cell::new(ip.to_string()));
    vec![
        Cell::new(&peer.name),
        address,
        Cell::new(path_word(peer.path)).style(path_style(peer.path)),
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

fn warning_text(warning: Warning) -> &'static str {
    match warning {
        Warning::CoordinatorUnreachable => "the coordinator cannot be reached; tunnels go on, changes wait",
        Warning::NetworkUnknown => "the coordinator lost this network; its operator may have a backup",
        Warning::ChangeRefused => "the coordinator refuses this machine's changes; it is tried again",
        Warning::RelayUnreachable => "no relay can be reached; only direct paths work",
        Warning::ProxyUnreachable => "the proxy cannot be reached; check vpnd's --proxy, or https_proxy",
        Warning::NotAProxy => "what answers as the proxy is no HTTP proxy; check vpnd's --proxy",
        Warning::ProxyLogin => "the proxy takes no login from here; see vpnd's --proxy-credentials",
        Warning::ProxyRefuses => "the proxy lets this machine not connect; ask who runs it",
        Warning::WrongPin => "the coordinator does not hold the key that this network pinned",
        Warning::CoordinatorUntrusted => "the coordinator shows what no signer signed; it is not believed",
        Warning::ClockWrong => "this machine's clock is wrong; set it, for others cannot find it",
        Warning::InviteOverused => "more machines used an invite than it allows; none is accepted",
        Warning::DataPathDown => "the data path does not run; it is being started again",
        Warning::InterfaceFailed => "the network interface cannot be made; it is tried again",
        Warning::PortTaken => "another program has vpnd's UDP port; stop it, or change --port",
        Warning::InterfaceNameTaken => "the interface's name is taken; remove it, or change --interface",
        Warning::NoTun => "/dev/net/tun is missing; load it (modprobe tun), or give it here",
        Warning::StateNotWritable => "the state directory cannot be written; make room, or check it",
        Warning::Renamed => "another machine had this one's name first; it got another",
        Warning::Other => "something that this vpnctl does not know; is it older than vpnd?",
    }
}
