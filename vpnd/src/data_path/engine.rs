//! The two cores that the loop runs: a machine's in a network, and a plain WireGuard interface's.

use std::{net::SocketAddr, time::Instant};

use mesh::{Device, Event, Handed, Mesh, Noted, Share, To, Transmit, TunBatch};
use proto::pipe::{FromData, ToData};

use super::{event_loop::Dropped, post::Letter};

/// A core without I/O, as [`mesh::Mesh`] describes its calls. The loop is compiled once for each.
pub(super) trait Engine {
    fn apply(&mut self, now: Instant, frame: ToData<'_>);
    fn handle_tun(&mut self, now: Instant, packet: &[u8]) -> Option<u8>;
    fn handle_udp(&mut self, now: Instant, from: (u8, SocketAddr), class: u8, segment: usize, data: &[u8]);
    fn handle_too_large(&mut self, now: Instant, to: To, len: usize);
    fn handle_timeout(&mut self, now: Instant);
    fn poll_timeout(&self) -> Option<Instant>;
    fn poll_transmit(&mut self) -> Option<Transmit<'_>>;
    fn poll_tun(&mut self) -> Option<TunBatch<'_>>;
    fn forget(&mut self);
    /// Tells control what it is to be told.
    fn tell(&mut self, dropped: &Dropped, say: &mut dyn FnMut(FromData<'_>));

    /// Takes what another worker handed over.
    fn handle_letter(&mut self, _: Instant, _: Letter, _: &[u8]) {}

    /// What another worker says to control, as control is to be told it.
    fn gather<'f>(&mut self, said: FromData<'f>) -> Option<FromData<'f>> {
        Some(said)
    }
}

/// A core that can have a share of a machine's peers.
pub(super) trait Shared: Engine {
    fn share(&self) -> Share;
    fn handle_handed(&mut self, now: Instant, handed: &Handed);
    fn poll_handed(&mut self) -> Option<Handed>;

    /// Takes what another worker noted.
    fn handle_note(&mut self, _: Instant, _: Noted) {}

    /// What other workers are to be told.
    fn poll_note(&mut self) -> Option<Noted> {
        None
    }
}

macro_rules! calls_of {
    ($core:ty) => {
        fn apply(&mut self, now: Instant, frame: ToData<'_>) {
            <$core>::apply(self, now, frame);
        }

        fn handle_tun(&mut self, now: Instant, packet: &[u8]) -> Option<u8> {
            <$core>::handle_tun(self, now, packet)
        }

        fn handle_udp(
            &mut self,
            now: Instant,
            from: (u8, SocketAddr),
            class: u8,
            segment: usize,
            data: &[u8],
        ) {
            <$core>::handle_udp(self, now, from, class, segment, data);
        }

        fn handle_timeout(&mut self, now: Instant) {
            <$core>::handle_timeout(self, now);
        }

        fn poll_timeout(&self) -> Option<Instant> {
            <$core>::poll_timeout(self)
        }

        fn poll_transmit(&mut self) -> Option<Transmit<'_>> {
            <$core>::poll_transmit(self)
        }

        fn poll_tun(&mut self) -> Option<TunBatch<'_>> {
            <$core>::poll_tun(self)
        }

        fn forget(&mut self) {
            <$core>::forget(self);
        }
    };
}

impl Engine for Mesh {
    calls_of!(Mesh);

    fn handle_too_large(&mut self, now: Instant, to: To, len: usize) {
        Self::handle_too_large(self, now, to, len);
    }

    fn tell(&mut self, dropped: &Dropped, say: &mut dyn FnMut(FromData<'_>)) {
        while let Some(event) = self.poll_event() {
            match event {
                Event::Status(mut status) => {
                    status.drops.malformed += dropped.malformed;
                    status.drops.unsent = dropped.unsent;
                    status.drops.undelivered = dropped.undelivered;
                    status.drops.unrelayed = dropped.unrelayed;
                    say(FromData::Status(status));
                }
                Event::Pong(pong) => say(FromData::Pong(pong)),
                Event::PeerFloor { peer, floor } => say(FromData::PeerFloor { peer, floor }),
                Event::Seek(peer) => say(FromData::Seek(peer)),
            }
        }
    }
}

impl Engine for Device {
    calls_of!(Device);

    /// Its datagrams may go in fragments; what is refused all the same is lost, as on a link.
    fn handle_too_large(&mut self, _: Instant, _: To, _: usize) {}

    fn tell(&mut self, _: &Dropped, say: &mut dyn FnMut(FromData<'_>)) {
        while let Some(status) = self.poll_status() {
            say(FromData::PlainStatus(status));
        }
    }
}

macro_rules! shared_calls_of {
    ($core:ty) => {
        fn share(&self) -> Share {
            <$core>::share(self)
        }

        fn handle_handed(&mut self, now: Instant, handed: &Handed) {
            <$core>::handle_handed(self, now, handed);
        }

        fn poll_handed(&mut self) -> Option<Handed> {
            <$core>::poll_handed(self)
        }
    };
}

impl Shared for Device {
    shared_calls_of!(Device);
}

impl Shared for Mesh {
    shared_calls_of!(Mesh);

    fn handle_note(&mut self, now: Instant, noted: Noted) {
        Self::handle_note(self, now, noted);
    }

    fn poll_note(&mut self) -> Option<Noted> {
        Self::poll_note(self)
    }
}
