//! Virtual time: what is due next happens next, and nothing happens between.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap},
    net::SocketAddr,
    time::{Duration, Instant},
};

use proto::{metadata::Endpoint, pipe::ToData, stun};

use crate::{
    core::{Event, Mesh, To},
    dice::Dice,
    host::{DATA, Data, Host, MTU, NEVER, PORT, SEALED, port, shows_plaintext, socket},
    net::{Flight, Landing, Net},
    plan::{Plan, What},
    watch::{AT_ONCE, Cause, FOUND, HEALED, HEALED_LARGE, Pair, Report, SILENT},
};

mod control;
mod frames;
mod happen;
mod look;
mod near;

/// Between two packets of a machine to each of its peers.
const TRAFFIC: Duration = Duration::from_millis(500);
/// And between two that are as large as the interface gives, where lines differ.
const LARGE_EVERY: Duration = Duration::from_secs(2);
/// Between two looks at what the machines say of their paths.
const LOOK: Duration = Duration::from_millis(1_000);
/// After the last event, and again after everything was mended.
const SETTLE: Duration = Duration::from_secs(12);
/// A direct path may take longer; so long the end is put off while one is awaited.
const PATIENCE: Duration = Duration::from_secs(48);
/// What happens at one time, or in all; more is an endless loop.
const MOST_AT_ONCE: u32 = 5_000;
const MOST: u64 = 2_000_000;

pub(crate) struct World {
    plan: Plan,
    now: Duration,
    count: u64,
    queue: BinaryHeap<Reverse<Due>>,
    /// What is due, by place.
    tasks: Vec<Option<Task>>,
    free: Vec<u32>,
    /// Buffers of datagrams that have arrived, and an inner packet's: used again.
    spare: Vec<Vec<u8>>,
    room: Vec<u8>,
    hosts: Vec<Host>,
    net: Net,
    /// Whether each relay runs.
    relays: Vec<bool>,
    /// Pairs that packets pass between only over relays, and (machine, relay) that are apart.
    cut: BTreeSet<(usize, usize)>,
    cut_relay: BTreeSet<(usize, usize)>,
    removed: BTreeSet<usize>,
    /// Who was told that whom was removed, and when.
    forgotten: Vec<Vec<Option<Duration>>>,
    epoch: u64,
    epoch_at: Duration,
    connections: u64,
    pairs: Vec<Pair>,
    /// Of large packets alone.
    large: Vec<Pair>,
    /// A machine is given a large packet just now: what is as large as that is data.
    speaks_large: bool,
    quiet: bool,
    /// By machine: when data passed last, when anything happened to it, and datagrams without data in this window.
    data_at: Vec<Duration>,
    stirred: Vec<Duration>,
    chatter: Vec<u64>,
    window: Duration,
    /// When everything was mended, after the last event.
    mended: Option<Duration>,
    /// When the last that returns is there.
    returned: Duration,
    report: Report,
    /// What happened, if anybody reads it.
    notes: Option<Vec<String>>,
}

/// When something is due, in nanoseconds, its number among all, and its place, for a task is large and the queue moves what it
/// holds: from the highest bits to the lowest, in one number, of which the least comes first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Due(u128);

impl Due {
    const PLACE: u32 = 24;

    fn new(at: u64, number: u64, place: u32) -> Self {
        Self(u128::from(at) << 64 | u128::from(number) << Self::PLACE | u128::from(place))
    }

    fn at(self) -> u64 {
        (self.0 >> 64) as u64
    }

    fn place(self) -> usize {
        self.0 as usize & ((1 << Self::PLACE) - 1)
    }
}

enum Task {
    Datagram { flight: Flight, sender: usize, sent: Duration, bytes: Vec<u8> },
    Answer { flight: Flight, bytes: Vec<u8> },
    Frame { relay: usize, sender: usize, from: u64, to: (usize, u64), bytes: Vec<u8> },
    Gone { relay: usize, host: usize, handle: u64 },
    Event(usize),
    Mend,
    Traffic(usize),
    Look,
    Resume,
    Wake(usize, Duration),
    Return(usize),
    Locals(usize),
    Say(usize),
    Beacon { host: usize, beacon: near::Beacon },
    Connect { host: usize, relay: usize, attempt: u64 },
    Open { host: usize, relay: usize, attempt: u64 },
    Close { host: usize, relay: usize, id: u64 },
    GiveUp { host: usize, relay: usize, id: u64 },
    Relay { relay: usize, up: bool },
    Epoch(usize),
    Forget { host: usize, peer: usize },
}

impl World {
    pub(crate) fn new(plan: &Plan, notes: bool) -> Self {
        let (count, start) = (plan.hosts.len(), Instant::now());
        let mut net = Net::new(Dice::new(1));
        for (host, planned) in plan.hosts.iter().enumerate() {
            net.settle(host, planned.place);
        }
        Self {
            now: Duration::ZERO,
            count: 0,
            queue: BinaryHeap::new(),
            tasks: Vec::new(),
            free: Vec::new(),
            spare: Vec::new(),
            room: vec![0; MTU.into()],
            hosts: (0..count)
                .map(|host| Host::new(start, host, plan.hosts[host].pool, count, plan.relays))
                .collect(),
            net,
            relays: vec![true; plan.relays],
            cut: BTreeSet::new(),
            cut_relay: BTreeSet::new(),
            removed: BTreeSet::new(),
            forgotten: vec![vec![None; count]; count],
            epoch: 1,
            epoch_at: Duration::ZERO,
            connections: 0,
            pairs: (0..count * count).map(|_| Pair::new(HEALED)).collect(),
            large: (0..count * count).map(|_| Pair::new(HEALED_LARGE)).collect(),
            speaks_large: false,
            quiet: false,
            data_at: vec![Duration::ZERO; count],
            stirred: vec![Duration::ZERO; count],
            chatter: vec![0; count],
            window: Duration::ZERO,
            mended: None,
            returned: Duration::ZERO,
            report: Report::default(),
            notes: notes.then(Vec::new),
            plan: plan.clone(),
        }
    }

    pub(crate) fn run(mut self) -> (Report, Vec<String>) {
        self.begin();
        let (mut now, mut at_once) = (0, 0);
        for _ in 0..MOST {
            if self.report.broken.is_some() {
                return self.ended();
            }
            let timer = |host: &Host| if host.awake { host.next } else { NEVER };
            let timeout = self.hosts.iter().map(timer).min().unwrap_or(NEVER);
            let task = self.queue.peek().map_or(NEVER, |Reverse(due)| due.at());
            let next = timeout.min(task);
            if next == NEVER {
                return self.ended();
            }
            at_once += 1;
            if next > now {
                (now, at_once) = (next, 0);
                self.now = Duration::from_nanos(now);
            }
            if at_once > MOST_AT_ONCE {
                break;
            }
            if task <= now {
                if let Some(task) = self.next_task() {
                    if self.is_over(&task) {
                        return self.ended();
                    }
                    self.perform(task);
                }
                continue;
            }
            for host in 0..self.hosts.len() {
                if timer(&self.hosts[host]) <= now {
                    self.call(host, Mesh::handle_timeout);
                }
            }
        }
        self.broken("the machines do not come to rest");
        self.ended()
    }

    fn ended(mut self) -> (Report, Vec<String>) {
        self.report.time = self.now;
        (self.report, self.notes.unwrap_or_default())
    }

    fn note(&mut self, what: impl FnOnce() -> String) {
        if let Some(notes) = &mut self.notes {
            notes.push(format!("{:>9.3} {}", self.now.as_secs_f64(), what()));
        }
    }

    fn broken(&mut self, what: impl AsRef<str>) {
        let at = self.now;
        self.report.broken.get_or_insert_with(|| format!("at {at:?}: {}", what.as_ref()));
    }

    fn next_task(&mut self) -> Option<Task> {
        let Reverse(due) = self.queue.pop()?;
        self.free.push(due.place() as u32);
        self.tasks[due.place()].take()
    }

    fn after(&mut self, time: Duration, task: Task) {
        self.count += 1;
        let place = self.free.pop().unwrap_or_else(|| {
            self.tasks.push(None);
            (self.tasks.len() - 1) as u32
        });
        self.tasks[place as usize] = Some(task);
        let at = (self.now + time).as_nanos() as u64;
        self.queue.push(Reverse(Due::new(at, self.count, place)));
    }

    fn begin(&mut self) {
        for host in 0..self.hosts.len() {
            self.start(host);
            for relay in 0..self.relays.len() {
                self.connect(host, relay, Duration::ZERO);
            }
            self.after(Duration::from_millis(100 + 7 * host as u64), Task::Traffic(host));
        }
        self.after(LOOK, Task::Look);
        self.next_event(0);
    }

    /// The data path of a machine starts, and is told what control knows.
    fn start(&mut self, host: usize) {
        let now = self.now;
        self.hosts[host].start(now, &mut self.net.dice);
        let config = self.hosts[host].config(host);
        self.tell(host, ToData::Config(config));
        let locals = self.net.locals(host);
        self.tell(host, ToData::LocalAddrs(locals));
        let servers =
            Net::stun_servers(self.relays.len(), self.plan.has_pools()).into_iter().map(Endpoint).collect();
        self.tell(host, ToData::StunServers(servers));
        self.hosts[host].epoch = self.hosts[host].epoch.max(1);
        self.tell_peers(host);
        for relay in 0..self.relays.len() {
            if self.hosts[host].links[relay].up.is_some() {
                self.tell(host, ToData::RelayUp(relay as u8));
            }
        }
    }

    fn tell_peers(&mut self, host: usize) {
        for peer in 0..self.hosts.len() {
            if !self.hosts[host].peers[peer] {
                continue;
            }
            let fixed = self.plan.hosts[peer].fixed.then(|| self.net.fixed(peer, PORT)).flatten();
            let key = self.hosts[peer].key;
            let known = crate::host::peer(peer, host, key, self.hosts[host].epoch, fixed, self.relays.len());
            self.tell(host, ToData::SetPeer(known));
        }
    }

    fn tell(&mut self, host: usize, frame: ToData<'_>) {
        self.call(host, |mesh, now| mesh.apply(now, frame));
    }

    fn perform(&mut self, task: Task) {
        match task {
            Task::Datagram { flight, sender, sent, bytes } => {
                self.arrive(&flight, sender, sent, &bytes);
                self.spare.push(bytes);
            }
            Task::Answer { flight, bytes } => {
                if let Some(Landing::Host(host, port, from)) = self.net.arrive(self.now, &flight) {
                    self.deliver(host, port, from, &bytes);
                }
                self.spare.push(bytes);
            }
            Task::Frame { relay, sender, from, to, bytes } => {
                self.frame(relay, (sender, from), to, &bytes);
                self.spare.push(bytes);
            }
            Task::Gone { relay, host, handle } => {
                if self.hosts[host].awake {
                    self.tell(host, ToData::RelayGone { relay: relay as u8, handle });
                }
            }
            Task::Event(number) => {
                let what = self.plan.events[number].what;
                self.note(|| crate::story::event(what));
                self.happen(what);
                self.next_event(number + 1);
            }
            Task::Mend => self.happen(What::Heal),
            Task::Traffic(host) => self.traffic(host),
            Task::Look => self.look(),
            Task::Resume => self.resume(),
            Task::Wake(host, slept) => self.wake(host, slept),
            Task::Return(host) => self.come_back(host),
            Task::Locals(host) => {
                if self.hosts[host].awake {
                    let locals = self.net.locals(host);
                    self.tell(host, ToData::LocalAddrs(locals));
                    self.seek_here(host);
                }
            }
            Task::Say(host) => self.say(host),
            Task::Beacon { host, beacon } => self.heard(host, beacon),
            Task::Connect { host, relay, attempt } => self.try_relay(host, relay, attempt),
            Task::Open { host, relay, attempt } => self.relay_open(host, relay, attempt),
            Task::Close { host, relay, id } => self.relay_closed(host, relay, id),
            Task::GiveUp { host, relay, id } => self.relay_silent(host, relay, id),
            Task::Relay { relay, up } => self.set_relay(relay, up),
            Task::Epoch(host) => self.renew(host),
            Task::Forget { host, peer } => self.forget(host, peer),
        }
    }

    /// Calls a machine's core, and what it says goes its way.
    fn call(&mut self, host: usize, what: impl FnOnce(&mut Mesh, Instant)) {
        if let Some((mut mesh, now)) = self.hosts[host].wakes(self.now) {
            what(&mut mesh, now);
            self.take(host, &mut mesh);
            self.hosts[host].rests(mesh);
        }
    }

    fn take(&mut self, host: usize, mesh: &mut Mesh) {
        while let Some(batch) = mesh.poll_tun() {
            batch.packets().for_each(|packet| self.came_out(host, packet));
        }
        while let Some(event) = mesh.poll_event() {
            match event {
                Event::Status(status) => self.hosts[host].show(status),
                Event::Seek(peer) => self.seek(host, peer as usize),
                Event::Pong(_) | Event::PeerFloor { .. } => {}
            }
        }
        let mut count = 0;
        while let Some(transmit) = mesh.poll_transmit() {
            for datagram in transmit.datagrams() {
                count += 1;
                self.send(host, transmit.to, datagram);
            }
        }
        let at_once = count / (self.hosts.len() as u64 - 1);
        self.report.at_once = self.report.at_once.max(at_once);
        if at_once > AT_ONCE {
            self.broken(format!("machine {host} has {at_once} datagrams for each peer to send at once"));
        }
    }

    /// A core sends a datagram.
    fn send(&mut self, host: usize, to: To, bytes: &[u8]) {
        self.said(host, &to, bytes.len());
        if shows_plaintext(bytes) {
            self.broken(format!("machine {host} sent plaintext"));
        }
        match to {
            To::Udp { socket, dst } => self.send_udp(host, socket, dst, bytes),
            To::Relay { relay, to } => {
                self.check_addressee(host, relay.into(), to);
                self.send_frame(host, relay.into(), to, bytes);
            }
        }
    }

    fn send_udp(&mut self, host: usize, socket: u8, dst: SocketAddr, bytes: &[u8]) {
        if self.hosts[host].offline {
            return;
        }
        if let Some(flight) = self.net.send(self.now, host, port(socket), dst, bytes.len()) {
            let (sent, bytes) = (self.now, self.copy(bytes));
            self.after(flight.takes, Task::Datagram { flight, sender: host, sent, bytes });
        }
    }

    /// What goes its way, in a buffer of its own.
    fn copy(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut copy = self.spare.pop().unwrap_or_default();
        copy.clear();
        copy.extend_from_slice(bytes);
        copy
    }

    fn arrive(&mut self, flight: &Flight, sender: usize, sent: Duration, bytes: &[u8]) {
        match self.net.arrive(self.now, flight) {
            Some(Landing::Stun(from)) => {
                // Each relay's machine answers STUN too.
                let relay = self.net.relay_of(flight);
                if !self.relays[relay] || self.cut_relay.contains(&(sender, relay)) {
                    return;
                }
                let answer = stun::answer(bytes, Endpoint(from));
                if let Some((flight, bytes)) = answer.and_then(|a| Some((self.net.answer(flight, from)?, a)))
                {
                    self.after(flight.takes, Task::Answer { flight, bytes });
                }
            }
            Some(Landing::Host(host, port, from)) => {
                // (An address that several machines share may be another's that is still a member.)
                let meant = !flight.is_local() && self.net.has_own_address(host);
                if meant && self.forgotten[sender][host].is_some_and(|at| at < sent) {
                    self.broken(format!("machine {sender} sent to machine {host}, which was removed"));
                }
                if !self.cut.contains(&(sender.min(host), sender.max(host))) {
                    self.deliver(host, port, from, bytes);
                }
            }
            None => {}
        }
    }

    fn deliver(&mut self, host: usize, port: u16, from: SocketAddr, bytes: &[u8]) {
        if self.hosts[host].awake && !self.hosts[host].offline {
            let from = (socket(port, from), from);
            self.call(host, |mesh, now| mesh.handle_udp(now, from, 0, bytes.len(), bytes));
        }
    }

    /// A machine sends to each of its peers.
    fn traffic(&mut self, host: usize) {
        self.after(TRAFFIC, Task::Traffic(host));
        if self.quiet || !self.hosts[host].awake {
            return;
        }
        for peer in 0..self.hosts.len() {
            if !self.hosts[host].peers[peer] {
                continue;
            }
            let expected = self.must_pass(host, peer);
            let at = self.at(host, peer);
            if let Some(broken) = self.pairs[at].sent(self.now, expected) {
                self.broken(format!("machine {host} to {peer}: {broken}"));
            }
            let number = self.pairs[at].next();
            self.speak(host, Data { from: host, to: peer, number, sent: self.now, len: DATA });
            let ticks = self.now.as_nanos() / TRAFFIC.as_nanos();
            if self.plan.has_sizes() && ticks.is_multiple_of(LARGE_EVERY.as_nanos() / TRAFFIC.as_nanos()) {
                if let Some(broken) = self.large[at].sent(self.now, expected) {
                    self.broken(format!("machine {host} to {peer}, large packets: {broken}"));
                }
                let number = self.large[at].next();
                self.speaks_large = true;
                self.speak(host, Data { from: host, to: peer, number, sent: self.now, len: MTU.into() });
                self.speaks_large = false;
            }
        }
    }

    fn speak(&mut self, host: usize, data: Data) {
        self.data_at[host] = self.now;
        let mut room = std::mem::take(&mut self.room);
        let packet = data.write(&mut room);
        self.call(host, |mesh, now| {
            mesh.handle_tun(now, packet);
        });
        self.room = room;
    }

    /// An inner packet came out of a machine's TUN.
    fn came_out(&mut self, host: usize, packet: &[u8]) {
        let Some(data) = Data::read(packet).filter(|data| data.to == host && data.from < self.hosts.len())
        else {
            return self.broken(format!("machine {host} got a packet that nobody sent it"));
        };
        if self.forgotten[host][data.from].is_some() {
            self.broken(format!("machine {host} took a packet of machine {}, which was removed", data.from));
        }
        self.data_at[host] = self.now;
        self.report.packets += 1;
        let at = self.at(data.from, host);
        let (pair, healed) = match data.len {
            DATA => (&mut self.pairs[at], &mut self.report.healed),
            _ => (&mut self.large[at], &mut self.report.large),
        };
        if !pair.came(self.now, data.number, data.sent, healed) {
            self.broken(format!("machine {host} got a packet of machine {} twice", data.from));
        }
    }

    /// Whether traffic from one to the other must pass, and how much later than usual: they have a relay in common, or speak
    /// directly and nothing has happened to that; or they find each other on their LAN.
    fn must_pass(&self, a: usize, b: usize) -> Option<Duration> {
        match self.can_meet(a, b) {
            true if self.share_relay(a, b) || self.is_steady(a, b) => Some(Duration::ZERO),
            true => self.are_near(a, b).then_some(FOUND),
            false => None,
        }
    }

    fn can_meet(&self, a: usize, b: usize) -> bool {
        let there = |host: usize| self.hosts[host].awake && !self.removed.contains(&host);
        there(a) && there(b) && self.hosts[a].epoch.abs_diff(self.hosts[b].epoch) <= 1
    }

    fn share_relay(&self, a: usize, b: usize) -> bool {
        (0..self.relays.len()).any(|relay| self.is_linked(a, relay) && self.is_linked(b, relay))
    }

    fn is_steady(&self, a: usize, b: usize) -> bool {
        self.pairs[self.at(a, b)].steady && self.pairs[self.at(b, a)].steady
    }

    fn at(&self, from: usize, to: usize) -> usize {
        from * self.hosts.len() + to
    }

    /// Counts what a machine says.
    fn said(&mut self, host: usize, to: &To, len: usize) {
        self.report.datagrams += 1;
        let way = match to {
            To::Udp { socket, .. } => u64::from(*socket),
            To::Relay { relay, .. } => 2 + u64::from(*relay),
        };
        let what = (self.now.as_nanos() as u64) ^ (host as u64) << 56 ^ way << 48 ^ len as u64;
        self.report.print = (self.report.print ^ what).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23);
        let data = len == SEALED || (self.speaks_large && len > SEALED);
        self.chatter[host] += u64::from(!data);
        let idle = self.now.saturating_sub(self.data_at[host].max(self.stirred[host]));
        if idle > SILENT {
            self.broken(format!("machine {host} sends after {idle:?} without data"));
        }
    }

    /// Something happened that concerns those pairs. What concerns relays alone does not concern a pair that speaks
    /// directly.
    fn touch(&mut self, cause: Cause, relays_alone: bool, concerns: impl Fn(usize, usize) -> bool) {
        for a in 0..self.hosts.len() {
            for b in 0..self.hosts.len() {
                if a == b || !(concerns(a, b) || concerns(b, a)) {
                    continue;
                }
                (self.stirred[a], self.stirred[b]) = (self.now, self.now);
                if !(relays_alone && self.is_steady(a, b)) {
                    let at = self.at(a, b);
                    self.pairs[at].touch(self.now, cause);
                    self.large[at].touch(self.now, cause);
                }
            }
        }
    }
}
