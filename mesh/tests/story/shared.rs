//! A machine whose peers several workers share, and what its data path does between them: what comes goes to whose it is, and
//! what they say comes together.

use std::{net::SocketAddr, time::Instant};

use mesh::{Event, Mesh, Share, To, Transmit, TunBatch, addressee};
use proto::pipe::{FrameWriter, Status, ToData};
use rand_core::OsRng;

use crate::world::POOL;

/// Bytes before a frame on the pipe: its length.
const LENGTH: usize = 4;

pub struct Workers {
    cores: Vec<Mesh>,
    /// What the workers that have answered say of the state.
    status: Option<Status>,
    /// How many have.
    answered: usize,
}

impl Workers {
    /// A machine without peers, with so many workers.
    pub fn new(now: Instant, port: u16, count: u8) -> Self {
        let addr = SocketAddr::from(([0, 0, 0, 0], port));
        let core =
            |me| Mesh::new(now, Box::new(OsRng), &[addr]).with_pool(POOL).sharing(Share::new(me, count));
        Self { cores: (0..count).map(core).collect(), status: None, answered: 0 }
    }

    pub fn count(&self) -> u8 {
        self.cores.len() as u8
    }

    pub fn showing_class(self) -> Self {
        Self { cores: self.cores.into_iter().map(Mesh::showing_class).collect(), ..self }
    }

    /// The place of the worker that has a peer.
    fn owner(&self, peer: u32) -> usize {
        self.cores[0].share().owner(peer).into()
    }

    /// The place of the worker that a datagram is for.
    fn addressed(&self, datagram: &[u8]) -> usize {
        usize::from(addressee(datagram)) % self.cores.len()
    }

    pub fn apply(&mut self, now: Instant, frame: ToData<'_>) {
        let one = match &frame {
            ToData::RelayRecv { payload, .. } => Some(self.addressed(payload)),
            ToData::Guest(guest) => Some(self.owner(guest.peer)),
            ToData::Ping { peer, .. } | ToData::Sighted { peer, .. } => Some(self.owner(*peer)),
            _ => None,
        };
        if let Some(one) = one {
            self.cores[one].apply(now, frame);
        } else {
            let mut written = FrameWriter::new();
            written.to_data(&frame);
            for other in &mut self.cores[1..] {
                other.apply(now, ToData::decode(&written.pending()[LENGTH..]).unwrap());
            }
            self.cores[0].apply(now, frame);
        }
        self.settle(now);
    }

    pub fn handle_tun(&mut self, now: Instant, packet: &[u8]) {
        // Whichever queue it comes to.
        if let Some(worker) = self.cores[0].handle_tun(now, packet) {
            assert_eq!(self.cores[usize::from(worker)].handle_tun(now, packet), None, "it is that one's");
        }
        self.settle(now);
    }

    pub fn handle_udp(&mut self, now: Instant, from: (u8, SocketAddr), class: u8, datagram: &[u8]) {
        let worker = self.addressed(datagram);
        self.cores[worker].handle_udp(now, from, class, datagram.len(), datagram);
        self.settle(now);
    }

    pub fn handle_too_large(&mut self, now: Instant, to: To, len: usize) {
        self.cores.iter_mut().for_each(|core| core.handle_too_large(now, to, len));
        self.settle(now);
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        for core in self.cores.iter_mut().filter(|core| core.poll_timeout().is_some_and(|at| at <= now)) {
            core.handle_timeout(now);
        }
        self.settle(now);
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        self.cores.iter().filter_map(Mesh::poll_timeout).min()
    }

    pub fn poll_transmit(&mut self) -> Option<Transmit<'_>> {
        self.cores.iter_mut().find_map(Mesh::poll_transmit)
    }

    pub fn poll_tun(&mut self) -> Option<TunBatch<'_>> {
        self.cores.iter_mut().find_map(Mesh::poll_tun)
    }

    pub fn poll_event(&mut self) -> Option<Event> {
        loop {
            let status = match self.cores.iter_mut().find_map(Mesh::poll_event)? {
                Event::Status(status) => status,
                event => return Some(event),
            };
            let whole = match self.status.take() {
                None => status,
                Some(mut whole) => {
                    whole.peers.extend(status.peers);
                    whole.drops += status.drops;
                    whole
                }
            };
            self.answered += 1;
            if self.answered == self.cores.len() {
                self.answered = 0;
                return Some(Event::Status(whole));
            }
            self.status = Some(whole);
        }
    }

    /// Passes on what workers have for each other.
    fn settle(&mut self, now: Instant) {
        for from in 0..self.cores.len() {
            while let Some(handed) = self.cores[from].poll_handed() {
                self.cores[usize::from(handed.worker)].handle_handed(now, &handed);
            }
            while let Some(noted) = self.cores[from].poll_note() {
                let to = if from == 0 { 1..self.cores.len() } else { 0..1 };
                self.cores[to].iter_mut().for_each(|core| core.handle_note(now, noted.clone()));
            }
        }
    }
}
