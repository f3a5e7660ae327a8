//! What many peers cost one side, for `cargo xtask bench peers` and `scaling`.
//!
//! ```text
//! crowd peers VPND PEERS SECONDS ACTIVE...
//! crowd scaling VPND PEERS SECONDS device|mesh WORKERS PROCESSORS PROCESSORS
//! ```
//!
//! In a network namespace of its own it starts what is measured, a plain interface or the data path of a machine in a
//! network ([`server`]), tells it of all peers, and is itself those of them that are active: as many cores of ours, each
//! with a key, an address and a socket ([`peers`]). Or it tells processors who may use them, and how many workers share the
//! peers ([`scaling`]). It prints one JSON document.
//!
//! Both ends are on one computer: the crowd seals and opens as much as the side that is measured does, on another
//! processor. Bytes are counted at the interface of that side, processor time and memory of its processes alone.

mod peers;
mod readings;
mod scaling;
mod server;

use std::{
    env,
    io::{self, Write as _},
    path::PathBuf,
    process::Command,
    slice, thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::resource::{Resource, getrlimit, setrlimit},
};
use serde_json::{Value, json};

use self::{
    peers::{Crowd, Way},
    readings::Passed,
    server::{Kind, Server},
};

/// How long nothing is done, to count what wakes up.
const STILL: Duration = Duration::from_secs(5);

/// After the last data a session is busy for half a minute still.
const SETTLE: Duration = Duration::from_secs(35);

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [what, vpnd, configured, seconds, more @ ..] = &arguments[..] else {
        bail!("crowd peers|scaling VPND PEERS SECONDS ...");
    };
    let (vpnd, configured) = (PathBuf::from(vpnd), configured.parse()?);
    let seconds = Duration::from_secs(seconds.parse()?);
    prepare()?;
    let report = match what.as_str() {
        "peers" => many(&Plan { vpnd, configured, seconds, active: numbers(more)? })?,
        "scaling" => scaling::measure(&scaling::Plan::new(vpnd, configured, seconds, more)?)?,
        other => bail!("nothing called {other} is measured"),
    };
    writeln!(io::stdout(), "{report}")?;
    Ok(())
}

fn numbers(text: &[String]) -> Result<Vec<usize>> {
    text.iter().map(|number| Ok(number.parse()?)).collect()
}

/// What `bench peers` asks for.
struct Plan {
    vpnd: PathBuf,
    configured: usize,
    seconds: Duration,
    active: Vec<usize>,
}

/// Both kinds, one after the other.
fn many(plan: &Plan) -> Result<Value> {
    if plan.active.iter().any(|number| *number == 0 || *number > plan.configured) {
        bail!("there is at least one active peer, and none that is not configured");
    }
    Ok(json!({
        "configured": plan.configured,
        "device": measure(Kind::Device, plan)?,
        "mesh": measure(Kind::Mesh, plan)?,
    }))
}

/// A network of our own, in which every address of the underlay is this computer; a `/run` of our own; many descriptors.
fn prepare() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).context("this needs root, for namespaces")?;
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    mount(Some("crowd"), "/run", Some("tmpfs"), MsFlags::empty(), none)?;
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    ip("link set lo up")?;
    ip(&format!("route add local {} dev lo", peers::UNDERLAY))
}

fn ip(arguments: &str) -> Result<()> {
    let done = Command::new("ip").args(arguments.split(' ')).status().context("ip(8) does not start")?;
    if !done.success() {
        bail!("ip {arguments} failed");
    }
    Ok(())
}

/// All of one kind.
fn measure(kind: Kind, plan: &Plan) -> Result<Value> {
    let mut server = Server::start(kind, &plan.vpnd, 1)?;
    let sink = peers::sink()?;
    let empty = server.reading()?;
    let configuring = server.configure(plan.configured)?;
    let asking = server.ask()?;
    let configured = server.reading()?;
    let idle = wakeups(&server, None)?;

    let mut crowd = Crowd::new(kind, server.public_key(), 0)?;
    let mut steps = Vec::new();
    for &active in &plan.active {
        crowd.connect(active)?;
        let connected = server.reading()?;
        let mut step = json!({ "peers": active, "connected": connected.json() });
        for (way, name) in [(Way::In, "in"), (Way::Out, "out")] {
            step[name] = flow(&mut server, slice::from_mut(&mut crowd), way, active, plan.seconds)?;
        }
        step["loaded"] = server.reading()?.json();
        steps.push(step);
    }
    let busy = wakeups(&server, Some(&mut crowd))?;
    crowd.serve_for(SETTLE)?;
    let silent = wakeups(&server, Some(&mut crowd))?;
    drop(sink);
    Ok(json!({
        "processes": server.processes(),
        "empty": empty.json(),
        "configured": configured.json(),
        "configure_seconds": configuring.as_secs_f64(),
        "ask_seconds": asking.as_secs_f64(),
        "active": steps,
        "wakeups_per_second": { "configured": idle, "after_data": busy, "silent_sessions": silent },
    }))
}

/// Data one way between the side that is measured and so many peers of each crowd in turn, all crowds at once.
fn flow(server: &mut Server, crowds: &mut [Crowd], way: Way, active: usize, time: Duration) -> Result<Value> {
    let (sent, passed) = (server.sent()?, Passed::now(server::INTERFACE)?);
    let (before, began) = (server.reading()?, Instant::now());
    thread::scope(|scope| {
        let flows: Vec<_> =
            crowds.iter_mut().map(|crowd| scope.spawn(move || crowd.flow(way, active, time))).collect();
        flows.into_iter().try_for_each(|flow| flow.join().map_err(|_| anyhow!("a crowd panicked"))?)
    })?;
    let (after, elapsed) = (server.reading()?, began.elapsed().as_secs_f64());
    let bytes = match way {
        Way::In => Passed::now(server::INTERFACE)?.since(&passed),
        Way::Out | Way::Answered => server.sent()? - sent,
    } as f64;
    let cpu = after.cpu_since(&before);
    Ok(json!({
        "gbit_per_second": bytes * 8.0 / elapsed / 1e9,
        "cpu_seconds_per_gigabyte": cpu / (bytes / 1e9),
        "cpu_share": cpu / elapsed,
    }))
}

/// How often the processes wake up while nothing is sent.
fn wakeups(server: &Server, crowd: Option<&mut Crowd>) -> Result<Vec<f64>> {
    let before = server.reading()?;
    match crowd {
        Some(crowd) => crowd.serve_for(STILL)?,
        None => thread::sleep(STILL),
    }
    Ok(server.reading()?.wakeups_since(&before).map(|count| count / STILL.as_secs_f64()).collect())
}
