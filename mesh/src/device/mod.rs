//! A plain WireGuard interface: the same sessions, routes, limits and batches as the mesh, and WireGuard's own rules for
//! where a peer is.
//!
//! A peer has one endpoint. It is what control said last, or where the last authentic message came from, whichever is
//! later (the paper, section 2.1): there are no paths, relays or messages of ours, and nothing is asked of anybody.
//! Handshakes, their repetition and keepalives come when WireGuard's timers say so (section 6), which `Tunn` keeps.
//! A packet for the TUN may have any destination; its source must be the peer's by the longest range.
//!
//! What is counted of a peer is for whoever asks, and is gone with the process.

#[cfg(test)]
mod many;
mod peer;

use std::{collections::VecDeque, net::SocketAddr, time::Instant};

use proto::pipe::{MAX_STATES, PlainPeer, PlainStatus, ToData, ToPlain};
use rand_core::CryptoRngCore;

use self::peer::Peer;
use crate::{
    batch,
    ecn::Shown,
    machine::Machine,
    out::{To, Transmit, TunBatch},
    peer::{addresses, receiver},
    route::Routes,
    session::{Keys, MAX_SHARED_SLOTS, OVERHEAD, Source},
    share::{Handed, Share},
    table::Table,
    timers,
};

/// One plain interface. To be used as [`crate::Mesh`] is; it is called in the same places.
pub struct Device {
    machine: Machine,
    routes: Routes,
    peers: Table<Peer>,
    sockets: Sockets,
    /// Whether the interface is on.
    up: bool,
    statuses: VecDeque<PlainStatus>,
}

/// The socket of each address family, by number.
#[derive(Clone, Copy, Default)]
struct Sockets {
    v4: Option<u8>,
    v6: Option<u8>,
}

impl Sockets {
    /// The way to an endpoint.
    fn to(self, dst: SocketAddr) -> Option<To> {
        let socket = if dst.is_ipv4() { self.v4 } else { self.v6 };
        Some(To::Udp { socket: socket?, dst })
    }
}

impl Device {
    /// An interface that is off, without a key, sockets or peers.
    #[must_use]
    pub fn new(now: Instant, rng: Box<dyn CryptoRngCore + Send>) -> Self {
        Self {
            machine: Machine::new(now, rng, &[]),
            routes: Routes::new(),
            peers: Table::default(),
            sockets: Sockets::default(),
            up: false,
            statuses: VecDeque::new(),
        }
    }

    /// As [`crate::Mesh::showing_class`].
    #[must_use]
    pub fn showing_class(mut self) -> Self {
        self.machine.shown = Shown::Class;
        self
    }

    /// With a share of its peers alone, the other workers having the rest; before it has any. Frames from control are for every
    /// worker, and what is another's comes out of the calls here.
    #[must_use]
    pub fn sharing(mut self, share: Share) -> Self {
        self.machine.take_share(share);
        if share.of() > 1 {
            self.peers = Table::with_room(MAX_SHARED_SLOTS);
        }
        self
    }

    /// Which share that is.
    #[must_use]
    pub fn share(&self) -> Share {
        self.machine.share
    }

    /// Takes a frame from control. Those that are for the mesh alone change nothing.
    pub fn apply(&mut self, now: Instant, frame: ToData<'_>) {
        match frame {
            ToData::Plain(ToPlain::Key(key)) => {
                self.machine.keys = key.as_ref().map(Keys::new);
                self.each_peer(|peer, machine| {
                    peer.forget_sessions(machine);
                    peer.revive(now, machine);
                });
            }
            ToData::Plain(ToPlain::Peer(peer)) => self.set_peer(now, peer),
            ToData::Plain(ToPlain::Sockets { v4, v6 }) => {
                self.sockets = Sockets { v4, v6 };
                let sockets = self.sockets;
                self.each_peer(|peer, machine| {
                    peer.rebind(sockets);
                    peer.revive(now, machine);
                });
            }
            ToData::Plain(ToPlain::Link { up, mtu }) => self.set_link(now, up, mtu),
            ToData::RemovePeer(id) => self.remove_peer(id),
            ToData::StatusRequest { token } => self.status(now, token),
            _ => {}
        }
    }

    /// As [`crate::Mesh::handle_tun`].
    pub fn handle_tun(&mut self, now: Instant, packet: &[u8]) -> Option<u8> {
        let Some((_, to)) = addresses(packet).filter(|_| packet.len() + OVERHEAD <= batch::MAX_BYTES) else {
            self.machine.drops.malformed += 1;
            return None;
        };
        let owner = self.routes.owner(to);
        let Some(peer) = owner.and_then(|slot| self.peers.get(slot)) else {
            return self.machine.elsewhere(owner);
        };
        peer.send(now, packet, &mut self.machine);
        None
    }

    /// As [`crate::Mesh::handle_handed`].
    pub fn handle_handed(&mut self, now: Instant, handed: &Handed) {
        match self.peers.of_id(handed.peer) {
            Some((_, peer)) if self.up => {
                peer.initiated(now, handed.source, &handed.datagram, &mut self.machine);
            }
            _ => self.machine.drops.handshake += 1,
        }
    }

    /// As [`crate::Mesh::poll_handed`].
    pub fn poll_handed(&mut self) -> Option<Handed> {
        self.machine.handed.pop_front()
    }

    /// As [`crate::Mesh::handle_udp`].
    pub fn handle_udp(
        &mut self,
        now: Instant,
        (socket, src): (u8, SocketAddr),
        class: u8,
        segment: usize,
        data: &[u8],
    ) {
        if !self.up {
            return;
        }
        // Every segment by itself: a new session may begin in the middle.
        for datagram in data.chunks(segment.max(1)) {
            self.datagram(now, Source::Udp { socket, src, class }, datagram);
        }
    }

    /// As [`crate::Mesh::handle_timeout`].
    pub fn handle_timeout(&mut self, now: Instant) {
        for _ in 0..timers::AT_ONCE {
            let Some(slot) = self.machine.timers.pop(now) else { break };
            if let Some(peer) = self.peers.get(slot) {
                peer.tick(now, &mut self.machine);
            }
        }
    }

    /// As [`crate::Mesh::poll_timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.machine.timers.next()
    }

    /// As [`crate::Mesh::poll_transmit`].
    pub fn poll_transmit(&mut self) -> Option<Transmit<'_>> {
        self.machine.out.poll()
    }

    /// As [`crate::Mesh::poll_tun`].
    pub fn poll_tun(&mut self) -> Option<TunBatch<'_>> {
        self.machine.inbox.poll()
    }

    /// The next part of an answer to a question for the state.
    pub fn poll_status(&mut self) -> Option<PlainStatus> {
        self.statuses.pop_front()
    }

    /// As [`crate::Mesh::forget`].
    pub fn forget(&mut self) {
        self.machine.forget();
        self.statuses = self.statuses.drain(..).collect();
    }

    fn set_peer(&mut self, now: Instant, mut config: PlainPeer) {
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
        config.allowed.sort_unstable();
        for net in peer.allowed.iter().filter(|net| config.allowed.binary_search(net).is_err()) {
            self.routes.remove(*net, slot);
        }
        for net in &config.allowed {
            self.routes.insert(*net, slot);
        }
        peer.configure(now, config, self.sockets, self.up, &mut self.machine);
    }

    fn remove_peer(&mut self, id: u32) {
        let Some((slot, peer)) = self.peers.remove(id) else {
            return self.machine.others.remove(id, &mut self.routes);
        };
        for net in &peer.allowed {
            self.routes.remove(*net, slot);
        }
        self.machine.timers.clear(slot);
    }

    fn set_link(&mut self, now: Instant, up: bool, mtu: u16) {
        self.machine.mtu = mtu;
        if up == self.up {
            return;
        }
        self.up = up;
        self.each_peer(|peer, machine| {
            if up {
                peer.switch_on(now, machine);
            } else {
                peer.switch_off(machine);
            }
        });
    }

    fn status(&mut self, now: Instant, token: u64) {
        let mut states = self.peers.iter().map(|peer| peer.state(now)).peekable();
        loop {
            let peers: Vec<_> = states.by_ref().take(MAX_STATES).collect();
            let more = states.peek().is_some();
            self.statuses.push_back(PlainStatus { token, more, peers });
            if !more {
                return;
            }
        }
    }

    /// One datagram, by what it says that it is.
    fn datagram(&mut self, now: Instant, source: Source, datagram: &[u8]) {
        match datagram.first_chunk::<4>() {
            Some([4, 0, 0, 0]) => self.data(now, source, datagram),
            Some([1, 0, 0, 0]) => self.initiation(now, source, datagram),
            Some([2, 0, 0, 0]) => self.answer(now, source, datagram, 8),
            Some([3, 0, 0, 0]) => self.answer(now, source, datagram, 4),
            _ => self.machine.drops.unauthenticated += 1,
        }
    }

    fn data(&mut self, now: Instant, source: Source, datagram: &[u8]) {
        let found = receiver(datagram, 4).map(|index| self.machine.indexes.split(index));
        let peer = found.and_then(|(slot, tag)| Some((self.peers.get(slot)?, tag)));
        let Some((peer, tag)) = peer else {
            self.machine.drops.unauthenticated += 1;
            return;
        };
        let packet = peer.data_from(now, source, tag, datagram, &self.routes, &mut self.machine);
        if let Some(len) = packet {
            self.machine.inbox.keep(len);
        }
    }

    fn initiation(&mut self, now: Instant, source: Source, datagram: &[u8]) {
        let Some(half) = self.machine.initiator(now, source, datagram) else { return };
        let slot = self.peers.of_key(&half.peer_static_public);
        match slot.and_then(|slot| self.peers.get(slot)) {
            Some(peer) => peer.initiated(now, source, datagram, &mut self.machine),
            None => self.machine.hand_over(&half.peer_static_public, source, datagram),
        }
    }

    /// A response or a cookie; `at` is where it names our index.
    fn answer(&mut self, now: Instant, source: Source, datagram: &[u8], at: usize) {
        let found = receiver(datagram, at).map(|index| self.machine.indexes.split(index));
        let peer = found.and_then(|(slot, tag)| Some((self.peers.get(slot)?, tag)));
        match peer.filter(|_| self.machine.takes_answer(now, source, datagram)) {
            Some((peer, tag)) => peer.answered(now, source, tag, datagram, &mut self.machine),
            None => self.machine.drops.handshake += 1,
        }
    }

    fn each_peer(&mut self, mut act: impl FnMut(&mut Peer, &mut Machine)) {
        for peer in self.peers.iter_mut() {
            act(peer, &mut self.machine);
        }
    }
}
