//! From the peer: handshakes, data and messages.

use std::{
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use proto::{
    piece::Piece,
    pipe::{EpochTag, RelayTo},
    probe::{Candidate, ListId, Message, is_reserved},
    roster::Floor,
};

use super::{Peer, view};
use crate::{
    ecn,
    machine::Machine,
    out::{Event, To},
    path::{Origin, Via, may_probe},
    route::Routes,
    session::{Keyed, Made, Opened, SCRATCH, Source},
    tcp,
};

/// What an inner packet turned out to be.
pub(crate) enum Inner {
    /// For the TUN, this many bytes.
    Packet(usize),
    /// Consumed, or dropped and counted.
    Gone,
}

impl Peer {
    /// An initiation for the epoch with this tag, its MAC checked already.
    pub(crate) fn initiated(
        &mut self,
        now: Instant,
        source: Source,
        tag: EpochTag,
        datagram: &[u8],
        machine: &mut Machine,
    ) {
        let Some(ephemeral) = ephemeral(datagram) else { return };
        let at = self.keyed[..self.named].iter().position(|keyed| keyed.tag == tag);
        let (Some(at), false) = (at, self.seen.contains(ephemeral)) else {
            machine.drops.handshake += 1;
            return;
        };
        let mut scratch = [0; SCRATCH];
        let made = self.keyed[at].wake(&mut scratch);
        self.sent_by_timer(now, at, &made, &scratch, machine);
        let Some(keys) = &machine.keys else { return };
        match self.keyed[at].respond(keys, &self.key, source, datagram, &mut scratch) {
            Made::Reply(len) => {
                machine.out.push(answer_to(source), &scratch[..len]);
                if len == RESPONSE {
                    self.seen.insert(*ephemeral);
                    self.unproven = Some(*ephemeral);
                    self.keyed[at].expect(now);
                    self.learn_handle(now, source, machine);
                    self.schedule(now, machine);
                }
            }
            Made::OldTimestamp => {
                machine.drops.handshake += 1;
                // In the epoch that it has; maybe it knows no other.
                self.initiate_unasked_on(now, at, machine);
            }
            _ => machine.drops.handshake += 1,
        }
    }

    /// A response or a cookie for the tunnel with this tag.
    pub(crate) fn answered(
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
        let was_live = self.keyed[at].is_live();
        match self.keyed[at].complete(source, datagram, &mut scratch) {
            Made::Reply(len) => {
                machine.out.push(answer_to(source), &scratch[..len]);
                if len == KEEPALIVE {
                    self.learn_handle(now, source, machine);
                    self.session_up(now, source, at, was_live, machine);
                }
            }
            Made::Nothing => {}
            _ => machine.drops.handshake += 1,
        }
    }

    /// A data packet for the tunnel with this tag. What is for the TUN stays in the inbox, to be kept by the caller.
    pub(crate) fn data_from(
        &mut self,
        now: Instant,
        source: Source,
        tag: EpochTag,
        datagram: &[u8],
        routes: &Routes,
        machine: &mut Machine,
    ) -> Inner {
        let Some(at) = self.keyed.iter().position(|keyed| keyed.tag == tag) else {
            machine.drops.unauthenticated += 1;
            return Inner::Gone;
        };
        let keyed = &mut self.keyed[at];
        let was_live = keyed.is_live();
        let Some(Opened { len, first }) = unseal(keyed, datagram, machine) else { return Inner::Gone };
        self.unheard = None;
        self.heard_in(now, at, machine);
        let via = Via::of(source);
        self.paths.heard(now, via);
        let elsewhere = |chosen: Via| matches!(chosen, Via::Udp { .. }) && chosen != via;
        if was_live
            && first
            && self.paths.chosen().is_some_and(|(chosen, _)| elsewhere(chosen))
            && !self.paths.is_valid(via)
        {
            // The peer made a new session where there is one, and neither over the path where we think it is nor over
            // another direct one that is in trust: it may have started anew, with another port. (Where each side sends by
            // another, as two may between machines on one LAN, neither's handshakes are to make the other begin one.)
            self.paths.prove(now);
        }
        if first {
            self.learn_handle(now, source, machine);
            self.session_up(now, source, at, was_live, machine);
        }
        if len == 0 {
            return Inner::Gone;
        }
        self.inner(now, (source, at), len, routes, machine)
    }

    /// An authentic inner packet: a message, or data whose addresses are checked.
    fn inner(
        &mut self,
        now: Instant,
        (source, at): (Source, usize),
        len: usize,
        routes: &Routes,
        machine: &mut Machine,
    ) -> Inner {
        let packet = machine.inbox.peek(len);
        let Some((from, to)) = addresses(packet) else {
            machine.drops.malformed += 1;
            return Inner::Gone;
        };
        if is_reserved(from) || is_reserved(to) {
            if let Some(piece) = Piece::read(packet) {
                let Some(packet) = self.pieces.add(now, piece) else { return Inner::Gone };
                machine.inbox.room(packet.len())[..packet.len()].copy_from_slice(packet);
                let len = packet.len();
                return self.deliver(now, (source, len), routes, machine);
            }
            match Message::read(packet) {
                Ok(message) => self.message(now, (source, Some(at)), message, routes, machine),
                Err(_) => machine.drops.reserved += 1,
            }
            return Inner::Gone;
        }
        self.deliver(now, (source, len), routes, machine)
    }

    /// Data for the TUN, the packet in the inbox.
    fn deliver(
        &mut self,
        now: Instant,
        (source, len): (Source, usize),
        routes: &Routes,
        machine: &mut Machine,
    ) -> Inner {
        let packet = machine.inbox.peek(len);
        let Some((from, to)) =
            addresses(packet).filter(|(from, to)| !is_reserved(*from) && !is_reserved(*to))
        else {
            machine.drops.malformed += 1;
            return Inner::Gone;
        };
        if routes.owner(from) != Some(self.slot) || !machine.is_own(to) {
            machine.drops.spoofed += 1;
            return Inner::Gone;
        }
        if !ecn::arrive(machine.inbox.peek_mut(len), source.class()) {
            machine.drops.congested += 1;
            return Inner::Gone;
        }
        if self.paths.whole() < machine.mtu
            && tcp::opens(machine.inbox.peek(len))
            && let Some(mtu) = self.paths.told()
        {
            tcp::clamp(machine.inbox.peek_mut(len), mtu);
        }
        self.rx_bytes += len as u64;
        self.data(now, machine);
        Inner::Packet(len)
    }

    /// A message, from the tunnel at a place, or from a guest.
    pub(super) fn message(
        &mut self,
        now: Instant,
        (source, at): (Source, Option<usize>),
        message: Message,
        routes: &Routes,
        machine: &mut Machine,
    ) {
        let via = Via::of(source);
        match message {
            Message::Probe { nonce, .. } => {
                self.say(&Message::Echo { nonce }, answer_to(source), machine);
                let refused = matches!(source, Source::Udp { src, .. } if is_inner(src, routes, machine));
                if !refused {
                    let shares_public = self.shares_public(machine);
                    self.paths.probed(now, via, &machine.locals, shares_public);
                }
            }
            Message::Echo { nonce } => {
                self.announce.heard(now);
                if let Some(echoed) = self.paths.echoed(now, via, nonce) {
                    if echoed.ping {
                        self.pings.answered(nonce, echoed.rtt, view(via), &mut machine.events);
                    }
                    self.kick(now, machine);
                }
            }
            Message::Candidates { id, list, floor, guest, hard } => {
                // A list that is not taken comes again.
                if self.announce.may_receive(now, id) {
                    self.say(&Message::Taken { id }, answer_to(source), machine);
                    if self.candidates(now, (id, &list, floor, hard), routes, machine)
                        && let Some(at) = at
                    {
                        self.narrow(now, at, guest, machine);
                    }
                }
            }
            Message::Taken { id } => {
                if id.start == machine.start {
                    self.announce.taken(id.number);
                }
            }
        }
        self.schedule(now, machine);
    }

    /// Takes a list; whether it was new.
    fn candidates(
        &mut self,
        now: Instant,
        (id, list, floor, hard): (ListId, &[Candidate], Option<Floor>, Option<u32>),
        routes: &Routes,
        machine: &mut Machine,
    ) -> bool {
        let received = self.announce.received(id, list, floor);
        if let Some(floor) = floor.filter(|floor| received.news && machine.floor != Some(*floor)) {
            machine.events.push_back(Event::PeerFloor { peer: self.id, floor });
        }
        if received.new && !self.paths.is_awake() {
            // It has data for us, or pings; it will probe, and our NAT opens only if we do so too.
            self.data(now, machine);
        }
        if received.new && !received.stays {
            let shares_public = self.shares_public(machine);
            let vias: Vec<Via> = list
                .iter()
                .map(|candidate| candidate.endpoint.0)
                .filter(|remote| may_probe(*remote, &machine.locals, shares_public))
                .filter(|remote| !is_inner(*remote, routes, machine))
                .filter_map(|remote| machine.via(remote))
                .collect();
            self.paths.set_direct(now, Origin::Announced, &vias, &machine.locals);
            self.paths.punch(now);
        }
        if received.new {
            self.heed_hard(now, (received.restarted, hard), list, routes, machine);
        }
        if received.restarted && self.is_active(now) {
            self.announce.renew(now);
        }
        received.new
    }

    /// A session can send now, or a handshake has confirmed that the peer is there.
    fn session_up(&mut self, now: Instant, source: Source, at: usize, was_live: bool, machine: &mut Machine) {
        self.keyed[at].answered = None;
        self.unproven = None;
        match at {
            0 => self.heard_in_present = Some(now),
            _ => self.heard_in_former = Some(now),
        }
        self.end_guest(now);
        self.epoch_up(now, at, machine);
        self.unheard = None;
        self.paths.heard(now, Via::of(source));
        self.reply_to = Some(answer_to(source));
        if !was_live {
            self.paths.punch(now);
        }
        self.pings.hurry(now);
        self.kick(now, machine);
        self.ping_now(now, machine);
        self.schedule(now, machine);
    }

    /// Remembers the way back to a peer whose mailbox we do not know.
    fn learn_handle(&mut self, now: Instant, source: Source, machine: &mut Machine) {
        let Source::Relay { relay, handle } = source else { return };
        if self.relays & 1 << relay == 0 && self.handle != Some((relay, handle)) {
            self.handle = Some((relay, handle));
            self.set_relays(now, machine);
        }
    }
}

/// Length of a handshake response, in bytes; a cookie is shorter.
pub(crate) const RESPONSE: usize = 92;
/// Length of an empty data packet, in bytes.
pub(crate) const KEEPALIVE: usize = 32;

/// Opens a data packet into the inbox. One that is not authentic is counted, and nothing comes of it.
pub(crate) fn unseal(keyed: &mut Keyed, datagram: &[u8], machine: &mut Machine) -> Option<Opened> {
    let opened = keyed.open(datagram, machine.inbox.room(datagram.len() + SCRATCH));
    machine.drops.unauthenticated += u64::from(opened.is_none());
    opened
}

/// Replies leave by the path that their packet came on.
pub(crate) fn answer_to(source: Source) -> To {
    match source {
        Source::Udp { socket, src, .. } => To::Udp { socket, dst: src },
        Source::Relay { relay, handle } => To::Relay { relay, to: RelayTo::Handle(handle) },
    }
}

/// Whether an endpoint lies inside a network of ours, so that a path to it would run in its own tunnel.
pub(super) fn is_inner(remote: SocketAddr, routes: &Routes, machine: &Machine) -> bool {
    routes.is_inside(remote.ip()) || machine.is_own(remote.ip())
}

/// Source and destination of an IP packet.
pub(crate) fn addresses(packet: &[u8]) -> Option<(IpAddr, IpAddr)> {
    let pair = |at: usize, len: usize| Some((packet.get(at..at + len)?, packet.get(at + len..at + 2 * len)?));
    match packet.first()? >> 4 {
        4 if packet.len() >= 20 => {
            let (from, to) = pair(12, 4)?;
            Some((IpAddr::from(<[u8; 4]>::try_from(from).ok()?), IpAddr::from(<[u8; 4]>::try_from(to).ok()?)))
        }
        6 if packet.len() >= 40 => {
            let (from, to) = pair(8, 16)?;
            Some((
                IpAddr::from(<[u8; 16]>::try_from(from).ok()?),
                IpAddr::from(<[u8; 16]>::try_from(to).ok()?),
            ))
        }
        _ => None,
    }
}

/// The ephemeral key of an initiation.
pub(crate) fn ephemeral(initiation: &[u8]) -> Option<&[u8; 32]> {
    initiation.get(8..)?.first_chunk()
}

/// The receiver index of a message that has one.
pub(crate) fn receiver(datagram: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*datagram.get(at..)?.first_chunk()?))
}
