//! `netcheck`: what the network around this machine allows.

use std::net::IpAddr;

use proto::api::{
    Addresses, Answer, Checked, Clock, Command, Family, Mapping, MappingProtocol, MappingState, NatKind,
    Netcheck, PortMapping, Portal, Server, ServerState,
};

use super::Context;
use crate::{
    client::not_understood,
    failure::Failure,
    show::{Cell, Style, Table, Ui, milliseconds, printable},
};

/// Columns of what a line is about.
const LABEL: usize = 15;

pub(super) fn run(context: &Context<'_>) -> Result<(), Failure> {
    let Answer::Netcheck(measured) = context.ask(Command::Netcheck {})? else {
        return Err(not_understood());
    };
    context.show(&measured, || text(context.ui, &measured))
}

fn text(ui: &Ui, measured: &Netcheck) -> String {
    let mut text = String::new();
    let mut line = |label: &str, (said, style): (String, Style)| {
        text += &format!("{label:<LABEL$} {}\n", ui.paint(&printable(&said), style));
    };
    line("UDP", udp(measured));
    line("NAT", nat(measured));
    line("IPv6", ipv6(&measured.ipv6));
    line("port mapping", port_mapping(&measured.port_mapping));
    line("captive portal", portal(measured.captive_portal));
    line("proxy", measured.proxy.clone().map_or(("none".to_owned(), Style::Plain), |at| (at, Style::Fair)));
    if measured.clock == Some(Clock::Wrong) {
        line("clock", ("wrong: the relays have another day".to_owned(), Style::Bad));
    }
    for network in &measured.networks {
        text += &section(ui, network);
    }
    if measured.networks.is_empty() {
        text += "\nThis machine knows no coordinator and no relay to ask.\n";
    }
    text
}

fn udp(measured: &Netcheck) -> (String, Style) {
    let relays = || measured.networks.iter().flat_map(|network| &network.relays);
    let answered = relays().flat_map(|relay| &relay.udp).any(|udp| udp.rtt_ms.is_some());
    let there = relays().any(|relay| relay.state == ServerState::Answers);
    let (said, style) = match measured.udp {
        Some(true) if answered => ("works", Style::Good),
        Some(true) => ("works, by a direct path; no relay's STUN server answers", Style::Fair),
        Some(false) if there => ("blocked, here or at the relays: no STUN server answers", Style::Fair),
        Some(false) => ("unknown: no relay answers, whether over UDP or TCP", Style::Dim),
        None => ("unknown: there is no relay to ask", Style::Dim),
    };
    (said.to_owned(), style)
}

fn nat(measured: &Netcheck) -> (String, Style) {
    let nat = measured.nat;
    let (kind, style) = match nat.kind {
        Some(NatKind::Open) => ("none", Style::Good),
        Some(NatKind::Easy) => ("easy", Style::Good),
        Some(NatKind::Hard) => ("hard", Style::Fair),
        None => ("unknown", Style::Dim),
    };
    let how = match nat.mapping {
        Mapping::NoNat => "",
        Mapping::EndpointIndependent => " (endpoint-independent mapping)",
        Mapping::PortIndependent => " (one port of an address is mapped as the other)",
        Mapping::AddressDependent => " (address-dependent mapping)",
        Mapping::AddressAndPortDependent => " (address- and port-dependent mapping)",
        Mapping::Dependent => " (mapping dependent on whom it sends to)",
        Mapping::Unknown => " (it takes answers of two STUN servers to tell)",
    };
    let port = match nat.port_kept {
        Some(true) if nat.mapping != Mapping::NoNat => ", port kept",
        Some(false) => ", port changed",
        _ => "",
    };
    let way = match (list(&measured.ipv4.local), list(&measured.ipv4.public)) {
        (_, None) => String::new(),
        (None, Some(public)) => format!(": {public}"),
        (Some(own), Some(public)) if own == public => format!(": {public}"),
        (Some(own), Some(public)) => format!(": {own} is seen as {public}"),
    };
    (format!("{kind}{how}{way}{port}"), style)
}

fn ipv6(ipv6: &Addresses) -> (String, Style) {
    match (list(&ipv6.local), ipv6.works) {
        (None, _) => ("none: this machine has no global address".to_owned(), Style::Plain),
        (Some(own), Some(true)) => (format!("works: {own}"), Style::Good),
        (Some(own), Some(false)) => (format!("{own}, and no relay answers by it"), Style::Fair),
        (Some(own), None) => (format!("{own}; no relay has an IPv6 address to ask"), Style::Plain),
    }
}

fn port_mapping(mapping: &PortMapping) -> (String, Style) {
    let said = match mapping.state {
        MappingState::Off => return ("off (--no-port-mapping)".to_owned(), Style::Plain),
        MappingState::NotNeeded => "not needed: no router translates this machine's address",
        MappingState::None => "none: the router answers neither PCP, NAT-PMP nor UPnP",
        MappingState::Answers => {
            let names: Vec<&str> =
                mapping.protocols.iter().map(|protocol| protocol_name(*protocol)).collect();
            return (format!("the router answers {}", names.join(", ")), Style::Good);
        }
    };
    (said.to_owned(), Style::Plain)
}

fn protocol_name(protocol: MappingProtocol) -> &'static str {
    match protocol {
        MappingProtocol::Pcp => "PCP",
        MappingProtocol::NatPmp => "NAT-PMP",
        MappingProtocol::Upnp => "UPnP",
    }
}

fn portal(portal: Portal) -> (String, Style) {
    let (said, style) = match portal {
        Portal::None => ("none", Style::Plain),
        Portal::Redirect => {
            ("yes: a plain request is led to another host; log in with a browser", Style::Bad)
        }
        Portal::Certificate => {
            ("likely: something else answers in all servers' place; log in with a browser", Style::Bad)
        }
        Portal::Unknown => ("unknown: no server answered", Style::Dim),
    };
    (said.to_owned(), style)
}

fn section(ui: &Ui, network: &Checked) -> String {
    let title = network.name.as_deref().map_or_else(|| "no network".to_owned(), printable);
    let mut text = format!("\n{}\n", ui.paint(&title, Style::Strong));
    if let Some(mapped) = network.mapped {
        text += &format!("  The router leads {mapped} here.\n");
    }
    let mut table = Table::new(&["SERVER", "IS", ">CONNECT", ">TLS", ">UDP IPv4", ">UDP IPv6", "STATE"]);
    table.row(row("coordinator", &network.coordinator));
    for relay in &network.relays {
        table.row(row("relay", relay));
    }
    text + &table.render(ui, "  ")
}

fn row(is: &str, server: &Server) -> Vec<Cell> {
    let udp = |family: Family| {
        let asked = server.udp.iter().find(|udp| udp.family == family);
        match asked.map(|udp| udp.rtt_ms) {
            Some(Some(rtt)) => Cell::new(milliseconds(rtt)),
            Some(None) => Cell::new("no answer").style(Style::Fair),
            None => Cell::or_hyphen(None::<String>),
        }
    };
    let style = if server.state == ServerState::Answers { Style::Good } else { Style::Bad };
    vec![
        Cell::new(&server.url),
        Cell::new(is),
        Cell::or_hyphen(server.connect_ms.map(milliseconds)),
        Cell::or_hyphen(server.rtt_ms.map(milliseconds)),
        udp(Family::Ipv4),
        udp(Family::Ipv6),
        Cell::new(state_text(server.state)).style(style),
    ]
}

fn state_text(state: ServerState) -> &'static str {
    match state {
        ServerState::Answers => "answers",
        ServerState::NameUnknown => "its name cannot be resolved",
        ServerState::ResolverSilent => "the resolver does not answer",
        ServerState::NoRoute => "there is no way to it",
        ServerState::Unreachable => "something on the way turns it back",
        ServerState::Refused => "refused: nobody listens, or a firewall",
        ServerState::Silent => "nothing comes back",
        ServerState::ProxyUnreachable => "the proxy cannot be reached",
        ServerState::NotAProxy => "what answers as the proxy is none",
        ServerState::ProxyLogin => "the proxy takes no login from here",
        ServerState::ProxyRefuses => "the proxy does not allow it",
        ServerState::ProxyFails => "the proxy does not reach it",
        ServerState::TlsSilent => "connects, and then says nothing",
        ServerState::LargeLost => "large packets get lost on the way",
        ServerState::Stranger => "somebody else answers",
        ServerState::Other => "something that this vpnctl does not know",
    }
}

fn list(addresses: &[IpAddr]) -> Option<String> {
    let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    (!texts.is_empty()).then(|| texts.join(", "))
}
