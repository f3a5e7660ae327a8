//! Machines that joined by an invite and that no signer has folded into the roster yet.
//!
//! They become known by the join list or by an introduction over a relay, and stay in RAM alone. A record counts only
//! while the roster's invite bears it ([`Roster::provisional_all`]); an introduction may also prove a roster that is
//! newer than ours, and counts until ours is as new. Both sources are open to whoever holds an invite or the mailbox
//! key, so the tables are bounded, and introductions are checked at a bounded rate.

use std::time::{Duration, Instant};

use proto::{
    coordinator::JoinId,
    roster::{EntryId, JoinRecord, MachineEntry, MembershipError, Order, Roster},
};

/// Joiners known at once, from the list or by introduction. A signer folds in seconds, so only a flood fills this.
const MAX_JOINERS: usize = 512;

/// Joiners known at once by the proof of a newer roster.
const MAX_PROVED: usize = 64;

/// Introductions checked in a burst; each costs some signature checks, a few hundred microseconds.
const BURST: u32 = 32;

/// After that, one more each so often.
const REFILL: Duration = Duration::from_millis(50);

/// The tables, in the order in which the records came: of two that claim the same, the first counts.
#[derive(Default)]
pub(crate) struct Joiners {
    known: Vec<Joiner>,
    proved: Vec<Proved>,
}

struct Joiner {
    record: JoinRecord,
    /// Its name in the join list, if it was seen there.
    listed: Option<JoinId>,
}

struct Proved {
    machine: MachineEntry,
    /// The order of the roster that it was proved by.
    order: Order,
}

/// The joiners that count as members.
pub(crate) struct Accepted {
    pub(crate) machines: Vec<MachineEntry>,
    /// An invite was used by more machines than it allows.
    pub(crate) overused: bool,
}

impl Joiners {
    /// Adds a record, or learns where it is listed. False if nothing is new or the table is full.
    pub(crate) fn add(&mut self, record: JoinRecord, listed: Option<JoinId>) -> bool {
        if let Some(known) = self.known.iter_mut().find(|known| known.record == record) {
            let new = listed.is_some() && known.listed != listed;
            known.listed = listed.or(known.listed);
            return new;
        }
        if self.known.len() >= MAX_JOINERS {
            return false;
        }
        self.known.push(Joiner { record, listed });
        true
    }

    /// Adds a machine that an introduction proved by a roster of this order, newer than ours. False if the table is
    /// full.
    pub(crate) fn add_proved(&mut self, machine: MachineEntry, order: Order) -> bool {
        self.proved.retain(|proved| proved.machine.identity.identity != machine.identity.identity);
        if self.proved.len() >= MAX_PROVED {
            return false;
        }
        self.proved.push(Proved { machine, order });
        true
    }

    /// Forgets what `roster` decides: machines that it holds, records of invites that it does not. Whoever signed it
    /// took their records off the list; one that is there still comes with the next list.
    pub(crate) fn settle(&mut self, roster: &Roster) {
        let decided = |record: &JoinRecord| {
            matches!(roster.provisional(record), Err(MembershipError::Member | MembershipError::NoInvite))
        };
        self.known.retain(|joiner| !decided(&joiner.record));
        self.proved.retain(|proved| proved.order > roster.order());
    }

    /// Forgets the join list, to be told it anew.
    pub(crate) fn unlist(&mut self) {
        self.known.retain(|joiner| joiner.listed.is_none());
    }

    /// The machines to treat as members.
    pub(crate) fn accepted(&self, roster: &Roster) -> Accepted {
        let records: Vec<JoinRecord> = self.known.iter().map(|joiner| joiner.record.clone()).collect();
        let verdicts = roster.provisional_all(&records);
        let overused = verdicts.iter().any(|verdict| matches!(verdict, Err(MembershipError::Overused)));
        let mut machines: Vec<MachineEntry> = verdicts.into_iter().filter_map(Result::ok).collect();
        for Proved { machine, .. } in &self.proved {
            let identity = &machine.identity.identity;
            let known = machines.iter().any(|known| known.identity.identity == *identity)
                || roster.machine_by_identity(identity).is_some();
            if !known {
                machines.push(machine.clone());
            }
        }
        Accepted { machines, overused }
    }

    /// Who joined by an invite and is listed.
    pub(crate) fn of(&self, invite: &EntryId) -> Vec<(JoinId, JoinRecord)> {
        let mut listed = self.listed();
        listed.retain(|(_, record)| record.join().invite == *invite);
        listed
    }

    /// The join list as it is known here: what a signer folds in or drops.
    pub(crate) fn listed(&self) -> Vec<(JoinId, JoinRecord)> {
        self.known.iter().filter_map(|joiner| Some((joiner.listed?, joiner.record.clone()))).collect()
    }
}

/// Bounds how many introductions are checked.
pub(crate) struct Gate {
    left: u32,
    refilled: Instant,
}

impl Gate {
    pub(crate) fn new(now: Instant) -> Self {
        Self { left: BURST, refilled: now }
    }

    /// Whether one more may be checked now.
    pub(crate) fn pass(&mut self, now: Instant) -> bool {
        let earned = now.saturating_duration_since(self.refilled).as_millis() / REFILL.as_millis();
        let earned = u32::try_from(earned).unwrap_or(u32::MAX);
        if earned > 0 {
            self.left = self.left.saturating_add(earned).min(BURST);
            self.refilled = now;
        }
        let Some(left) = self.left.checked_sub(1) else { return false };
        self.left = left;
        true
    }
}

#[cfg(test)]
mod tests {
    use rand_core::OsRng;

    use super::*;
    use crate::network::sample::{network, record};

    #[test]
    fn introductions_pass_in_a_burst_and_then_at_a_rate() {
        let start = Instant::now();
        let mut gate = Gate::new(start);
        let passed = |gate: &mut Gate, at: Duration| (0..1_000).filter(|_| gate.pass(start + at)).count();
        assert_eq!(passed(&mut gate, Duration::ZERO), BURST as usize);
        assert_eq!(passed(&mut gate, REFILL * 3), 3);
        assert_eq!(passed(&mut gate, REFILL * 1_000), BURST as usize);
    }

    #[test]
    fn a_flood_of_records_fills_the_table_and_no_more() {
        let (roster, _, invite) = network(4_000);
        let mut joiners = Joiners::default();
        let first = record(&roster, &invite);
        assert!(joiners.add(first.clone(), None));
        let added = (0..MAX_JOINERS + 20).filter(|_| joiners.add(record(&roster, &invite), None)).count();
        assert_eq!(added, MAX_JOINERS - 1);
        assert!(!joiners.add(first.clone(), None), "nothing new");
        assert!(joiners.add(first, Some([1; 32])), "its place in the list is new");
    }

    #[test]
    fn an_invite_with_more_machines_than_uses_bears_none() {
        let (roster, _, invite) = network(1);
        let mut joiners = Joiners::default();
        joiners.add(record(&roster, &invite), None);
        let accepted = joiners.accepted(&roster);
        assert_eq!((accepted.machines.len(), accepted.overused), (1, false));
        joiners.add(record(&roster, &invite), None);
        let accepted = joiners.accepted(&roster);
        assert_eq!((accepted.machines.len(), accepted.overused), (0, true));
    }

    #[test]
    fn what_a_signer_folded_in_is_forgotten_and_cleared_away_if_it_is_listed_still() {
        let (roster, keys, invite) = network(2);
        let mut joiners = Joiners::default();
        let joining = record(&roster, &invite);
        joiners.add(joining.clone(), Some([1; 32]));
        let folded = roster.edit(&keys, 1, &mut OsRng, |draft| draft.fold(&joining)).unwrap().roster;
        joiners.settle(&folded);
        assert!(joiners.known.is_empty());

        joiners.add(joining, Some([1; 32]));
        assert_eq!(joiners.listed().len(), 1);
        assert!(joiners.accepted(&folded).machines.is_empty());
        joiners.unlist();
        assert!(joiners.known.is_empty());
    }
}
