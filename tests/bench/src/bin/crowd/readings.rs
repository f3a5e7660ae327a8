//! What the kernel says of processes and of an interface.

use std::fs;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

/// Ticks of the processor clock in a second, as /proc counts.
const TICKS: f64 = 100.0;

/// Of some processes, in their order.
pub(crate) struct Reading(Vec<Process>);

struct Process {
    /// Resident, in KiB: all, and what is no file's.
    rss: u64,
    anonymous: u64,
    /// User space and kernel, in seconds.
    cpu: f64,
    /// How often it went to sleep.
    sleeps: u64,
}

impl Reading {
    pub(crate) fn of(processes: &[u32]) -> Result<Self> {
        Ok(Self(processes.iter().map(|pid| Process::of(*pid)).collect::<Result<_>>()?))
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "rss_kib": self.0.iter().map(|process| process.rss).collect::<Vec<_>>(),
            "anonymous_kib": self.0.iter().map(|process| process.anonymous).collect::<Vec<_>>(),
        })
    }

    /// Processor time of all, in seconds.
    pub(crate) fn cpu_since(&self, before: &Self) -> f64 {
        self.0.iter().zip(&before.0).map(|(now, then)| now.cpu - then.cpu).sum()
    }

    pub(crate) fn wakeups_since(&self, before: &Self) -> impl Iterator<Item = f64> {
        self.0.iter().zip(&before.0).map(|(now, then)| (now.sleeps - then.sleeps) as f64)
    }
}

impl Process {
    fn of(pid: u32) -> Result<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).context("a process has ended")?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())
                .with_context(|| format!("/proc/PID/status has no {name}"))
        };
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // After the name, which may hold anything: utime is the 14th field of all, stime the 15th (proc(5)).
        let (_, fields) = stat.rsplit_once(')').context("/proc/PID/stat has a name in parentheses")?;
        let ticks: f64 =
            fields.split_whitespace().skip(11).take(2).filter_map(|text| text.parse::<f64>().ok()).sum();
        Ok(Self {
            rss: field("VmRSS")?,
            anonymous: field("RssAnon")?,
            cpu: ticks / TICKS,
            sleeps: field("voluntary_ctxt_switches")?,
        })
    }
}

/// Bytes that came into the host by an interface.
pub(crate) struct Passed(u64);

impl Passed {
    pub(crate) fn now(interface: &str) -> Result<Self> {
        let table = fs::read_to_string("/proc/thread-self/net/dev")?;
        let line = table.lines().find_map(|line| line.trim().strip_prefix(interface)?.strip_prefix(':'));
        let bytes = line.context("the interface is not there")?.split_whitespace().next();
        Ok(Self(bytes.context("/proc/net/dev has columns")?.parse()?))
    }

    pub(crate) fn since(&self, before: &Self) -> u64 {
        self.0 - before.0
    }
}
