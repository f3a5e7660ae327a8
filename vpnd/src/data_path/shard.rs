//! One worker of several: a core with its share of the peers, and what goes to the others.
//!
//! A datagram says whose it is, and comes to that worker's socket by it; a flow of inner packets comes to the queue that its
//! answers were written to. So what is handed over is the first packets of a flow, what flows one way alone, and handshakes. The
//! first worker speaks with control: what control says goes to all, but what is about one peer alone, which goes to that peer's;
//! what they say comes together there. It alone has the pool's sockets, too, and asks STUN servers.

use std::{collections::VecDeque, net::SocketAddr, sync::Arc, time::Instant};

use mesh::{Share, To, Transmit, TunBatch, addressee};
use proto::pipe::{FrameWriter, FromData, Status, ToData};

use super::{
    control::LENGTH,
    engine::{Engine, Shared},
    event_loop::Dropped,
    post::{Letter, Post},
};

/// Questions for the state that wait for answers. Control asks few at once.
const MAX_ASKED: usize = 16;

pub(super) struct Shard<E> {
    core: E,
    share: Share,
    post: Arc<Post>,
    /// For what control says.
    frame: FrameWriter,
    /// The oldest first.
    asked: VecDeque<Asked>,
    /// Packets that no box had room for.
    lost: u64,
}

/// A question for the state that not all workers have answered.
struct Asked {
    token: u64,
    left: u8,
    /// What those that did have said, of a machine in a network.
    status: Option<Status>,
}

/// Which workers a frame of control's is for.
enum For {
    All,
    One(u8),
    /// The same, and it may be dropped.
    Packet(u8),
}

impl For {
    fn of(frame: &ToData<'_>, share: Share) -> Self {
        match frame {
            ToData::RelayRecv { payload, .. } => Self::Packet(addressee(payload) % share.of()),
            ToData::Guest(guest) => Self::One(share.owner(guest.peer)),
            ToData::Ping { peer, .. } | ToData::Sighted { peer, .. } => Self::One(share.owner(*peer)),
            // By whose socket it leaves does not matter, and it is to leave once.
            ToData::Beacon { .. } => Self::One(0),
            _ => Self::All,
        }
    }
}

impl<E: Shared> Shard<E> {
    pub(super) fn new(core: E, post: Arc<Post>) -> Self {
        let share = core.share();
        Self { core, share, post, frame: FrameWriter::new(), asked: VecDeque::new(), lost: 0 }
    }

    /// The first worker's: passes a frame on to those of the others that it is for. Whether it is for this one.
    fn spread(&mut self, frame: &ToData<'_>) -> bool {
        let (workers, letter): (_, fn() -> Letter) = match For::of(frame, self.share) {
            For::One(0) | For::Packet(0) => return true,
            For::All => (1..=self.share.of() - 1, || Letter::Frame),
            For::One(worker) => (worker..=worker, || Letter::Frame),
            For::Packet(worker) => (worker..=worker, || Letter::FromRelay),
        };
        self.frame.to_data(frame);
        let bytes = self.frame.pending().get(LENGTH..).unwrap_or_default();
        for worker in workers {
            let sent = self.post.send(worker, letter(), bytes);
            match letter() {
                Letter::FromRelay => self.lost += u64::from(!sent),
                _ => need(sent),
            }
        }
        let len = self.frame.len();
        self.frame.written(len);
        matches!(For::of(frame, self.share), For::All)
    }

    /// Tells what others need to know.
    fn tell_others(&mut self) {
        let others = if self.share.me() == 0 { 1..self.share.of() } else { 0..1 };
        while let Some(noted) = self.core.poll_note() {
            for worker in others.clone() {
                need(self.post.send(worker, Letter::Noted(noted.clone()), &[]));
            }
        }
    }

    /// Of initiations that were read here, those that are for others.
    fn hand_over(&mut self) {
        while let Some(handed) = self.core.poll_handed() {
            let worker = handed.worker;
            self.lost += u64::from(!self.post.send(worker, Letter::Handed(handed), &[]));
        }
    }
}

impl<E: Shared> Engine for Shard<E> {
    fn apply(&mut self, now: Instant, frame: ToData<'_>) {
        if let ToData::StatusRequest { token } = frame
            && self.share.me() == 0
        {
            self.asked.truncate(MAX_ASKED - 1);
            self.asked.push_front(Asked { token, left: self.share.of(), status: None });
        }
        if self.share.me() > 0 || self.spread(&frame) {
            self.core.apply(now, frame);
            self.hand_over();
        }
    }

    fn handle_tun(&mut self, now: Instant, packet: &[u8]) -> Option<u8> {
        if let Some(worker) = self.core.handle_tun(now, packet) {
            self.lost += u64::from(!self.post.send(worker, Letter::Packet, packet));
        }
        None
    }

    /// The datagrams in runs that are for one worker: nearly always all of them are, and for this one.
    fn handle_udp(&mut self, now: Instant, from: (u8, SocketAddr), class: u8, segment: usize, data: &[u8]) {
        let segment = segment.max(1);
        let mut rest = data;
        while !rest.is_empty() {
            let worker = addressee(rest) % self.share.of();
            let run = rest.chunks(segment).take_while(|one| addressee(one) % self.share.of() == worker);
            let (these, others) = rest.split_at(run.map(<[u8]>::len).sum());
            if worker == self.share.me() {
                self.core.handle_udp(now, from, class, segment, these);
            } else if !self.post.send(worker, Letter::Datagrams(from, class, segment), these) {
                self.lost += these.chunks(segment).count() as u64;
            }
            rest = others;
        }
        self.hand_over();
    }

    fn handle_too_large(&mut self, now: Instant, to: To, len: usize) {
        self.core.handle_too_large(now, to, len);
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.core.handle_timeout(now);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.core.poll_timeout()
    }

    fn poll_transmit(&mut self) -> Option<Transmit<'_>> {
        self.core.poll_transmit()
    }

    fn poll_tun(&mut self) -> Option<TunBatch<'_>> {
        self.core.poll_tun()
    }

    fn forget(&mut self) {
        self.core.forget();
        self.post.forget(self.share.me());
        self.frame = FrameWriter::new();
    }

    fn tell(&mut self, dropped: &Dropped, say: &mut dyn FnMut(FromData<'_>)) {
        let dropped = Dropped { undelivered: dropped.undelivered + self.lost, ..*dropped };
        let (me, asked) = (self.share.me(), &mut self.asked);
        self.core.tell(&dropped, &mut |said| {
            if let Some(said) = if me == 0 { join(asked, said) } else { Some(said) } {
                say(said);
            }
        });
        self.tell_others();
    }

    /// What was handed over is for this worker, or for nobody.
    fn handle_letter(&mut self, now: Instant, letter: Letter, bytes: &[u8]) {
        match letter {
            Letter::Packet => {
                let elsewhere = self.core.handle_tun(now, bytes);
                self.lost += u64::from(elsewhere.is_some());
            }
            Letter::Datagrams(from, class, segment) => {
                self.core.handle_udp(now, from, class, segment, bytes);
                self.hand_over();
            }
            Letter::Handed(handed) => self.core.handle_handed(now, &handed),
            Letter::Noted(noted) => self.core.handle_note(now, noted),
            // The loop's.
            Letter::Frame | Letter::FromRelay | Letter::Said | Letter::ToRelay | Letter::Leaving(..) => {}
        }
    }

    fn gather<'f>(&mut self, said: FromData<'f>) -> Option<FromData<'f>> {
        join(&mut self.asked, said)
    }
}

/// What cannot be made up for was taken by a worker that is not stuck; otherwise control starts another data path.
fn need(sent: bool) {
    if !sent {
        super::lockdown::fail();
    }
}

/// Of the workers' answers one.
fn join<'f>(asked: &mut VecDeque<Asked>, said: FromData<'f>) -> Option<FromData<'f>> {
    match said {
        FromData::PlainStatus(mut status) => {
            let asked = asked.iter_mut().find(|asked| asked.token == status.token)?;
            asked.left = asked.left.saturating_sub(u8::from(!status.more));
            status.more = asked.left > 0;
            Some(FromData::PlainStatus(status))
        }
        FromData::Status(status) => {
            let at = asked.iter().position(|asked| asked.token == status.token)?;
            let waiting = &mut asked[at];
            waiting.left = waiting.left.saturating_sub(1);
            match &mut waiting.status {
                None => waiting.status = Some(status),
                Some(whole) => {
                    whole.peers.extend(status.peers);
                    whole.drops += status.drops;
                }
            }
            // Of what is answered nothing stays.
            let whole = if waiting.left == 0 { asked.remove(at)?.status } else { None };
            whole.map(FromData::Status)
        }
        said => Some(said),
    }
}

#[cfg(test)]
mod tests {
    use proto::{
        metadata::Endpoint,
        pipe::{Drops, Guest, PathView, PeerStatus},
    };
    use zeroize::Zeroizing;

    use super::*;

    fn status(token: u64, peer: u32) -> FromData<'static> {
        let peer = PeerStatus {
            peer,
            path: PathView::Idle,
            rtt: None,
            mtu: 1_280,
            rx_bytes: 0,
            tx_bytes: 0,
            since_handshake: None,
        };
        let drops = Drops { unsent: 1, ..Drops::default() };
        FromData::Status(Status { token, peers: vec![peer], drops })
    }

    #[test]
    fn two_questions_at_once_are_each_answered_by_all_workers_together() {
        let ask = |token| Asked { token, left: 3, status: None };
        let mut asked = VecDeque::from([ask(8), ask(7)]);
        for (token, peer) in [(7, 0), (8, 0), (8, 1), (7, 2)] {
            assert!(join(&mut asked, status(token, peer)).is_none());
        }
        assert!(join(&mut asked, status(9, 0)).is_none(), "nobody asked");
        for (token, last, peers) in [(7, 1, [0, 2, 1]), (8, 2, [0, 1, 2])] {
            let Some(FromData::Status(whole)) = join(&mut asked, status(token, last)) else {
                panic!("all have answered")
            };
            assert!(whole.token == token && whole.drops.unsent == 3);
            assert!(whole.peers.iter().map(|peer| peer.peer).eq(peers));
        }
        assert!(asked.is_empty());
    }

    #[test]
    fn what_is_about_one_peer_goes_to_its_worker_and_nothing_leaves_twice() {
        let share = Share::new(0, 4);
        let goes_to = |frame: &ToData<'_>| match For::of(frame, share) {
            For::All => None,
            For::One(worker) | For::Packet(worker) => Some(worker),
        };
        assert_eq!(goes_to(&ToData::Begin), None);
        assert_eq!(goes_to(&ToData::Ping { token: 0, peer: 6 }), Some(2));
        let at = Endpoint("192.0.2.1:51820".parse().unwrap());
        assert_eq!(goes_to(&ToData::Sighted { peer: 7, at }), Some(3));
        let guest = Guest { peer: 5, psk: Zeroizing::new([0; 32]), relay: 0, handle: 1, initiation: &[] };
        assert_eq!(goes_to(&ToData::Guest(guest)), Some(1));
        let relayed = |payload| ToData::RelayRecv { relay: 0, handle: 1, payload };
        // Data and answers say whose they are; an initiation does not.
        assert_eq!(goes_to(&relayed(&[4, 0, 0, 0, 0xff, 3 << 2, 0, 0])), Some(3));
        assert_eq!(goes_to(&relayed(&[2, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 1 << 2, 0, 0])), Some(1));
        assert_eq!(goes_to(&relayed(&[1, 0, 0, 0, 0xff, 3 << 2, 0, 0])), Some(0));
    }
}
