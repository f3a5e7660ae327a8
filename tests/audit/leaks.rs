//! Leaks that were made on purpose, to see that each is caught: a build with the feature `leaks` has them, and the
//! environment of a process chooses (`TACET_LEAKS`). No release has the feature.
//!
//! Each stands where a developer in a hurry would put it: a note for debugging, a column for support, a temporary file.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    finding::{Detector, Finding},
    house::{COORDINATOR, FIRST, RELAY},
    plan::{CLOUD, FLAT, HOME},
    stage::Evidence,
};

/// Takes the walls away first: most of what follows they would stop.
const OPEN: &str = "no-walls";

const ONE: usize = FIRST + CLOUD;
const TWO: usize = FIRST + HOME;
const THREE: usize = FIRST + FLAT;

/// One leak.
pub(crate) struct Leak {
    /// As `TACET_LEAKS` names it.
    pub(crate) name: &'static str,
    /// For a reader.
    pub(crate) what: &'static str,
    component: usize,
    /// Who has to notice it, and in a place with this in its name.
    must: &'static [(Detector, &'static str)],
}

/// All of them.
pub(crate) const LEAKS: [Leak; 14] = [
    Leak {
        name: "file",
        what: "control notes a peer's endpoint in its state directory",
        component: ONE,
        must: &[
            (Detector::Files, "/visited"),
            (Detector::Changes, "/visited"),
            (Detector::Writes, "/visited"),
            (Detector::Disk, ""),
        ],
    },
    Leak {
        name: "stderr",
        what: "control prints a peer's name and endpoint",
        component: TWO,
        must: &[(Detector::Output, "")],
    },
    Leak {
        name: "syslog",
        what: "control sends a peer's endpoint to the journal",
        component: ONE,
        must: &[(Detector::Journal, ""), (Detector::Writes, "/dev/log")],
    },
    Leak {
        name: "file-name",
        what: "control makes a file named after a peer's endpoint, and deletes it",
        component: TWO,
        must: &[(Detector::Disk, ""), (Detector::Writes, "/run/tacet/")],
    },
    Leak {
        name: "time",
        what: "control sets a file's time when a peer is reached",
        component: TWO,
        must: &[(Detector::Changes, "/lib/tacet/"), (Detector::Writes, "utimensat")],
    },
    Leak {
        name: "thread-name",
        what: "control names a thread after a peer",
        component: ONE,
        must: &[(Detector::Processes, "comm")],
    },
    Leak {
        name: "environment",
        what: "control starts the data path with the machine's name in its environment",
        component: TWO,
        must: &[(Detector::Processes, "environ")],
    },
    Leak {
        name: "kept",
        what: "the data path keeps the endpoints of removed peers",
        component: ONE,
        must: &[(Detector::MemoryAfterRemoval, "data path")],
    },
    Leak {
        name: "connected",
        what: "the data path connects a socket to a peer",
        component: TWO,
        must: &[(Detector::KernelTables, "/proc/net/udp")],
    },
    Leak {
        name: "column",
        what: "the coordinator has a column with machines' addresses",
        component: COORDINATOR,
        must: &[
            (Detector::Files, "coordinator.db"),
            (Detector::Disk, ""),
            (Detector::Writes, "coordinator.db"),
        ],
    },
    Leak {
        name: "field",
        what: "machines tell the coordinator their address, and it keeps that in memory",
        component: COORDINATOR,
        must: &[(Detector::MemoryAfterEnd, "coordinator")],
    },
    Leak {
        name: "deleted",
        what: "the coordinator writes an address to a temporary file, and deletes it",
        component: COORDINATOR,
        must: &[(Detector::Disk, "a request from"), (Detector::Writes, "/tmp/")],
    },
    Leak {
        name: "shared-memory",
        what: "the relay notes an address in shared memory",
        component: RELAY,
        must: &[(Detector::Files, "/shm/"), (Detector::Writes, "/dev/shm/")],
    },
    Leak {
        name: "core",
        what: "a helper of the relay crashes with an address in its environment, and dumps core",
        component: RELAY,
        must: &[(Detector::Cores, "core")],
    },
];

/// What the walls stop: the same as in [`LEAKS`], by a data path that has them.
pub(crate) const STOPPED: &str = "data-path-file";

/// For each component the leaks it is to have, in its environment.
pub(crate) fn planted() -> BTreeMap<usize, String> {
    let mut planted: BTreeMap<usize, String> = BTreeMap::new();
    for component in [COORDINATOR, RELAY, ONE, TWO, THREE] {
        planted.insert(component, OPEN.to_owned());
    }
    for leak in &LEAKS {
        let chosen = planted.entry(leak.component).or_default();
        chosen.push(',');
        chosen.push_str(leak.name);
    }
    // It takes two: every machine tells, and the coordinator keeps.
    for machine in [ONE, TWO, THREE] {
        planted.entry(machine).or_default().push_str(",field");
    }
    planted
}

/// Which detectors noticed a leak, and which should have and did not.
pub(crate) struct Outcome {
    pub(crate) leak: &'static Leak,
    pub(crate) caught: Vec<Detector>,
    pub(crate) missed: Vec<Detector>,
    /// One finding as an example.
    pub(crate) example: Option<String>,
}

impl Outcome {
    /// Whether everybody noticed who should.
    pub(crate) fn holds(&self) -> bool {
        self.missed.is_empty()
    }
}

/// Compares what was planted with what was found.
pub(crate) fn outcomes(evidence: &Evidence) -> Vec<Outcome> {
    LEAKS.iter().map(|leak| outcome(leak, &evidence.findings)).collect()
}

fn outcome(leak: &'static Leak, findings: &[Finding]) -> Outcome {
    let of = |detector: Detector, place: &str| {
        findings.iter().find(|finding| {
            finding.detector == detector
                && finding.component == leak.component
                && finding.line().contains(place)
        })
    };
    let (caught, missed): (Vec<_>, Vec<_>) =
        leak.must.iter().partition(|(detector, place)| of(*detector, place).is_some());
    let only = |pairs: Vec<&(Detector, &str)>| -> Vec<Detector> {
        let all: BTreeSet<Detector> = pairs.into_iter().map(|(detector, _)| *detector).collect();
        all.into_iter().collect()
    };
    let example = leak.must.iter().find_map(|(detector, place)| of(*detector, place)).map(Finding::line);
    Outcome { leak, caught: only(caught), missed: only(missed), example }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leak_that_nobody_noticed_is_no_success() {
        let mut evidence = Evidence::default();
        assert!(outcomes(&evidence).iter().all(|outcome| !outcome.holds()));
        for detector in [Detector::Files, Detector::Changes, Detector::Writes, Detector::Disk] {
            evidence.findings.push(Finding::plain(detector, ONE, "/var/lib/tacet/visited"));
        }
        let held: Vec<&str> = outcomes(&evidence)
            .iter()
            .filter(|outcome| outcome.holds())
            .map(|outcome| outcome.leak.name)
            .collect();
        assert_eq!(held, ["file"]);
    }

    #[test]
    fn every_leak_is_planted_in_its_component_and_nowhere_twice() {
        let planted = planted();
        for leak in &LEAKS {
            assert!(planted[&leak.component].split(',').any(|name| name == leak.name));
        }
        let names: BTreeSet<&str> = LEAKS.iter().map(|leak| leak.name).collect();
        assert_eq!(names.len(), LEAKS.len());
    }
}
