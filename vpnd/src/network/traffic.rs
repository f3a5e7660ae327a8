//! Frames between relays and data path, and introductions.
//!
//! A datagram that comes over a relay is WireGuard's and goes to the data path ([`super::guests`]: in older epochs not
//! without a look), or it is an introduction: then it is checked here, and its machine and handshake go to the data path
//! together. In the other direction, while this machine itself stands on an invite, each handshake that it begins is
//! wrapped in an introduction: the peer may not have heard of it yet.

use std::time::Instant;

use bytes::Bytes;
use proto::{
    epoch::{EpochKey, EpochName},
    introduction::{INITIATION, Introduction},
    pipe::{RelayTo, ToData},
    relay::{Handle, To},
    roster::{MembershipError, RelayEntry},
};
use rand_core::OsRng;

use super::{actor::Actor, clock, guests::INITIATION_TYPE, mailboxes::Mailboxes, running::Ears};
use crate::{child, message::Message, relay::RelayEvent};

/// What is heeded of relays before anything else has its turn.
const AT_ONCE: usize = 64;

impl Actor {
    pub(super) async fn heed_data(&mut self, event: child::Event) {
        match event {
            child::Event::Up(link) => {
                let Some(running) = &mut self.running else { return };
                if running.data.is_some() {
                    Message::DataPathRestarted.print();
                }
                running.data = Some(link);
                self.brief().await;
            }
            child::Event::RelaySend(relayed) => {
                for (relay, to, payload) in relayed.iter() {
                    self.send(relay, to, payload);
                }
            }
            child::Event::Status(status) => {
                if let Some(asker) = self.waiting.statuses.remove(&status.token) {
                    // Who asked may be gone.
                    let _ = asker.send(*status);
                }
            }
            child::Event::Pong(pong) => {
                if let Some(asker) = self.waiting.pings.remove(&pong.token) {
                    let _ = asker.send(*pong);
                }
            }
            child::Event::PeerFloor { peer, floor } => self.heed_peer_floor(peer, *floor),
            child::Event::Seek(peer) => self.seek(peer),
            // Of a plain interface, which this is not.
            child::Event::PlainStatus(_) => {}
        }
    }

    /// Tells a new data path everything.
    async fn brief(&mut self) {
        if let Some(own) = self.own() {
            self.tell(&ToData::Config(self.config(&own)));
        }
        self.tell(&ToData::Floor(self.floor()));
        for frame in self.peers.all() {
            self.tell(&frame);
        }
        if let Some(running) = &self.running {
            for relay in running.relays.ups() {
                running.tell(&ToData::RelayUp(relay));
            }
        }
        if let Some(mapping) = self.running.as_ref().and_then(|running| running.mapping) {
            self.tell(&ToData::Mappings(vec![mapping]));
        }
        self.tell(&ToData::Begin);
        self.tell_addresses().await;
    }

    /// Follows a roster's list of relays, and says whether it is another than before.
    pub(super) fn follow_relays(&mut self, entries: &[RelayEntry]) -> bool {
        let Some(running) = &mut self.running else { return false };
        let Some(gone) = running.relays.follow(entries) else { return false };
        for relay in gone {
            running.tell(&ToData::RelayDown(relay));
        }
        self.mailboxes = Mailboxes::new(clock::day());
        true
    }

    /// Packets over a relay come by the dozen: those that are here already are not waited for one by one.
    pub(super) fn heed_relays(&mut self, first: RelayEvent, ears: &mut Option<Ears>) {
        self.heed_relay(first);
        let Some(ears) = ears else { return };
        for _ in 0..AT_ONCE {
            let Ok(event) = ears.relays.try_recv() else { return };
            self.heed_relay(event);
        }
    }

    fn heed_relay(&mut self, event: RelayEvent) {
        match event {
            RelayEvent::Up { relay } => self.set_relay(relay, true),
            RelayEvent::Down { relay } => self.set_relay(relay, false),
            RelayEvent::Leaving { relay } => {
                if let Some(running) = &mut self.running {
                    running.relays.set_leaving(relay);
                }
                self.abandon_relays();
            }
            RelayEvent::Recv { relay, epoch, handle, payload } => {
                self.receive(relay, epoch, handle, &payload);
            }
            RelayEvent::Gone { relay, handle } => {
                self.tell(&ToData::RelayGone { relay, handle: handle.0 });
            }
            RelayEvent::ClockWrong { .. } => self.health.clock_wrong = true,
            RelayEvent::Behind { relay, fault } => {
                if let Some(running) = &mut self.running {
                    running.relays.set_fault(relay, Some(fault));
                }
            }
            // The client tries again by itself; `status` shows that no relay can be reached.
            RelayEvent::Refused { .. } => {}
        }
    }

    fn set_relay(&mut self, relay: u8, up: bool) {
        let Some(running) = &mut self.running else { return };
        if !running.relays.set_up(relay, up) {
            return;
        }
        running.tell(&if up { ToData::RelayUp(relay) } else { ToData::RelayDown(relay) });
        if up {
            // Connections end when a router starts anew, or gets another address outside.
            running.look_at_router();
            running.doubt_watch();
            self.abandon_relays();
            self.health.clock_wrong = false;
            // Its name leads somewhere, which it did not when this machine started before its network was there.
            if self.unresolved {
                self.resolve();
            }
        }
    }

    /// Has the data path send elsewhere than on relays that are about to stop. What still comes over them is taken.
    fn abandon_relays(&mut self) {
        let Some(running) = &mut self.running else { return };
        for relay in running.relays.abandon() {
            running.tell(&ToData::RelayDown(relay));
        }
    }

    fn receive(&mut self, relay: u8, epoch: Option<EpochName>, handle: Handle, payload: &Bytes) {
        if Introduction::is_one(payload) {
            return self.introduced(relay, epoch, handle, payload);
        }
        self.pass_on(relay, epoch, handle, payload);
    }

    /// Checks an introduction. What does not hold is dropped in silence: whoever sent it learns nothing.
    fn introduced(&mut self, relay: u8, epoch: Option<EpochName>, handle: Handle, payload: &[u8]) {
        if !self.gate.pass(Instant::now()) {
            return;
        }
        let present = self.present.borrow().clone();
        let key = epoch.and_then(|name| present.epochs.find(&name).cloned());
        let Some(key) = key else { return };
        let Ok(introduction) = Introduction::open(payload, &self.settings.network, &key) else { return };
        let initiation = introduction.initiation();
        let machine = match introduction.check(&present.roster) {
            // Folded in meanwhile: the handshake is a member's.
            Err(MembershipError::Member) => {
                self.pass_on(relay, epoch, handle, initiation);
                return;
            }
            Err(_) => return,
            Ok(machine) => machine,
        };
        let key = machine.identity.wireguard;
        if present.roster.invite(&introduction.record().join().invite).is_some() {
            self.joiners.add(introduction.record().clone(), None);
            let accepted = self.joiners.accepted(&present.roster);
            self.health.overused = accepted.overused;
            if !accepted.machines.iter().any(|accepted| accepted.identity.wireguard == key) {
                return;
            }
        } else if !self.joiners.add_proved(machine.clone(), introduction.head().order()) {
            return;
        }
        let peer = self.peers.set(key, self.peer(&machine));
        self.members.insert(key, machine);
        if epoch.and_then(|epoch| self.bygone(epoch)).is_some() {
            self.tell(&ToData::SetPeer(peer));
            return self.pass_on(relay, epoch, handle, initiation);
        }
        self.tell(&ToData::Introduce { peer, relay, handle: handle.0, initiation });
    }

    /// Sends what the data path has for a relay; what has no way is dropped, as on any network.
    fn send(&mut self, relay: u8, to: RelayTo, payload: &[u8]) {
        let Some(running) = &self.running else { return };
        if let (RelayTo::Handle(handle), None) = (to, &self.membership) {
            running.relays.send(relay, To::Handle(Handle(handle)), payload);
            return;
        }
        let present = self.present.borrow().clone();
        let (to, epoch) = match to {
            // The peer is behind the handle since it sent something itself: it has the present epoch's introduction. (A
            // guest is sent no handshakes.)
            RelayTo::Handle(handle) => (To::Handle(Handle(handle)), present.epochs.present()),
            RelayTo::Peer { peer, epoch } => {
                let machine = self.peers.key(peer).and_then(|key| self.members.get(key));
                let (Some(machine), Some(relay_key)) = (machine, running.relays.key(relay)) else { return };
                let Some(key) = present.key_of(epoch) else { return };
                let at = (key, clock::day());
                let Some(id) = self.mailboxes.find(&machine.identity.mailbox, (relay, relay_key), at) else {
                    return;
                };
                (To::Mailbox(id), key)
            }
        };
        match self.introduce(payload, epoch) {
            Some(frame) => running.relays.send(relay, to, &frame),
            None => running.relays.send(relay, to, payload),
        };
    }

    /// The introduction around a handshake initiation, while this machine stands on its invite, for members of `epoch`.
    fn introduce(&self, payload: &[u8], epoch: &EpochKey) -> Option<Vec<u8>> {
        let (_, record) = self.membership.as_ref()?;
        let initiation: &[u8; INITIATION] = payload.try_into().ok()?;
        if initiation[0] != INITIATION_TYPE {
            return None;
        }
        let present = self.present.borrow();
        // Folded in already: peers that do not know so yet will soon.
        let introduction = Introduction::new(&present.roster, record, initiation).ok()?;
        introduction.seal(epoch, &mut OsRng).ok()
    }
}
