//! One worker of several: a core with its share of the peers, and what goes to the others.
//!
//! A datagram says whose it is, and comes to that worker's socket by it; a flow of inner packets comes to the queue that its
//! answers were written to. So what is handed over is the first packets of a flow, what flows one way alone, and handshakes. The
//! first worker speaks with control: what control says goes to all, what they say comes together there.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use mesh::{To, Transmit, TunBatch, addressee};
use proto::pipe::{FrameWriter, FromData, ToData};

use super::{
    control::LENGTH,
    engine::{Engine, Shared},
    event_loop::Dropped,
    post::{Letter, Post},
};

pub(super) struct Shard<E> {
    core: E,
    me: u8,
    workers: u8,
    post: Arc<Post>,
    /// For what control says.
    frame: FrameWriter,
    asked: Option<Asked>,
    /// Packets that no box had room for.
    lost: u64,
}

/// A question for the state that not all workers have answered.
struct Asked {
    token: u64,
    left: u8,
}

impl<E: Shared> Shard<E> {
    pub(super) fn new(core: E, post: Arc<Post>) -> Self {
        let share = core.share();
        let (me, workers) = (share.me(), share.of());
        Self { core, me, workers, post, frame: FrameWriter::new(), asked: None, lost: 0 }
    }

    fn spread(&mut self, frame: &ToData<'_>) {
        self.frame.to_data(frame);
        let bytes = self.frame.pending().get(LENGTH..).unwrap_or_default();
        for worker in (0..self.workers).filter(|worker| *worker != self.me) {
            if !self.post.send(worker, Letter::Frame, bytes) {
                // It is stuck, and what it missed cannot be made up for: control starts another data path.
                super::lockdown::end();
            }
        }
        let len = self.frame.len();
        self.frame.written(len);
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
        if self.me == 0 {
            if let ToData::StatusRequest { token } = frame {
                self.asked = Some(Asked { token, left: self.workers });
            }
            self.spread(&frame);
        }
        self.core.apply(now, frame);
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
            let worker = addressee(rest) % self.workers;
            let run = rest.chunks(segment).take_while(|one| addressee(one) % self.workers == worker);
            let (these, others) = rest.split_at(run.map(<[u8]>::len).sum());
            if worker == self.me {
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
        self.post.forget(self.me);
        self.frame = FrameWriter::new();
    }

    fn tell(&mut self, dropped: &Dropped, say: &mut dyn FnMut(FromData<'_>)) {
        let dropped = Dropped { undelivered: dropped.undelivered + self.lost, ..*dropped };
        let (me, asked) = (self.me, &mut self.asked);
        self.core.tell(&dropped, &mut |said| {
            if let Some(said) = if me == 0 { join(asked, said) } else { Some(said) } {
                say(said);
            }
        });
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
            Letter::Frame | Letter::Said => {}
        }
    }

    fn gather<'f>(&mut self, said: FromData<'f>) -> Option<FromData<'f>> {
        join(&mut self.asked, said)
    }
}

/// Of the workers' answers one.
fn join<'f>(asked: &mut Option<Asked>, said: FromData<'f>) -> Option<FromData<'f>> {
    let FromData::PlainStatus(mut status) = said else { return Some(said) };
    // Control asks again where an answer takes too long, and reads the newest.
    let asked = asked.as_mut().filter(|asked| asked.token == status.token)?;
    asked.left = asked.left.saturating_sub(u8::from(!status.more));
    status.more = asked.left > 0;
    Some(FromData::PlainStatus(status))
}
