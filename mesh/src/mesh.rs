//! The core as its caller sees it: every call, and which peer it is for.

use std::{net::SocketAddr, ops::Range, time::Instant};

use proto::{
    metadata::Endpoint,
    pipe::{self, EpochTag, LocalAddr, Pong, Status, ToData},
    probe::is_reserved,
    roster::Floor,
    stun::is_stun,
};
use rand_core::CryptoRngCore;

use crate::{
    batch,
    budgets::Budgets,
    ecn::Shown,
    machine::Machine,
    out::{Event, To, Transmit, TunBatch},
    peer::{Inner, Peer, addresses, receiver},
    route::Routes,
    session::{Keys, MAX_SHARED_SLOTS, OVERHEAD, Source, host_slot, tag_of},
    share::{Handed, Note, Noted, Share},
    table::Table,
    timers,
};

/// Peers that may be guests at once: more than wake in the same minutes, and the memory for it is small.
const MAX_GUESTS: usize = 256;

/// Where an initiation names its sender's index.
const SENDER: usize = 4;

/// One machine's sessions, routes and paths.
///
/// Run to completion: after any call that takes packets, frames or time, drain [`poll_transmit`](Self::poll_transmit),
/// [`poll_tun`](Self::poll_tun) and [`poll_event`](Self::poll_event), and sleep until
/// [`poll_timeout`](Self::poll_timeout). Several packets may be handled before draining: that is what fills the
/// batches.
pub struct Mesh {
    machine: Machine,
    routes: Routes,
    peers: Table<Peer>,
}

impl Mesh {
    /// A machine without peers. `sockets` are the local addresses of the UDP sockets, in the order by which the calls
    /// here number them; each is for one address family.
    #[must_use]
    pub fn new(now: Instant, rng: Box<dyn CryptoRngCore + Send>, sockets: &[SocketAddr]) -> Self {
        Self { machine: Machine::new(now, rng, sockets), routes: Routes::new(), peers: Table::default() }
    }

    /// With more IPv4 sockets, numbered so: they are used to get through a NAT that gives each destination another port, and
    /// are silent otherwise. Whatever is received on one is handed over like the rest.
    #[must_use]
    pub fn with_pool(mut self, sockets: Range<u8>) -> Self {
        self.machine.pool = sockets;
        self
    }

    /// With the class of service (DSCP) of each packet copied to its datagram, for routers on the way. Whoever sees the datagrams
    /// tells kinds of traffic apart by it.
    #[must_use]
    pub fn showing_class(mut self) -> Self {
        self.machine.shown = Shown::Class;
        self
    }

    /// With a share of its peers alone, the other workers having the rest; before it has any. Frames from control are for every
    /// worker, but those that carry a datagram or name one peer to do something with; what is another's comes out of the
    /// calls here.
    #[must_use]
    pub fn sharing(mut self, share: Share) -> Self {
        self.machine.take_share(share);
        if share.of() > 1 {
            self.peers = Table::with_room(MAX_SHARED_SLOTS);
        }
        self
    }

    /// With the budgets that all workers have together, instead of its own.
    #[must_use]
    pub fn within(mut self, budgets: Budgets) -> Self {
        self.machine.budgets = budgets;
        self
    }

    /// Which share that is.
    #[must_use]
    pub fn share(&self) -> Share {
        self.machine.share
    }

    /// Takes a frame from control.
    pub fn apply(&mut self, now: Instant, frame: ToData<'_>) {
        match frame {
            ToData::Config(config) => self.configure(now, config),
            ToData::SetPeer(peer) => self.set_peer(now, peer),
            ToData::RemovePeer(id) => self.remove_peer(id),
            ToData::Introduce { peer, relay, handle, initiation } => {
                self.set_peer(now, peer);
                // All workers get it, and the first reads initiations.
                if self.machine.share.me() == 0 {
                    self.datagram(now, Source::Relay { relay, handle }, initiation);
                }
            }
            ToData::RelayUp(relay) => {
                self.machine.relays_up |= bit(relay);
                // The network is back, maybe another one; and the relay answers STUN as well.
                self.machine.stun.ask(now, false);
                self.ask_stun(now);
                self.each_peer(|peer, machine| peer.relay_came_up(now, machine));
            }
            ToData::RelayDown(relay) => {
                self.machine.relays_up &= !bit(relay);
                self.each_peer(|peer, machine| peer.relay_went_down(now, relay, machine));
            }
            ToData::RelayRecv { relay, handle, payload } => {
                self.datagram(now, Source::Relay { relay, handle }, payload);
            }
            ToData::RelayGone { relay, handle } => {
                self.each_peer(|peer, machine| peer.handle_gone(now, relay, handle, machine));
            }
            ToData::LocalAddrs(addrs) => self.set_locals(now, addrs),
            ToData::StunServers(servers) => {
                self.machine.stun.set_servers(now, &servers, &self.machine.sockets);
                self.ask_stun(now);
            }
            ToData::Mappings(mappings) => self.set_mappings(now, &mappings),
            ToData::Ping { token, peer } => self.ping(now, token, peer),
            ToData::StatusRequest { token } => self.status(now, token),
            ToData::Floor(floor) => self.set_floor(now, floor),
            ToData::Guest(guest) => self.guest(now, &guest),
            ToData::Sighted { peer, at } => self.sighted(now, peer, at),
            // For whoever owns the sockets. (Before `Begin`, a packet without a peer would be dropped here, as ever.)
            ToData::Begin | ToData::Beacon { .. } => {}
            // For a plain interface.
            ToData::Plain(_) => {}
        }
    }

    /// Takes an inner packet that was read from the TUN, and seals it into a batch. One for a peer of another worker is that
    /// worker's: its number.
    pub fn handle_tun(&mut self, now: Instant, packet: &[u8]) -> Option<u8> {
        let drops = &mut self.machine.drops;
        let Some((from, to)) = addresses(packet).filter(|_| packet.len() + OVERHEAD <= batch::MAX_BYTES)
        else {
            drops.malformed += 1;
            return None;
        };
        if is_reserved(from) || is_reserved(to) {
            drops.reserved += 1;
            return None;
        }
        let owner = self.routes.owner(to);
        let Some(peer) = owner.and_then(|slot| self.peers.get(slot)) else {
            return self.machine.elsewhere(owner);
        };
        peer.send(now, packet, &mut self.machine);
        None
    }

    /// Takes datagrams that were received from `src` on `socket`, all with the type of service or traffic class `class`:
    /// back to back, `segment` bytes each, but the last may be shorter (`UDP_GRO`; for a single datagram its length).
    pub fn handle_udp(
        &mut self,
        now: Instant,
        (socket, src): (u8, SocketAddr),
        class: u8,
        segment: usize,
        data: &[u8],
    ) {
        // Every segment by itself: a new session may begin in the middle.
        for datagram in data.chunks(segment.max(1)) {
            self.datagram(now, Source::Udp { socket, src, class }, datagram);
        }
    }

    /// Takes an initiation that another worker read.
    pub fn handle_handed(&mut self, now: Instant, handed: &Handed) {
        let tag = receiver(&handed.datagram, SENDER).map(tag_of);
        match self.peers.of_id(handed.peer).zip(tag) {
            Some(((_, peer), tag)) => {
                peer.initiated(now, handed.source, tag, &handed.datagram, &mut self.machine);
            }
            None => self.machine.drops.handshake += 1,
        }
    }

    /// Takes what another worker noted.
    pub fn handle_note(&mut self, now: Instant, noted: Noted) {
        match noted.0 {
            Note::Outside(questions) => {
                if self.machine.stun.learn(now, questions) {
                    self.each_peer(|peer, machine| peer.seen_elsewhere(now, machine));
                }
            }
            Note::Inside { data, doubt } => {
                self.machine.heed(now, data, doubt);
                self.ask_stun(now);
            }
        }
    }

    /// What other workers are to be told: those after the first by that, and the first by the others.
    pub fn poll_note(&mut self) -> Option<Noted> {
        self.machine.note().map(Noted)
    }

    /// The system refused to send a datagram of `len` bytes: a link of this machine takes only smaller ones there.
    pub fn handle_too_large(&mut self, now: Instant, to: To, len: usize) {
        self.each_peer(|peer, machine| peer.refused(now, to, len, machine));
    }

    /// Does what is due, for so many peers as are called in one turn; what is left is due still.
    pub fn handle_timeout(&mut self, now: Instant) {
        for _ in 0..timers::AT_ONCE {
            let Some(slot) = self.machine.timers.pop(now) else { break };
            if let Some(peer) = self.peers.get(slot) {
                peer.tick(now, &mut self.machine);
            }
        }
        self.ask_stun(now);
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called next; nothing while nothing is to be done.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.machine.timers.next().into_iter().chain(self.machine.stun.deadline()).min()
    }

    /// The next datagrams to send. Those to one destination come in the order in which they were made.
    pub fn poll_transmit(&mut self) -> Option<Transmit<'_>> {
        self.machine.out.poll()
    }

    /// All inner packets since the last call.
    pub fn poll_tun(&mut self) -> Option<TunBatch<'_>> {
        self.machine.inbox.poll()
    }

    /// What control is to be told next.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.machine.events.pop_front()
    }

    /// An initiation to hand to another worker.
    pub fn poll_handed(&mut self) -> Option<Handed> {
        self.machine.handed.pop_front()
    }

    /// Gives up what earlier packets left in buffers that are used again: addresses of a peer that was removed are in
    /// there too. For when everything was drained.
    pub fn forget(&mut self) {
        self.machine.forget();
    }

    fn configure(&mut self, now: Instant, config: pipe::Config) {
        let same = self.machine.keys.as_ref().is_some_and(|keys| keys.secret.as_bytes() == &*config.secret);
        if !same {
            self.machine.keys = Some(Keys::new(&config.secret));
            self.each_peer(|peer, _| peer.forget_sessions());
        }
        self.machine.own = config.own;
        self.machine.mtu = config.mtu;
        self.each_peer(|peer, machine| peer.set_mtu(now, machine.mtu));
    }

    fn set_peer(&mut self, now: Instant, config: pipe::Peer) {
        let share = self.machine.share;
        if !share.has(config.id) {
            let named = (config.id, config.wireguard);
            return self.machine.others.set(share, named, config.allowed, &mut self.routes);
        }
        if self.peers.of_id(config.id).is_some_and(|(_, peer)| *peer.key() != config.wireguard) {
            self.remove_peer(config.id);
        }
        let slot = match self.peers.of_id(config.id) {
            Some((slot, _)) => slot,
            None => {
                let made = self.peers.insert(config.id, config.wireguard, |slot| Peer::new(slot, &config));
                let Some(slot) = made else { return };
                slot
            }
        };
        let Some(peer) = self.peers.get(slot) else { return };
        for net in peer.allowed.iter().filter(|net| !config.allowed.contains(net)) {
            self.routes.remove(*net, slot);
        }
        for net in &config.allowed {
            self.routes.insert(*net, slot);
        }
        peer.configure(now, config, &mut self.machine);
    }

    fn remove_peer(&mut self, id: u32) {
        let Some((slot, peer)) = self.peers.remove(id) else {
            return self.machine.others.remove(id, &mut self.routes);
        };
        for net in &peer.allowed {
            self.routes.remove(*net, slot);
        }
        self.machine.timers.clear(slot);
        self.machine.kept.forget(slot);
    }

    fn set_locals(&mut self, now: Instant, addrs: Vec<LocalAddr>) {
        let addrs: Vec<_> = addrs.into_iter().filter(|local| !self.machine.is_own(local.addr)).collect();
        let moved = self.machine.locals.iter().any(|old| !addrs.contains(old));
        if !moved && addrs.len() == self.machine.locals.len() {
            return;
        }
        self.machine.locals = addrs;
        self.machine.stun.ask(now, moved);
        self.ask_stun(now);
        self.each_peer(|peer, machine| peer.addresses_changed(now, moved, machine));
    }

    fn set_mappings(&mut self, now: Instant, mappings: &[Endpoint]) {
        let mappings: Vec<_> = mappings.iter().map(|mapping| mapping.0).collect();
        if self.machine.mappings != mappings {
            self.machine.mappings = mappings;
            self.each_peer(|peer, machine| peer.tell_candidates(now, machine));
        }
    }

    fn set_floor(&mut self, now: Instant, floor: Floor) {
        if self.machine.floor.replace(floor) != Some(floor) {
            self.each_peer(|peer, machine| peer.tell_floor(now, machine));
        }
    }

    fn sighted(&mut self, now: Instant, id: u32, at: Endpoint) {
        if let Some((_, peer)) = self.peers.of_id(id) {
            peer.sighted(now, at.0, &self.routes, &mut self.machine);
        }
    }

    fn ping(&mut self, now: Instant, token: u64, id: u32) {
        match self.peers.of_id(id) {
            Some((_, peer)) => peer.ping(now, token, &mut self.machine),
            None => self.machine.events.push_back(Event::Pong(Pong { token, result: None })),
        }
    }

    fn status(&mut self, now: Instant, token: u64) {
        let mtu = self.machine.mtu;
        let peers = self.peers.iter().map(|peer| peer.status(now, mtu)).collect();
        self.machine.events.push_back(Event::Status(Status { token, peers, drops: self.machine.drops }));
    }

    fn ask_stun(&mut self, now: Instant) {
        let active = self.machine.is_active(now);
        let machine = &mut self.machine;
        machine.stun.send(now, active, &mut *machine.rng, &mut machine.out);
    }

    /// One datagram, by what it says that it is.
    fn datagram(&mut self, now: Instant, source: Source, datagram: &[u8]) {
        match datagram.first_chunk::<4>() {
            Some([4, 0, 0, 0]) => self.data(now, source, datagram),
            Some([1, 0, 0, 0]) => self.initiation(now, source, datagram),
            Some([2, 0, 0, 0]) => self.answer(now, source, datagram, 8),
            Some([3, 0, 0, 0]) => self.answer(now, source, datagram, 4),
            _ => self.stun(now, source, datagram),
        }
    }

    fn data(&mut self, now: Instant, source: Source, datagram: &[u8]) {
        let found = receiver(datagram, 4).map(|index| self.machine.indexes.split(index));
        let peer = found.and_then(|(slot, tag)| Some((self.peers.get(slot)?, tag)));
        let Some((peer, tag)) = peer else { return self.guest_data(now, source, datagram) };
        if let Inner::Packet(len) =
            peer.data_from(now, source, tag, datagram, &self.routes, &mut self.machine)
        {
            self.machine.inbox.keep(len);
        }
    }

    /// A data packet for no peer's tunnel: maybe a guest's.
    fn guest_data(&mut self, now: Instant, source: Source, datagram: &[u8]) {
        let found = receiver(datagram, 4).map(|index| self.machine.indexes.split(index));
        let peer = found.and_then(|(slot, tag)| Some((self.peers.get(host_slot(slot)?)?, tag)));
        let Some((peer, tag)) = peer else { return self.unknown() };
        if let Inner::Packet(len) =
            peer.guest_data(now, source, tag, datagram, &self.routes, &mut self.machine)
        {
            self.machine.inbox.keep(len);
        }
    }

    /// An initiation for a known epoch.
    fn initiation(&mut self, now: Instant, source: Source, datagram: &[u8]) {
        let Some((slot, tag)) = self.initiator(now, source, datagram) else { return };
        if let Some(peer) = self.peers.get(slot) {
            peer.initiated(now, source, tag, datagram, &mut self.machine);
        }
    }

    /// An initiation for an epoch that has ended.
    fn guest(&mut self, now: Instant, guest: &pipe::Guest<'_>) {
        let source = Source::Relay { relay: guest.relay, handle: guest.handle };
        let Some((slot, _)) = self.initiator(now, source, guest.initiation) else { return };
        let most = MAX_GUESTS / usize::from(self.machine.share.of());
        let guests = self.peers.iter().filter(|peer| peer.is_guest()).count();
        match self.peers.get(slot).filter(|peer| peer.id == guest.peer && (guests < most || peer.is_guest()))
        {
            Some(peer) => peer.host(now, source, &guest.psk, guest.initiation, &mut self.machine),
            None => self.machine.drops.handshake += 1,
        }
    }

    /// The slot of the peer that made an initiation, and the tag that it chose.
    fn initiator(&mut self, now: Instant, source: Source, datagram: &[u8]) -> Option<(u32, EpochTag)> {
        let half = self.machine.initiator(now, source, datagram)?;
        let slot = self.peers.of_key(&half.peer_static_public);
        if slot.is_none() {
            self.machine.hand_over(&half.peer_static_public, source, datagram);
        }
        Some((slot?, tag_of(half.peer_index)))
    }

    /// A response or a cookie; `at` is where it names our index.
    fn answer(&mut self, now: Instant, source: Source, datagram: &[u8], at: usize) {
        let found = receiver(datagram, at).map(|index| self.machine.indexes.split(index));
        let peer = found.and_then(|(slot, tag)| Some((self.peers.get(slot)?, tag)));
        let Some((peer, tag)) = peer.filter(|_| self.machine.takes_answer(now, source, datagram)) else {
            self.machine.drops.handshake += 1;
            return;
        };
        peer.answered(now, source, tag, datagram, &mut self.machine);
    }

    fn stun(&mut self, now: Instant, source: Source, datagram: &[u8]) {
        let Source::Udp { src, .. } = source else { return self.unknown() };
        if !is_stun(datagram) {
            return self.unknown();
        }
        let active = self.machine.is_active(now);
        if self.machine.stun.answered(now, active, src, datagram) {
            self.each_peer(|peer, machine| peer.seen_elsewhere(now, machine));
        }
    }

    fn unknown(&mut self) {
        self.machine.drops.unauthenticated += 1;
    }

    fn each_peer(&mut self, mut act: impl FnMut(&mut Peer, &mut Machine)) {
        for peer in self.peers.iter_mut() {
            act(peer, &mut self.machine);
        }
    }
}

fn bit(relay: u8) -> u8 {
    1u8.checked_shl(relay.into()).unwrap_or(0)
}
