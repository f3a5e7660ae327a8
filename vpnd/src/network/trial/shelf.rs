//! The coordinator's double: it compares and swaps as the real one does, and answers as it is told to.

use std::{
    collections::BTreeSet,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
};

use ed25519_dalek::SigningKey;
use proto::{
    coordinator::{Auth, Join, JoinId, Reason},
    epoch::Slot,
    identity::NetworkId,
    roster::{Delta, PublicState, Relation, RosterError},
    wire::Wire,
};

use crate::{
    coordinator::{Cause, Error, UnverifiedHead},
    network::upstream::Upstream,
};

/// What a coordinator keeps of one network, and what it should have forgotten.
pub(super) struct Shelf(Mutex<Kept>);

pub(super) struct Kept {
    pub(super) present: PublicState,
    /// Every state that was the present one, in that order, the present one last.
    pub(super) past: Vec<PublicState>,
    /// The join list.
    pub(super) joins: Vec<Join>,
    /// Deltas that watchers are told, oldest first.
    pub(super) told: Vec<Vec<u8>>,
}

/// How the coordinator answers somebody.
pub(super) enum Lie {
    /// As it should.
    None,
    /// Not at all.
    Away,
    /// As if this were the network's state, and everything offered came too late.
    Shows(Box<PublicState>),
    /// Its head is the present one, all else is of this state.
    Mixes(Box<PublicState>),
    /// It takes changes, says so and forgets them.
    Swallows,
    /// One bit of its nth answer is another.
    Flips { answer: usize, bit: usize },
    /// Its nth answer ends early.
    Truncates { answer: usize, at: usize },
}

/// The way from one machine to the coordinator.
pub(super) struct Line<'s> {
    shelf: &'s Shelf,
    lie: Lie,
    answers: AtomicUsize,
}

impl Shelf {
    pub(super) fn new(state: &PublicState) -> Self {
        let past = vec![state.clone()];
        Self(Mutex::new(Kept { present: state.clone(), past, joins: Vec::new(), told: Vec::new() }))
    }

    pub(super) fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap()
    }

    pub(super) fn present(&self) -> PublicState {
        self.kept().present.clone()
    }

    pub(super) fn honest(&self) -> Line<'_> {
        self.lying(Lie::None)
    }

    pub(super) fn lying(&self, lie: Lie) -> Line<'_> {
        Line { shelf: self, lie, answers: AtomicUsize::new(0) }
    }

    /// It is restored from a backup that was made `ago` changes before.
    pub(super) fn restore(&self, ago: usize) {
        let mut kept = self.kept();
        let at = kept.past.len().saturating_sub(1 + ago);
        kept.present = kept.past[at].clone();
        kept.past.truncate(at + 1);
    }
}

impl Kept {
    fn replace(&mut self, state: PublicState, settled: &[JoinId]) {
        let live: BTreeSet<_> = state.header().invites.iter().map(|invite| invite.id.0).collect();
        self.joins.retain(|join| live.contains(&join.invite.0) && !settled.contains(&join.id()));
        self.past.push(state.clone());
        self.present = state;
    }
}

impl Line<'_> {
    fn answer(&self, mut bytes: Vec<u8>) -> Result<Vec<u8>, Error> {
        let number = self.answers.fetch_add(1, Ordering::Relaxed);
        match self.lie {
            Lie::Flips { answer, bit } if answer == number => {
                let bit = bit % (bytes.len() * 8);
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
            Lie::Truncates { answer, at } if answer == number => bytes.truncate(at % bytes.len()),
            _ => {}
        }
        Ok(bytes)
    }

    fn shown(&self) -> Result<PublicState, Error> {
        match &self.lie {
            Lie::Away => Err(Error::Unreachable(Cause::Connect)),
            Lie::Shows(state) | Lie::Mixes(state) => Ok((**state).clone()),
            _ => Ok(self.shelf.present()),
        }
    }

    fn conflict(&self) -> Error {
        match self.shown() {
            Ok(state) => Error::Conflict(UnverifiedHead(state.head.to_bytes())),
            Err(error) => error,
        }
    }
}

/// Byte for byte the same but for who signed the signers' generations: two signers may have made the same one.
pub(super) fn is_same(one: &PublicState, other: &PublicState) -> bool {
    let signers = |state: &PublicState| state.head.chain.current().signers.clone();
    one.head.header == other.head.header
        && signers(one) == signers(other)
        && one.entries() == other.entries()
        && one.slots() == other.slots()
}

pub(super) fn header_of(state: &PublicState) -> [u8; 32] {
    state.head.header.hash()
}

fn is_member(state: &PublicState, key: &SigningKey) -> bool {
    state.header().member == key.verifying_key().to_bytes()
}

impl Upstream for Line<'_> {
    async fn head(&self, _: &NetworkId) -> Result<Vec<u8>, Error> {
        let state = if let Lie::Mixes(_) = self.lie { self.shelf.present() } else { self.shown()? };
        self.answer(state.head.to_bytes())
    }

    async fn slot(&self, _: &NetworkId, slot: &Slot) -> Result<Vec<u8>, Error> {
        self.answer(self.shown()?.sealed_key(slot).ok_or(Error::NotFound)?.to_vec())
    }

    async fn state(&self, _: &NetworkId, auth: &Auth<'_>) -> Result<Vec<u8>, Error> {
        let state = self.shown()?;
        let lies = !matches!(self.lie, Lie::None);
        let may = match auth {
            Auth::Member(key) => is_member(&state, key),
            Auth::Invite { id, .. } => state.header().invites.iter().any(|invite| invite.id == *id),
            Auth::Session { .. } => false,
        };
        if may || lies { self.answer(state.to_bytes()) } else { Err(Error::NotPermitted) }
    }

    async fn push(
        &self,
        _: &NetworkId,
        member: &SigningKey,
        delta: Vec<u8>,
        settled: Vec<JoinId>,
    ) -> Result<(), Error> {
        match self.lie {
            Lie::Away => return Err(Error::Unreachable(Cause::Connect)),
            Lie::Swallows => return Ok(()),
            Lie::Shows(_) => return Err(self.conflict()),
            _ => {}
        }
        let mut kept = self.shelf.kept();
        let read = Delta::from_bytes(&delta).map_err(|_| Error::Refused(Reason::BadRequest))?;
        match kept.present.apply(&read) {
            Ok(_) if !is_member(&kept.present, member) => Err(Error::NotPermitted),
            Ok(next) => {
                kept.replace(next, &settled);
                kept.told.push(delta);
                Ok(())
            }
            Err(RosterError::Stale | RosterError::Detached | RosterError::Forked) => {
                Err(Error::Conflict(UnverifiedHead(kept.present.head.to_bytes())))
            }
            Err(_) => Err(Error::Refused(Reason::BadRoster)),
        }
    }

    async fn heal(&self, network: &NetworkId, member: &SigningKey, state: Vec<u8>) -> Result<(), Error> {
        match self.lie {
            Lie::Away => return Err(Error::Unreachable(Cause::Connect)),
            Lie::Swallows => return Ok(()),
            Lie::Shows(_) => return Err(self.conflict()),
            _ => {}
        }
        let state = PublicState::from_bytes(&state).map_err(|_| Error::Refused(Reason::BadRequest))?;
        state.verify(network).map_err(|_| Error::Refused(Reason::BadRoster))?;
        if !is_member(&state, member) {
            return Err(Error::NotPermitted);
        }
        let mut kept = self.shelf.kept();
        match state.head.relation(&kept.present.head) {
            Relation::Newer => {
                kept.replace(state, &[]);
                Ok(())
            }
            _ => Err(Error::Conflict(UnverifiedHead(kept.present.head.to_bytes()))),
        }
    }
}
