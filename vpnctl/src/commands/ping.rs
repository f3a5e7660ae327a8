//! `ping`: over which path a machine is reached, and how fast.
//!
//! vpnd sends the probes and tells of each; closing the connection ends them. An interrupt closes it from another
//! thread, so that the summary is shown however the command ends.

use std::{
    net::{IpAddr, Shutdown, SocketAddr},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use nix::sys::signal::{SigSet, Signal};
use proto::api::{Command, ErrorCode, Event, Path};
use serde::Serialize;

use super::{
    Context, Outcome,
    status::{path_style, path_word},
};
use crate::{
    cli,
    client::{Connection, Message},
    failure::Failure,
    show::{milliseconds, printable},
};

/// Probes, unless told otherwise.
const COUNT: u32 = 5;

/// The same where a direct path is waited for: it is there within seconds or not at all.
const UNTIL_DIRECT: u32 = 30;

pub(super) fn run(context: &Context<'_>, args: cli::Ping) -> Outcome {
    let interval_ms = u64::try_from(args.interval.as_millis()).unwrap_or(u64::MAX);
    let mut connection = context.connect()?;
    connection.wait_for_ever()?;
    let interrupted = close_on_interrupt(&connection)?;
    let count = args.count.unwrap_or(if args.until_direct { UNTIL_DIRECT } else { COUNT });
    let command = Command::Ping { name: args.name.clone(), count, interval_ms };
    connection.send(&context.request(command))?;

    let mut summary = Summary::new(args.name, context.ui.json());
    loop {
        match connection.next() {
            Ok(Message::Event(event)) => {
                let change = summary.add(&event);
                if !context.ui.json() {
                    context.ui.print(&event_text(context, &summary.name, &event))?;
                    context.ui.print(&change.map(|change| change_text(&change)).unwrap_or_default())?;
                }
                if args.until_direct && summary.is_direct() {
                    break;
                }
            }
            Ok(Message::Progress(_)) => {}
            Ok(Message::Answer(_)) => break,
            Err(_) if interrupted.load(Ordering::Relaxed) => break,
            Err(failure) => return Err(failure),
        }
    }
    context.show(&summary, || summary.text())?;
    let reached = if args.until_direct { summary.is_direct() } else { summary.received > 0 };
    Ok(if reached { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Closes the connection on the first interrupt or request to end. Must be called while this is the only thread: the
/// signals stay blocked in it and in those it starts, and only the one made here waits for them.
fn close_on_interrupt(connection: &Connection) -> Result<Arc<AtomicBool>, Failure> {
    let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM]);
    signals.thread_block().map_err(|error| {
        Failure::new(ErrorCode::Failed, "ping could not begin", error.desc(), "try again")
    })?;
    let socket = connection.socket()?;
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&interrupted);
    thread::spawn(move || {
        if signals.wait().is_ok() {
            flag.store(true, Ordering::Relaxed);
            // Fails only if vpnd closed it first, which ends the command as well.
            let _ = socket.shutdown(Shutdown::Both);
        }
    });
    Ok(interrupted)
}

fn event_text(context: &Context<'_>, name: &str, event: &Event) -> String {
    let name = printable(name);
    match event {
        Event::Pong { seq, rtt_ms, path, endpoint } => {
            let word = context.ui.paint(path_word(*path), path_style(*path));
            let at = endpoint.map(|endpoint| format!(" {endpoint}")).unwrap_or_default();
            format!("{name}: {seq}  {time}  {word}{at}\n", time = milliseconds(*rtt_ms))
        }
        Event::Lost { seq } => format!("{name}: {seq}  no reply\n"),
    }
}

/// What a change of the path is to a person: `--- path: relay -> direct (IPv4), 48.0 ms -> 12.1 ms`.
fn change_text(change: &Change) -> String {
    let named = |path: Path, endpoint: Option<SocketAddr>| {
        let kind = endpoint.map(|endpoint| format!(" ({})", kind(endpoint))).unwrap_or_default();
        format!("{}{kind}", path_word(path))
    };
    format!(
        "--- path: {} -> {}, {} -> {}\n",
        named(change.from.path, change.from.endpoint),
        named(change.to.path, change.to.endpoint),
        milliseconds(change.from.rtt_ms),
        milliseconds(change.to.rtt_ms),
    )
}

/// By which network a direct path goes.
fn kind(endpoint: SocketAddr) -> &'static str {
    match endpoint.ip() {
        IpAddr::V4(ip) if ip.is_private() || ip.is_link_local() => "LAN",
        IpAddr::V6(ip) if ip.is_unique_local() || ip.is_unicast_link_local() => "LAN",
        IpAddr::V4(_) => "IPv4",
        IpAddr::V6(_) => "IPv6",
    }
}

/// The path of an answer is another one than that of the answer before.
struct Change {
    from: Reply,
    to: Reply,
}

/// What came back, as the JSON has it.
#[derive(Serialize)]
struct Summary {
    name: String,
    sent: u32,
    received: u32,
    loss_percent: f64,
    min_ms: Option<f64>,
    avg_ms: Option<f64>,
    max_ms: Option<f64>,
    /// Of the last answer.
    path: Option<Path>,
    endpoint: Option<SocketAddr>,
    /// How often the path was another one than that of the answer before.
    path_changes: u32,
    /// Kept only for the JSON document: a person may let it run for days.
    replies: Vec<Reply>,
    #[serde(skip)]
    keep: bool,
    #[serde(skip)]
    direct: u32,
    #[serde(skip)]
    total_ms: f64,
    #[serde(skip)]
    last: Option<Reply>,
}

#[derive(Clone, Copy, Serialize)]
struct Reply {
    seq: u32,
    rtt_ms: f64,
    path: Path,
    endpoint: Option<SocketAddr>,
}

impl Summary {
    fn new(name: String, keep: bool) -> Self {
        Self {
            name,
            sent: 0,
            received: 0,
            loss_percent: 0.0,
            min_ms: None,
            avg_ms: None,
            max_ms: None,
            path: None,
            endpoint: None,
            path_changes: 0,
            replies: Vec::new(),
            keep,
            direct: 0,
            total_ms: 0.0,
            last: None,
        }
    }

    /// Whether the last answer came by a direct path.
    fn is_direct(&self) -> bool {
        self.path == Some(Path::Direct)
    }

    /// Takes what happened; whether the path is another one now.
    fn add(&mut self, event: &Event) -> Option<Change> {
        let mut change = None;
        self.sent += 1;
        if let Event::Pong { seq, rtt_ms, path, endpoint } = *event {
            self.received += 1;
            self.direct += u32::from(path == Path::Direct);
            self.total_ms += rtt_ms;
            self.min_ms = Some(self.min_ms.map_or(rtt_ms, |min| min.min(rtt_ms)));
            self.max_ms = Some(self.max_ms.map_or(rtt_ms, |max| max.max(rtt_ms)));
            self.avg_ms = Some(self.total_ms / f64::from(self.received));
            let reply = Reply { seq, rtt_ms, path, endpoint };
            let before = self.last.replace(reply);
            change = before
                .filter(|before| (before.path, before.endpoint) != (path, endpoint))
                .map(|from| Change { from, to: reply });
            self.path_changes += u32::from(change.is_some());
            (self.path, self.endpoint) = (Some(path), endpoint);
            if self.keep {
                self.replies.push(reply);
            }
        }
        let lost = 100.0 * f64::from(self.sent - self.received) / f64::from(self.sent);
        self.loss_percent = (lost * 10.0).round() / 10.0;
        change
    }

    fn text(&self) -> String {
        let counts = format!(
            "--- {}: {} sent, {} received, {}% lost",
            printable(&self.name),
            self.sent,
            self.received,
            self.loss_percent
        );
        let (Some(min), Some(avg), Some(max)) = (self.min_ms, self.avg_ms, self.max_ms) else {
            return counts + "\n";
        };
        let path = self.path.map(path_word).unwrap_or_default();
        let kind = self.endpoint.map(|endpoint| format!(" ({})", kind(endpoint))).unwrap_or_default();
        format!(
            "{counts}; {} direct, {} by relay\n--- fastest {}, mean {}, slowest {}; path at the end: {path}{kind}\n",
            self.direct,
            self.received - self.direct,
            milliseconds(min),
            milliseconds(avg),
            milliseconds(max)
        )
    }
}
