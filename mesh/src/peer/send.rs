//! Towards the peer: data, messages and initiations.

use std::time::{Duration, Instant};

use proto::{
    piece::{self, MAX_TOTAL, Piece},
    probe::{ListId, Message},
};

use super::{Peer, UNASKED_HANDSHAKE};
use crate::{
    ecn,
    icmp::{self, TooBig},
    kept,
    machine::{Machine, padded},
    out::{Event, To},
    path::Probe,
    session::{Attempt, CONFIRM, Keyed, Made, OVERHEAD, RETRY, SCRATCH},
    tcp,
};

/// Messages up to this length, in bytes, are padded like data, so that their length tells little. Every path carries it.
const SMALL: usize = 512;

/// WireGuard's jitter of a repeated initiation (its paper, section 6.4).
const RETRY_JITTER: Duration = Duration::from_millis(333);

impl Peer {
    /// Seals an inner packet, or keeps it until there is a session and a path.
    pub(crate) fn send(&mut self, now: Instant, packet: &[u8], machine: &mut Machine) {
        self.data(now, machine);
        let (Some(sender), Some(to)) = (self.sender(), self.paths.route()) else {
            if self.send_sync(packet, machine) {
                return self.schedule(now, machine);
            }
            self.unheard.get_or_insert(now);
            machine.drops.waiting += self.waiting.push(now, packet);
            self.kick(now, machine);
            return self.schedule(now, machine);
        };
        // Only here: elsewhere a packet from the peer may lie where the answer would be written.
        if packet.len() > usize::from(self.paths.whole()) && self.tell(now, packet, machine) {
            return;
        }
        self.forward(now, sender, packet, to, machine);
    }

    /// Sends a packet of data where data goes.
    fn forward(&mut self, now: Instant, sender: usize, packet: &[u8], to: To, machine: &mut Machine) {
        let whole = self.paths.whole();
        if packet.len() > usize::from(whole) {
            self.send_pieces((sender, whole), packet, to, machine);
        } else if whole < machine.mtu && tcp::opens(packet) {
            self.open_tcp((sender, whole), packet, to, machine);
        } else {
            self.seal_data((sender, whole), packet, to, machine);
            self.keep(now, packet, machine);
        }
        self.tx_bytes += packet.len() as u64;
        self.unheard.get_or_insert(now);
        if self.paths.sent(now, packet.len())
            && let Some(look) = self.paths.look_again(now)
        {
            machine.timers.by(self.slot, look);
        }
    }

    /// Tells the sender of a packet that it is too large for the path, if that is certain; whether it was told.
    fn tell(&self, now: Instant, packet: &[u8], machine: &mut Machine) -> bool {
        let too_big = self.paths.told().and_then(|mtu| TooBig::of(packet, mtu));
        let Some(too_big) = too_big.filter(|_| machine.budgets.telling.take(now).is_ok()) else {
            return false;
        };
        let len = too_big.write(machine.inbox.room(icmp::MAX_LEN));
        machine.inbox.keep(len);
        true
    }

    /// Sends a packet that no datagram of the path holds.
    fn send_pieces(&mut self, (sender, whole): (usize, u16), packet: &[u8], to: To, machine: &mut Machine) {
        if packet.len() > MAX_TOTAL {
            machine.drops.malformed += 1;
            return;
        }
        self.piece = self.piece.wrapping_add(1);
        let most = usize::from(whole).saturating_sub(piece::OVERHEAD).max(1);
        let each = packet.len().div_ceil(packet.len().div_ceil(most));
        let mut message = std::mem::take(&mut machine.message);
        for (n, bytes) in packet.chunks(each).enumerate() {
            let (total, offset) = (packet.len() as u16, (n * each) as u16);
            Piece { id: self.piece, total, offset, bytes }.write(&mut message);
            self.seal_data((sender, whole), &message, to, machine);
        }
        machine.message = message;
    }

    /// The first packet of a TCP connection: the other side is told what fits here.
    fn open_tcp(&mut self, by: (usize, u16), packet: &[u8], to: To, machine: &mut Machine) {
        let Some(mtu) = self.paths.told() else { return self.seal_data(by, packet, to, machine) };
        let mut copy = std::mem::take(&mut machine.message);
        copy.clear();
        copy.extend_from_slice(packet);
        tcp::clamp(&mut copy, mtu);
        self.seal_data(by, &copy, to, machine);
        machine.message = copy;
    }

    /// Seals what carries data; while the path is in doubt, it goes by the spare too.
    fn seal_data(&mut self, (sender, whole): (usize, u16), packet: &[u8], to: To, machine: &mut Machine) {
        self.seal(sender, packet, whole, to, machine);
        if let Some(spare) = self.paths.spare() {
            machine.out.repeat(self.addressed(spare, sender));
        }
    }

    /// Keeps what was sealed last for when its path turns out to be dead, if that is worth it.
    fn keep(&mut self, now: Instant, packet: &[u8], machine: &mut Machine) {
        if packet.len() <= kept::SMALL
            && !tcp::is(packet)
            && self.rate.is_low(now)
            && let Some(datagram) = machine.out.last()
        {
            machine.kept.push(now, self.slot, datagram);
        }
    }

    /// The path that carries data is in doubt: what may have been lost on it goes by the spare.
    pub(super) fn repeat_kept(&mut self, machine: &mut Machine) {
        let (Some(sender), Some((since, spare))) = (self.sender(), self.paths.may_have_lost()) else {
            return;
        };
        let to = self.addressed(spare, sender);
        for datagram in machine.kept.since(since, self.slot) {
            machine.out.push(to, datagram);
        }
        machine.kept.forget(self.slot);
    }

    /// Sends what waits, if it can be sent; otherwise sees to it that it can be.
    pub(super) fn kick(&mut self, now: Instant, machine: &mut Machine) {
        if self.waiting.is_empty() && !self.pings.is_due(now) {
            return;
        }
        if self.sender().is_none() {
            if self.keyed.first().is_some_and(Keyed::is_live) {
                // We are a guest: no handshake changes that, a newer epoch does.
                return;
            }
            if self.keyed.iter().any(|k| k.answered.is_some_and(|at| now < at + CONFIRM)) {
                // The peer's first packet is on its way, and the session with it.
                machine.timers.by(self.slot, now + CONFIRM);
            } else if self.keyed.iter().all(|k| k.attempt.is_none()) {
                self.initiate(now, machine);
            }
            return;
        }
        while let (Some(sender), Some(to)) = (self.sender(), self.paths.route()) {
            let Some(packet) = self.waiting.pop(now, &mut machine.drops.waiting) else { break };
            self.forward(now, sender, &packet, to, machine);
        }
    }

    /// Starts a handshake in the present epoch, whatever is under way.
    pub(super) fn initiate(&mut self, now: Instant, machine: &mut Machine) {
        self.initiate_on(now, 0, machine);
        self.schedule(now, machine);
    }

    /// Starts one that nothing waits for, if there was none lately.
    pub(super) fn initiate_unasked(&mut self, now: Instant, machine: &mut Machine) {
        self.initiate_unasked_on(now, 0, machine);
    }

    /// The same in the tunnel at a place.
    pub(super) fn initiate_unasked_on(&mut self, now: Instant, at: usize, machine: &mut Machine) {
        let lately = self.last_unasked.is_some_and(|at| now < at + UNASKED_HANDSHAKE);
        // Nobody may ever answer in the present epoch, and the peer have but the one before.
        let under_way = match at {
            0 => self.keyed.iter().any(|k| k.attempt.is_some()),
            _ => self.keyed[at].attempt.is_some(),
        };
        self.owes_handshake = (lately && !under_way).then_some(self.keyed[at].tag);
        if !lately && !under_way {
            self.last_unasked = Some(now);
            self.initiate_on(now, at, machine);
            self.schedule(now, machine);
        }
    }

    pub(super) fn initiate_on(&mut self, now: Instant, at: usize, machine: &mut Machine) {
        let Some(keys) = &machine.keys else { return };
        let Some(keyed) = self.keyed[..self.named].get_mut(at) else { return };
        let mut scratch = [0; SCRATCH];
        if let Made::Initiation(len) = keyed.initiate(keys, &self.key, &mut scratch) {
            self.send_initiation(now, at, &scratch[..len], machine);
        }
    }

    /// Sends an initiation to wherever the peer may be: a static endpoint, where it was seen on the LAN, the relay, the path in
    /// use. Without a relay, also where it once was; on repetition, over every relay. If that is not known to lead to it, it
    /// is looked for on the LAN.
    pub(super) fn send_initiation(&mut self, now: Instant, at: usize, message: &[u8], machine: &mut Machine) {
        let jitter = machine.jitter(RETRY_JITTER);
        let keyed = &mut self.keyed[at];
        let (since, tries) =
            keyed.attempt.as_ref().map_or((now, 0), |attempt| (attempt.since, attempt.tries));
        let wait = RETRY[tries.min(RETRY.len() - 1)];
        let wait = if tries == 0 { wait } else { wait + jitter };
        keyed.attempt = Some(Attempt { since, retry_at: now + wait, tries: tries + 1 });

        let mut targets: Vec<To> = self.paths.route().into_iter().chain(self.paths.named()).collect();
        let has_relay = self.paths.relays().next().is_some();
        if !has_relay {
            targets.extend(self.paths.known());
        } else if tries > 0 {
            targets.extend(self.paths.relays());
        } else if !targets.iter().any(|to| matches!(to, To::Relay { .. })) {
            targets.extend(self.paths.relays().take(1));
        }
        for (n, to) in targets.iter().enumerate() {
            if !targets[..n].contains(to) {
                machine.out.push(self.addressed(*to, at), message);
            }
        }
        if tries > 0 || !(has_relay || self.paths.is_well() || self.paths.is_sighted()) {
            machine.events.push_back(Event::Seek(self.id));
        }
    }

    /// Says something to the peer about paths. Needs a session.
    pub(super) fn say(&mut self, message: &Message, to: To, machine: &mut Machine) {
        let mut packet = std::mem::take(&mut machine.message);
        message.write(&mut packet);
        // A large one is as large as it is to be.
        let whole = if packet.len() > SMALL { packet.len() as u16 } else { SMALL as u16 };
        match self.voice() {
            Some(at) => self.seal(at, &packet, whole, to, machine),
            None => self.seal_to_guest(&packet, machine),
        }
        machine.message = packet;
    }

    pub(super) fn send_probe(&mut self, probe: &Probe, machine: &mut Machine) {
        self.say(&Message::sized_probe(probe.nonce, probe.size), probe.to, machine);
    }

    /// Sends a probe for the pings that wait for one.
    pub(super) fn ping_now(&mut self, now: Instant, machine: &mut Machine) {
        if !self.pings.is_due(now) {
            return;
        }
        let nonce = machine.rng.next_u64();
        match self.sender().and_then(|_| self.paths.ping(now, nonce)) {
            Some(to) => {
                self.pings.sent(now, nonce, self.paths.is_proven());
                self.send_probe(&Probe { to, nonce, size: 0, last: false }, machine);
            }
            None => self.pings.wait(now),
        }
    }

    /// Sends our candidates and our roster if the peer does not have them yet. A guest is not to come directly.
    pub(super) fn send_candidates(&mut self, now: Instant, machine: &mut Machine) {
        if !self.announce.is_due(now) {
            return;
        }
        let guest = self.voice().is_none();
        let to = if guest { self.guest_at() } else { self.paths.route().or(self.reply_to) };
        let Some(to) = to else { return };
        let Some(number) = self.announce.next(now) else { return };
        let id = ListId { start: machine.start, number };
        let list = if guest { Vec::new() } else { machine.candidates(now) };
        let hard = (!guest && (machine.is_hard(now) || self.birthday.acts())).then(|| self.birthday.round());
        let message = Message::Candidates { id, list, floor: machine.floor, guest, hard };
        self.say(&message, to, machine);
    }

    /// Seals a packet, padded to no more than `whole` bytes.
    pub(super) fn seal(&mut self, sender: usize, packet: &[u8], whole: u16, to: To, machine: &mut Machine) {
        let to = self.addressed(to, sender);
        let class = ecn::outer(packet, machine.shown);
        let packet = padded(packet, whole, &mut machine.pad);
        let room = machine.out.room(to, class, packet.len() + OVERHEAD);
        let len = self.keyed[sender].seal(packet, room);
        machine.out.commit(len);
    }
}
