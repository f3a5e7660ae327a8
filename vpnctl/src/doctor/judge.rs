//! What findings mean, in the order of cause: what stands first explains most of what follows. Consequences of a fault that
//! was named are left out.

use proto::api::{
    Checked, Clock, NatKind, NetworkState, NetworkStatus, Path, Portal, Server, ServerState, Warning,
    leads_out,
};

use super::{Carried, Fault, Findings, Looked, Tunnel, Verdict};
use crate::words::{advice, warning_next, warning_text};

/// The faults and then the notes, the first cause first; nothing where all is well.
pub(crate) fn judge(findings: &Findings) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    if findings.around.clock == Some(Clock::Wrong) || warned(findings, Warning::ClockWrong) {
        verdicts.push(warning(Warning::ClockWrong));
    }
    if findings.networks.is_empty() {
        let next = "join one: vpnctl join TOKEN; or make one: vpnctl network create NAME";
        verdicts.push(Verdict::fault(Fault::NoNetwork, "this machine is in no network", next));
    }
    verdicts.extend(findings.networks.iter().flat_map(in_this_machine));
    // What keeps all servers away explains each one that is; where no network is to be up, none is missed.
    let missed = findings.networks.is_empty() || findings.networks.iter().any(is_to_be_up);
    let cut_off = missed.then(|| way_out(findings)).flatten();
    let is_cut_off = cut_off.is_some();
    verdicts.extend(cut_off);
    for network in findings.networks.iter().filter(|network| is_to_be_up(network)) {
        let checked = findings.around.networks.iter().find(|c| c.name.as_ref() == Some(&network.name));
        if let Some(checked) = checked.filter(|_| !is_cut_off) {
            verdicts.extend(servers(network, checked).into_iter().map(|verdict| verdict.of(&network.name)));
        }
        verdicts.extend(trust(network).into_iter().map(|verdict| verdict.of(&network.name)));
    }
    for tunnel in findings.tunnels.iter().filter(|tunnel| !is_switched_off(tunnel, findings)) {
        let of_tunnel = through(tunnel).into_iter();
        let of_machines = tunnel.machines.iter().flat_map(|machine| at_machine(machine, tunnel, findings));
        verdicts.extend(of_tunnel.chain(of_machines).map(|verdict| verdict.of(&tunnel.network)));
    }
    if missed && !is_cut_off {
        verdicts.extend(of_the_path(findings));
    }
    // A machine that is silent because nothing is answered here is no second fault.
    if is_cut_off {
        verdicts.retain(|verdict| verdict.fault != Fault::MachineSilent);
    }
    verdicts.sort_by_key(|verdict| verdict.note);
    verdicts
}

/// Whether a network is to be up, is whole, and this machine is in it.
fn is_to_be_up(network: &NetworkStatus) -> bool {
    matches!(
        network.state,
        NetworkState::Up | NetworkState::Pending | NetworkState::Stale | NetworkState::Forked
    )
}

/// Whether the interface of a network is off, which explains whatever does not pass by it.
fn is_switched_off(tunnel: &Tunnel, findings: &Findings) -> bool {
    let network = findings.networks.iter().find(|network| network.name == tunnel.network);
    network.is_some_and(|network| network.warnings.contains(&Warning::InterfaceDown))
}

fn warned(findings: &Findings, wanted: Warning) -> bool {
    findings.networks.iter().any(|network| network.warnings.contains(&wanted))
}

/// What a warning of `status` says.
fn warning(warning: Warning) -> Verdict {
    Verdict::fault(Fault::Warned(warning), warning_text(warning), warning_next(warning))
}

/// What a state says: its first sentence, and the rest.
fn state(state: NetworkState) -> Verdict {
    let text = advice(state).join(" ");
    let (what, next) = text.split_once(". ").unwrap_or((&text, ""));
    Verdict::fault(Fault::State(state), what, next)
}

/// What is wrong with vpnd and the host, whatever the network around.
fn in_this_machine(network: &NetworkStatus) -> Vec<Verdict> {
    const HERE: [Warning; 8] = [
        Warning::StateNotWritable,
        Warning::NoTun,
        Warning::InterfaceForbidden,
        Warning::PortTaken,
        Warning::InterfaceNameTaken,
        Warning::InterfaceFailed,
        Warning::InterfaceDown,
        Warning::DataPathDown,
    ];
    let mut verdicts = Vec::new();
    if let Some(damage) = &network.damage {
        let fault = Fault::State(NetworkState::Damaged);
        verdicts.push(Verdict::fault(fault, damage.why.clone(), damage.next.clone()));
    }
    if network.state == NetworkState::Removed {
        verdicts.push(state(NetworkState::Removed));
    }
    verdicts.extend(HERE.into_iter().filter(|known| network.warnings.contains(known)).map(warning));
    if network.state == NetworkState::Down {
        let what = "the network is down, as it was told to be";
        verdicts.push(Verdict::note(Fault::State(NetworkState::Down), what, "connect: vpnctl up"));
    }
    verdicts.into_iter().map(|verdict| verdict.of(&network.name)).collect()
}

/// What keeps every server away at once.
fn way_out(findings: &Findings) -> Option<Verdict> {
    let around = &findings.around;
    match around.captive_portal {
        Portal::Redirect | Portal::Certificate => {
            let what = "a login page of the network around stands before everything";
            let next = "open any http:// page in a browser and log in; then ask again";
            return Some(Verdict::fault(Fault::CaptivePortal, what, next));
        }
        Portal::None | Portal::Unknown => {}
    }
    let servers: Vec<&Server> = around
        .networks
        .iter()
        .flat_map(|network| std::iter::once(&network.coordinator).chain(&network.relays))
        .collect();
    let all = |wanted: &[ServerState]| {
        !servers.is_empty() && servers.iter().all(|server| wanted.contains(&server.state))
    };
    if servers.iter().all(|server| server.state != ServerState::Answers) {
        let proxy = servers.iter().find_map(|server| proxy_warning(server.state));
        if let Some(of_proxy) = proxy {
            return Some(warning(of_proxy));
        }
    }
    if all(&[ServerState::LargeLost]) {
        return Some(Verdict::fault(
            Fault::LargePacketsLost,
            "large packets get lost on the way to coordinator and relays, and nobody says so; small ones pass",
            "lower the MTU of this machine's uplink, for instance: ip link set dev eth0 mtu 1280; and tell who runs it",
        ));
    }
    if all(&[ServerState::NoRoute]) || (around.ipv4.local.is_empty() && around.ipv6.local.is_empty()) {
        let what = "this machine is offline: it has no address or no route to the coordinator and the relays";
        return Some(Verdict::fault(
            Fault::Offline,
            what,
            "connect it to a network; see: ip address, ip route",
        ));
    }
    if all(&[ServerState::NameUnknown]) {
        let what = "the names of coordinator and relays cannot be resolved";
        let next = "check /etc/resolv.conf and whether its servers are reached: resolvectl query NAME, or getent hosts NAME";
        return Some(Verdict::fault(Fault::NamesUnknown, what, next));
    }
    if all(&[ServerState::ResolverSilent]) {
        return Some(resolver_silent("the names of coordinator and relays"));
    }
    if let Some(verdict) = tcp_blocked(&servers, proxy_missing(findings)) {
        return Some(verdict);
    }
    let mut hosts: Vec<&str> = servers.iter().map(|server| host(&server.url)).collect();
    hosts.sort_unstable();
    hosts.dedup();
    let away = [ServerState::Silent, ServerState::TlsSilent, ServerState::NoRoute, ServerState::Unreachable];
    if all(&away) && hosts.len() > 1 {
        let turned_back = servers.iter().any(|server| server.state == ServerState::Unreachable);
        let what = if udp_passes(findings) {
            "neither the coordinator nor any relay answers, though UDP to other machines gets through"
        } else if turned_back {
            "something on the way turns back what goes to the coordinator and the relays: a firewall, or a router without a line"
        } else {
            "nothing gets out of the network around: neither the coordinator nor any relay answers"
        };
        let next = if proxy_missing(findings) {
            PROXY_NEXT
        } else {
            "see whether anything is reached from here; a firewall has to let out TCP to port 443, or vpnd needs --proxy"
        };
        return Some(Verdict::fault(Fault::NothingAnswers, what, next));
    }
    None
}

/// What to do where only a proxy leads out.
const PROXY_NEXT: &str =
    "programs here use a proxy and vpnd does not: start it with --proxy http://HOST:PORT";

/// Whether other programs are told to use a proxy, and vpnd is not.
fn proxy_missing(findings: &Findings) -> bool {
    findings.proxy_usual && findings.around.proxy.is_none()
}

/// That a name could not be asked for.
fn resolver_silent(what: &str) -> Verdict {
    let what = format!("this machine's resolver does not answer, or fails: {what} cannot be looked up");
    let next = "see which it is (/etc/resolv.conf, resolvectl status) and whether it is reached; tunnels go on meanwhile";
    Verdict::fault(Fault::ResolverSilent, what, next)
}

/// Servers that none is reached of by TCP, while a relay answers over UDP: it is there, and what is in between is at fault.
fn tcp_blocked(servers: &[&Server], proxy_missing: bool) -> Option<Verdict> {
    const TURNED: [ServerState; 5] = [
        ServerState::Silent,
        ServerState::TlsSilent,
        ServerState::NoRoute,
        ServerState::Unreachable,
        ServerState::Refused,
    ];
    let blocked = servers.iter().all(|server| TURNED.contains(&server.state));
    if !blocked || !servers.iter().any(|server| answers_stun(server)) {
        return None;
    }
    let what = if servers.iter().all(|server| server.state == ServerState::Refused) {
        "TCP to the coordinator and the relays is refused, though UDP gets through: a firewall in between refuses it"
    } else {
        "TCP to the coordinator and the relays gets no answer, though UDP does: a firewall in between keeps it back"
    };
    let next = if proxy_missing {
        PROXY_NEXT
    } else {
        "see whether they answer from another network: if so, let TCP to port 443 out around here, or give vpnd a --proxy; if not, their operator lets it in"
    };
    Some(Verdict::fault(Fault::TcpBlocked, what, next))
}

/// Whether a relay answers over UDP.
fn answers_stun(server: &Server) -> bool {
    server.udp.iter().any(|udp| udp.rtt_ms.is_some())
}

/// Whether UDP gets out and back: a relay answered, or another machine by a direct path that leads out.
fn udp_passes(findings: &Findings) -> bool {
    let around = &findings.around;
    let local: Vec<_> = around.ipv4.local.iter().chain(&around.ipv6.local).copied().collect();
    let mut echoes =
        findings.tunnels.iter().flat_map(|tunnel| &tunnel.machines).filter_map(|looked| looked.echo);
    let directly =
        echoes.any(|echo| echo.path == Path::Direct && echo.endpoint.is_some_and(|at| leads_out(at, &local)));
    around.udp == Some(true) || directly
}

/// Whether relays that are there, by TCP, were all asked over UDP in vain. Of one that is off nothing follows.
fn stun_is_silent(findings: &Findings) -> bool {
    let relays = || findings.around.networks.iter().flat_map(|network| &network.relays);
    let asked = |relay: &&Server| relay.state == ServerState::Answers && !relay.udp.is_empty();
    relays().any(|relay| asked(&relay)) && !relays().any(answers_stun)
}

fn proxy_warning(state: ServerState) -> Option<Warning> {
    match state {
        ServerState::ProxyUnreachable => Some(Warning::ProxyUnreachable),
        ServerState::NotAProxy => Some(Warning::NotAProxy),
        ServerState::ProxyLogin => Some(Warning::ProxyLogin),
        ServerState::ProxyRefuses => Some(Warning::ProxyRefuses),
        _ => None,
    }
}

fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.rsplit_once(':')
        .filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()))
        .map_or(rest, |(h, _)| h)
}

/// What keeps this network's own servers away.
fn servers(network: &NetworkStatus, checked: &Checked) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    let at = &checked.coordinator.url;
    let warned = |known: Warning| network.warnings.contains(&known);
    verdicts.extend(match checked.coordinator.state {
        ServerState::Answers => warned(Warning::CoordinatorUnreachable).then(|| {
            let what = "the coordinator answers, and vpnd has not got further with it";
            Verdict::fault(
                Fault::Warned(Warning::CoordinatorUnreachable),
                what,
                warning_next(Warning::CoordinatorUnreachable),
            )
        }),
        ServerState::Stranger => Some(warning(Warning::WrongPin)),
        ServerState::NameUnknown => Some(Verdict::fault(
            Fault::NamesUnknown,
            format!("the name of the coordinator cannot be resolved: {at}"),
            "check the name at whoever runs its domain; tunnels go on meanwhile",
        )),
        ServerState::ResolverSilent => Some(resolver_silent(&format!("the coordinator ({at})"))),
        ServerState::Refused => Some(refused(checked)),
        ServerState::Unreachable => {
            let what = format!("something on the way to the coordinator turns back what goes there: {at}");
            let next = "see whether its host is up, and whether a firewall forbids it, here or there; tunnels go on meanwhile, changes wait";
            Some(Verdict::fault(Fault::CoordinatorSilent, what, next))
        }
        state => Some(proxy_warning(state).map_or_else(
            || {
                let what = format!("the coordinator does not answer, though relays may: {at}");
                let next = "see whether its host is up and its firewall lets TCP in; tunnels go on meanwhile, changes wait";
                Verdict::fault(Fault::CoordinatorSilent, what, next)
            },
            warning,
        )),
    });
    // That the resolver is silent was said of the coordinator.
    let resolver = checked.coordinator.state == ServerState::ResolverSilent;
    let away = |relay: &&Server| match relay.state {
        ServerState::Answers => false,
        ServerState::ResolverSilent => !resolver,
        _ => true,
    };
    let silent: Vec<&Server> = checked.relays.iter().filter(away).collect();
    let list = silent.iter().map(|relay| relay.url.as_str()).collect::<Vec<_>>().join(", ");
    let there = checked.coordinator.state == ServerState::Answers
        || checked.relays.iter().any(|relay| relay.state == ServerState::Answers);
    let next = if silent.iter().any(|relay| answers_stun(relay)) {
        "it answers over UDP, so it runs: let TCP to its port out around here, or its operator lets it in"
    } else if silent.iter().all(|relay| relay.state == ServerState::ResolverSilent) {
        "see which resolver this machine has (/etc/resolv.conf, resolvectl status) and whether it is reached"
    } else if there {
        "its operator starts it: systemctl start tacet-relay; and looks whether TCP gets through to it"
    } else {
        "see whether it answers from another network: if so, let TCP to its port out around here; if not, its operator starts it: systemctl start tacet-relay"
    };
    if silent.len() == checked.relays.len() && !silent.is_empty() {
        let what = format!("no relay answers: {list}; only direct paths that are there work");
        verdicts.push(Verdict::fault(Fault::RelaysSilent, what, next));
    } else if !silent.is_empty() {
        let what = format!("not every relay answers: {list}; the others serve");
        verdicts.push(Verdict::note(Fault::OneRelaySilent, what, next));
    } else if warned(Warning::RelayUnreachable) {
        verdicts.push(warning(Warning::RelayUnreachable));
    }
    verdicts
}

/// A coordinator that connections are refused to: what other servers answer helps to tell why.
fn refused(checked: &Checked) -> Verdict {
    let at = &checked.coordinator.url;
    let (what, next) = if checked.relays.iter().any(|relay| relay.state == ServerState::Answers) {
        (
            format!(
                "the coordinator does not run, or a firewall before it refuses connections: {at}; relays answer"
            ),
            "its operator starts it: systemctl start tacet-coordinator; and looks whether TCP gets through to it; tunnels go on meanwhile, changes wait",
        )
    } else {
        (
            format!("the coordinator does not run, or a firewall in between refuses connections: {at}"),
            "see whether it answers from another network: if so, let TCP to its port out around here; if not, its operator starts it: systemctl start tacet-coordinator",
        )
    };
    Verdict::fault(Fault::CoordinatorDown, what, next)
}

/// What is wrong with what signers and coordinator say.
fn trust(network: &NetworkStatus) -> Vec<Verdict> {
    const THEIRS: [Warning; 6] = [
        Warning::CoordinatorUntrusted,
        Warning::NetworkUnknown,
        Warning::ChangeRefused,
        Warning::InviteOverused,
        Warning::Renamed,
        Warning::Other,
    ];
    let mut verdicts = Vec::new();
    if matches!(network.state, NetworkState::Forked | NetworkState::Stale) {
        verdicts.push(state(network.state));
    }
    for known in THEIRS.into_iter().filter(|known| network.warnings.contains(known)) {
        let verdict = warning(known);
        verdicts.push(Verdict { note: known == Warning::Renamed, ..verdict });
    }
    verdicts
}

/// What keeps programs' packets from the interface, whoever they are for.
fn through(tunnel: &Tunnel) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    if tunnel.ipv4 == Some(false) {
        let what = "another program took the network's IPv4 address off its interface";
        let next =
            "take it down and up again: vpnctl down, vpnctl up; and see what else manages interfaces here";
        verdicts.push(Verdict::fault(Fault::AddressMissing, what, next));
    }
    if !tunnel.ipv6 {
        let what = "IPv6 is switched off on this machine or on the network's interface; IPv4 has to do";
        let next = "switch it on (sysctl net.ipv6.conf.all.disable_ipv6=0), then: vpnctl down, vpnctl up";
        verdicts.push(Verdict::fault(Fault::Ipv6Off, what, next));
    }
    verdicts
}

/// What keeps one machine from being reached.
fn at_machine(machine: &Looked, tunnel: &Tunnel, findings: &Findings) -> Vec<Verdict> {
    let name = &machine.name;
    let mut verdicts = Vec::new();
    if let Some(address) = machine.elsewhere {
        let what = format!("packets for {name} ({address}) leave by another interface than the network's");
        let next = format!(
            "see which: ip route get {address}; another VPN or container network may have the same range: stop it, or change its range"
        );
        verdicts.push(Verdict::fault(Fault::RouteTaken, what, next));
    }
    let Some(echo) = machine.echo else {
        // Of machines that nobody asked about some may be off: that is no fault.
        if findings.one_machine {
            let what = format!("{name} does not answer: it is off, asleep, or cut off itself");
            let next = format!(
                "see whether it is on; then on it: vpnctl doctor; was it removed? vpnctl machines ({name})"
            );
            verdicts.push(Verdict::fault(Fault::MachineSilent, what, next));
        }
        return at(name, verdicts);
    };
    let carried = machine.carried.filter(|_| machine.elsewhere.is_none() && tunnel.ipv4 != Some(false));
    match carried {
        Some(Carried::NotSent) => {
            let what = format!("this machine's firewall keeps packets for {name} from the tunnel");
            let next = "look for a rule that drops what leaves by the interface: nft list ruleset, or iptables -S OUTPUT";
            verdicts.push(Verdict::fault(Fault::FirewallOut, what, next));
        }
        Some(Carried::NotTaken) => {
            let what = format!("this machine's firewall drops what {name} answers through the tunnel");
            let next = "look for a rule that drops what comes in by the interface: nft list ruleset, or iptables -S INPUT";
            verdicts.push(Verdict::fault(Fault::FirewallIn, what, next));
        }
        Some(Carried::NoAnswer) => {
            let what = format!(
                "{name} is reached, and does not take what comes through the tunnel: its firewall drops it, or its interface is down"
            );
            let next = format!(
                "on {name}: vpnctl doctor; and let in what comes by the interface, for instance: ufw allow in on tacet0"
            );
            let verdict = Verdict::fault(Fault::FirewallThere, what, next);
            verdicts.push(Verdict { note: !findings.one_machine, ..verdict });
        }
        Some(Carried::Both) | None => {}
    }
    if findings.one_machine && echo.path == Path::Relay {
        verdicts.push(relay_only(name, findings));
    }
    if machine.provisional {
        let what = format!("no signer has taken {name} in yet");
        verdicts.push(Verdict::note(Fault::Provisional, what, "start a signer: vpnctl signer list"));
    }
    at(name, verdicts)
}

fn at(name: &str, verdicts: Vec<Verdict>) -> Vec<Verdict> {
    verdicts.into_iter().map(|verdict| verdict.at(name)).collect()
}

/// Why there may be no direct path.
fn relay_only(name: &str, findings: &Findings) -> Verdict {
    let around = &findings.around;
    let stun_is_silent = stun_is_silent(findings);
    let (why, next) = if stun_is_silent && udp_passes(findings) {
        ("no relay's STUN server answers, so that no NAT is seen through".to_owned(), STUN_NEXT.to_owned())
    } else if stun_is_silent {
        ("UDP is blocked here, or at the relays".to_owned(), UDP_NEXT.to_owned())
    } else if around.nat.kind == Some(NatKind::Hard) {
        (
            format!("the NAT here is a hard one, and {name}'s is too, or blocks UDP"),
            "switch on UPnP, NAT-PMP or PCP at one of the routers".to_owned(),
        )
    } else {
        (format!("UDP is blocked at {name}, or its NAT is a hard one"), format!("on {name}: vpnctl netcheck"))
    };
    Verdict::note(Fault::RelayOnly, format!("{name} is reached by relay alone: {why}"), next)
}

/// What to do where UDP does not pass.
const UDP_NEXT: &str = "let UDP out in the firewall around; if it is so from everywhere, the relays' operator lets in UDP to port 3478";

/// What to do where UDP passes, and no relay answers by it.
const STUN_NEXT: &str =
    "the relays' operator lets in UDP to ports 3478 and 3479; a firewall around may keep these back too";

/// What keeps paths from being direct, whoever they are to.
fn of_the_path(findings: &Findings) -> Vec<Verdict> {
    let around = &findings.around;
    let mut verdicts = Vec::new();
    if stun_is_silent(findings) && udp_passes(findings) {
        let what = "UDP gets through, for a direct path is up, and no relay's STUN server answers: other paths may stay on relays";
        verdicts.push(Verdict::note(Fault::StunSilent, what, STUN_NEXT));
    } else if stun_is_silent(findings) {
        let what = "UDP is blocked in the network around, or at the relays: paths go over relays";
        verdicts.push(Verdict::note(Fault::UdpBlocked, what, UDP_NEXT));
    } else if around.nat.kind == Some(NatKind::Hard) && around.networks.iter().all(|n| n.mapped.is_none()) {
        let what = "the NAT around is a hard one: paths to machines behind another one go over relays";
        let next = "switch on UPnP, NAT-PMP or PCP at the router, for direct paths";
        verdicts.push(Verdict::note(Fault::HardNat, what, next));
    }
    verdicts
}
