//! What all peers of this machine share: its key, sockets, addresses, relays, buffers and budgets.

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    ops::Range,
    time::{Duration, Instant},
};

use boringtun::noise::handshake::{HalfHandshake, parse_handshake_anon};
use proto::{
    metadata::{Endpoint, InnerAddr, InnerNet},
    pipe::{Drops, LocalAddr},
    probe::{Candidate, MAX_CANDIDATES, Origin},
    roster::Floor,
};
use rand_core::CryptoRngCore;

use crate::{
    batch::{Inbox, Outbox},
    budgets::Budgets,
    ecn::Shown,
    kept::Kept,
    out::Event,
    path::{IDLE, Via, may_announce},
    peer::answer_to,
    session::{Gate, Indexes, Keys, SCRATCH, Source, Verdict},
    share::{Handed, Note, Others, Share},
    stun::Stun,
    timers::Timers,
};

/// WireGuard pads to this, in bytes, but not beyond the MTU (its paper, section 5.4.6).
const PAD: usize = 16;
/// Initiations that wait to be handed over: what a batch of coalesced datagrams can hold.
const MAX_HANDED: usize = 512;
/// A worker tells the first of its data this often: as often as that asks STUN servers because of it.
const TOLD_EVERY: Duration = Duration::from_secs(25);
/// What the interface takes before control says so: the least that IPv6 allows.
const DEFAULT_MTU: u16 = 1_280;

pub(crate) struct Machine {
    /// When it was made.
    began: Instant,
    /// Which of the machine's peers are here.
    pub(crate) share: Share,
    /// Those that are not.
    pub(crate) others: Others,
    /// Initiations for them.
    pub(crate) handed: VecDeque<Handed>,
    pub(crate) rng: Box<dyn CryptoRngCore + Send>,
    pub(crate) keys: Option<Keys>,
    pub(crate) mtu: u16,
    pub(crate) own: Vec<InnerNet>,
    pub(crate) shown: Shown,
    pub(crate) sockets: Vec<SocketAddr>,
    /// More IPv4 sockets, silent but for [`crate::path::Birthday`].
    pub(crate) pool: Range<u8>,
    pub(crate) locals: Vec<LocalAddr>,
    /// Outer addresses and ports of routers that lead here.
    pub(crate) mappings: Vec<SocketAddr>,
    /// A bit for each relay that can be sent to.
    pub(crate) relays_up: u8,
    pub(crate) out: Outbox,
    pub(crate) inbox: Inbox,
    pub(crate) kept: Kept,
    /// For padding packets and for writing messages.
    pub(crate) pad: Vec<u8>,
    pub(crate) message: Vec<u8>,
    pub(crate) events: VecDeque<Event>,
    pub(crate) drops: Drops,
    pub(crate) stun: Stun,
    pub(crate) budgets: Budgets,
    pub(crate) timers: Timers,
    pub(crate) gate: Gate,
    pub(crate) indexes: Indexes,
    /// Tells our lists of candidates apart from those before a restart.
    pub(crate) start: u64,
    /// The roster that this machine has.
    pub(crate) floor: Option<Floor>,
    /// The last inner data of any peer.
    last_data: Option<Instant>,
    /// Which of it the first worker was told of last.
    told_data: Option<Instant>,
}

impl Machine {
    pub(crate) fn new(now: Instant, mut rng: Box<dyn CryptoRngCore + Send>, sockets: &[SocketAddr]) -> Self {
        let share = Share::whole();
        let indexes = Indexes::new(&mut *rng, share);
        let gate = Gate::new(&mut *rng);
        let start = rng.next_u64();
        Self {
            began: now,
            share,
            others: Others::default(),
            handed: VecDeque::new(),
            rng,
            keys: None,
            mtu: DEFAULT_MTU,
            own: Vec::new(),
            shown: Shown::default(),
            sockets: sockets.to_vec(),
            pool: 0..0,
            locals: Vec::new(),
            mappings: Vec::new(),
            relays_up: 0,
            out: Outbox::default(),
            inbox: Inbox::default(),
            kept: Kept::default(),
            pad: Vec::new(),
            message: Vec::new(),
            events: VecDeque::new(),
            drops: Drops::default(),
            stun: Stun::default(),
            budgets: Budgets::new(now),
            timers: Timers::default(),
            gate,
            indexes,
            start,
            floor: None,
            last_data: None,
            told_data: None,
        }
    }

    /// Takes a share of the machine's peers, before there are any.
    pub(crate) fn take_share(&mut self, share: Share) {
        self.share = share;
        self.indexes = Indexes::new(&mut *self.rng, share);
        if share.me() > 0 {
            self.stun.asks_nobody();
            self.gate.is_one_of(share.of());
        }
    }

    /// The worker that has the peer which a route names; nobody, if that is none or it has gone.
    #[cold]
    pub(crate) fn elsewhere(&mut self, owner: Option<u32>) -> Option<u8> {
        let worker = owner.and_then(|owner| self.others.worker(owner));
        self.drops.unroutable += u64::from(worker.is_none());
        worker
    }

    /// Who made an initiation is no peer here: one of another worker, which is handed it, or nobody's.
    pub(crate) fn hand_over(&mut self, key: &[u8; 32], source: Source, datagram: &[u8]) {
        match self.others.of_key(key) {
            Some((worker, peer)) if self.handed.len() < MAX_HANDED => {
                self.handed.push_back(Handed { worker, peer, source, datagram: datagram.into() });
            }
            _ => self.drops.handshake += 1,
        }
    }

    /// What the other workers are to know: what the first learned from STUN; what the first is to ask because of another.
    pub(crate) fn note(&mut self) -> Option<Note> {
        if self.share.me() == 0 {
            return self.stun.news().map(Note::Outside);
        }
        let due = |last: &Instant| self.told_data.is_none_or(|told| *last >= told + TOLD_EVERY);
        let (data, doubt) = (self.last_data.filter(due), self.stun.doubted());
        self.told_data = data.or(self.told_data);
        (data.is_some() || doubt).then_some(Note::Inside { data, doubt })
    }

    /// Another worker had data or doubts.
    pub(crate) fn heed(&mut self, now: Instant, data: Option<Instant>, doubt: bool) {
        if data.is_some() && !self.is_active(now) {
            self.stun.ask(now, false);
        }
        self.last_data = self.last_data.max(data);
        if doubt {
            self.stun.doubt(now);
        }
    }

    /// Gives back the buffers that nothing waits in.
    pub(crate) fn forget(&mut self) {
        self.out.forget();
        self.inbox.forget();
        self.kept = Kept::default();
        (self.pad, self.message) = (Vec::new(), Vec::new());
        self.events = self.events.drain(..).collect();
        self.handed = self.handed.drain(..).collect();
    }

    /// Who made an initiation, as it claims, if we are to look at it ([`Gate`]). What is refused is counted.
    pub(crate) fn initiator(
        &mut self,
        now: Instant,
        source: Source,
        datagram: &[u8],
    ) -> Option<HalfHandshake> {
        let mut cookie = [0; SCRATCH];
        let verdict =
            self.keys.as_ref().map(|keys| self.gate.initiation(now, source, keys, datagram, &mut cookie));
        let half = match (verdict, &self.keys) {
            (Some(Verdict::Take(initiation)), Some(keys)) => {
                parse_handshake_anon(&keys.secret, &keys.public, &initiation).ok()
            }
            (Some(Verdict::Ask(len)), _) => {
                self.out.push(answer_to(source), &cookie[..len]);
                return None;
            }
            _ => None,
        };
        self.drops.handshake += u64::from(half.is_none());
        half
    }

    /// Whether a response or a cookie is looked at, whose index is one of ours.
    pub(crate) fn takes_answer(&mut self, now: Instant, source: Source, datagram: &[u8]) -> bool {
        self.keys.as_ref().is_some_and(|keys| self.gate.answer(now, source, keys, datagram))
    }

    /// The next of the moments that are `step` apart since the beginning: what many peers want to be called for within such a
    /// time, they are called for at once, and the machine wakes up once.
    pub(crate) fn beat(&self, now: Instant, step: Duration) -> Instant {
        let since = now.saturating_duration_since(self.began);
        let over = since.as_nanos() % step.as_nanos();
        now + step - Duration::from_nanos(over as u64)
    }

    /// Inner data passed. After a silence the outside may see us elsewhere.
    pub(crate) fn data(&mut self, now: Instant) {
        if !self.is_active(now) {
            self.stun.ask(now, false);
        }
        self.last_data = Some(now);
    }

    /// Whether any peer had inner data lately.
    pub(crate) fn is_active(&self, now: Instant) -> bool {
        self.last_data.is_some_and(|last| now < last + IDLE)
    }

    /// Whether packets for this address are ours to take.
    pub(crate) fn is_own(&self, addr: IpAddr) -> bool {
        self.own.iter().any(|net| net.contains(InnerAddr(addr)))
    }

    pub(crate) fn is_relay_up(&self, relay: u8) -> bool {
        self.relays_up & 1 << relay != 0
    }

    /// Whether our NAT gives each destination another port.
    pub(crate) fn is_hard(&self, now: Instant) -> bool {
        self.stun.varies(now)
    }

    /// The path to an endpoint: from the first socket of its family.
    pub(crate) fn via(&self, remote: SocketAddr) -> Option<Via> {
        let socket = self.sockets.iter().position(|socket| socket.is_ipv4() == remote.is_ipv4())?;
        Some(Via::Udp { socket: socket as u8, remote })
    }

    /// Where this machine may be reached; what the outside sees comes first, so that it is never cut.
    pub(crate) fn candidates(&self, now: Instant) -> Vec<Candidate> {
        let mut list: Vec<Candidate> = Vec::new();
        let mut add = |origin, addr| {
            let candidate = Candidate { origin, endpoint: Endpoint(addr) };
            let known = list.iter().any(|c| c.endpoint == candidate.endpoint);
            if !known && list.len() < MAX_CANDIDATES {
                list.push(candidate);
            }
        };
        for addr in self.stun.worth_telling(now) {
            add(Origin::Reflexive, addr);
        }
        for addr in self.mappings.iter().filter(|addr| may_announce(addr.ip())) {
            add(Origin::Mapped, *addr);
        }
        for local in self.locals.iter().filter(|local| may_announce(local.addr) && !self.is_own(local.addr)) {
            for socket in self.sockets.iter().filter(|socket| socket.is_ipv4() == local.addr.is_ipv4()) {
                add(Origin::Interface, SocketAddr::new(local.addr, socket.port()));
            }
        }
        list
    }

    /// A time from now up to `most`, so that machines that lost one thing do not all ask at once.
    pub(crate) fn jitter(&mut self, most: Duration) -> Duration {
        most * (self.rng.next_u32() >> 16) / (1 << 16)
    }
}

/// `packet` padded as WireGuard wants it, but not beyond `whole` bytes, in `pad` if it was not right already.
pub(crate) fn padded<'a>(packet: &'a [u8], whole: u16, pad: &'a mut Vec<u8>) -> &'a [u8] {
    let len = packet.len().next_multiple_of(PAD).min(packet.len().max(whole.into()));
    if len == packet.len() {
        return packet;
    }
    pad.clear();
    pad.extend_from_slice(packet);
    pad.resize(len, 0);
    pad
}
