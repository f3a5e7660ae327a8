//! A machine without interface, data path and disk: it follows and changes its network as the product does.

use std::sync::Arc;

use futures_util::FutureExt;
use proto::{
    epoch::EpochKeys,
    identity::{MachineKeys, NetworkId},
    metadata::InnerNet,
    roster::{
        Draft, EditError, EntryId, Header, InviteSecret, JoinRecord, NewInvite, NewNetwork, PublicState,
        Roster,
    },
    token::RecoveryKey,
    wire::{Wire, Writer},
};
use rand_core::OsRng;

use super::shelf::{Line, Shelf};
use crate::network::{
    catch_up::{Asker, CatchUpError, Present, catch_up, heed},
    link::{Trouble, trouble},
    signer::{Attempt, ChangeError, Edit, Outcome, attempt},
};

/// When trials begin, in unix seconds.
pub(super) const NOW: u64 = 1_800_000_000;

/// A day, in seconds.
pub(super) const DAY: u64 = 86_400;

/// What a machine made of the last that it was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// It is where the coordinator is.
    Fine,
    /// It is not a member.
    Removed,
    /// The coordinator is of no help.
    No(Trouble),
}

pub(super) struct Machine {
    pub(super) asker: Asker,
    pub(super) present: Present,
}

/// A network of machines, all of which know the newest roster.
pub(super) struct Network {
    pub(super) shelf: Shelf,
    pub(super) paper: RecoveryKey,
    /// The first is its signer.
    pub(super) machines: Vec<Machine>,
}

impl Machine {
    pub(super) fn new(keys: MachineKeys, roster: Roster, invite: Option<InviteSecret>) -> Self {
        let asker = Asker { network: roster.network(), keys: Arc::new(keys), invite };
        let epochs = EpochKeys::new(roster.epoch_key().clone());
        Self { asker, present: Present { roster, epochs } }
    }

    pub(super) fn roster(&self) -> &Roster {
        &self.present.roster
    }

    pub(super) fn id(&self) -> EntryId {
        let identity = self.asker.keys.identity_public();
        self.roster().machine_by_identity(&identity).unwrap().id
    }

    pub(super) fn is_signer(&self) -> bool {
        self.roster().is_signer(&self.asker.keys.identity_public())
    }

    /// Asks for the newest roster and takes what it can believe.
    pub(super) fn look(&mut self, line: &Line<'_>, now: u64) -> Said {
        let newer = catch_up(line, &self.asker, &self.present).now_or_never().unwrap();
        self.judge(newer, now)
    }

    /// Is told of a change.
    pub(super) fn hear(&mut self, line: &Line<'_>, delta: &[u8], now: u64) -> Said {
        let newer = heed(line, &self.asker, &self.present, delta).now_or_never().unwrap();
        self.judge(newer, now)
    }

    fn judge(&mut self, newer: Result<Option<Roster>, CatchUpError>, now: u64) -> Said {
        match newer {
            Ok(newer) => {
                newer.into_iter().for_each(|roster| self.take(roster, now));
                Said::Fine
            }
            Err(CatchUpError::Removed) => Said::Removed,
            Err(e) => Said::No(trouble(&e)),
        }
    }

    pub(super) fn take(&mut self, roster: Roster, now: u64) {
        if let Some(next) = self.present.followed_by(roster, now) {
            self.present = next;
        }
    }

    /// Makes a change, again and again until the coordinator takes it.
    pub(super) fn change(
        &mut self,
        line: &Line<'_>,
        now: u64,
        mut edit: Edit,
    ) -> Result<Outcome, ChangeError> {
        for _ in 0..8 {
            let attempt = attempt(line, &self.asker, &self.present, now, &mut edit);
            match attempt.now_or_never().unwrap()? {
                Attempt::Taken(roster, outcome) => {
                    self.take(*roster, now);
                    return Ok(outcome);
                }
                Attempt::Behind(newer) => newer.into_iter().for_each(|roster| self.take(*roster, now)),
            }
        }
        Err(ChangeError::Busy)
    }

    /// A change that needs no outcome, by a coordinator that does as it should.
    pub(super) fn does(
        &mut self,
        shelf: &Shelf,
        mut change: impl FnMut(&mut Draft<'_>) -> Result<(), EditError> + Send + 'static,
    ) {
        let edit: Edit = Box::new(move |draft| {
            change(draft)?;
            Ok(Outcome::default())
        });
        self.change(&shelf.honest(), NOW, edit).unwrap();
    }

    /// An invite of so many uses for a day.
    pub(super) fn invites(&mut self, shelf: &Shelf, uses: u32) -> InviteSecret {
        let edit: Edit = Box::new(move |draft| {
            let invite = NewInvite { name: None, uses, expires: NOW + DAY, groups: Vec::new() };
            Ok(Outcome { invite: Some(draft.add_invite(invite)?), ..Outcome::default() })
        });
        self.change(&shelf.honest(), NOW, edit).unwrap().invite.unwrap()
    }

    /// A roster that this machine signs on top of its own, told nobody.
    pub(super) fn signs(&self, change: impl FnOnce(&mut Draft<'_>) -> Result<(), EditError>) -> Roster {
        self.roster().edit(&self.asker.keys, NOW, &mut OsRng, change).unwrap().roster
    }
}

impl Network {
    /// A network of these machines, the first of which made it.
    pub(super) fn of(names: &[&str]) -> Self {
        let keys = MachineKeys::generate(&mut OsRng);
        let new = NewNetwork {
            name: "home".into(),
            machine_name: names[0].into(),
            keys: &keys,
            coordinator: "https://c.example".into(),
            pin: None,
            relays: Vec::new(),
            ipv4: InnerNet::new("10.70.0.0".parse().unwrap(), 20).unwrap(),
        };
        let (roster, paper) = Roster::create(new, NOW, &mut OsRng).unwrap();
        let shelf = Shelf::new(roster.state());
        let mut machines = vec![Machine::new(keys, roster, None)];
        for name in &names[1..] {
            let invite = machines[0].invites(&shelf, 1);
            let keys = MachineKeys::generate(&mut OsRng);
            let record = JoinRecord::create(machines[0].roster(), &invite, &keys, name, &mut OsRng).unwrap();
            machines[0].does(&shelf, move |draft| draft.fold(&record).map(drop));
            let roster = machines[0].roster().clone();
            machines.push(Machine::new(keys, roster, Some(invite)));
        }
        let mut network = Self { shelf, paper, machines };
        network.all_look(NOW);
        network
    }

    pub(super) fn id(&self) -> NetworkId {
        self.machines[0].asker.network
    }

    /// Everybody asks a coordinator that does as it should.
    pub(super) fn all_look(&mut self, now: u64) -> Vec<Said> {
        let shelf = &self.shelf;
        self.machines.iter_mut().map(|machine| machine.look(&shelf.honest(), now)).collect()
    }
}

/// What holds `header`, a state or a delta, with another header in its place that `keys` sign: what any member, or a
/// thief, could make of it.
pub(super) fn resigned<T: Wire>(
    whole: &T,
    header: &Header,
    keys: &MachineKeys,
    change: impl FnOnce(&mut Header),
) -> T {
    let (bytes, body) = (whole.to_bytes(), header.to_bytes());
    let at = bytes.windows(body.len()).position(|window| window == body).unwrap();
    let mut header = header.clone();
    change(&mut header);
    let forged = header.to_bytes();
    let mut w = Writer::new();
    w.raw(&bytes[..at - 4]);
    w.bytes(&forged);
    w.u32(1);
    w.raw(&keys.identity_public());
    w.raw(&proto::identity::sign(keys.identity(), "header", &forged));
    // One signature stood there: its count, key and bytes.
    w.raw(&bytes[at + body.len() + 4 + 32 + 64..]);
    T::from_bytes(&w.finish()).unwrap()
}

/// The state of `roster` with such a header.
pub(super) fn forged(
    roster: &Roster,
    keys: &MachineKeys,
    change: impl FnOnce(&mut Header),
) -> Box<PublicState> {
    Box::new(resigned(roster.state(), roster.header(), keys, change))
}
