//! `doctor`: what is wrong, the first cause first, and what to do about it.

use std::{
    process::ExitCode,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use proto::api::{
    Answer, ApiError, Command, ErrorCode, Event, NetworkState, NetworkStatus, Own, Path, Peer, is_called,
};
use serde::Serialize;

use super::{Context, Outcome};
use crate::{
    cli,
    client::{Message, not_understood},
    doctor::{Echo, Fault, Findings, Looked, Tunnel, Verdict, carried, judge, look},
    failure::Failure,
    show::{Style, printable},
};

/// Machines that are looked at where none was named: enough to tell a fault here from one there.
const SAMPLE: usize = 3;

/// Between two probes.
const INTERVAL: Duration = Duration::from_millis(300);

/// Probes to each of the sample: the first may have to make a session.
const PROBES: u32 = 2;

/// Probes to the machine that was asked about: until the best path is found.
const PROBES_TO_ONE: u32 = 10;

/// For the probes to one of the sample, and to the machine that was asked about.
const PROBES_WITHIN: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(6));

/// When they are begun once more, if none was answered.
const PROBES_AGAIN: Duration = Duration::from_millis(1_500);

/// Where the environment names a proxy for all programs.
const PROXY_VARIABLES: [&str; 4] = ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];

/// What a refusal of the whole examination says.
const NOT_EXAMINED: &str = "nothing was examined";

#[derive(Serialize)]
struct Document<'a> {
    ok: bool,
    faults: Vec<&'a Verdict>,
    notes: Vec<&'a Verdict>,
}

pub(super) fn run(context: &Context<'_>, args: &cli::Doctor) -> Outcome {
    let verdicts = match findings(context, args.name.as_deref()) {
        Ok(findings) => judge(&findings),
        Err(Failure::Told(error)) => vec![unasked(&error).ok_or_else(|| in_own_words(error))?],
        Err(failure) => return Err(failure),
    };
    let (notes, faults): (Vec<&Verdict>, Vec<&Verdict>) = verdicts.iter().partition(|verdict| verdict.note);
    let code = faults.first().map_or(0, |fault| fault.exit_code());
    let document = Document { ok: faults.is_empty(), faults, notes };
    context.show(&document, || text(context, &document))?;
    Ok(ExitCode::from(code))
}

/// Where vpnd could not even be asked, that is what is wrong.
fn unasked(error: &ApiError) -> Option<Verdict> {
    let fault = match error.code {
        ErrorCode::NotRunning => Fault::NotRunning,
        // Only of the socket: no command of the doctor's asks for more.
        ErrorCode::NotPermitted => Fault::NotPermitted,
        _ => return None,
    };
    Some(Verdict::fault(fault, format!("{}: {}", error.what, error.why), error.next.clone()))
}

/// vpnd words what it has not for the command that asked on the way; the person asked for none of them.
fn in_own_words(mut error: Box<ApiError>) -> Failure {
    if error.code == ErrorCode::NotFound {
        NOT_EXAMINED.clone_into(&mut error.what);
    }
    Failure::Told(error)
}

fn findings(context: &Context<'_>, machine: Option<&str>) -> Result<Findings, Failure> {
    let Answer::Status(status) = context.ask(Command::Status {})? else {
        return Err(not_understood());
    };
    if let Some(name) = machine {
        known(context, name, &status.networks)?;
    }
    let Answer::Netcheck(around) = context.ask(Command::Netcheck {})? else {
        return Err(not_understood());
    };
    let up = |network: &&NetworkStatus| {
        matches!(network.state, NetworkState::Up | NetworkState::Stale | NetworkState::Forked)
    };
    if status.networks.iter().any(|network| up(&network)) {
        context.ui.progress("Trying whether packets pass through the tunnel ...");
    }
    let tunnels =
        status.networks.iter().filter(up).map(|network| tunnel(context, network, machine)).collect();
    Ok(Findings {
        networks: status.networks,
        around,
        tunnels,
        proxy_usual: PROXY_VARIABLES.iter().any(|name| std::env::var_os(name).is_some_and(|v| !v.is_empty())),
        one_machine: machine.is_some(),
    })
}

/// Refuses a name or an address that no other machine has.
fn known(context: &Context<'_>, name: &str, networks: &[NetworkStatus]) -> Result<(), Failure> {
    if networks.iter().any(|network| network.peers.iter().any(|peer| peer.is_called(name))) {
        return Ok(());
    }
    let own = |machine: &Own| is_called(&machine.name, machine.ipv4, machine.ipv6, name);
    if networks.iter().any(|network| own(&network.machine)) {
        let why = "it is this machine";
        return Err(Failure::new(ErrorCode::Usage, NOT_EXAMINED, why, "leave the name out: vpnctl doctor"));
    }
    if networks.len() < 2 {
        // vpnd says why, as for any command.
        context.ask(Command::Ip { name: Some(name.to_owned()) })?;
    }
    let (why, next) = ("there is no such machine in any network", "see their names: vpnctl status");
    Err(Failure::new(ErrorCode::NotFound, NOT_EXAMINED, why, next))
}

fn tunnel(context: &Context<'_>, network: &NetworkStatus, machine: Option<&str>) -> Tunnel {
    let mut which: Vec<&Peer> =
        network.peers.iter().filter(|peer| machine.is_none_or(|name| peer.is_called(name))).collect();
    // Those that something is exchanged with just now are there.
    which.sort_by_key(|peer| peer.path == Path::Idle);
    which.truncate(SAMPLE);
    look(network, &which, |peer, elsewhere| {
        let (probes, within) = match machine {
            Some(_) => (PROBES_TO_ONE, PROBES_WITHIN.1),
            None => (PROBES, PROBES_WITHIN.0),
        };
        let (echo, rtt) = echo(context, network, peer, probes, Instant::now() + within).unzip();
        let counters = || counters(context, network, &peer.name);
        let reached = rtt.filter(|_| elsewhere.is_none());
        Looked {
            name: peer.name.clone(),
            provisional: machine.is_some() && is_provisional(context, network, &peer.name),
            elsewhere,
            echo,
            carried: reached.and_then(|rtt| carried(&network.machine, peer, rtt, counters)),
        }
    })
}

/// The best answer inside the session, and how long it took. Where none comes, pings are begun once more beside those that wait: one
/// that was lost holds up the rest of its own.
fn echo(
    context: &Context<'_>,
    network: &NetworkStatus,
    peer: &Peer,
    probes: u32,
    end: Instant,
) -> Option<(Echo, Duration)> {
    let (tell, told) = mpsc::channel();
    thread::scope(|scope| {
        let mut best = None;
        while best.is_none() && Instant::now() < end {
            let tell = tell.clone();
            scope.spawn(move || pings(context, network, peer, probes, end, &tell));
            let left = end.saturating_duration_since(Instant::now());
            best = told.recv_timeout(PROBES_AGAIN.min(left)).ok();
        }
        drop(tell);
        told.iter().last().or(best)
    })
}

/// Pings, and hands on each answer; ends at a direct path.
fn pings(
    context: &Context<'_>,
    network: &NetworkStatus,
    peer: &Peer,
    count: u32,
    end: Instant,
    tell: &mpsc::Sender<(Echo, Duration)>,
) {
    let interval_ms = u64::try_from(INTERVAL.as_millis()).unwrap_or(u64::MAX);
    let command = Command::Ping { name: peer.name.clone(), count, interval_ms };
    let Ok(mut connection) = context.connect() else { return };
    if connection.send(&proto::api::Request::new(Some(network.name.clone()), command)).is_err() {
        return;
    }
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() || connection.wait_for(left).is_err() {
            return;
        }
        match connection.next() {
            Ok(Message::Event(Event::Pong { path, endpoint, rtt_ms, .. })) => {
                let rtt = Duration::try_from_secs_f64(rtt_ms / 1_000.0).unwrap_or_default();
                let _ = tell.send((Echo { path, endpoint }, rtt));
                if path == Path::Direct {
                    return;
                }
            }
            Ok(Message::Event(Event::Lost { .. }) | Message::Progress(_)) => {}
            Ok(Message::Answer(_)) | Err(_) => return,
        }
    }
}

/// Inner bytes received from a machine and sent to it.
fn counters(context: &Context<'_>, network: &NetworkStatus, name: &str) -> Option<(u64, u64)> {
    let Answer::Status(status) = context.ask_in(&network.name, Command::Status {}).ok()? else { return None };
    let peer = status.networks.first()?.peers.iter().find(|peer| peer.name == name)?;
    Some((peer.rx_bytes, peer.tx_bytes))
}

fn is_provisional(context: &Context<'_>, network: &NetworkStatus, name: &str) -> bool {
    let Ok(Answer::Machines(machines)) = context.ask_in(&network.name, Command::MachinesList {}) else {
        return false;
    };
    machines.iter().any(|machine| machine.name == name && machine.provisional)
}

fn text(context: &Context<'_>, document: &Document<'_>) -> String {
    let mut text = String::new();
    for (verdicts, title, style) in
        [(&document.faults, "fault:", Style::Bad), (&document.notes, "note: ", Style::Fair)]
    {
        for verdict in verdicts {
            let title = context.ui.paint(title, style);
            let network = verdict.network.as_ref().map(|name| format!("{}: ", printable(name)));
            text += &format!(
                "{title} {}{}\n  next: {}\n",
                network.unwrap_or_default(),
                printable(&verdict.what),
                printable(&verdict.next)
            );
        }
    }
    if document.ok {
        text += &format!("{}\n", context.ui.paint("No fault was found.", Style::Good));
    }
    text
}
