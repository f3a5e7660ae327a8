//! Changes of a network that go on while its parts are killed, and what it must be in the end.
//!
//! A change whose command ended with 0 is in for ever. One whose command failed may be in or not: its answer may be
//! what the kill took away.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicBool, Ordering},
    thread::sleep,
    time::Duration,
};

use serde_json::Value;
use tests::{Host, Node};

use crate::dice::Dice;

/// Between two changes, at most.
const PAUSE: Duration = Duration::from_millis(250);

/// How many invites may be live at a time.
const INVITES: usize = 6;

/// What a network may be, as far as those who changed it know.
#[derive(Default)]
pub(super) struct Expected {
    /// What each machine that is there all the time may be called, by its IPv6 address.
    names: BTreeMap<String, BTreeSet<String>>,
    /// Whether it may be a signer.
    signers: BTreeMap<String, BTreeSet<bool>>,
    /// Whether a machine of this name, which came by a token, may be there.
    joined: BTreeMap<String, BTreeSet<bool>>,
    /// Whether an invite of this name may be live.
    invites: BTreeMap<String, BTreeSet<bool>>,
    /// Commands that ended with 0, and others.
    pub(super) acknowledged: usize,
    pub(super) failed: usize,
}

impl Expected {
    /// Notes how a command ended that was to make `what` be `value`.
    fn note<T: Ord>(
        &mut self,
        done: bool,
        what: fn(&mut Self) -> &mut BTreeMap<String, BTreeSet<T>>,
        key: &str,
        value: T,
    ) {
        if done {
            self.acknowledged += 1;
        } else {
            self.failed += 1;
        }
        let may = what(self).entry(key.to_owned()).or_default();
        if done {
            may.clear();
        }
        may.insert(value);
    }

    /// Adds what somebody else changed meanwhile, who changed other things.
    pub(super) fn and(mut self, other: Self) -> Self {
        self.names.extend(other.names);
        self.signers.extend(other.signers);
        self.joined.extend(other.joined);
        self.invites.extend(other.invites);
        self.acknowledged += other.acknowledged;
        self.failed += other.failed;
        self
    }

    /// What of a list of machines and one of invites is not as it must be.
    pub(super) fn contradicts(&self, machines: &Value, invites: &Value) -> Option<String> {
        let all: Vec<&Value> = machines.as_array().into_iter().flatten().collect();
        let name = |machine: &Value| machine["name"].as_str().unwrap_or_default().to_owned();
        for (address, names) in &self.names {
            let Some(machine) = all.iter().find(|machine| machine["ipv6"] == **address) else {
                return Some(format!("a machine that may be called {names:?} is not there"));
            };
            if !names.contains(&name(machine)) {
                return Some(format!("{} may only be called {names:?}", name(machine)));
            }
        }
        for (address, signers) in &self.signers {
            let signer =
                all.iter().find(|machine| machine["ipv6"] == **address).map(|machine| &machine["signer"]);
            if !signers.iter().any(|may| signer == Some(&Value::Bool(*may))) {
                return Some(format!("a machine is a signer: {signer:?}, and may only be {signers:?}"));
            }
        }
        let listed: BTreeSet<String> = all.iter().map(|machine| name(machine)).collect();
        let live = invites.as_array().into_iter().flatten();
        let live: BTreeSet<String> =
            live.filter_map(|invite| Some(invite["name"].as_str()?.to_owned())).collect();
        for (there, wanted, kind) in [(&listed, &self.joined, "machine"), (&live, &self.invites, "invite")] {
            for (name, may) in wanted {
                if !may.contains(&there.contains(name)) {
                    return Some(format!(
                        "the {kind} {name} is there: {}, and may only be: {may:?}",
                        there.contains(name)
                    ));
                }
            }
        }
        None
    }
}

/// Renames machines, gives and takes a right, lets a machine join and removes it, all on one signer, until it is told to
/// stop.
pub(super) fn of_machines(
    signer: &Host,
    staying: &[String],
    joiner: &Node,
    stop: &AtomicBool,
    mut dice: Dice,
) -> Expected {
    let signer = Node::prepare(signer);
    let mut expected = Expected::default();
    let mut came: Option<String> = None;
    for count in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        sleep(dice.moment(PAUSE));
        let address = dice.choose(staying);
        let Some(machine) =
            listed(&signer, "machines").into_iter().find(|machine| machine["ipv6"] == **address)
        else {
            continue;
        };
        let called = machine["name"].as_str().unwrap_or_default();
        match dice.next() % 4 {
            0 => {
                let name = format!("machine-{count}");
                let done = ends_well(&signer, &["machines", "rename", called, &name]);
                expected.note(done, |expected| &mut expected.names, address, name);
            }
            1 => {
                let is = machine["signer"] == true;
                let done = ends_well(&signer, &["signer", if is { "remove" } else { "add" }, called]);
                expected.note(done, |expected| &mut expected.signers, address, !is);
            }
            _ => match &came {
                None => {
                    let Ok(made) = signer.ask(&["invite", "create"]) else { continue };
                    let name = format!("guest-{count}");
                    let token = made["token"].as_str().unwrap_or_default();
                    let done = ends_well(joiner, &["join", token, "--machine", &name]);
                    expected.note(done, |expected| &mut expected.joined, &name, true);
                    if !done {
                        expected.note(false, |expected| &mut expected.joined, &name, false);
                        ends_well(joiner, &["leave", "--yes"]);
                    }
                    came = done.then_some(name);
                }
                Some(name) => {
                    let done = ends_well(&signer, &["machines", "remove", name, "--yes"]);
                    expected.note(done, |expected| &mut expected.joined, name, false);
                    if done {
                        assert!(ends_well(joiner, &["leave", "--yes"]), "a removed machine may always leave");
                        came = None;
                    }
                }
            },
        }
    }
    expected
}

/// Makes invites and revokes them, on another signer.
pub(super) fn of_invites(signer: &Host, stop: &AtomicBool, mut dice: Dice) -> Expected {
    let signer = Node::prepare(signer);
    let mut expected = Expected::default();
    for count in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        sleep(dice.moment(PAUSE * 2));
        let mut live = listed(&signer, "invites");
        live.retain(|invite| invite["name"].is_string());
        if live.len() < INVITES && !dice.next().is_multiple_of(3) {
            let name = format!("invite-{count}");
            let done = ends_well(&signer, &["invite", "create", "--name", &name]);
            expected.note(done, |expected| &mut expected.invites, &name, true);
            if !done {
                expected.note(false, |expected| &mut expected.invites, &name, false);
            }
        } else if !live.is_empty() {
            let invite = dice.choose(&live);
            let (id, name) =
                (invite["id"].as_str().unwrap_or_default(), invite["name"].as_str().unwrap_or_default());
            let done = ends_well(&signer, &["invite", "revoke", id]);
            expected.note(done, |expected| &mut expected.invites, name, false);
        }
    }
    expected
}

fn ends_well(node: &Node, arguments: &[&str]) -> bool {
    node.vpnctl(arguments).unwrap().code == 0
}

/// What a machine lists; nothing while its vpnd does not run.
fn listed(node: &Node, what: &str) -> Vec<Value> {
    let command = if what == "machines" { ["machines", "list"] } else { ["invite", "list"] };
    let list = node.ask(&command).unwrap_or_default();
    list[what].as_array().cloned().unwrap_or_default()
}
