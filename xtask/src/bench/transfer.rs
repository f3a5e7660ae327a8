//! Gigabytes through the tunnel, both directions at once, every byte compared with what was sent.
//!
//! This one judges: nothing lost, nothing out of its order inside a flow, nothing changed, and no checksum that the kernel
//! found wrong. Datagrams have no more under way than the queues on the way hold; what a full queue drops is no fault.
//!
//! No session lives longer than 180 seconds, and its key is renewed after 120: what takes longer passed through that.

use std::{
    net::{IpAddr, SocketAddr, TcpListener},
    thread,
    time::{Duration, Instant},
};

use ::tests::{Host, Lab};
use anyhow::{Context as _, Result, anyhow, bail};
use clap::{Args, ValueEnum};
use serde_json::json;

use super::{
    flow::{Seen, Verdict, receive_datagrams, receive_stream, receiver, send_datagrams, send_stream, window},
    link::Link,
};
use crate::packages;

/// The first port of the flows.
const PORT: u16 = 7_000;

/// What the kernel counts where a checksum was wrong (proc(5), `/proc/net/snmp`), and where a stream had to be repaired.
const COUNTERS: [(&str, &str); 5] = [
    ("Tcp", "InCsumErrors"),
    ("Udp", "InCsumErrors"),
    ("Ip", "InHdrErrors"),
    ("Udp", "RcvbufErrors"),
    ("Tcp", "RetransSegs"),
];
/// Of those, the ones that are wrong checksums.
const CHECKSUMS: usize = 3;

#[derive(Args)]
pub(crate) struct Options {
    /// Through what.
    #[arg(long, value_enum, default_value_t = Through::Mesh)]
    through: Through,
    /// Megabytes of TCP in each direction.
    #[arg(long, value_name = "MB", default_value_t = 10_000)]
    tcp: u64,
    /// Megabytes of UDP in each direction.
    #[arg(long, value_name = "MB", default_value_t = 10_000)]
    udp: u64,
    /// Seconds that each of the two is to take: the same again until they have passed.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seconds: u64,
    /// Flows in each direction.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    flows: u16,
    /// Over IPv6 inside.
    #[arg(long)]
    ipv6: bool,
    /// Every datagram crosses the link by itself, as on a network card without offloads.
    #[arg(long)]
    single: bool,
    /// Print one JSON document in place of the table.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Through {
    /// Two machines of a network, directly.
    Mesh,
    /// A plain WireGuard interface: `vpnd device`.
    Device,
}

impl Options {
    /// Gigabytes again and again, for longer than a session lives.
    pub(super) fn beyond_a_session(through: Through) -> Self {
        Self {
            through,
            tcp: 10_000,
            udp: 5_000,
            seconds: 200,
            flows: 2,
            ipv6: false,
            single: false,
            json: false,
        }
    }
}

/// Which kind of flow.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tcp,
    Udp,
}

/// Sends, judges, and prints a table or a document.
pub(super) fn run(options: &Options) -> Result<bool> {
    packages::prepare_lab()?;
    // Order is judged, so the wires are to keep it either way.
    let wires = if options.single { "in_order" } else { "offload" };
    let lab = Lab::up(&format!("a=none,b=none,@{wires}=1"))?;
    let link = match options.through {
        Through::Mesh => Link::mesh(&lab)?,
        Through::Device => Link::device(&lab)?,
    };
    let mut clean = true;
    let mut phases = Vec::new();
    for (kind, name, megabytes) in [(Kind::Tcp, "TCP", options.tcp), (Kind::Udp, "UDP", options.udp)] {
        if megabytes == 0 {
            continue;
        }
        let before = counters(&link)?;
        let began = Instant::now();
        let mut verdict = both_ways(&link, kind, megabytes * 1_000_000, options)?;
        while began.elapsed() < Duration::from_secs(options.seconds) {
            verdict.add(both_ways(&link, kind, megabytes * 1_000_000, options)?);
        }
        let seconds = began.elapsed().as_secs_f64();
        let after = counters(&link)?;
        let counted: Vec<u64> = after.iter().zip(&before).map(|(after, before)| after - before).collect();
        let checksums: u64 = counted[..CHECKSUMS].iter().sum();
        clean &= verdict.is_clean() && checksums == 0;
        if !options.json {
            println!(
                "{name}: {:.2} GB in {seconds:.0} s ({:.2} Gbit/s both ways together), {} datagrams: {} lost, {} out of order, \
                 {} wrong; wrong checksums {checksums}, full socket buffers {}, segments sent again {}",
                verdict.bytes as f64 / 1e9,
                verdict.bytes as f64 * 8e-9 / seconds,
                verdict.datagrams,
                verdict.lost,
                verdict.out_of_order,
                verdict.wrong,
                counted[3],
                counted[4],
            );
        }
        phases.push(json!({
            "flows": name, "bytes": verdict.bytes, "seconds": seconds, "datagrams": verdict.datagrams, "lost": verdict.lost,
            "out_of_order": verdict.out_of_order, "wrong": verdict.wrong, "wrong_checksums": checksums,
            "full_socket_buffers": counted[3], "segments_sent_again": counted[4],
        }));
    }
    if options.json {
        println!("{:#}", json!({ "clean": clean, "phases": phases }));
    } else {
        println!(
            "{}",
            if clean { "everything arrived as it was sent" } else { "NOT everything arrived as it was sent" }
        );
    }
    Ok(clean)
}

/// All flows of one kind, in both directions at the same time.
fn both_ways(link: &Link, kind: Kind, bytes: u64, options: &Options) -> Result<Verdict> {
    let each = bytes / u64::from(options.flows);
    let mut ways = Vec::new();
    for (from, to) in [(0, 1), (1, 0)] {
        let address: IpAddr = link.address(to, options.ipv6)?.parse().context("an address")?;
        for n in 0..options.flows {
            ways.push((link.host(from), link.host(to), SocketAddr::new(address, PORT + n)));
        }
    }
    let verdicts: Vec<Result<Verdict>> = thread::scope(|scope| {
        let flows: Vec<_> = (1_u64..)
            .zip(&ways)
            .map(|(flow, (from, to, at))| {
                scope.spawn(move || match kind {
                    Kind::Tcp => stream(flow, (from, to), *at, each),
                    Kind::Udp => datagrams(flow, (from, to), *at, (each, window(options.flows))),
                })
            })
            .collect();
        flows.into_iter().map(|flow| flow.join().unwrap_or_else(|_| Err(anyhow!("a flow failed")))).collect()
    });
    let mut all = Verdict::default();
    for verdict in verdicts {
        all.add(verdict?);
    }
    Ok(all)
}

fn stream(flow: u64, (from, to): (&Host, &Host), at: SocketAddr, bytes: u64) -> Result<Verdict> {
    let listener = to.inside(|| TcpListener::bind(at))??;
    thread::scope(|scope| {
        let sender = scope.spawn(|| from.inside(|| send_stream(at, flow, bytes)));
        let verdict = receive_stream(&listener, flow, bytes)?;
        ended(sender)?;
        Ok(verdict)
    })
}

fn datagrams(
    flow: u64,
    (from, to): (&Host, &Host),
    at: SocketAddr,
    (bytes, window): (u64, u64),
) -> Result<Verdict> {
    let socket = to.inside(|| receiver(at))??;
    let seen = Seen::default();
    thread::scope(|scope| {
        let sender = scope.spawn(|| from.inside(|| send_datagrams(at, flow, bytes, (window, &seen))));
        let verdict = receive_datagrams(&socket, flow, bytes, &seen)?;
        if let Err(error) = ended(sender)
            && verdict.lost == 0
        {
            return Err(error);
        }
        Ok(verdict)
    })
}

/// What a sender came to.
fn ended<T>(sender: thread::ScopedJoinHandle<'_, ::tests::Result<Result<T>>>) -> Result<T> {
    match sender.join() {
        Ok(sent) => sent?,
        Err(_) => bail!("a sender failed"),
    }
}

/// What both kernels counted until now.
fn counters(link: &Link) -> Result<Vec<u64>> {
    let mut total = vec![0; COUNTERS.len()];
    for side in [0, 1] {
        let text = link.host(side).inside(|| std::fs::read_to_string("/proc/thread-self/net/snmp"))??;
        for (sum, (protocol, name)) in total.iter_mut().zip(COUNTERS) {
            *sum += counter(&text, protocol, name)
                .with_context(|| format!("{protocol} {name} is not counted"))?;
        }
    }
    Ok(total)
}

/// One field of `/proc/net/snmp`: a line of names, then one of numbers.
fn counter(text: &str, protocol: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(protocol)?.strip_prefix(": "));
    let (names, numbers) = (lines.next()?, lines.next()?);
    let at = names.split(' ').position(|field| field == name)?;
    numbers.split(' ').nth(at)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::counter;

    #[test]
    fn a_counter_is_found_under_its_name() {
        let text = "Ip: Forwarding InHdrErrors\nIp: 1 0\nUdp: InDatagrams InCsumErrors\nUdp: 12 3\n\
                    UdpLite: InDatagrams InCsumErrors\nUdpLite: 0 9\n";
        assert_eq!(counter(text, "Udp", "InCsumErrors"), Some(3));
        assert_eq!(counter(text, "Ip", "InHdrErrors"), Some(0));
        assert_eq!(counter(text, "Ip", "Nothing"), None);
    }
}
