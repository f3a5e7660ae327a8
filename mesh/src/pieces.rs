//! Putting packets together that came in pieces ([`proto::piece`]).
//!
//! The pieces of a packet leave one after the other, so few packets are open at a time. Where more are, the oldest gives
//! way: nothing waits for a timer. The session has authenticated each piece, and none comes twice; a peer that lies
//! about its own packets gets what it made, and never a byte of another packet.

use std::time::{Duration, Instant};

use proto::piece::Piece;

/// Packets of one peer that are open at once: more than reordering on a path mixes.
const OPEN: usize = 16;
/// A packet whose pieces take longer than this has lost one.
const MAX_AGE: Duration = Duration::from_secs(2);

/// The packets of one peer that are not whole yet.
#[derive(Default)]
pub(crate) struct Pieces {
    open: Vec<Open>,
    /// The packet that was made whole last.
    whole: Vec<u8>,
    /// The one before, whose buffer is used again.
    spare: Vec<u8>,
}

struct Open {
    id: u32,
    since: Instant,
    arrived: usize,
    bytes: Vec<u8>,
}

impl Pieces {
    /// Takes a piece; the packet, if that is whole now.
    pub(crate) fn add(&mut self, now: Instant, piece: Piece<'_>) -> Option<&[u8]> {
        let total = usize::from(piece.total);
        let known =
            |open: &Open| open.id == piece.id && open.bytes.len() == total && now < open.since + MAX_AGE;
        let at = self.open.iter().position(known).unwrap_or_else(|| self.begin(now, piece.id, total));
        let open = &mut self.open[at];
        let start = usize::from(piece.offset);
        open.bytes.get_mut(start..start + piece.bytes.len())?.copy_from_slice(piece.bytes);
        open.arrived += piece.bytes.len();
        if open.arrived < total {
            return None;
        }
        let whole = self.open.remove(at).bytes;
        self.spare = std::mem::replace(&mut self.whole, whole);
        Some(&self.whole)
    }

    /// A place for a new packet, in a buffer that was used before if there is one.
    fn begin(&mut self, now: Instant, id: u32, total: usize) -> usize {
        let oldest = (self.open.len() >= OPEN).then(|| self.open.remove(0).bytes);
        let mut bytes = oldest.unwrap_or_else(|| std::mem::take(&mut self.spare));
        bytes.clear();
        bytes.resize(total, 0);
        self.open.push(Open { id, since: now, arrived: 0, bytes });
        self.open.len() - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(id: u32, offset: u16, bytes: &[u8]) -> Piece<'_> {
        Piece { id, total: 100, offset, bytes }
    }

    #[test]
    fn a_packet_is_whole_when_its_last_piece_comes_in_any_order() {
        let now = Instant::now();
        let mut pieces = Pieces::default();
        assert!(pieces.add(now, piece(1, 60, &[3; 40])).is_none());
        assert!(pieces.add(now, piece(2, 0, &[9; 50])).is_none());
        assert!(pieces.add(now, piece(1, 0, &[1; 30])).is_none());
        let whole = pieces.add(now, piece(1, 30, &[2; 30])).unwrap();
        assert!(whole == [[1; 30].as_slice(), &[2; 30], &[3; 40]].concat());
        assert!(pieces.add(now, piece(2, 50, &[9; 50])).unwrap() == [9; 100]);
    }

    #[test]
    fn pieces_that_come_too_late_or_after_too_many_others_make_nothing() {
        let now = Instant::now();
        let mut pieces = Pieces::default();
        pieces.add(now, piece(1, 0, &[1; 50]));
        assert!(pieces.add(now + MAX_AGE, piece(1, 50, &[1; 50])).is_none());
        let mut pieces = Pieces::default();
        for id in 0..=OPEN as u32 {
            assert!(pieces.add(now, piece(id, 0, &[1; 50])).is_none());
        }
        assert!(pieces.add(now, piece(0, 50, &[1; 50])).is_none());
        assert!(pieces.open.len() <= OPEN);
        assert!(pieces.add(now, piece(OPEN as u32, 50, &[1; 50])).is_some());
    }

    #[test]
    fn a_liar_gets_no_byte_of_another_packet() {
        let now = Instant::now();
        let mut pieces = Pieces::default();
        for id in 0..OPEN as u32 {
            pieces.add(now, piece(id, 0, &[7; 50]));
        }
        // The same half twice: what is missing is nothing, not what was in the buffer.
        pieces.add(now, piece(99, 50, &[1; 50]));
        let whole = pieces.add(now, piece(99, 50, &[1; 50])).unwrap();
        assert!(whole == [[0; 50], [1; 50]].concat());
    }
}
