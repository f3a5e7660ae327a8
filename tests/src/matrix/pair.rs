//! Two machines that have nothing from each other, until packets go directly, or over a relay if that is all there is.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{Node, Result, wait};

use super::{
    crowd::Crowd,
    flow::{Answers, Pings},
    nat::{Expected, Nat},
};

/// How long a pair is watched that is not expected to have a direct path.
const WATCHED: Duration = Duration::from_secs(2);
/// The same in a long run.
const WATCHED_LONG: Duration = Duration::from_secs(5);
/// When to give up on a direct path.
const NEVER: Duration = Duration::from_secs(15);
/// Of fewer beginnings nothing can be said where chance decides.
const ENOUGH: usize = 10;
/// After the direct path came, so that what the change of path lost is seen.
const AFTER: Duration = Duration::from_millis(700);

/// What was measured of one pair, in each of several beginnings.
#[derive(Clone, Debug)]
pub struct Row {
    /// The NATs.
    pub nats: (Nat, Nat),
    /// What they let through.
    pub expected: Expected,
    /// One for each time that the two began from nothing.
    pub samples: Vec<Sample>,
}

/// One beginning.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Pings a hundred a second.
    pub answers: Answers,
    /// When the first machine sent on a direct path, and the second too.
    pub direct: Option<Duration>,
}

impl Row {
    /// Whether all is as it should be: the first packet in time, a direct path in time where there can be one, nothing lost
    /// on the way to it.
    #[must_use]
    pub fn holds(&self) -> bool {
        let begins = |sample: &Sample| {
            sample.answers.first.is_some_and(|first| first < super::FIRST) && sample.answers.lost == 0
        };
        let within = |most: Duration| {
            self.samples.iter().filter(|sample| sample.direct.is_some_and(|at| at < most)).count()
        };
        let all = self.samples.len();
        let direct = match self.expected {
            Expected::Direct => within(super::DIRECT) == all,
            Expected::Birthday => all < ENOUGH || within(NEVER) * 10 >= all * 9,
            Expected::Relay => true,
        };
        direct && self.samples.iter().all(begins)
    }

    /// The times to the first answer.
    #[must_use]
    pub fn firsts(&self) -> Vec<Duration> {
        self.samples.iter().filter_map(|sample| sample.answers.first).collect()
    }

    /// The times to the direct path.
    #[must_use]
    pub fn directs(&self) -> Vec<Duration> {
        self.samples.iter().filter_map(|sample| sample.direct).collect()
    }

    /// Packets lost, all samples together.
    #[must_use]
    pub fn lost(&self) -> usize {
        self.samples.iter().map(|sample| sample.answers.lost).sum()
    }
}

/// Lets two machines begin from nothing and watches them.
///
/// # Errors
/// If one cannot be asked, or does not come up.
pub fn measure(crowd: &Crowd, sites: (&str, &str), nats: (Nat, Nat)) -> Result<Sample> {
    let nodes = (crowd.at(sites.0)?, crowd.at(sites.1)?);
    begin(crowd, nodes, &[sites.0, sites.1], nats.0.expected(nats.1))
}

/// The same for any two machines, whose sites' routers forget everything first.
///
/// # Errors
/// As [`measure`].
pub fn begin(
    crowd: &Crowd,
    (one, other): (&Node, &Node),
    sites: &[&str],
    expected: Expected,
) -> Result<Sample> {
    for node in [one, other] {
        node.ask(&["down"])?;
    }
    for site in sites {
        crowd.lab.natlab(&["flush-nat", site])?;
    }
    for node in [one, other] {
        node.ask(&["up"])?;
    }
    for node in [one, other] {
        ready(node)?;
    }
    // The interface for IPv4 is there though the underlay has none.
    let address = other.address("ipv4")?;
    let began = Instant::now();
    let pings = Pings::begin(one.host(), &address)?;
    let watched = match expected {
        Expected::Direct | Expected::Birthday => NEVER,
        Expected::Relay if crate::long() => WATCHED_LONG,
        Expected::Relay => WATCHED,
    };
    let mut direct = None;
    while direct.is_none() && began.elapsed() < watched {
        thread::sleep(Duration::from_millis(50));
        if is_direct(one, other)? && is_direct(other, one)? {
            direct = Some(began.elapsed());
        }
    }
    thread::sleep(AFTER);
    Ok(Sample { answers: pings.end()?, direct })
}

/// Whether `from` sends to `to` directly.
///
/// # Errors
/// If it cannot be asked.
pub fn is_direct(from: &Node, to: &Node) -> Result<bool> {
    Ok(from.peer(to.name())?["path"] == "direct")
}

/// Waits until a machine is up and has nothing to complain about.
///
/// # Errors
/// If it stays otherwise.
pub fn ready(node: &Node) -> Result<()> {
    wait::until(&format!("{} is up and content", node.name()), wait::SOON, || {
        node.status().is_ok_and(|status| {
            status["state"] == "up" && status["warnings"].as_array().is_none_or(Vec::is_empty)
        })
    })
    .map_err(|error| {
        let status = node.status().map(|status| Value::to_string(&status)).unwrap_or_default();
        crate::Trouble::new(format!("{error}: {status}"))
    })?;
    Ok(())
}
