//! Any sequence of what people, machines, thieves and coordinators do, read from bytes.
//!
//! After every step: no machine holds a roster that no valid signer signed, and none goes back. In the end the
//! coordinator does as it should and everybody is asked: all that are members hold the same roster, and who
//! was removed opens nothing. Where no change could get lost that roster is what a plain model of sets says
//! ([`Reference`]); where a coordinator forgot or a signer was stolen, the network may have forked: then somebody says
//! so, and the paper ends it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
};

use arbitrary::{Arbitrary, Unstructured};
use futures_util::FutureExt;
use proto::{
    coordinator::Join,
    epoch::EpochKeys,
    identity::{MachineKeys, RootKeys},
    roster::{Draft, EditError, EntryId, JoinRecord, NewInvite, PublicState, Roster},
    token::InviteToken,
    wire::Wire,
};
use rand_core::{OsRng, RngCore};

use super::{
    machine::{DAY, Machine, NOW, Network, Said, forged},
    reference::{Identity, Reference, Ticket},
    shelf::{Lie, header_of, is_same},
};
use crate::{
    daemon::join::open,
    network::{
        catch_up::Present,
        link::Trouble,
        removal::revocation,
        signer::{Edit, Outcome, folding},
        signers::{is_due, renewal},
        upstream::Upstream,
    },
};

/// Sequences that a run tries, unless the variable says how many.
const SEQUENCES: usize = 200;

/// Says how many.
const VARIABLE: &str = "TACET_TRIALS";

/// Bytes of a sequence: one that says whether it is tame, and some twenty steps.
const LONGEST: usize = 161;

/// Machines of a network, at most.
const MACHINES: usize = 6;

/// One thing that happens. Numbers choose among what there is.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Step {
    Invite { by: u8, uses: u8 },
    Join { token: u8 },
    Fold { by: u8 },
    Rename { by: u8, whom: u8, name: u8 },
    Remove { by: u8, whom: u8 },
    Promote { by: u8, whom: u8 },
    Demote { by: u8, whom: u8 },
    Revoke { by: u8, token: u8 },
    Days { count: u8 },
    Renew { by: u8 },
    Cut { whom: u8 },
    Look { whom: u8, lie: u8, at: u16 },
    Hear { whom: u8, which: u8, lie: u8 },
    Restart { whom: u8 },
    Restore { ago: u8 },
    Swallow { by: u8, whom: u8, name: u8 },
    Recover { by: u8, own: bool, without: u8 },
    Forge { by: u8, whom: u8, ahead: u8 },
    Steal { whom: u8 },
    Thieve { whom: u8, victim: u8, what: u8 },
}

struct World {
    network: Network,
    now: u64,
    tokens: Vec<InviteToken>,
    /// Machines that do not reach the coordinator.
    cut: BTreeSet<usize>,
    stolen: BTreeSet<usize>,
    /// Whether nobody is a thief and the coordinator, whatever it says, forgets nothing.
    tame: bool,
    /// Whether a change that was taken may have got lost.
    wild: bool,
    reference: Reference,
    /// What the network was in each state that the coordinator took.
    taken: BTreeMap<[u8; 32], Reference>,
    /// Headers that a signer signed who was one.
    signed: BTreeSet<[u8; 32]>,
    removed: BTreeSet<Identity>,
    /// What happened, for whoever asks whether enough does.
    events: BTreeSet<&'static str>,
}

fn identity(machine: &Machine) -> Identity {
    machine.asker.keys.identity_public()
}

fn header(roster: &Roster) -> [u8; 32] {
    roster.head().header.hash()
}

fn plain(change: impl Fn(&mut Draft<'_>) -> Result<(), EditError> + Send + 'static) -> Edit {
    Box::new(move |draft| {
        change(draft)?;
        Ok(Outcome::default())
    })
}

impl World {
    fn new(tame: bool) -> Self {
        let mut network = Network::of(&["m0", "m1", "m2"]);
        let second = network.machines[1].id();
        network.machines[0].does(&network.shelf, move |draft| draft.add_signer(&second));
        network.all_look(NOW);
        let all: Vec<Identity> = network.machines.iter().map(identity).collect();
        let reference = Reference::of(&all, &all[..2]);
        let first = header(network.machines[0].roster());
        Self {
            now: NOW,
            tokens: Vec::new(),
            cut: BTreeSet::new(),
            stolen: BTreeSet::new(),
            tame,
            wild: false,
            taken: BTreeMap::from([(first, reference.clone())]),
            reference,
            signed: BTreeSet::from([first]),
            removed: BTreeSet::new(),
            events: BTreeSet::new(),
            network,
        }
    }

    fn choose(&self, number: u8) -> usize {
        usize::from(number) % self.network.machines.len()
    }

    /// The machine `whom` as the machine `by` knows it.
    fn member(&self, by: usize, whom: u8) -> Option<(EntryId, Identity)> {
        let whom = identity(&self.network.machines[self.choose(whom)]);
        let found = self.network.machines[by].roster().machine_by_identity(&whom)?;
        Some((found.id, whom))
    }

    /// An honest machine makes a change; `then` says to the model what it was, if the coordinator took it.
    fn change(&mut self, by: usize, edit: Edit, then: impl FnOnce(&mut Self, &Outcome)) {
        if self.stolen.contains(&by) {
            return;
        }
        let lie = if self.cut.contains(&by) { Lie::Away } else { Lie::None };
        let Network { shelf, machines, .. } = &mut self.network;
        let Ok(outcome) = machines[by].change(&shelf.lying(lie), self.now, edit) else { return };
        let made = header(machines[by].roster());
        let before = self.reference.members.clone();
        then(self, &outcome);
        self.events.insert("changed");
        if self.network.machines[by].roster().order().generation > 2 {
            self.events.insert("another generation");
        }
        self.signed.insert(made);
        self.taken.insert(made, self.reference.clone());
        self.note_removed(&before);
    }

    fn note_removed(&mut self, before: &BTreeMap<Identity, Option<[u8; 16]>>) {
        let members = &self.reference.members;
        self.removed.extend(before.keys().filter(|identity| !members.contains_key(*identity)));
        self.removed.retain(|identity| !members.contains_key(identity));
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Restore { .. } | Step::Swallow { .. } | Step::Steal { .. } if self.tame => {}
            Step::Invite { by, uses } => self.invite(self.choose(by), uses),
            Step::Join { token } => self.join(token),
            Step::Fold { by } => self.fold(self.choose(by)),
            Step::Rename { by, whom, name } => {
                let by = self.choose(by);
                let (Some((id, who)), name) = (self.member(by, whom), format!("n{}", name % 8)) else {
                    return;
                };
                let given = name.clone();
                self.change(by, plain(move |draft| draft.rename_machine(&id, &name)), |world, _| {
                    world.reference.names.insert(who, given);
                });
            }
            Step::Remove { by, whom } => {
                let by = self.choose(by);
                let Some((id, who)) = self.member(by, whom) else { return };
                self.change(by, plain(move |draft| draft.remove_machine(&id).map(drop)), |world, _| {
                    world.reference.remove(&who);
                    world.events.insert("removed");
                });
            }
            Step::Promote { by, whom } => {
                let by = self.choose(by);
                let Some((id, who)) = self.member(by, whom) else { return };
                self.change(by, plain(move |draft| draft.add_signer(&id)), |world, _| {
                    world.reference.signers.insert(who);
                });
            }
            Step::Demote { by, whom } => {
                let by = self.choose(by);
                let Some((id, who)) = self.member(by, whom) else { return };
                self.change(by, plain(move |draft| draft.remove_signer(&id)), |world, _| {
                    world.reference.signers.remove(&who);
                });
            }
            Step::Revoke { by, token } => {
                let Some(token) = self.tokens.get(usize::from(token) % self.tokens.len().max(1)) else {
                    return;
                };
                let id = token.secret.id();
                self.change(self.choose(by), revocation(id, Vec::new(), false), |world, _| {
                    world.reference.invites.remove(&id.0);
                });
            }
            Step::Days { count } => self.now += u64::from(count % 40) * DAY,
            Step::Renew { by } => {
                let by = self.choose(by);
                if is_due(self.network.machines[by].roster(), self.now) {
                    let now = self.now;
                    self.change(by, renewal(), |world, _| {
                        world.reference.expire(now);
                        world.events.insert("renewed");
                    });
                }
            }
            Step::Cut { whom } => {
                let whom = self.choose(whom);
                if !self.cut.remove(&whom) {
                    self.cut.insert(whom);
                }
            }
            Step::Look { whom, lie, at } => self.look(self.choose(whom), self.lie(lie, at)),
            Step::Hear { whom, which, lie } => {
                self.hear(self.choose(whom), which, self.lie(lie, which.into()));
            }
            Step::Restart { whom } => self.restart(self.choose(whom)),
            Step::Restore { ago } => {
                self.network.shelf.restore(usize::from(ago % 4));
                self.wild = true;
            }
            Step::Swallow { by, whom, name } => self.swallow(self.choose(by), whom, name),
            Step::Recover { by, own, without } => self.recover(self.choose(by), own, Some(without)),
            Step::Forge { by, whom, ahead } => self.forge(self.choose(by), self.choose(whom), ahead),
            Step::Steal { whom } => {
                if self.stolen.len() + 1 < self.network.machines.len() {
                    self.stolen.insert(self.choose(whom));
                    self.wild = true;
                }
            }
            Step::Thieve { whom, victim, what } => self.thieve(self.choose(whom), victim, what),
        }
    }

    fn lie(&self, lie: u8, at: u16) -> Lie {
        let kept = self.network.shelf.kept();
        let past = || Box::new(kept.past[usize::from(at) % kept.past.len()].clone());
        match lie % 10 {
            0 => Lie::Shows(past()),
            1 => Lie::Mixes(past()),
            2 => Lie::Flips { answer: usize::from(lie / 10 % 3), bit: usize::from(at) },
            3 => Lie::Truncates { answer: usize::from(lie / 10 % 3), at: usize::from(at) },
            4 if !self.tame => Lie::Swallows,
            _ => Lie::None,
        }
    }

    fn invite(&mut self, by: usize, uses: u8) {
        let uses = u32::from(uses % 3) + 1;
        let expires = self.now + 20 * DAY;
        let edit: Edit = Box::new(move |draft| {
            let invite = NewInvite { name: None, uses, expires, groups: Vec::new() };
            Ok(Outcome { invite: Some(draft.add_invite(invite)?), ..Outcome::default() })
        });
        self.change(by, edit, |world, outcome| {
            let Some(secret) = outcome.invite.clone() else { return };
            let maker = &world.network.machines[by];
            let ticket = Ticket { uses, expires, creator: identity(maker) };
            world.reference.invites.insert(secret.id().0, ticket);
            let (network, floor) = (world.network.id(), maker.roster().head().floor());
            let url = "https://c.example".to_owned();
            world.tokens.push(InviteToken { url, pin: None, network, floor, secret });
        });
    }

    fn join(&mut self, token: u8) {
        let Some(token) = self.tokens.get(usize::from(token) % self.tokens.len().max(1)) else { return };
        if self.network.machines.len() >= MACHINES {
            return;
        }
        let state = self.network.shelf.present();
        let opened = open(state, token, self.now);
        if !self.wild {
            let ticket = self.reference.invites.get(&token.secret.id().0);
            assert_eq!(
                opened.is_ok(),
                ticket.is_some_and(|ticket| ticket.expires > self.now),
                "a token opens"
            );
        }
        let Ok(roster) = opened else { return };
        let keys = MachineKeys::generate(&mut OsRng);
        let name = format!("m{}", self.network.machines.len());
        let record = JoinRecord::create(&roster, &token.secret, &keys, &name, &mut OsRng).unwrap();
        let join = Join { invite: token.secret.id(), record: roster.seal_join(&record, &mut OsRng) };
        let uses = roster.invite(&token.secret.id()).unwrap().uses as usize;
        let mut kept = self.network.shelf.kept();
        if kept.joins.iter().filter(|waiting| waiting.invite == join.invite).count() >= uses {
            return;
        }
        kept.joins.push(join);
        drop(kept);
        self.network.machines.push(Machine::new(keys, roster, Some(token.secret.clone())));
        self.events.insert("joined");
    }

    fn fold(&mut self, by: usize) {
        let joins = self.network.shelf.kept().joins.clone();
        let roster = self.network.machines[by].roster();
        let listed: Vec<_> =
            joins.iter().filter_map(|join| Some((join.id(), roster.open_join(&join.record).ok()?))).collect();
        if listed.is_empty() {
            return;
        }
        let records: Vec<JoinRecord> = listed.iter().map(|(_, record)| record.clone()).collect();
        let now = self.now;
        self.change(by, folding(listed), |world, _| {
            world.reference.fold(&records, now);
            world.events.insert("folded");
        });
    }

    fn look(&mut self, whom: usize, lie: Lie) {
        let lie = if self.cut.contains(&whom) { Lie::Away } else { lie };
        // One that is told that its state was kept, and was not.
        self.wild |= matches!(lie, Lie::Swallows);
        let Network { shelf, machines, .. } = &mut self.network;
        machines[whom].look(&shelf.lying(lie), self.now);
    }

    fn hear(&mut self, whom: usize, which: u8, lie: Lie) {
        let told = self.network.shelf.kept().told.clone();
        let Some(delta) = told.get(usize::from(which) % told.len().max(1)) else { return };
        let lie = if self.cut.contains(&whom) { Lie::Away } else { lie };
        self.wild |= matches!(lie, Lie::Swallows);
        let Network { shelf, machines, .. } = &mut self.network;
        machines[whom].hear(&shelf.lying(lie), delta, self.now);
    }

    /// Only what is kept on the disk is left.
    fn restart(&mut self, whom: usize) {
        let machine = &mut self.network.machines[whom];
        let state = PublicState::from_bytes(&machine.roster().state().to_bytes()).unwrap();
        let epochs = EpochKeys::from_bytes(&machine.present.epochs.to_bytes()).unwrap();
        let roster = Roster::open(state, epochs.present().clone(), &machine.asker.network).unwrap();
        machine.present = Present { roster, epochs };
    }

    fn swallow(&mut self, by: usize, whom: u8, name: u8) {
        let (Some((id, _)), false) = (self.member(by, whom), self.stolen.contains(&by)) else { return };
        let edit = plain(move |draft| draft.rename_machine(&id, &format!("n{}", name % 8)));
        let Network { shelf, machines, .. } = &mut self.network;
        if machines[by].change(&shelf.lying(Lie::Swallows), self.now, edit).is_ok() {
            self.signed.insert(header(machines[by].roster()));
            self.wild = true;
        }
    }

    fn root(&self) -> RootKeys {
        RootKeys::from_seed(&self.network.paper.seed)
    }

    /// The paper takes the network back: all are kept but the machine `without`, and thieves.
    fn recover(&mut self, by: usize, own: bool, without: Option<u8>) {
        if self.stolen.contains(&by) || self.cut.contains(&by) {
            return;
        }
        let (root, id) = (self.root(), self.network.id());
        let present = self.network.shelf.present();
        let newest = Roster::open(present.clone(), present.open_key(root.sealing()).unwrap(), &id).unwrap();
        let machine = &self.network.machines[by];
        let base = if own { machine.roster().clone() } else { newest.clone() };
        if newest.order().recovery > base.order().recovery {
            return;
        }
        let mut lost: BTreeSet<Identity> =
            self.stolen.iter().map(|thief| identity(&self.network.machines[*thief])).collect();
        lost.extend(without.map(|whom| identity(&self.network.machines[self.choose(whom)])));
        let keys = machine.asker.keys.clone();
        let this = keys.identity_public();
        lost.remove(&this);
        let gone: Vec<EntryId> =
            lost.iter().filter_map(|identity| Some(base.machine_by_identity(identity)?.id)).collect();
        let recovered = base.recover(&root, &keys, &format!("r{by}"), self.now, &mut OsRng, |draft| {
            draft.remove_all_invites();
            gone.iter().try_for_each(|id| draft.remove_machine(id).map(drop))
        });
        // A name may be taken in that roster.
        let roster = recovered.unwrap().roster;
        let member = roster.epoch_key().member_key();
        let line = self.network.shelf.honest();
        line.heal(&id, &member, roster.state().to_bytes()).now_or_never().unwrap().unwrap();

        let was = self.reference.members.clone();
        let mut reference = self.taken.get(&header(&base)).cloned().unwrap_or_default();
        reference.invites.clear();
        lost.iter().for_each(|identity| reference.remove(identity));
        reference.members.entry(this).or_insert(None);
        reference.signers = BTreeSet::from([this]);
        self.reference = reference;
        self.signed.insert(header(&roster));
        self.taken.insert(header(&roster), self.reference.clone());
        self.network.machines[by].take(roster, self.now);
        self.note_removed(&was);
        self.events.insert("recovered");
    }

    /// A state that was signed by who is no signer, however high its version.
    fn forge(&mut self, by: usize, whom: usize, ahead: u8) {
        let Network { shelf, machines, .. } = &mut self.network;
        let keys = machines[by].asker.keys.clone();
        let victim = &mut machines[whom];
        if victim.roster().is_signer(&keys.identity_public()) {
            return;
        }
        let forgery = forged(victim.roster(), &keys, |header| {
            header.order.version = header.order.version.saturating_add(u64::from(ahead) + 1);
        });
        let said = victim.look(&shelf.lying(Lie::Shows(forgery)), self.now);
        assert_eq!(said, Said::No(Trouble::Untrusted));
        self.events.insert("forgery refused");
    }

    /// A thief with a signer's keys signs what it likes, and the coordinator shows it to whom it likes.
    fn thieve(&mut self, whom: usize, victim: u8, what: u8) {
        let victim = self.choose(victim);
        if !self.stolen.contains(&whom) || !self.network.machines[whom].is_signer() {
            return;
        }
        let now = self.now;
        let Network { shelf, machines, .. } = &mut self.network;
        let thief = &machines[whom];
        let (own, keys) = (thief.id(), thief.asker.keys.clone());
        let edit = thief.roster().edit(&keys, now, &mut OsRng, |draft| {
            let all: Vec<EntryId> = draft.machines().map(|machine| machine.id).collect();
            let others = all.iter().filter(|id| **id != own);
            match what % 4 {
                0 => draft.set_signers(&[own]),
                1 => others.into_iter().try_for_each(|id| draft.remove_machine(id).map(drop)),
                2 => draft.set_signers(&all),
                _ => draft.rename_machine(&own, "boss"),
            }
        });
        let Ok(edit) = edit else { return };
        let roster = edit.roster;
        let state = if what.is_multiple_of(8) {
            forged(&roster, &keys, |header| header.order.version = 1 << 63)
        } else {
            Box::new(roster.state().clone())
        };
        // The thief keeps the one, shows the other, and may bring either to a coordinator that forgot.
        self.signed.extend([state.head.header.hash(), header(&roster)]);
        let line = shelf.lying(Lie::Shows(state.clone()));
        if !self.cut.contains(&victim) {
            machines[victim].look(&line, now);
        }
        let member = roster.epoch_key().member_key();
        let _ = shelf.honest().heal(&machines[whom].asker.network, &member, state.to_bytes()).now_or_never();
        machines[whom].take(roster, now);
        self.events.insert("thieved");
    }

    /// What holds after every step.
    fn check(&self, before: &[proto::roster::Order]) {
        for (n, machine) in self.network.machines.iter().enumerate() {
            let signed = self.signed.contains(&header(machine.roster()));
            assert!(signed || self.stolen.contains(&n), "m{n} believes what nobody signed");
            assert!(before.get(n).is_none_or(|order| machine.roster().order() >= *order), "m{n} went back");
        }
        if !self.wild {
            let present = header_of(&self.network.shelf.present());
            assert!(
                self.taken.get(&present) == Some(&self.reference),
                "the model is where the coordinator is"
            );
        }
    }

    fn all_look(&mut self) -> Vec<Said> {
        let honest: Vec<usize> =
            (0..self.network.machines.len()).filter(|n| !self.stolen.contains(n)).collect();
        let Network { shelf, machines, .. } = &mut self.network;
        // The first round brings what machines know to the coordinator, the second to the machines.
        for n in &honest {
            machines[*n].look(&shelf.honest(), self.now);
        }
        honest.iter().map(|n| machines[*n].look(&shelf.honest(), self.now)).collect()
    }

    /// The coordinator does as it should, and everybody reaches it.
    fn end(&mut self) {
        self.cut.clear();
        let said = self.all_look();
        let forked = said.contains(&Said::No(Trouble::Forked));
        assert!(self.wild || !forked, "a fork, and nobody did anything wrong");
        if forked {
            self.events.insert("forked");
        }
        if forked || !self.stolen.is_empty() {
            let honest = (0..self.network.machines.len()).filter(|n| !self.stolen.contains(n));
            let by = honest.max_by_key(|n| self.network.machines[*n].roster().order()).unwrap();
            self.recover(by, true, None);
            self.recover(by, false, None);
            assert!(!self.all_look().contains(&Said::No(Trouble::Forked)), "the paper ends a fork");
        }
        let present = self.network.shelf.present();
        let root = self.root();
        let key = present.open_key(root.sealing()).unwrap();
        let last = Roster::open(present.clone(), key.clone(), &self.network.id()).unwrap();
        if !self.wild {
            self.events.insert("ended as the model says");
            assert!(self.reference.agrees(&last), "what was taken is there, and no more");
        }
        for n in 0..self.network.machines.len() {
            let Network { shelf, machines, .. } = &mut self.network;
            let machine = &mut machines[n];
            let who = identity(machine);
            if last.machine_by_identity(&who).is_some() && !self.stolen.contains(&n) {
                assert_eq!(machine.look(&shelf.honest(), self.now), Said::Fine, "m{n}");
                assert!(is_same(machine.roster().state(), &present), "m{n} is elsewhere");
            } else if self.stolen.contains(&n) || (!self.wild && self.removed.contains(&who)) {
                assert!(machine.present.epochs.find(&key.name()).is_none(), "m{n} has the key");
                assert!(present.open_key(machine.asker.keys.sealing()).is_none(), "m{n} is sealed to");
            }
        }
    }
}

/// Plays the steps that `bytes` say; what happened.
fn play(bytes: &[u8]) -> BTreeSet<&'static str> {
    let mut source = Unstructured::new(bytes);
    let mut world = World::new(source.arbitrary::<u8>().is_ok_and(|first| first % 2 == 0));
    while !source.is_empty() {
        let Ok(step) = Step::arbitrary(&mut source) else { break };
        let before: Vec<_> = world.network.machines.iter().map(|machine| machine.roster().order()).collect();
        world.take(step);
        world.check(&before);
    }
    world.end();
    world.events
}

/// One that ends elsewhere is told in full, to be kept in the corpus.
fn play_named(name: &str, bytes: &[u8]) -> BTreeSet<&'static str> {
    catch_unwind(AssertUnwindSafe(|| play(bytes))).unwrap_or_else(|_| {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        panic!("{name}: {hex}")
    })
}

#[test]
fn every_sequence_that_was_kept_ends_where_it_must() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/src/network/trial/corpus");
    let mut events = BTreeSet::new();
    for file in fs::read_dir(corpus).unwrap() {
        let path = file.unwrap().path();
        events.extend(play_named(&path.display().to_string(), &fs::read(&path).unwrap()));
    }
    // All that can happen does.
    assert_eq!(events.len(), 11, "{events:?}");
}

#[test]
fn any_sequence_ends_where_it_must() {
    let count = std::env::var(VARIABLE).ok().map_or(SEQUENCES, |count| count.parse().unwrap());
    let mut bytes = [0; LONGEST];
    for n in 0..count {
        OsRng.fill_bytes(&mut bytes);
        play_named(&format!("sequence {n}"), &bytes);
    }
}
