//! `ping`: over which path a machine is reached, and how fast.
//!
//! vpnd sends the probes and tells of each; closing the connection ends them. An interrupt closes it from another
//! thread, so that the summary is shown however the command ends.

use std::{
    net::{Shutdown, SocketAddr},
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

pub(super) fn run(context: &Context<'_>, args: cli::Ping) -> Outcome {
    let interval_ms = u64::try_from(args.interval.as_millis()).unwrap_or(u64::MAX);
    let mut connection = context.connect()?;
    connection.wait_for_ever()?;
    let interrupted = close_on_interrupt(&connection)?;
    let command = Command::Ping { name: args.name.clone(), count: args.count, interval_ms };
    connection.send(&context.request(command))?;

    let mut summary = Summary::new(args.name, context.ui.json());
    loop {
        match connection.next() {
            Ok(Message::Event(event)) => {
                summary.add(&event);
                if !context.ui.json() {
                    context.ui.print(&event_text(context, &summary.name, &event))?;
                }
            }
            Ok(Message::Progress(_)) => {}
            Ok(Message::Answer(_)) => break,
            Err(_) if interrupted.load(Ordering::Relaxed) => break,
            Err(failure) => return Err(failure),
        }
    }
    context.show(&summary, || summary.text())?;
    Ok(if summary.received > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
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
    /// Kept only for the JSON document: a person may let it run for days.
    replies: Vec<Reply>,
    #[serde(skip)]
    keep: bool,
    #[serde(skip)]
    direct: u32,
    #[serde(skip)]
    total_ms: f64,
}

#[derive(Serialize)]
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
            replies: Vec::new(),
            keep,
            direct: 0,
            total_ms: 0.0,
        }
    }

    fn add(&mut self, event: &Event) {
        self.sent += 1;
        if let Event::Pong { seq, rtt_ms, path, endpoint } = *event {
            self.received += 1;
            self.direct += u32::from(path == Path::Direct);
            self.total_ms += rtt_ms;
            self.min_ms = Some(self.min_ms.map_or(rtt_ms, |min| min.min(rtt_ms)));
            self.max_ms = Some(self.max_ms.map_or(rtt_ms, |max| max.max(rtt_ms)));
            self.avg_ms = Some(self.total_ms / f64::from(self.received));
            if self.keep {
                self.replies.push(Reply { seq, rtt_ms, path, endpoint });
            }
        }
        let lost = 100.0 * f64::from(self.sent - self.received) / f64::from(self.sent);
        self.loss_percent = (lost * 10.0).round() / 10.0;
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
        format!(
            "{counts}; {} direct, {} by relay\n--- fastest {}, mean {}, slowest {}\n",
            self.direct,
            self.received - self.direct,
            milliseconds(min),
            milliseconds(avg),
            milliseconds(max)
        )
    }
}
