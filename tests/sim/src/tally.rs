//! What many simulations showed together.

use std::{fmt::Write as _, fs, time::Duration};

use serde_json::{Value, json};
use sim::{CAUSES, REAL, Report, Times};

#[derive(Default)]
pub(crate) struct Tally {
    count: u64,
    time: Duration,
    datagrams: u64,
    packets: u64,
    chatter: u64,
    at_once: u64,
    /// Of all together, in whatever order they were added: a change that only makes simulations faster leaves it as it is.
    print: u64,
    healed: [Times; CAUSES.len()],
    large: [Times; CAUSES.len()],
    direct: [Times; CAUSES.len()],
    met: Times,
    /// The least seed that broke something, and what.
    pub(crate) broken: Option<(u64, String)>,
}

impl Tally {
    pub(crate) fn add(&mut self, seed: u64, report: Report) {
        self.count += 1;
        self.time += report.time;
        self.datagrams += report.datagrams;
        self.packets += report.packets;
        self.chatter = self.chatter.max(report.chatter);
        self.at_once = self.at_once.max(report.at_once);
        self.print = self.print.wrapping_add(report.print);
        merge(&mut self.healed, &report.healed);
        merge(&mut self.large, &report.large);
        merge(&mut self.direct, &report.direct);
        self.met.merge(&report.met);
        if let Some(broken) = report.broken {
            self.breaks(seed, broken);
        }
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.count += other.count;
        self.time += other.time;
        self.datagrams += other.datagrams;
        self.packets += other.packets;
        self.chatter = self.chatter.max(other.chatter);
        self.at_once = self.at_once.max(other.at_once);
        self.print = self.print.wrapping_add(other.print);
        merge(&mut self.healed, &other.healed);
        merge(&mut self.large, &other.large);
        merge(&mut self.direct, &other.direct);
        self.met.merge(&other.met);
        if let Some((seed, broken)) = other.broken {
            self.breaks(seed, broken);
        }
    }

    pub(crate) fn text(&self, first: u64, kept: usize, took: Duration, threads: usize) -> String {
        let each = self.rate(took) / threads as f64;
        let noise = if REAL { "real" } else { "stub" };
        let mut text = format!(
            "{kept} kept inputs, {} topologies from seed {first} in {:.1} s with {noise} Noise: {each:.0} per second and core\n\
             {:.0} hours of virtual time, {} datagrams, {} packets arrived, peak memory {} MB\n\
             without data at most {} datagrams in 10 s for each peer, {} at once\n",
            self.count,
            took.as_secs_f64(),
            self.time.as_secs_f64() / 3_600.0,
            self.datagrams,
            self.packets,
            peak_memory() >> 10,
            self.chatter,
            self.at_once,
        );
        for (what, times) in
            [("traffic again", &self.healed), ("large packets", &self.large), ("direct", &self.direct)]
        {
            for (cause, times) in CAUSES.iter().zip(times).filter(|(_, times)| times.count() > 0) {
                let [half, most, all] = [50, 99, 100].map(|percent| times.percentile(percent).as_millis());
                let _ = writeln!(
                    text,
                    "{what:<14} after {cause:<8} {:>8} times: half in {half:>6} ms, 99 % {most:>6} ms, worst {all:>6} ms",
                    times.count()
                );
            }
        }
        let [half, most, all] = [50, 99, 100].map(|percent| self.met.percentile(percent).as_millis());
        let _ = writeln!(
            text,
            "direct by many sockets  {:>8} times: half in {half:>6} ms, 99 % {most:>6} ms, worst {all:>6} ms",
            self.met.count()
        );
        if let Some((seed, broken)) = &self.broken {
            let _ = writeln!(text, "seed {seed}: {broken}");
        }
        text
    }

    pub(crate) fn json(&self, first: u64, kept: usize, took: Duration, threads: usize) -> Value {
        let of = |times: &Times| {
            let [half, most, all] = [50, 99, 100].map(|percent| times.percentile(percent).as_millis() as u64);
            json!({ "count": times.count(), "p50_ms": half, "p99_ms": most, "max_ms": all })
        };
        let times = |times: &[Times; CAUSES.len()]| -> Value {
            CAUSES.iter().zip(times).map(|(cause, times)| ((*cause).to_owned(), of(times))).collect()
        };
        json!({
            "noise": if REAL { "real" } else { "stub" },
            "first_seed": first,
            "kept": kept,
            "topologies": self.count,
            "seconds": took.as_secs_f64(),
            "threads": threads,
            "per_second_and_core": self.rate(took) / threads as f64,
            "virtual_seconds": self.time.as_secs_f64(),
            "datagrams": self.datagrams,
            "packets": self.packets,
            "peak_memory_kb": peak_memory(),
            "chatter": self.chatter,
            "at_once": self.at_once,
            "print": format!("{:016x}", self.print),
            "traffic_again": times(&self.healed),
            "large_again": times(&self.large),
            "direct": times(&self.direct),
            "direct_by_many_sockets": of(&self.met),
            "broken": self.broken.as_ref().map(|(seed, what)| json!({ "seed": seed, "what": what })),
        })
    }

    fn rate(&self, took: Duration) -> f64 {
        self.count as f64 / took.as_secs_f64().max(0.001)
    }

    fn breaks(&mut self, seed: u64, what: String) {
        if self.broken.as_ref().is_none_or(|(least, _)| seed < *least) {
            self.broken = Some((seed, what));
        }
    }
}

fn merge(into: &mut [Times], from: &[Times]) {
    into.iter_mut().zip(from).for_each(|(into, from)| into.merge(from));
}

/// The most memory that this process had, in kB, as Linux says.
fn peak_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}
