//! Which of a peer's paths carries its data.
//!
//! A path is a pair (local socket, remote endpoint), or a relay. A direct path may carry data only after a nonce that
//! was sent on it came back on it ([`Paths::echoed`]): decryption proves who sent a packet, not where it came from.
//! So a datagram that arrives from elsewhere moves nothing, whoever recorded it; at most it makes us probe.
//!
//! Paths come from the roster (static), from the peer's list of candidates (announced), from what it says on the LAN
//! (sighted), and from where its authentic probes come (learned). All are probed by one schedule, [`schedule`], while the peer has data. The best one in trust carries
//! the data: by [`Kind`], then by round-trip time with hysteresis. A path that falls silent loses trust and gives
//! way at once, to the relay if nothing better is left; only a fresh echo brings trust back. Before that, while it is in
//! [`doubt`], data goes by a spare too. Over the relay data may go unproven: TLS and the mailbox say where it ends.
//!
//! Where none of this leads past a NAT that gives each destination another port, many are tried: [`birthday`].
//!
//! The path that carries data is asked what sizes it carries, by [`size`]. A relay carries every packet that the
//! interface gives: TCP cuts it as it needs.

mod birthday;
mod bounds;
mod candidate;
mod choice;
mod doubt;
mod lan;
mod schedule;
mod size;

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use proto::pipe::{LocalAddr, RelayTo};
use rand_core::CryptoRngCore;

pub(crate) use birthday::{Birthday, Turn};
pub(crate) use candidate::{Kind, is_private, may_announce, may_probe};
pub(crate) use schedule::{Budget, IDLE, PROBE_EVERY};

use crate::{out::To, session::Source};
use schedule::{BURST, KEEP, RELAY_RETRY, RETRY, TRUST, TRUST_RTTS};
use size::Size;

/// Probes of one path whose answers are awaited: a burst, and as many again, for what was sent last is answered last and
/// a path may be slow.
const OUTSTANDING: usize = 2 * BURST.len();

/// What identifies a path.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Via {
    Udp { socket: u8, remote: SocketAddr },
    Relay(u8),
}

/// Why a path is in the table.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// In the roster.
    Static,
    /// In the peer's list of candidates.
    Announced,
    /// The peer said on the LAN that it is there.
    Sighted,
    /// A probe came from there.
    Learned,
    /// A relay.
    Relay,
}

/// All paths to one peer.
#[derive(Default)]
pub(crate) struct Paths {
    table: Vec<Path>,
    /// The place of the path that carries data.
    chosen: Option<usize>,
    /// Which one that is, for when places have shifted.
    chosen_via: Option<Via>,
    /// Whether the chosen path is in doubt, and where data goes besides then.
    doubted: bool,
    spare: Option<To>,
    lost_since: Option<Instant>,
    /// The machine's budget was empty: no probes until then.
    held: Option<Instant>,
    /// Whether the peer has data; nothing is probed otherwise.
    awake: bool,
    /// The largest packet that the interface gives.
    top: u16,
}

struct Path {
    via: Via,
    to: To,
    kind: Kind,
    origin: Origin,
    /// Smoothed, once validated.
    rtt: Option<Duration>,
    /// May carry data: validated and not silent; for a relay: connected and not silent.
    trusted: bool,
    /// When an echo came that took far longer than usual, and none since that did not.
    held_up: Option<Instant>,
    /// The next step of the burst.
    step: usize,
    burst_at: Instant,
    probed: Option<Instant>,
    /// When the peer was heard on it last, since its relay is one where the peer is known to be. (A relay is trusted before that,
    /// but such a one is better.)
    heard: Option<Instant>,
    /// Since when something was sent without anything heard.
    unanswered: Option<Instant>,
    /// Probes since then.
    tries: u32,
    /// How long an answer may take to come by itself before there is a probe.
    patience: Duration,
    /// As a ring. Empty until something is asked: most paths are of peers that nothing passes.
    outstanding: Vec<Option<Sent>>,
    /// The place of the oldest among them, where the next will stand.
    oldest: usize,
    /// Of a direct path.
    size: Size,
    /// A probe of a size was sent, and nothing heard since.
    asked_size: bool,
}

#[derive(Clone, Copy)]
struct Sent {
    nonce: u64,
    at: Instant,
    ping: bool,
}

/// A probe to be sent.
pub(crate) struct Probe {
    pub(crate) to: To,
    pub(crate) nonce: u64,
    /// The length that it must have, if that is what it asks about; otherwise 0.
    pub(crate) size: u16,
    /// The last of a burst: those before were not answered in time.
    pub(crate) last: bool,
}

/// What an echo proved.
pub(crate) struct Echoed {
    pub(crate) rtt: Duration,
    /// Whether the probe was sent for a ping.
    pub(crate) ping: bool,
}

/// What became of silent paths.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Silence {
    /// A direct path that carried data gave way.
    Direct,
    /// A relay that carried data did.
    Relay,
    /// Nothing that matters.
    None,
}

impl Via {
    pub(crate) fn of(source: Source) -> Self {
        match source {
            Source::Udp { socket, src, .. } => Self::Udp { socket, remote: src },
            Source::Relay { relay, .. } => Self::Relay(relay),
        }
    }
}

impl Path {
    fn new(now: Instant, via: Via, to: To, kind: Kind, origin: Origin, top: u16) -> Self {
        Self {
            via,
            to,
            kind,
            origin,
            rtt: None,
            held_up: None,
            trusted: origin == Origin::Relay,
            step: 0,
            burst_at: now,
            probed: None,
            heard: None,
            unanswered: None,
            tries: 0,
            patience: doubt::ASK,
            outstanding: Vec::new(),
            oldest: 0,
            size: Size::new(now, top),
            asked_size: false,
        }
    }

    fn is_relay(&self) -> bool {
        self.origin == Origin::Relay
    }

    fn trust_for(&self) -> Duration {
        TRUST.max(self.rtt.unwrap_or_default().min(doubt::SLOWEST) * TRUST_RTTS)
    }

    fn restart(&mut self, now: Instant) {
        (self.step, self.burst_at) = (0, now);
        (self.unanswered, self.tries) = (None, 0);
    }

    /// A probe came: ours would get through now. It is part of a burst like any other, for if it began one anew each time,
    /// two machines whose answers take longer than the next probe would set each other off without end.
    fn answer_probe(&mut self, now: Instant) {
        let lately = self.probed.is_some_and(|at| now.saturating_duration_since(at) < BURST[1]);
        match BURST.get(self.step) {
            _ if lately => {}
            Some(&offset) => self.burst_at = self.burst_at.min(now.checked_sub(offset).unwrap_or(now)),
            None => self.restart(now),
        }
    }

    fn distrust(&mut self, now: Instant) {
        self.trusted = false;
        self.size.restart(now);
        self.restart(now);
    }
}

impl Paths {
    /// Where data goes.
    pub(crate) fn route(&self) -> Option<To> {
        self.chosen.map(|at| self.table[at].to)
    }

    /// The path that carries data and its round-trip time.
    pub(crate) fn chosen(&self) -> Option<(Via, Option<Duration>)> {
        self.chosen.map(|at| (self.table[at].via, self.table[at].rtt))
    }

    /// Whether this is a direct path in trust.
    pub(crate) fn is_valid(&self, via: Via) -> bool {
        self.place(via).is_some_and(|at| self.table[at].trusted && !self.table[at].is_relay())
    }

    /// Whether data goes there, and nothing is heard.
    pub(crate) fn is_lost_at(&self, to: To) -> bool {
        self.chosen.is_some_and(|at| self.table[at].to == to && !self.table[at].trusted)
    }

    /// The largest packet that goes whole where data goes; larger ones go in pieces.
    pub(crate) fn whole(&self) -> u16 {
        self.sized().map_or(self.top, Size::whole)
    }

    /// The same, if it is less than what the interface gives and that is certain enough to tell senders.
    pub(crate) fn told(&self) -> Option<u16> {
        self.sized()?.told()
    }

    /// The largest packet that the interface gives.
    pub(crate) fn set_top(&mut self, now: Instant, top: u16) {
        self.top = top;
        for path in &mut self.table {
            path.size.set_top(now, top);
        }
    }

    /// The system refused a packet of this size for a destination; whether that is a path of ours.
    pub(crate) fn refused(&mut self, now: Instant, to: To, size: u16) -> bool {
        let path = self.table.iter_mut().find(|path| path.to == to && !path.is_relay());
        path.map(|path| path.size.refused(now, size)).is_some()
    }

    /// Destinations where the peer answered before or is said to be by the roster, for a handshake that has no relay.
    pub(crate) fn known(&self) -> impl Iterator<Item = To> + '_ {
        self.table
            .iter()
            .filter(|p| p.origin == Origin::Static || (p.rtt.is_some() && !p.is_relay()))
            .map(|p| p.to)
    }

    /// Where a handshake may go though the peer never answered there: static endpoints, and where it was seen on the LAN.
    pub(crate) fn named(&self) -> impl Iterator<Item = To> + '_ {
        self.table.iter().filter(|p| matches!(p.origin, Origin::Static | Origin::Sighted)).map(|p| p.to)
    }

    /// Whether data goes by a path in trust.
    pub(crate) fn is_well(&self) -> bool {
        self.chosen.is_some_and(|at| self.table[at].trusted)
    }

    /// Whether data goes by a path in trust on which the peer was heard.
    pub(crate) fn is_proven(&self) -> bool {
        self.chosen.is_some_and(|at| {
            self.table[at].trusted && (self.table[at].heard.is_some() || !self.table[at].is_relay())
        })
    }

    /// The relays, the best first to be asked by the caller.
    pub(crate) fn relays(&self) -> impl Iterator<Item = To> + '_ {
        self.table.iter().filter(|p| p.is_relay()).map(|p| p.to)
    }

    /// Replaces all paths of one origin. Those that stay keep what is known of them.
    pub(crate) fn set_direct(&mut self, now: Instant, origin: Origin, wanted: &[Via], locals: &[LocalAddr]) {
        self.table.retain(|p| p.origin != origin || wanted.contains(&p.via) || p.rtt.is_some());
        for path in self.table.iter_mut().filter(|p| p.origin == origin && !wanted.contains(&p.via)) {
            // It worked, but its owner names it no more: it has to prove itself anew.
            path.origin = Origin::Learned;
            if path.trusted {
                path.distrust(now);
            }
        }
        for &via in wanted {
            let Via::Udp { socket, remote } = via else { continue };
            match self.table.iter_mut().find(|p| p.via == via) {
                Some(path) if path.origin == Origin::Static => {}
                Some(path) => path.origin = origin,
                None => {
                    let to = To::Udp { socket, dst: remote };
                    self.table.push(Path::new(now, via, to, Kind::of(remote.ip(), locals), origin, self.top));
                }
            }
        }
        self.trim(origin, wanted);
        self.trim(Origin::Learned, &[]);
        self.choose();
    }

    /// A relay can carry data to the peer.
    pub(crate) fn add_relay(&mut self, now: Instant, relay: u8, to: RelayTo) {
        let (via, to) = (Via::Relay(relay), To::Relay { relay, to });
        match self.table.iter_mut().find(|p| p.via == via) {
            Some(path) => path.to = to,
            None => self.table.push(Path::new(now, via, to, Kind::Relay, Origin::Relay, self.top)),
        }
        self.choose();
    }

    /// Relays that cannot carry data any more.
    pub(crate) fn retain_relays(&mut self, keep: impl Fn(u8, RelayTo) -> bool) {
        self.table.retain(|p| match p.to {
            To::Relay { relay, to } => keep(relay, to),
            To::Udp { .. } => true,
        });
        self.choose();
    }

    /// An authentic packet came by a path.
    pub(crate) fn heard(&mut self, now: Instant, via: Via) {
        let Some(at) = self.place(via) else { return };
        let path = &mut self.table[at];
        path.answered();
        let is_new = path.heard.replace(now).is_none();
        if path.is_relay() && (is_new || !path.trusted) {
            path.trusted = true;
            self.choose();
        }
        if self.chosen == Some(at) {
            self.end_doubt();
        }
    }

    /// An authentic probe came by a path: the other side can send on it, so see whether we can.
    pub(crate) fn probed(&mut self, now: Instant, via: Via, locals: &[LocalAddr], shares_public: bool) {
        if let Some(at) = self.place(via) {
            let path = &mut self.table[at];
            if !path.trusted {
                path.answer_probe(now);
            }
            return;
        }
        let Via::Udp { socket, remote } = via else { return };
        if !may_probe(remote, locals, shares_public) || !self.has_room(now) {
            return;
        }
        let to = To::Udp { socket, dst: remote };
        self.table.push(Path::new(now, via, to, Kind::of(remote.ip(), locals), Origin::Learned, self.top));
        self.choose();
    }

    /// An authentic echo came by a path.
    pub(crate) fn echoed(&mut self, now: Instant, via: Via, nonce: u64) -> Option<Echoed> {
        let at = self.place(via)?;
        let path = &mut self.table[at];
        let sent = path.outstanding.iter_mut().find(|sent| sent.is_some_and(|s| s.nonce == nonce));
        let (rtt, ping) = match sent.and_then(Option::take) {
            Some(sent) => (now.saturating_duration_since(sent.at), sent.ping),
            None => (path.size.echoed(now, nonce)?, false),
        };
        path.took(now, rtt);
        path.trusted = true;
        path.answered();
        self.choose();
        Some(Echoed { rtt, ping })
    }

    /// Data was sent on the path that carries it; whether it is the first that an answer is awaited for.
    pub(crate) fn sent(&mut self, now: Instant, len: usize) -> bool {
        let Some(at) = self.chosen else { return false };
        let path = &mut self.table[at];
        let first = path.unanswered.is_none();
        path.unanswered.get_or_insert(now);
        path.size.passes(now, len) || first
    }

    /// There is data after a silence: trust no direct path that has not proven itself lately, and prove all of them.
    pub(crate) fn wake(&mut self, now: Instant) {
        if !self.awake {
            self.awake = true;
            self.prove(now);
        }
    }

    pub(crate) fn is_awake(&self) -> bool {
        self.awake
    }

    /// No data any more.
    pub(crate) fn sleep(&mut self) {
        self.awake = false;
        self.forget_sighted();
    }

    /// All direct paths have to prove themselves again, as after a change of our own addresses.
    pub(crate) fn prove(&mut self, now: Instant) {
        if let Some(since) = self.chosen.and_then(|at| self.table[at].unanswered) {
            self.doubt_relays(since);
        }
        for path in &mut self.table {
            path.probed = None;
            path.distrust(now);
            path.trusted = path.is_relay();
        }
        self.choose();
    }

    /// Starts over for paths that never worked: the other side is trying now as well.
    pub(crate) fn punch(&mut self, now: Instant) {
        for path in self.table.iter_mut().filter(|p| !p.trusted && !p.is_relay()) {
            path.restart(now);
        }
    }

    /// The kinds of paths follow from our own addresses.
    pub(crate) fn reclassify(&mut self, locals: &[LocalAddr]) {
        for path in &mut self.table {
            if let Via::Udp { remote, .. } = path.via {
                path.kind = Kind::of(remote.ip(), locals);
            }
        }
        self.choose();
    }

    /// Takes trust from paths that were silent too long.
    pub(crate) fn lapse(&mut self, now: Instant) -> Silence {
        let mut silence = Silence::None;
        self.forget_learned(now);
        for at in 0..self.table.len() {
            let path = &mut self.table[at];
            let asked = path.trusted && path.tries >= 2;
            let Some(since) = path.unanswered.filter(|since| asked && now >= *since + path.trust_for())
            else {
                continue;
            };
            let kind = if path.is_relay() {
                // It stays the last resort; its probes go on more slowly.
                (path.trusted, path.heard) = (false, None);
                Silence::Relay
            } else {
                path.distrust(now);
                Silence::Direct
            };
            if self.chosen == Some(at) {
                silence = kind;
                self.lost_with(at, since);
            }
        }
        if silence != Silence::None || self.chosen.is_some_and(|at| !self.table[at].trusted) {
            self.choose();
        }
        self.doubt(now);
        silence
    }

    /// A probe that is due.
    pub(crate) fn next_probe(
        &mut self,
        now: Instant,
        budget: &mut Budget,
        rng: &mut dyn CryptoRngCore,
    ) -> Option<Probe> {
        if self.held.is_some_and(|until| now < until) {
            return None;
        }
        let small = (0..self.table.len()).find(|&at| self.due(at).is_some_and(|due| due <= now));
        let sized = self.sized_due().is_some_and(|due| due <= now);
        if small.is_none() && !sized {
            return None;
        }
        self.held = budget.take(now).err();
        if self.held.is_some() {
            return None;
        }
        let nonce = rng.next_u64();
        if let Some(at) = small {
            let in_burst = self.table[at].step < BURST.len();
            let to = self.probe(now, at, nonce, false);
            let last = in_burst && self.table[at].step == BURST.len();
            return Some(Probe { to, nonce, size: 0, last });
        }
        let path = &mut self.table[self.chosen?];
        let size = path.size.probe(now, nonce, path.rtt.unwrap_or_default())?;
        path.asked_size = true;
        Some(Probe { to: path.to, nonce, size, last: false })
    }

    /// A probe on the path that carries data, due or not.
    pub(crate) fn ping(&mut self, now: Instant, nonce: u64) -> Option<To> {
        let at = self.chosen?;
        Some(self.probe(now, at, nonce, true))
    }

    /// When something is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let due = (0..self.table.len()).filter_map(|at| self.due(at)).chain(self.sized_due()).min();
        let due = due.map(|due| self.held.map_or(due, |until| due.max(until)));
        due.into_iter().chain(self.doubted_at()).min()
    }

    fn probe(&mut self, now: Instant, at: usize, nonce: u64, ping: bool) -> To {
        let path = &mut self.table[at];
        path.outstanding.resize(OUTSTANDING, None);
        path.outstanding[path.oldest] = Some(Sent { nonce, at: now, ping });
        path.oldest = (path.oldest + 1) % OUTSTANDING;
        path.probed = Some(now);
        if path.trusted {
            path.unanswered.get_or_insert(now);
            path.tries += 1;
        } else if !path.is_relay() && path.step < BURST.len() {
            // A late call sends one probe, not all that it missed.
            while path.step < BURST.len() && path.burst_at + BURST[path.step] <= now {
                path.step += 1;
            }
        }
        path.to
    }

    /// When the path at this place wants a probe.
    fn due(&self, at: usize) -> Option<Instant> {
        let path = &self.table[at];
        if !self.awake {
            return None;
        }
        let Some(probed) = path.probed else { return Some(path.burst_at) };
        if !path.trusted {
            return match BURST.get(path.step) {
                _ if path.is_relay() => Some(probed + RELAY_RETRY),
                Some(&offset) => Some(path.burst_at + offset),
                None if self.worth_retrying(path) => Some(probed + RETRY),
                None => None,
            };
        }
        // A spare relay needs no keepalive: its connection has its own.
        let keep = (self.chosen == Some(at) || !path.is_relay()).then_some(probed + KEEP);
        let ask = path.ask_at(probed);
        match (keep, ask) {
            (Some(keep), Some(ask)) => Some(keep.min(ask)),
            (keep, ask) => keep.or(ask),
        }
    }

    /// The size of the path that carries data, unless that is a relay.
    fn sized(&self) -> Option<&Size> {
        let path = &self.table[self.chosen?];
        (!path.is_relay()).then_some(&path.size)
    }

    /// When a probe of a size is due. A path that is silent is asked small things first.
    fn sized_due(&self) -> Option<Instant> {
        let trusted = self.chosen.is_some_and(|at| self.table[at].trusted);
        self.sized().filter(|_| self.awake && trusted)?.due()
    }

    /// Whether a path would be better than what there is.
    fn worth_retrying(&self, path: &Path) -> bool {
        self.chosen.is_none_or(|at| path.kind < self.table[at].kind || !self.table[at].trusted)
    }

    fn place(&self, via: Via) -> Option<usize> {
        match self.chosen {
            Some(at) if self.table[at].via == via => Some(at),
            _ => self.table.iter().position(|p| p.via == via),
        }
    }

    fn choose(&mut self) {
        self.chosen = choice::best(&self.table, self.chosen_via);
        let via = self.chosen.map(|at| self.table[at].via);
        if via != self.chosen_via {
            // What was in doubt is given up, or was found to be well.
            self.end_doubt();
        }
        self.chosen_via = via;
    }
}
