//! A peer that slept through the end of its epoch, until it has caught up.
//!
//! It knows nothing of the present epoch nor of the one before, so its handshakes come over a relay, in the mailbox of an
//! epoch that ended longer ago. Control finds out whose they are, and that epoch's pre-shared key. What comes of it is a
//! session beside the peer's tunnels by which only messages pass, and TCP between the two machines' tunnel IPv6 addresses
//! with [`sync::PORT`] on our side: enough to fetch the newest roster.
//!
//! * A guest has live sessions only while no tunnel of the peer has: what knows the present epoch is no guest, and a
//!   handshake in an old one is no reason to break off with a peer that is heard.
//! * The peer begins it. We never initiate here, send to where its newest packet came from, and only over relays.
//! * A new handshake in another ended epoch stands beside the session that there is until a packet proves it, so that
//!   a recorded one ends nothing.
//! * The guest is told that it is one ([`Message::Candidates`]), keeps other packets back ([`Keyed::narrow`]), and
//!   begins a session of the present epoch as soon as it has that: none of them is lost.

use std::{
    net::{IpAddr, Ipv6Addr},
    time::{Duration, Instant},
};

use proto::{
    metadata::{InnerAddr, InnerNet},
    pipe::{EpochTag, RelayTo},
    probe::{Message, is_reserved},
    sync,
};
use zeroize::Zeroizing;

use super::{
    Inner, Peer, addresses, answer_to,
    receive::{RESPONSE, ephemeral, unseal},
};
use crate::{
    machine::{Machine, padded},
    out::To,
    path::IDLE,
    route::Routes,
    session::{Keyed, Made, OVERHEAD, Opened, SCRATCH, Source, guest_slot},
};

/// How long an answered handshake waits for the first packet that proves it: some round trips over a slow relay.
const PROOF: Duration = Duration::from_secs(10);
/// How long a guest may be silent: as long as any peer until it counts as idle.
const SILENCE: Duration = IDLE;
/// How often a guest's sessions are looked after. Its own timers are whole seconds.
const TICK: Duration = Duration::from_secs(1);

/// TCP, as IPv6 names the next header (RFC 9293).
const TCP: u8 = 6;
/// Length of an IPv6 header, in bytes.
const IPV6: usize = 40;
/// The least length of a TCP header, in bytes.
const TCP_HEADER: usize = 20;

/// The sessions of an epoch that has ended.
pub(super) struct Guest {
    /// The one that a packet proved, first, and one that is yet to be proved; or two such.
    tunnels: Vec<Keyed>,
    /// Where its newest packet came from.
    to: Option<To>,
    /// When that was, or its handshake.
    heard: Instant,
}

impl Peer {
    /// An initiation in an ended epoch with this pre-shared key, its MAC checked already.
    pub(crate) fn host(
        &mut self,
        now: Instant,
        source: Source,
        psk: &Zeroizing<[u8; 32]>,
        initiation: &[u8],
        machine: &mut Machine,
    ) {
        let Some(ephemeral) = ephemeral(initiation) else { return };
        // A copy of the same initiation may have come directly, where an epoch with the same tag answered it in vain.
        let spent = self.seen.contains(ephemeral) && self.unproven.as_ref() != Some(ephemeral);
        let (false, false, Some(keys)) = (spent, self.is_heard(now), &machine.keys) else {
            machine.drops.handshake += 1;
            return;
        };
        let guest = self.guest.get_or_insert_with(|| Box::new(Guest::new(now)));
        let keyed = guest.tunnel(psk, |tag| machine.indexes.of(guest_slot(self.slot), tag));
        let mut scratch = [0; SCRATCH];
        keyed.wake(&mut scratch);
        match keyed.respond(keys, &self.key, source, initiation, &mut scratch) {
            Made::Reply(len) => {
                if len == RESPONSE {
                    keyed.answered = Some(now);
                    guest.heard = now;
                    self.seen.insert(*ephemeral);
                    self.unproven = None;
                }
                machine.out.push(answer_to(source), &scratch[..len]);
            }
            _ => machine.drops.handshake += 1,
        }
        self.schedule(now, machine);
    }

    /// A data packet of a guest. What is for the TUN stays in the inbox, to be kept by the caller.
    pub(crate) fn guest_data(
        &mut self,
        now: Instant,
        source: Source,
        tag: EpochTag,
        datagram: &[u8],
        routes: &Routes,
        machine: &mut Machine,
    ) -> Inner {
        let relayed = matches!(source, Source::Relay { .. });
        let found = self.guest.as_mut().and_then(|guest| {
            let at = guest.tunnels.iter().position(|keyed| keyed.tag == tag)?;
            Some((guest, at))
        });
        let Some((guest, at)) = found.filter(|_| relayed) else {
            machine.drops.unauthenticated += 1;
            return Inner::Gone;
        };
        let keyed = &mut guest.tunnels[at];
        let Some(Opened { len, first }) = unseal(keyed, datagram, machine) else { return Inner::Gone };
        (guest.heard, guest.to) = (now, Some(answer_to(source)));
        if first {
            keyed.answered = None;
            let proved = guest.tunnels.swap_remove(at);
            guest.tunnels = vec![proved];
            self.guest_up(now, machine);
        }
        if len == 0 || self.guest.is_none() {
            return Inner::Gone;
        }
        self.guest_packet(now, source, len, routes, machine)
    }

    /// A guest has proved a handshake of now: it knows no newer epoch, unless it was heard in one meanwhile.
    fn guest_up(&mut self, now: Instant, machine: &mut Machine) {
        if self.is_heard(now) {
            self.guest = None;
            return;
        }
        self.keyed.iter_mut().filter(|keyed| keyed.is_live()).for_each(Keyed::reset);
        self.announce.renew(now);
        self.send_candidates(now, machine);
        self.kick(now, machine);
        self.schedule(now, machine);
    }

    /// An authentic packet of a guest.
    fn guest_packet(
        &mut self,
        now: Instant,
        source: Source,
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
            match Message::read(packet) {
                Ok(message) => self.message(now, (source, None), message, routes, machine),
                Err(_) => machine.drops.reserved += 1,
            }
            return Inner::Gone;
        }
        let ends = (tunnel_address(&self.allowed), tunnel_address(&machine.own));
        let is_sync = tcp_between(packet, ends).is_some_and(|(_, ours)| ours == sync::PORT);
        if !is_sync || routes.owner(from) != Some(self.slot) {
            machine.drops.guest += 1;
            return Inner::Gone;
        }
        self.rx_bytes += len as u64;
        self.data(now, machine);
        self.unheard = None;
        Inner::Packet(len)
    }

    /// Sends a packet of sync by a session that takes nothing else, its own or the one in which we are a guest. False if
    /// it is none, or there is no such session.
    pub(super) fn send_sync(&mut self, packet: &[u8], machine: &mut Machine) -> bool {
        let ends = (tunnel_address(&machine.own), tunnel_address(&self.allowed));
        let Some((ours, theirs)) = tcp_between(packet, ends).filter(|_| self.sender().is_none()) else {
            return false;
        };
        match (self.voice(), self.paths.route()) {
            (Some(at), Some(to)) if theirs == sync::PORT => self.seal(at, packet, machine.mtu, to, machine),
            (None, _) if ours == sync::PORT && self.guest_at().is_some() => {
                self.seal_to_guest(packet, machine);
            }
            _ => return false,
        }
        self.tx_bytes += packet.len() as u64;
        true
    }

    /// Seals for a guest, if there is one.
    pub(super) fn seal_to_guest(&mut self, packet: &[u8], machine: &mut Machine) {
        let Some(to) = self.guest_at() else { return };
        let Some(keyed) = self.guest.as_mut().and_then(|guest| guest.tunnels.first_mut()) else { return };
        let packet = padded(packet, machine.mtu, &mut machine.pad);
        // Over a relay, which has no such header.
        let room = machine.out.room(to, 0, packet.len() + OVERHEAD);
        let len = keyed.seal(packet, room);
        machine.out.commit(len);
    }

    /// Where a guest is that can be sent to.
    pub(super) fn guest_at(&self) -> Option<To> {
        self.guest.as_ref().filter(|guest| guest.tunnels.first().is_some_and(Keyed::is_live))?.to
    }

    /// Whether the peer is a guest, or about to be one.
    pub(crate) fn is_guest(&self) -> bool {
        self.guest.is_some()
    }

    /// The peer is there in an epoch that both sides know.
    pub(super) fn end_guest(&mut self, now: Instant) {
        if self.guest.take().is_some() {
            // It was told no candidates.
            self.announce.renew(now);
        }
    }

    /// A relay, or a handle of it, leads nowhere any more.
    pub(super) fn lose_guest(&mut self, relay: u8, handle: Option<u64>) {
        let Some(guest) = &mut self.guest else { return };
        let gone = |to: &To| {
            matches!(to, To::Relay { relay: at, to: RelayTo::Handle(h) }
                if *at == relay && handle.is_none_or(|handle| handle == *h))
        };
        guest.to = guest.to.filter(|to| !gone(to));
    }

    /// What the peer says of the tunnel at a place: whether we are its guest there.
    pub(super) fn narrow(&mut self, now: Instant, at: usize, guest: bool, machine: &mut Machine) {
        let Some(keyed) = self.keyed.get_mut(at).filter(|keyed| keyed.narrow != guest) else { return };
        keyed.narrow = guest;
        if guest {
            // Who was frozen may have older sessions that seem to live. A peer that is so far ahead reads none of them.
            self.keyed.iter_mut().skip(at + 1).for_each(Keyed::reset);
        }
        if guest && at > 0 && self.sender().is_none() && self.keyed[0].attempt.is_none() {
            // We have a newer epoch already.
            self.initiate(now, machine);
        }
        self.kick(now, machine);
    }

    /// Ends what is over, and lets `Tunn` do what is due.
    pub(super) fn tick_guest(&mut self, now: Instant, machine: &mut Machine) {
        let Some(guest) = &mut self.guest else { return };
        let mut scratch = [0; SCRATCH];
        for keyed in &mut guest.tunnels {
            // Initiations are the peer's: it listens where we would not find it.
            if let (Made::Reply(len), Some(to)) = (keyed.wake(&mut scratch), guest.to) {
                machine.out.push(to, &scratch[..len]);
            }
        }
        let proving = |keyed: &Keyed| keyed.answered.is_some_and(|at| now < at + PROOF);
        guest.tunnels.retain(|keyed| keyed.is_live() || proving(keyed));
        if guest.tunnels.is_empty() || now >= guest.heard + SILENCE {
            self.guest = None;
        }
    }

    /// When [`Peer::tick_guest`] has something to do.
    pub(super) fn guest_due(&self, now: Instant) -> Option<Instant> {
        self.guest.as_ref().map(|_| now + TICK)
    }
}

impl Guest {
    fn new(now: Instant) -> Self {
        Self { tunnels: Vec::new(), to: None, heard: now }
    }

    /// The tunnel with this key; a new one beside the one that is proved, if it is another epoch's. `index` gives the one
    /// for a tag: the two here are told apart by it, whatever their epochs are.
    fn tunnel(&mut self, psk: &Zeroizing<[u8; 32]>, index: impl Fn(EpochTag) -> u32) -> &mut Keyed {
        let at = self.tunnels.iter().position(|keyed| keyed.has(psk)).unwrap_or_else(|| {
            if self.tunnels.len() > 1 {
                let keep = usize::from(!self.tunnels[0].is_live());
                self.tunnels.swap(0, keep);
                self.tunnels.truncate(1);
            }
            let [one, other] = [0, 1].map(EpochTag::of);
            let tag = if self.tunnels.iter().any(|keyed| keyed.tag == one) { other } else { one };
            self.tunnels.push(Keyed::new(tag, psk.clone(), index(tag)));
            self.tunnels.len() - 1
        });
        &mut self.tunnels[at]
    }
}

/// The tunnel IPv6 address among a machine's ranges, where its own addresses come first.
fn tunnel_address(nets: &[InnerNet]) -> Option<Ipv6Addr> {
    let net = nets.iter().find(|net| net.addr().is_ipv6())?;
    match net.addr() {
        IpAddr::V6(addr) if *net == InnerNet::host(InnerAddr(addr.into())) => Some(addr),
        _ => None,
    }
}

/// The ports of a TCP segment from one end to the other. A fragment, or a packet with other headers before TCP's, is
/// none: sync needs neither.
fn tcp_between(packet: &[u8], (from, to): (Option<Ipv6Addr>, Option<Ipv6Addr>)) -> Option<(u16, u16)> {
    let is_tcp = packet.len() >= IPV6 + TCP_HEADER && packet[0] >> 4 == 6 && packet[6] == TCP;
    let ends = addresses(packet).filter(|_| is_tcp)?;
    if ends != (from?.into(), to?.into()) {
        return None;
    }
    let port = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
    Some((port(IPV6), port(IPV6 + 2)))
}
