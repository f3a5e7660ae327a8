//! One peer: its sessions, its paths, what waits for it, and its clock.
//!
//! [`send`] takes packets out to it, [`receive`] takes what came from it, [`epochs`] moves it from one epoch to the next,
//! [`guest`] lets it catch up from an older one, [`lan`] meets it on a LAN, [`seek`] looks for a way through a hard NAT,
//! [`Peer::tick`] does what is due. A peer that
//! has no data has no timers but those of a session that still lives, and none at all after that.

mod epochs;
mod guest;
mod lan;
mod receive;
mod seek;
mod send;

use epochs::Shift;
use guest::Guest;
pub(crate) use receive::{Inner, KEEPALIVE, RESPONSE, addresses, answer_to, ephemeral, receiver, unseal};

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use proto::{
    metadata::{Endpoint, InnerNet},
    pipe::{self, EpochTag, PathView, PeerStatus, RelayTo},
};
use x25519_dalek::PublicKey;

use crate::{
    announce::Announce,
    kept::Rate,
    machine::Machine,
    out::To,
    path::{Birthday, IDLE, Origin, PROBE_EVERY, Paths, Silence, Via},
    pieces::Pieces,
    ping::Pings,
    session::{Keyed, OVERHEAD, Seen},
    waiting::Waiting,
};

/// How often `Tunn` is asked what is due while a peer has data or a handshake is under way. Its own timers are whole
/// seconds.
const TICK: Duration = Duration::from_millis(250);
/// And while the peer is idle but a session still lives.
const IDLE_TICK: Duration = Duration::from_secs(5);
/// No peer is called again sooner, whatever is due.
const SOONEST: Duration = Duration::from_millis(1);
/// A handshake that our side has no need of (an old timestamp, a silent path) at most this often,
/// and no later than this when one is owed: a peer that restarts again and again must not wait for `Tunn`'s own timers,
/// which take 15 seconds.
const UNASKED_HANDSHAKE: Duration = Duration::from_secs(1);
/// A peer that data is sent to and nothing is heard of for so long is not there: another path would have been found by then.
const SILENT: Duration = Duration::from_secs(5);

pub(crate) struct Peer {
    pub(crate) id: u32,
    slot: u32,
    key: PublicKey,
    /// Bits of the relays where its mailbox is.
    relays: u8,
    pub(crate) allowed: Vec<InnerNet>,
    endpoints: Vec<Endpoint>,
    /// The present epoch's tunnel, then the one before, then maybe one that is in use and named no more.
    keyed: Vec<Keyed>,
    /// How many of them control names.
    named: usize,
    shift: Shift,
    heard_in_present: Option<Instant>,
    heard_in_former: Option<Instant>,
    /// While the peer is of an epoch that is named no more.
    guest: Option<Box<Guest>>,
    /// The ephemeral of an initiation that we answered, and no packet proved that the peer has the same epoch in mind.
    unproven: Option<[u8; 32]>,
    seen: Seen,
    waiting: Waiting,
    /// How much it is sent.
    rate: Rate,
    /// Counts packets that go in pieces.
    piece: u32,
    pieces: Pieces,
    paths: Paths,
    birthday: Birthday,
    announce: Announce,
    pings: Pings,
    rx_bytes: u64,
    tx_bytes: u64,
    /// Inner data in either direction.
    last_data: Option<Instant>,
    /// Since when data is sent without anything heard of the peer.
    unheard: Option<Instant>,
    last_unasked: Option<Instant>,
    /// One more was due before it was allowed, in this epoch.
    owes_handshake: Option<EpochTag>,
    /// Where the newest handshake came from: for messages before there is a path.
    reply_to: Option<To>,
    /// The newest way back over a relay where it has no mailbox that we know.
    handle: Option<(u8, u64)>,
}

impl Peer {
    pub(crate) fn new(slot: u32, config: &pipe::Peer) -> Self {
        Self {
            id: config.id,
            slot,
            key: PublicKey::from(config.wireguard),
            relays: 0,
            allowed: Vec::new(),
            endpoints: Vec::new(),
            keyed: Vec::new(),
            named: 0,
            shift: Shift::default(),
            heard_in_present: None,
            heard_in_former: None,
            guest: None,
            unproven: None,
            seen: Seen::default(),
            waiting: Waiting::default(),
            rate: Rate::default(),
            piece: 0,
            pieces: Pieces::default(),
            paths: Paths::default(),
            birthday: Birthday::default(),
            announce: Announce::default(),
            pings: Pings::default(),
            rx_bytes: 0,
            tx_bytes: 0,
            last_data: None,
            unheard: None,
            last_unasked: None,
            owes_handshake: None,
            reply_to: None,
            handle: None,
        }
    }

    pub(crate) fn key(&self) -> &[u8; 32] {
        self.key.as_bytes()
    }

    /// Takes over what control says about the peer.
    pub(crate) fn configure(&mut self, now: Instant, config: pipe::Peer, machine: &mut Machine) {
        self.relays = config.relays;
        self.allowed = config.allowed;
        self.endpoints = config.endpoints;
        self.paths.set_top(now, machine.mtu);
        self.set_epochs(now, config.psks, machine);
        self.set_statics(now, machine);
        self.set_relays(now, machine);
        self.kick(now, machine);
    }

    /// Whether there was inner data lately.
    pub(crate) fn is_active(&self, now: Instant) -> bool {
        self.last_data.is_some_and(|last| now < last + IDLE)
    }

    /// Forgets sessions, as when this machine's own key changed.
    pub(crate) fn forget_sessions(&mut self) {
        self.keyed.iter_mut().for_each(Keyed::reset);
        self.shift = Shift::default();
        self.guest = None;
    }

    /// The relays of the machine changed.
    pub(crate) fn set_relays(&mut self, now: Instant, machine: &mut Machine) {
        let id = self.id;
        let handle = self.handle;
        let relays = self.relays;
        // Whatever is sent names the epoch of its own session.
        let Some(epoch) = self.keyed.first().map(|k| k.tag) else { return };
        self.paths.retain_relays(|relay, to| {
            machine.is_relay_up(relay)
                && match to {
                    RelayTo::Peer { .. } => relays & 1 << relay != 0,
                    RelayTo::Handle(h) => relays & 1 << relay == 0 && handle == Some((relay, h)),
                }
        });
        for relay in (0..pipe::MAX_RELAYS).filter(|relay| machine.is_relay_up(*relay)) {
            if relays & 1 << relay != 0 {
                self.paths.add_relay(now, relay, RelayTo::Peer { peer: id, epoch });
            } else if let Some((_, h)) = handle.filter(|(at, _)| *at == relay) {
                self.paths.add_relay(now, relay, RelayTo::Handle(h));
            }
        }
        self.schedule(now, machine);
    }

    /// A relay came up: what waits need not wait for a timer.
    pub(crate) fn relay_came_up(&mut self, now: Instant, machine: &mut Machine) {
        self.set_relays(now, machine);
        if self.keyed.iter().any(|k| k.attempt.is_some()) {
            self.initiate(now, machine);
        }
        self.kick(now, machine);
    }

    /// A relay went down, and its handles with it.
    pub(crate) fn relay_went_down(&mut self, now: Instant, relay: u8, machine: &mut Machine) {
        self.handle = self.handle.filter(|(at, _)| *at != relay);
        self.lose_guest(relay, None);
        self.set_relays(now, machine);
    }

    /// A handle leads nowhere any more.
    pub(crate) fn handle_gone(&mut self, now: Instant, relay: u8, handle: u64, machine: &mut Machine) {
        self.lose_guest(relay, Some(handle));
        if self.handle == Some((relay, handle)) {
            self.handle = None;
            self.set_relays(now, machine);
        }
    }

    /// Our own addresses changed. If some are gone (`moved`), no direct path can be trusted as it is.
    pub(crate) fn addresses_changed(&mut self, now: Instant, moved: bool, machine: &mut Machine) {
        self.paths.reclassify(&machine.locals);
        if moved {
            self.paths.forget_sighted();
            self.birthday.moved();
            if self.paths.is_awake() {
                self.paths.prove(now);
            }
        }
        self.set_statics(now, machine);
        self.tell_candidates(now, machine);
    }

    /// The outside sees us at another endpoint: behind a new router perhaps, which lets nobody in yet. (The next network may
    /// give the same local address as the last.) The peer begins when it hears of it, and so do we.
    pub(crate) fn seen_elsewhere(&mut self, now: Instant, machine: &mut Machine) {
        self.birthday.moved();
        self.paths.punch(now);
        self.tell_candidates(now, machine);
    }

    /// Our candidates changed.
    pub(crate) fn tell_candidates(&mut self, now: Instant, machine: &mut Machine) {
        if self.is_active(now) {
            self.announce.renew(now);
            self.schedule(now, machine);
        }
    }

    /// Our roster changed.
    pub(crate) fn tell_floor(&mut self, now: Instant, machine: &mut Machine) {
        // A peer that told us of it need not be told.
        if self.announce.floor() != machine.floor {
            self.tell_candidates(now, machine);
        }
    }

    /// The interface gives packets of another size.
    pub(crate) fn set_mtu(&mut self, now: Instant, mtu: u16) {
        self.paths.set_top(now, mtu);
    }

    /// The system refused to send a datagram of this length, for its link is smaller.
    pub(crate) fn refused(&mut self, now: Instant, to: To, len: usize, machine: &mut Machine) {
        let size = len.saturating_sub(OVERHEAD) as u16;
        if self.paths.refused(now, to, size) {
            self.schedule(now, machine);
        }
    }

    /// What status shows.
    pub(crate) fn status(&self, now: Instant, mtu: u16) -> PeerStatus {
        let session = self.keyed.iter().find(|k| k.is_open());
        let active = self.is_active(now);
        let silent = active && self.unheard.is_some_and(|since| now >= since + SILENT);
        let chosen = self.paths.chosen().filter(|_| session.is_some() && active && !silent);
        let none = if silent { PathView::Silent } else { PathView::Idle };
        PeerStatus {
            peer: self.id,
            path: chosen.map_or(none, |(via, _)| view(via)),
            rtt: chosen.and_then(|(_, rtt)| rtt),
            mtu: if chosen.is_some() { self.paths.whole() } else { mtu },
            rx_bytes: self.rx_bytes,
            tx_bytes: self.tx_bytes,
            since_handshake: session.and_then(Keyed::since_handshake),
        }
    }

    /// Measures the round trip; the answer comes as an event.
    pub(crate) fn ping(&mut self, now: Instant, token: u64, machine: &mut Machine) {
        self.pings.add(now, token);
        self.data(now, machine);
        self.unheard.get_or_insert(now);
        self.kick(now, machine);
        self.ping_now(now, machine);
        self.schedule(now, machine);
    }

    /// Does what is due.
    pub(crate) fn tick(&mut self, now: Instant, machine: &mut Machine) {
        self.tick_sessions(now, machine);
        self.tick_epochs(now, machine);
        self.tick_guest(now, machine);
        if self.paths.is_awake() && !self.is_active(now) {
            self.paths.sleep();
            self.pieces = Pieces::default();
            self.announce.stop();
            machine.kept.forget(self.slot);
        }
        if self.voice().is_some() {
            let silence = self.paths.lapse(now);
            self.repeat_kept(machine);
            if silence == Silence::Direct {
                // A router may have forgotten us, and what the peer knows of us with it.
                machine.stun.doubt(now);
            }
            if silence != Silence::None {
                self.initiate_unasked(now, machine);
            } else if let Some(owed) = self.owes_handshake {
                let at = self.keyed[..self.named].iter().position(|keyed| keyed.tag == owed);
                self.initiate_unasked_on(now, at.unwrap_or(0), machine);
            }
            while let Some(probe) = self.paths.next_probe(now, &mut machine.budgets.probes, &mut *machine.rng)
            {
                self.send_probe(&probe, machine);
                if probe.last {
                    // What the peer was told may be of a router that forgot it since.
                    machine.stun.doubt(now);
                }
                if self.paths.is_lost_at(probe.to) {
                    // It may be the session that leads nowhere.
                    self.initiate_unasked(now, machine);
                }
            }
            self.seek(now, machine);
        }
        self.send_candidates(now, machine);
        self.pings.expire(now, &mut machine.events);
        self.kick(now, machine);
        self.ping_now(now, machine);
        self.schedule(now, machine);
    }

    /// Asks for the next call.
    fn schedule(&self, now: Instant, machine: &mut Machine) {
        let busy = self.is_active(now) || self.keyed.iter().any(|k| k.attempt.is_some());
        let timers = self.keyed.iter().any(Keyed::has_timers);
        let sessions = timers.then(|| if busy { now + TICK } else { machine.beat(now, IDLE_TICK) });
        let live = self.voice().is_some();
        let paths = self.paths.deadline().filter(|_| live);
        let seek = self.birthday.deadline().filter(|_| live);
        let announce = self.announce.deadline().filter(|_| live || self.guest_at().is_some());
        let attempts = self.keyed.iter().filter_map(|k| k.attempt.as_ref()).map(|a| a.retry_at).min();
        let owed = self
            .last_unasked
            .filter(|_| self.owes_handshake.is_some() && live)
            .map(|at| at + UNASKED_HANDSHAKE);
        let idle = self.last_data.filter(|_| self.paths.is_awake()).map(|last| last + IDLE);
        let (shift, guest) = (self.shift_due(now), self.guest_due(now));
        let dues =
            [sessions, paths, seek, announce, attempts, owed, self.pings.deadline(), idle, shift, guest];
        if let Some(due) = dues.iter().flatten().min() {
            machine.timers.by(self.slot, (*due).max(now + SOONEST));
        }
    }

    /// Inner data passed in either direction. After a silence everything about paths starts over.
    fn data(&mut self, now: Instant, machine: &mut Machine) {
        machine.data(now);
        self.last_data = Some(now);
        if !self.paths.is_awake() {
            self.unheard = None;
            self.paths.wake(now);
            self.announce.renew(now);
            self.schedule(now, machine);
        }
    }

    fn set_statics(&mut self, now: Instant, machine: &Machine) {
        let vias: Vec<Via> = self.endpoints.iter().filter_map(|endpoint| machine.via(endpoint.0)).collect();
        self.paths.set_direct(now, Origin::Static, &vias, &machine.locals);
    }

    /// Whether the peer is seen from outside where we are.
    fn shares_public(&self, machine: &Machine) -> bool {
        self.announce.seen_at().iter().any(|addr: &IpAddr| machine.stun.is_seen_at(*addr))
    }
}

/// A path as status and ping show it.
fn view(via: Via) -> PathView {
    match via {
        Via::Udp { remote, .. } => PathView::Direct(Endpoint(remote)),
        Via::Relay(relay) => PathView::Relay(relay),
    }
}

const _: () = assert!(TICK.as_millis() < PROBE_EVERY.as_millis(), "silence is noticed in time");
