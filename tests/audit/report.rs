//! What a person reads at the end, and the same as JSON.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    canary::Kind,
    finding::{Detector, Finding},
    house::COMPONENTS,
    leaks::Outcome,
    stage::Evidence,
    writes::{Destination, Table},
};

/// All that an audit has to say.
pub(crate) struct Report {
    /// Where the programs are from.
    pub(crate) programs: String,
    pub(crate) canaries: usize,
    pub(crate) forms: usize,
    /// Bytes that founding the network and three joins wrote.
    pub(crate) joined: u64,
    pub(crate) lives: Vec<Evidence>,
    /// What the release did wrong, over all lives.
    pub(crate) findings: Vec<Finding>,
    pub(crate) leaks: Vec<Outcome>,
    /// How the kernel stopped a leak.
    pub(crate) stopped: Option<String>,
    /// What could not be looked at here.
    pub(crate) blind: Vec<String>,
    pub(crate) took: Duration,
}

impl Report {
    /// Whether nothing was found that must not be there, and everything that was planted was found.
    pub(crate) fn holds(&self) -> bool {
        self.findings.is_empty() && self.leaks.iter().all(Outcome::holds) && self.stopped.is_some()
    }

    pub(crate) fn print(&self) {
        println!("\nCanary audit of {}", self.programs);
        println!(
            "{} canaries in {} forms; lives: {}; {} found where they have to be",
            self.canaries,
            self.forms,
            self.lives.len(),
            self.lives.iter().map(|life| life.controls).sum::<usize>()
        );

        println!("\nFindings");
        for detector in Detector::ALL {
            let found = self.findings.iter().filter(|finding| finding.detector == detector).count();
            println!(
                "  {:<44} {}",
                detector.text(),
                if found == 0 { "nothing".into() } else { found.to_string() }
            );
        }
        for finding in &self.findings {
            println!("  FOUND  {}", finding.line());
        }

        println!("\nCalls and bytes by destination, over all lives");
        for (component, row) in self.written() {
            println!("  {component:<12} {row}");
        }
        let state = self.state_bytes();
        println!(
            "  to state directories: {} bytes by joining, {} by starting anew, {} by living, {} by removing a machine",
            self.joined, state[0], state[1], state[2]
        );

        println!(
            "\nHeld by the kernel, and not ours to prevent (vpnctl privacy verify says what to do about it)"
        );
        for line in self.reported() {
            println!("  {line}");
        }

        println!("\nLeaks made on purpose");
        for outcome in &self.leaks {
            let verdict = if outcome.holds() { "caught" } else { "MISSED" };
            let by: Vec<&str> = outcome.caught.iter().map(|detector| detector.text()).collect();
            println!("  {verdict}  {:<14} {}", outcome.leak.name, outcome.leak.what);
            println!("          by {}", if by.is_empty() { "nobody".to_owned() } else { by.join("; ") });
            if !outcome.missed.is_empty() {
                let missed: Vec<&str> = outcome.missed.iter().map(|detector| detector.text()).collect();
                println!("          not by {}", missed.join("; "));
            }
            if let Some(example) = &outcome.example {
                println!("          {example}");
            }
        }
        match &self.stopped {
            Some(how) => println!("  stopped by the kernel: the data path writes a file; {how}"),
            None => println!("  MISSED  the data path wrote a file, and the kernel did not stop it"),
        }
        for blind in &self.blind {
            println!("\nNot looked at: {blind}");
        }

        let caught = self.leaks.iter().filter(|outcome| outcome.holds()).count();
        println!(
            "\n{}: {} findings in the release, {caught} of {} leaks caught, {} s",
            if self.holds() { "ok" } else { "FAILED" },
            self.findings.len(),
            self.leaks.len(),
            self.took.as_secs()
        );
    }

    pub(crate) fn json(&self) -> Value {
        let leaks: Vec<Value> = self
            .leaks
            .iter()
            .map(|outcome| {
                let texts = |detectors: &[Detector]| -> Vec<&str> {
                    detectors.iter().map(|detector| detector.text()).collect()
                };
                json!({"name": outcome.leak.name, "what": outcome.leak.what, "caught": outcome.holds(),
                       "by": texts(&outcome.caught), "not_by": texts(&outcome.missed)})
            })
            .collect();
        json!({
            "ok": self.holds(),
            "programs": self.programs,
            "canaries": self.canaries,
            "forms": self.forms,
            "findings": self.findings.iter().map(Finding::json).collect::<Vec<_>>(),
            "writes": self.written().into_iter().map(|(of, row)| json!({"component": of, "calls": row})).collect::<Vec<_>>(),
            "state_bytes": {"joins": self.joined, "start": self.state_bytes()[0], "life": self.state_bytes()[1], "removal": self.state_bytes()[2]},
            "kernel": self.reported(),
            "leaks": leaks,
            "stopped_by_the_kernel": self.stopped,
            "not_looked_at": self.blind,
            "seconds": self.took.as_secs(),
        })
    }

    fn state_bytes(&self) -> [u64; 3] {
        let mut sum = [0; 3];
        for life in &self.lives {
            for (sum, bytes) in sum.iter_mut().zip(life.state_bytes) {
                *sum += bytes;
            }
        }
        sum
    }

    /// What the kernel holds, by component and table.
    fn reported(&self) -> Vec<String> {
        let mut rows: BTreeMap<&(usize, String), BTreeSet<Kind>> = BTreeMap::new();
        for (row, kinds) in self.lives.iter().flat_map(|life| &life.reported) {
            rows.entry(row).or_default().extend(kinds);
        }
        rows.into_iter()
            .map(|((component, table), kinds)| {
                let kinds: Vec<&str> = kinds.iter().map(|kind| kind.text()).collect();
                format!("{:<12} {table}: {}", COMPONENTS[*component].0, kinds.join(", "))
            })
            .collect()
    }

    /// For each component one line.
    fn written(&self) -> Vec<(&'static str, String)> {
        (0..COMPONENTS.len())
            .map(|component| {
                let mut sum = Table::new();
                for (to, (calls, bytes)) in
                    self.lives.iter().filter_map(|life| life.writes.get(component)).flatten()
                {
                    let cell = sum.entry(to.clone()).or_default();
                    *cell = (cell.0 + calls, cell.1 + bytes);
                }
                let cells: Vec<String> =
                    sum.iter().map(|(to, (calls, bytes))| format!("{} {calls}/{bytes}", name(to))).collect();
                (COMPONENTS[component].0, cells.join(", "))
            })
            .collect()
    }
}

fn name(to: &Destination) -> &str {
    match to {
        Destination::Tun => "tunnel",
        Destination::Udp => "UDP",
        Destination::Tcp => "TLS",
        Destination::Pipe => "pipes",
        Destination::Wake => "wake-ups",
        Destination::Netlink => "netlink",
        Destination::LocalApi => "local API",
        Destination::ServiceManager => "service manager",
        Destination::Output => "output",
        Destination::State(path) | Destination::Elsewhere(path) => path,
    }
}
