//! Buffers that fill with packets of one kind and are used again.
//!
//! [`Outbox`] lays equal-sized datagrams to one destination back to back, so that one `UDP_SEGMENT` send takes them.
//! [`Inbox`] lays decrypted packets back to back for the TUN. In a steady state neither allocates.

use std::collections::VecDeque;

use crate::out::{To, Transmit, TunBatch};

/// The kernel takes 64 segments in one send on every version that has `UDP_SEGMENT`.
const MAX_SEGMENTS: usize = 64;
/// The largest UDP payload over IPv4, in bytes.
pub(crate) const MAX_BYTES: usize = 65_507;
/// Bytes of buffers that are kept while empty. What is sent between two flushes of the caller lies in as many buffers as it has
/// batches, small packets to many peers in more than a hundred; few of them are large ([`LARGE`]).
const KEEP_SPARE: usize = 2 << 20;
/// A batch whose datagrams are this long, in bytes, is likely to become a large one.
const LARGE: usize = 1_024;
/// What WireGuard may write instead of a data packet: a handshake initiation.
const MIN_ROOM: usize = 148;

/// Datagrams on their way out, in batches. Those to one destination leave in the order in which they came.
#[derive(Default)]
pub(crate) struct Outbox {
    batches: VecDeque<Batch>,
    spare: Spare,
    /// Handed out, until the next call.
    sending: Option<Batch>,
    /// Where [`Outbox::commit`] appends.
    open: usize,
    /// The length of the datagram committed last; zero if it was dropped.
    last: usize,
    /// For [`Outbox::repeat`].
    copy: Vec<u8>,
}

struct Batch {
    to: To,
    class: u8,
    segment: usize,
    segments: usize,
    len: usize,
    /// A shorter datagram came: nothing may follow it.
    closed: bool,
    bytes: Vec<u8>,
}

impl Outbox {
    /// Room for a datagram of `len` bytes to `to`, its header with the type of service or traffic class `class`; made part
    /// of its batch by [`commit`](Self::commit).
    pub(crate) fn room(&mut self, to: To, class: u8, len: usize) -> &mut [u8] {
        let newest = self.batches.iter().rposition(|batch| batch.to == to);
        self.open = match newest {
            Some(at) if self.batches[at].class == class && self.batches[at].takes(len) => at,
            _ => {
                let bytes = self.spare.take(len);
                let (segment, segments, closed) = (len, 0, false);
                self.batches.push_back(Batch { to, class, segment, segments, len: 0, closed, bytes });
                self.batches.len() - 1
            }
        };
        let batch = &mut self.batches[self.open];
        let needed = batch.len + len.max(MIN_ROOM);
        if batch.bytes.len() < needed {
            batch.bytes.resize(needed.next_power_of_two(), 0);
        }
        &mut batch.bytes[batch.len..]
    }

    /// The room was filled with `len` bytes; anything but what was asked for drops them.
    pub(crate) fn commit(&mut self, len: usize) {
        self.last = 0;
        let Some(batch) = self.batches.get_mut(self.open) else { return };
        if batch.takes(len) && (batch.segments > 0 || len == batch.segment) {
            batch.closed = len < batch.segment;
            batch.len += len;
            batch.segments += 1;
            self.last = len;
        } else if batch.segments == 0 && self.open + 1 == self.batches.len() {
            // Opened for this datagram alone.
            if let Some(batch) = self.batches.pop_back() {
                self.spare.put(batch.bytes);
            }
        }
    }

    /// The datagram committed last, once more to another destination. Copies it: for the rare case.
    pub(crate) fn repeat(&mut self, to: To) {
        let last = std::mem::take(&mut self.last);
        let Some(batch) = self.batches.get(self.open).filter(|batch| last > 0 && batch.to != to) else {
            return;
        };
        let class = batch.class;
        let mut copy = std::mem::take(&mut self.copy);
        copy.clear();
        copy.extend_from_slice(&batch.bytes[batch.len - last..batch.len]);
        self.add(to, class, &copy);
        self.copy = copy;
    }

    /// The datagram committed last, unless it was dropped or repeated.
    pub(crate) fn last(&self) -> Option<&[u8]> {
        let batch = self.batches.get(self.open).filter(|_| self.last > 0)?;
        Some(&batch.bytes[batch.len - self.last..batch.len])
    }

    /// One whole datagram that carries no data.
    pub(crate) fn push(&mut self, to: To, datagram: &[u8]) {
        self.add(to, 0, datagram);
    }

    fn add(&mut self, to: To, class: u8, datagram: &[u8]) {
        self.room(to, class, datagram.len())[..datagram.len()].copy_from_slice(datagram);
        self.commit(datagram.len());
    }

    /// The oldest batch.
    pub(crate) fn poll(&mut self) -> Option<Transmit<'_>> {
        if let Some(sent) = self.sending.take() {
            self.spare.put(sent.bytes);
        }
        self.sending = self.batches.pop_front();
        let batch = self.sending.as_ref()?;
        let Batch { to, class, segment, .. } = *batch;
        Some(Transmit { to, class, segment, data: &batch.bytes[..batch.len] })
    }

    /// Gives back the buffers of what was sent, and with them what stands in them. What waits stays.
    pub(crate) fn forget(&mut self) {
        self.sending = None;
        self.spare = Spare::default();
        (self.last, self.copy) = (0, Vec::new());
        // A queue keeps what was taken out of it until something else comes there.
        self.batches = self.batches.drain(..).collect();
    }
}

/// Empty buffers, the smallest first.
#[derive(Default)]
struct Spare {
    buffers: VecDeque<Vec<u8>>,
    /// Bytes of all of them.
    kept: usize,
}

impl Spare {
    /// One for a batch of datagrams of `len` bytes. Small ones get the smallest: so the large buffers, which bulk made large,
    /// go to bulk again, and not every buffer grows in time.
    fn take(&mut self, len: usize) -> Vec<u8> {
        let taken = if len < LARGE { self.buffers.pop_front() } else { self.buffers.pop_back() };
        let bytes = taken.unwrap_or_default();
        self.kept -= bytes.len();
        bytes
    }

    fn put(&mut self, bytes: Vec<u8>) {
        self.kept += bytes.len();
        let place = self.buffers.partition_point(|other| other.len() < bytes.len());
        self.buffers.insert(place, bytes);
        while self.kept > KEEP_SPARE
            && let Some(largest) = self.buffers.pop_back()
        {
            self.kept -= largest.len();
        }
    }
}

impl Batch {
    fn takes(&self, len: usize) -> bool {
        !self.closed
            && len <= self.segment
            && self.len + len <= MAX_BYTES.max(len)
            && self.segments < MAX_SEGMENTS
    }
}

/// Decrypted packets for the TUN.
#[derive(Default)]
pub(crate) struct Inbox {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    taken: bool,
}

impl Inbox {
    /// Room to decrypt into, `len` bytes at least.
    pub(crate) fn room(&mut self, len: usize) -> &mut [u8] {
        if self.taken {
            self.ends.clear();
            self.taken = false;
        }
        let start = self.end();
        if self.bytes.len() < start + len {
            self.bytes.resize((start + len).next_power_of_two(), 0);
        }
        &mut self.bytes[start..]
    }

    /// The packet decrypted last, its first `len` bytes.
    pub(crate) fn peek(&self, len: usize) -> &[u8] {
        &self.bytes[self.end()..][..len]
    }

    /// The same, to be changed.
    pub(crate) fn peek_mut(&mut self, len: usize) -> &mut [u8] {
        let start = self.end();
        &mut self.bytes[start..][..len]
    }

    /// Keeps the packet decrypted last.
    pub(crate) fn keep(&mut self, len: usize) {
        self.ends.push(self.end() + len);
    }

    /// All packets since the last call.
    pub(crate) fn poll(&mut self) -> Option<TunBatch<'_>> {
        if self.taken || self.ends.is_empty() {
            return None;
        }
        self.taken = true;
        Some(TunBatch { bytes: &self.bytes, ends: &self.ends })
    }

    /// Gives back the buffer of what was taken.
    pub(crate) fn forget(&mut self) {
        if self.taken || self.ends.is_empty() {
            *self = Self::default();
        }
    }

    fn end(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn udp(port: u16) -> To {
        To::Udp { socket: 0, dst: SocketAddr::from(([192, 0, 2, 1], port)) }
    }

    fn drain(out: &mut Outbox) -> Vec<(To, usize, Vec<u8>)> {
        std::iter::from_fn(|| out.poll().map(|t| (t.to, t.segment, t.data.to_vec()))).collect()
    }

    #[test]
    fn equal_datagrams_to_one_destination_share_a_batch_and_a_shorter_one_closes_it() {
        let mut out = Outbox::default();
        for (port, len, fill) in [(1, 100, 1), (2, 50, 2), (1, 100, 3), (1, 60, 4), (1, 60, 5), (1, 100, 6)] {
            out.push(udp(port), &vec![fill; len]);
        }
        let sent = drain(&mut out);
        let shape: Vec<_> =
            sent.iter().map(|(to, segment, data)| (*to == udp(1), *segment, data.len())).collect();
        assert_eq!(shape, [(true, 100, 260), (false, 50, 50), (true, 60, 60), (true, 100, 100)]);
        assert_eq!((sent[0].2[99], sent[0].2[100], sent[0].2[259]), (1, 3, 4));
    }

    #[test]
    fn a_batch_has_one_class_and_what_goes_to_one_destination_stays_in_order() {
        let mut out = Outbox::default();
        for (n, class) in [0, 0, 2, 2, 0, 2].into_iter().enumerate() {
            out.room(udp(1), class, 10)[..10].fill(n as u8);
            out.commit(10);
        }
        out.repeat(udp(2));
        let sent: Vec<(u8, usize, u8)> =
            std::iter::from_fn(|| out.poll().map(|t| (t.class, t.data.len(), t.data[0]))).collect();
        assert_eq!(sent, [(0, 20, 0), (2, 20, 2), (0, 10, 4), (2, 10, 5), (2, 10, 5)]);
    }

    #[test]
    fn a_batch_stays_within_what_one_send_takes() {
        let mut out = Outbox::default();
        for _ in 0..130 {
            out.push(udp(1), &[7; 1_452]);
        }
        for (_, segment, data) in drain(&mut out) {
            assert!(data.len() <= MAX_BYTES && data.len() / segment <= MAX_SEGMENTS);
        }
        for _ in 0..130 {
            out.push(udp(1), &[7; 80]);
        }
        assert_eq!(
            drain(&mut out).iter().map(|(_, _, data)| data.len() / 80).collect::<Vec<_>>(),
            [64, 64, 2]
        );
    }

    #[test]
    fn a_datagram_goes_to_another_destination_too_as_it_is() {
        let mut out = Outbox::default();
        out.push(udp(1), &[1; 100]);
        out.push(udp(1), &[2; 60]);
        out.repeat(udp(2));
        out.repeat(udp(2));
        let sent: Vec<_> = drain(&mut out).into_iter().map(|(to, _, data)| (to == udp(2), data)).collect();
        assert!(sent == [(false, [vec![1; 100], vec![2; 60]].concat()), (true, vec![2; 60])]);
        out.push(udp(1), &[3; 100]);
        out.room(udp(1), 0, 100);
        out.commit(0);
        out.repeat(udp(2));
        assert_eq!(drain(&mut out).len(), 1, "what was dropped is not repeated");
    }

    #[test]
    fn room_that_was_not_filled_sends_nothing() {
        let mut out = Outbox::default();
        out.room(udp(1), 0, 100);
        out.commit(0);
        assert!(drain(&mut out).is_empty());
    }

    #[test]
    fn what_was_sent_is_forgotten_and_what_waits_is_not() {
        let mut out = Outbox::default();
        out.push(udp(1), &[1; 100]);
        assert_eq!(drain(&mut out).len(), 1);
        out.push(udp(2), &[2; 100]);
        assert!(out.batches[0].bytes[..100] == [2; 100]);
        out.forget();
        assert!(out.spare.buffers.is_empty() && out.sending.is_none());
        assert!(drain(&mut out) == [(udp(2), 100, vec![2; 100])]);
        let mut inbox = Inbox::default();
        inbox.room(100)[..10].fill(1);
        inbox.keep(10);
        inbox.forget();
        assert_eq!(inbox.poll().unwrap().packets().count(), 1);
        inbox.forget();
        assert!(inbox.bytes.is_empty());
    }

    #[test]
    fn empty_buffers_are_kept_within_bounds_and_the_large_ones_go_to_bulk_again() {
        let mut out = Outbox::default();
        let mut turn = |bulk: usize, small: usize| {
            for port in 0..bulk {
                (0..45).for_each(|_| out.push(udp(port as u16), &[7; 1_452]));
            }
            (0..small).for_each(|port| out.push(udp(1_000 + port as u16), &[7; 96]));
            drain(&mut out);
            out.poll();
            let large = out.spare.buffers.iter().filter(|buffer| buffer.len() > 1_024).count();
            (large, out.spare.buffers.len(), out.spare.kept)
        };
        for small in [100, 3, 77, 0, 100] {
            let (large, all, kept) = turn(2, small);
            assert!(large == 2 && all == 102 && kept < 3 << 16, "{large} of {all}, {kept} bytes");
        }
        assert!(turn(100, 100).2 <= KEEP_SPARE);
        let buffers = out.spare.buffers.iter().map(Vec::len);
        assert_eq!(buffers.sum::<usize>(), out.spare.kept);
    }

    #[test]
    fn kept_packets_come_out_once_and_in_order() {
        let mut inbox = Inbox::default();
        for fill in 1..=3u8 {
            inbox.room(100)[..10].fill(fill);
            if fill != 2 {
                inbox.keep(10);
            }
        }
        let packets: Vec<Vec<u8>> = inbox.poll().unwrap().packets().map(<[u8]>::to_vec).collect();
        assert_eq!(packets, [vec![1; 10], vec![3; 10]]);
        assert!(inbox.poll().is_none());
        inbox.room(100)[..10].fill(9);
        inbox.keep(10);
        assert_eq!(inbox.poll().unwrap().packets().next(), Some(&[9; 10][..]));
    }
}
