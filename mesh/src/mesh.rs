//! The core as its caller sees it.

use std::{net::SocketAddr, time::Instant};

use proto::pipe::ToData;
use rand_core::CryptoRngCore;

use crate::out::{Event, Transmit, TunBatch};

/// One machine's sessions, routes and paths.
///
/// Run to completion: after any call that takes packets or time, drain [`poll_transmit`](Self::poll_transmit),
/// [`poll_tun`](Self::poll_tun) and [`poll_event`](Self::poll_event), and sleep until [`poll_timeout`](Self::poll_timeout). Several packets may be handled
/// before draining: that is what fills the batches.
pub struct Mesh {}

impl Mesh {
    /// A machine without peers. `sockets` are the local addresses of the UDP sockets, in the order by which
    /// the calls here number them.
    #[must_use]
    pub fn new(now: Instant, rng: Box<dyn CryptoRngCore + Send>, sockets: &[SocketAddr]) -> Self {
        let _ = (now, rng, sockets);
        Self {}
    }

    /// Takes a frame from control.
    pub fn apply(&mut self, now: Instant, frame: ToData<'_>) {
        let _ = (now, frame);
    }

    /// Takes an inner packet that was read from the TUN, and seals it into a batch.
    pub fn handle_tun(&mut self, now: Instant, packet: &[u8]) {
        let _ = (now, packet);
    }

    /// Takes datagrams that were received from `src` on `socket`: back to back, `segment` bytes each, but the last may
    /// be shorter (`UDP_GRO`; for a single datagram its length).
    pub fn handle_udp(&mut self, now: Instant, socket: u8, src: SocketAddr, segment: usize, data: &[u8]) {
        let _ = (now, socket, src, segment, data);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        let _ = now;
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called next; nothing while nothing is to be done.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// The next datagrams to send. A buffer is used again at the next call.
    pub fn poll_transmit(&mut self) -> Option<Transmit<'_>> {
        None
    }

    /// All inner packets since the last call.
    pub fn poll_tun(&mut self) -> Option<TunBatch<'_>> {
        None
    }

    /// The next answer for control.
    pub fn poll_event(&mut self) -> Option<Event> {
        None
    }
}
