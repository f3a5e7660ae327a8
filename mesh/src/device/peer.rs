//! One peer of a plain interface.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use proto::{
    metadata::{Endpoint, InnerNet},
    pipe::{EpochTag, PlainPeer, PlainState},
};
use x25519_dalek::PublicKey;
use zeroize::Zeroizing;

use super::Sockets;
use crate::{
    ecn,
    machine::{Machine, padded},
    out::To,
    peer::{KEEPALIVE, RESPONSE, addresses, answer_to, ephemeral, unseal},
    route::Routes,
    session::{CONFIRM, Keyed, Made, OVERHEAD, Opened, SCRATCH, Seen, Source},
    waiting::Waiting,
};

/// How often `Tunn` is asked what is due while data passes or a handshake is under way. Its own timers are whole seconds.
const TICK: Duration = Duration::from_millis(250);
/// And while a session lives that nothing passes in.
const IDLE_TICK: Duration = Duration::from_secs(5);
/// How long after the last data `Tunn` may have something to do because of it: its longest timer is 15 seconds.
const BUSY: Duration = Duration::from_secs(30);
/// No peer is called again sooner, whatever is due.
const SOONEST: Duration = Duration::from_millis(1);
/// The age at which whoever began a session begins the next (WireGuard's REKEY_AFTER_TIME). `Tunn` looks to it where
/// there is data; here it is for a peer that is sent nothing but keepalives.
const REKEY: Duration = Duration::from_secs(120);
/// No session is used any longer (WireGuard's REJECT_AFTER_TIME).
const REJECT: Duration = Duration::from_secs(180);

pub(super) struct Peer {
    id: u32,
    slot: u32,
    key: PublicKey,
    /// In order.
    pub(super) allowed: Vec<InnerNet>,
    /// The tunnel with the present pre-shared key. Behind it that with the one before: it carries data until the first has a
    /// session, so that a key that both sides change at different moments interrupts nothing.
    keyed: Vec<Keyed>,
    /// Until when there is a second.
    former_until: Option<Instant>,
    /// Where it is, and the way there.
    endpoint: Option<SocketAddr>,
    to: Option<To>,
    keepalive: Option<Duration>,
    seen: Seen,
    waiting: Waiting,
    /// Whether the interface is on.
    up: bool,
    rx_bytes: u64,
    tx_bytes: u64,
    last_handshake: Option<Instant>,
    /// Inner data in either direction.
    last_data: Option<Instant>,
    /// Anything authentic in either direction. (An initiation that was kept is authentic too, and does not count.)
    last_message: Option<Instant>,
    /// Until when `Tunn` knows well enough what time it is.
    fresh_until: Option<Instant>,
}

impl Peer {
    pub(super) fn new(slot: u32, config: &PlainPeer) -> Self {
        Self {
            id: config.id,
            slot,
            key: PublicKey::from(config.wireguard),
            allowed: Vec::new(),
            keyed: Vec::new(),
            former_until: None,
            endpoint: None,
            to: None,
            keepalive: None,
            seen: Seen::default(),
            waiting: Waiting::default(),
            up: false,
            rx_bytes: 0,
            tx_bytes: 0,
            last_handshake: None,
            last_data: None,
            last_message: None,
            fresh_until: None,
        }
    }

    pub(super) fn key(&self) -> &[u8; 32] {
        self.key.as_bytes()
    }

    /// Takes over what control says about the peer.
    pub(super) fn configure(
        &mut self,
        now: Instant,
        config: PlainPeer,
        sockets: Sockets,
        up: bool,
        machine: &mut Machine,
    ) {
        self.allowed = config.allowed;
        self.up = up;
        if !self.keyed.first().is_some_and(|keyed| keyed.has(&config.psk)) {
            self.set_psk(now, config.psk, machine);
        }
        if let Some(endpoint) = config.endpoint {
            self.endpoint = Some(endpoint.0);
        }
        self.rebind(sockets);
        let keepalive = (config.keepalive > 0).then(|| Duration::from_secs(config.keepalive.into()));
        if keepalive.is_some() && self.keepalive.is_none() {
            // The first at once.
            self.last_message = None;
        }
        self.keepalive = keepalive;
        self.revive(now, machine);
    }

    fn set_psk(&mut self, now: Instant, psk: Zeroizing<[u8; 32]>, machine: &Machine) {
        let tag = EpochTag::of(self.keyed.first().map_or(0, |newest| u64::from(newest.tag.value()) + 1));
        // Of two the one in use stays.
        self.keyed.retain(Keyed::is_live);
        self.keyed.truncate(1);
        self.keyed.insert(0, Keyed::new(tag, psk, machine.indexes.of(self.slot, tag)));
        self.former_until = (self.keyed.len() > 1).then(|| now + REJECT);
    }

    /// The sockets have other numbers.
    pub(super) fn rebind(&mut self, sockets: Sockets) {
        self.to = self.endpoint.and_then(|endpoint| sockets.to(endpoint));
    }

    /// Ends every session, and what waits for one stays.
    pub(super) fn forget_sessions(&mut self, machine: &mut Machine) {
        self.keyed.truncate(1);
        self.former_until = None;
        self.keyed.iter_mut().for_each(Keyed::reset);
        machine.timers.clear(self.slot);
    }

    pub(super) fn switch_on(&mut self, now: Instant, machine: &mut Machine) {
        (self.up, self.last_message) = (true, None);
        self.revive(now, machine);
    }

    pub(super) fn switch_off(&mut self, machine: &mut Machine) {
        self.up = false;
        machine.drops.waiting += self.waiting.clear();
        self.forget_sessions(machine);
    }

    /// Something that kept packets from leaving may be gone.
    pub(super) fn revive(&mut self, now: Instant, machine: &mut Machine) {
        self.kick(now, machine);
        self.schedule(now, machine);
    }

    /// Seals an inner packet, or keeps it until there is a session.
    pub(super) fn send(&mut self, now: Instant, packet: &[u8], machine: &mut Machine) {
        self.last_data = Some(now);
        self.freshen(now, machine);
        let Some(to) = self.to.filter(|_| self.up) else {
            machine.drops.waiting += 1;
            return;
        };
        let Some(sender) = self.sender() else {
            machine.drops.waiting += self.waiting.push(now, packet);
            self.kick(now, machine);
            return self.schedule(now, machine);
        };
        self.seal(now, sender, packet, to, machine);
    }

    /// An initiation, its MAC checked already. It is answered where it came from, but the peer is there only once a packet of
    /// that session comes: an old one that somebody kept is authentic too, and we may not know that it is old.
    pub(super) fn initiated(&mut self, now: Instant, source: Source, datagram: &[u8], machine: &mut Machine) {
        let Some(ephemeral) = ephemeral(datagram) else { return };
        self.wake(now, machine);
        let (Some(keyed), false, Some(keys)) =
            (self.keyed.first_mut(), self.seen.contains(ephemeral), &machine.keys)
        else {
            machine.drops.handshake += 1;
            return;
        };
        let mut scratch = [0; SCRATCH];
        match keyed.respond(keys, &self.key, source, datagram, &mut scratch) {
            Made::Reply(len) if len == RESPONSE => {
                self.seen.insert(*ephemeral);
                keyed.expect(now);
                machine.out.push(answer_to(source), &scratch[..len]);
                self.rx_bytes += datagram.len() as u64;
                self.tx_bytes += len as u64;
                self.schedule(now, machine);
            }
            // A cookie: nothing says that the sender is where it seems to be.
            Made::Reply(len) => machine.out.push(answer_to(source), &scratch[..len]),
            _ => machine.drops.handshake += 1,
        }
    }

    /// A response or a cookie for the tunnel with this tag.
    pub(super) fn answered(
        &mut self,
        now: Instant,
        source: Source,
        tag: EpochTag,
        datagram: &[u8],
        machine: &mut Machine,
    ) {
        let Some(at) = self.keyed.iter().position(|keyed| keyed.tag == tag) else {
            machine.drops.handshake += 1;
            return;
        };
        let mut scratch = [0; SCRATCH];
        match self.keyed[at].complete(source, datagram, &mut scratch) {
            Made::Reply(len) if len == KEEPALIVE => {
                self.heard(now, source, datagram);
                self.post(now, &scratch[..len], machine);
                self.session_up(now, at, machine);
            }
            Made::Reply(len) => machine.out.push(answer_to(source), &scratch[..len]),
            Made::Nothing => {}
            _ => machine.drops.handshake += 1,
        }
    }

    /// A data packet for the tunnel with this tag. What is for the TUN stays in the inbox, to be kept by the caller: its length.
    pub(super) fn data_from(
        &mut self,
        now: Instant,
        source: Source,
        tag: EpochTag,
        datagram: &[u8],
        routes: &Routes,
        machine: &mut Machine,
    ) -> Option<usize> {
        self.freshen(now, machine);
        let Some(at) = self.keyed.iter().position(|keyed| keyed.tag == tag) else {
            machine.drops.unauthenticated += 1;
            return None;
        };
        let Opened { len, first } = unseal(&mut self.keyed[at], datagram, machine)?;
        self.heard(now, source, datagram);
        if first {
            self.session_up(now, at, machine);
        }
        if len == 0 {
            return None;
        }
        self.last_data = Some(now);
        let (from, _) = addresses(machine.inbox.peek(len))?;
        if routes.owner(from) != Some(self.slot) {
            machine.drops.spoofed += 1;
            return None;
        }
        if !ecn::arrive(machine.inbox.peek_mut(len), source.class()) {
            machine.drops.congested += 1;
            return None;
        }
        Some(len)
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, now: Instant, machine: &mut Machine) {
        if !self.up {
            return;
        }
        if self.former_until.is_some_and(|until| now >= until) {
            self.keyed.truncate(1);
            self.former_until = None;
        }
        self.wake(now, machine);
        if self.keepalive_due(now).is_some_and(|due| due <= now) {
            self.keep_alive(now, machine);
        }
        self.kick(now, machine);
        self.schedule(now, machine);
    }

    /// What status shows.
    pub(super) fn state(&self, now: Instant) -> PlainState {
        PlainState {
            peer: self.id,
            endpoint: self.endpoint.map(Endpoint),
            rx_bytes: self.rx_bytes,
            tx_bytes: self.tx_bytes,
            since_handshake: self.last_handshake.map(|at| now.saturating_duration_since(at)),
        }
    }

    #[cfg(test)]
    pub(super) fn has_tunnel(&self) -> bool {
        self.keyed.iter().any(Keyed::has_timers)
    }

    /// The tunnel that can seal.
    fn sender(&self) -> Option<usize> {
        self.keyed.iter().position(Keyed::is_live)
    }

    /// An authentic message came: the peer is where it came from.
    fn heard(&mut self, now: Instant, source: Source, datagram: &[u8]) {
        self.rx_bytes += datagram.len() as u64;
        self.last_message = Some(now);
        let Source::Udp { socket, src, .. } = source else { return };
        if self.endpoint != Some(src) || self.to.is_none() {
            (self.endpoint, self.to) = (Some(src), Some(To::Udp { socket, dst: src }));
        }
    }

    /// A session can send now, or a handshake has confirmed that the peer is there.
    fn session_up(&mut self, now: Instant, at: usize, machine: &mut Machine) {
        self.keyed[at].answered = None;
        self.last_handshake = Some(now);
        self.revive(now, machine);
    }

    /// Sends what waits, if it can be sent; otherwise sees to it that it can be.
    fn kick(&mut self, now: Instant, machine: &mut Machine) {
        if self.waiting.is_empty() || !self.up {
            return;
        }
        let (Some(sender), Some(to)) = (self.sender(), self.to) else { return self.begin(now, machine) };
        while let Some(packet) = self.waiting.pop(now, &mut machine.drops.waiting) {
            self.seal(now, sender, &packet, to, machine);
        }
    }

    /// Begins a handshake, if none is under way and the peer's first packet is not to be expected at once.
    fn begin(&mut self, now: Instant, machine: &mut Machine) {
        let (Some(keyed), Some(keys)) = (self.keyed.first_mut(), &machine.keys) else { return };
        if let Some(answered) = keyed.answered
            && now < answered + CONFIRM
        {
            machine.timers.by(self.slot, answered + CONFIRM);
            return;
        }
        if self.to.is_none() {
            return;
        }
        let mut scratch = [0; SCRATCH];
        if let Made::Initiation(len) | Made::Reply(len) = keyed.begin(keys, &self.key, &mut scratch) {
            self.post(now, &scratch[..len], machine);
        }
    }

    /// Nothing passed for a while: the peer, and the routers in between, are reminded of us.
    fn keep_alive(&mut self, now: Instant, machine: &mut Machine) {
        // Whether or not anything could be sent: the next is due after the same time.
        self.last_message = Some(now);
        let Some(to) = self.to else { return };
        let old = self.last_handshake.is_none_or(|at| now >= at + REKEY);
        match self.sender() {
            Some(sender) => {
                self.seal(now, sender, &[], to, machine);
                if self.keyed[sender].is_ours() && old {
                    self.begin(now, machine);
                }
            }
            None => self.begin(now, machine),
        }
    }

    fn keepalive_due(&self, now: Instant) -> Option<Instant> {
        let every = self.keepalive.filter(|_| self.up && self.to.is_some())?;
        Some(self.last_message.map_or(now, |last| last + every))
    }

    /// Lets `Tunn` know the time, once in a while as packets pass.
    fn freshen(&mut self, now: Instant, machine: &mut Machine) {
        if self.fresh_until.is_none_or(|until| now >= until) {
            self.wake(now, machine);
            if self.keyed.iter().any(Keyed::has_timers) {
                let next = machine.beat(now, TICK);
                machine.timers.by(self.slot, next);
            }
        }
    }

    fn wake(&mut self, now: Instant, machine: &mut Machine) {
        self.fresh_until = Some(now + TICK);
        for at in 0..self.keyed.len() {
            let mut scratch = [0; SCRATCH];
            let replaced = at > 0 && self.keyed[0].is_live();
            match self.keyed[at].wake(&mut scratch) {
                // The newer one is renewed instead, or begun if it is not there yet.
                Made::Initiation(_) | Made::Due if replaced => {}
                Made::Initiation(len) if at == 0 => self.post(now, &scratch[..len], machine),
                Made::Initiation(_) | Made::Due => self.begin(now, machine),
                Made::Reply(len) => self.post(now, &scratch[..len], machine),
                // The next packet starts over.
                Made::GaveUp if at == 0 && self.sender().is_none() => {
                    machine.drops.waiting += self.waiting.clear();
                }
                _ => {}
            }
        }
    }

    /// Seals a packet, padded but not beyond the interface's largest.
    fn seal(&mut self, now: Instant, sender: usize, packet: &[u8], to: To, machine: &mut Machine) {
        let class = ecn::outer(packet, machine.shown);
        let packet = padded(packet, machine.mtu, &mut machine.pad);
        let room = machine.out.room(to, class, packet.len() + OVERHEAD);
        let len = self.keyed[sender].seal(packet, room);
        machine.out.commit(len);
        self.tx_bytes += len as u64;
        self.last_message = Some(now);
    }

    /// Sends a message that `Tunn` made.
    fn post(&mut self, now: Instant, message: &[u8], machine: &mut Machine) {
        if let Some(to) = self.to.filter(|_| self.up) {
            machine.out.push(to, message);
            self.tx_bytes += message.len() as u64;
            self.last_message = Some(now);
        }
    }

    /// Asks for the next call.
    fn schedule(&self, now: Instant, machine: &mut Machine) {
        if !self.up {
            return;
        }
        let timers = self.keyed.iter().any(Keyed::has_timers);
        let busy = self.last_data.is_some_and(|at| now < at + BUSY) || self.sender().is_none();
        let sessions = timers.then(|| machine.beat(now, if busy { TICK } else { IDLE_TICK }));
        let former = self.former_until;
        for due in [sessions, former, self.keepalive_due(now)].into_iter().flatten() {
            machine.timers.by(self.slot, due.max(now + SOONEST));
        }
    }
}
