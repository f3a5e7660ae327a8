//! Pieces of an inner packet that is too large for its path.
//!
//! IPv6 asks every link to carry packets of 1,280 bytes, and one that cannot to cut them and put them together below
//! IPv6 (RFC 8200, section 5). A path whose datagrams are smaller is such a link, and so is one of which nobody knows
//! yet what it takes. Each piece is a message, as [`crate::probe`] describes them: an inner packet between the two
//! reserved addresses, of type 5. Its fields: the packet's number (4 bytes), the packet's length (2), where the piece
//! belongs in it (2); what is left is the piece.

use crate::{
    probe::{HEADER, PIECE, begin, finish, open},
    wire::Writer,
};

/// The longest packet that goes in pieces, in bytes: more than an interface over Ethernet gives.
pub const MAX_TOTAL: usize = 1_500;

/// What a piece is longer as an inner packet than the bytes in it.
pub const OVERHEAD: usize = HEADER + 2 + 8;

/// A piece of a packet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Piece<'a> {
    /// Tells the packets of one sender apart that are under way at the same time.
    pub id: u32,
    /// The packet's length in bytes, at most [`MAX_TOTAL`].
    pub total: u16,
    /// Where the piece begins in it.
    pub offset: u16,
    /// The piece: not empty, and it ends where the packet does or before.
    pub bytes: &'a [u8],
}

impl<'a> Piece<'a> {
    /// Replaces `packet` with the inner packet that carries the piece.
    pub fn write(&self, packet: &mut Vec<u8>) {
        packet.clear();
        let mut w = Writer::after(std::mem::take(packet));
        begin(&mut w);
        w.u8(PIECE);
        w.u32(self.id);
        w.u16(self.total);
        w.u16(self.offset);
        w.raw(self.bytes);
        *packet = finish(w);
    }

    /// Reads an inner packet; nothing if it is no piece, or one that does not fit into its packet.
    #[must_use]
    pub fn read(packet: &'a [u8]) -> Option<Self> {
        let (PIECE, mut r) = open(packet).ok()? else { return None };
        let (id, total, offset) = (r.u32().ok()?, r.u16().ok()?, r.u16().ok()?);
        let bytes = r.rest();
        let fits = !bytes.is_empty() && usize::from(offset) + bytes.len() <= usize::from(total);
        (fits && usize::from(total) <= MAX_TOTAL).then_some(Self { id, total, offset, bytes })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(piece: Piece<'_>) -> Vec<u8> {
        let mut packet = vec![1, 2, 3];
        piece.write(&mut packet);
        packet
    }

    #[test]
    fn a_piece_is_read_back_and_adds_what_it_says() {
        let piece = Piece { id: 7, total: 1_280, offset: 640, bytes: &[9; 640] };
        let packet = written(piece);
        assert_eq!(packet.len(), 640 + OVERHEAD);
        assert!(Piece::read(&packet) == Some(piece));
    }

    #[test]
    fn a_piece_beyond_its_packet_and_a_packet_beyond_all_bounds_are_refused() {
        for (total, offset, len) in [(100, 50, 51), (100, 100, 1), (100, 0, 0), (1_501, 0, 10), (0, 0, 1)] {
            let packet = written(Piece { id: 1, total, offset, bytes: &vec![1; len] });
            assert!(Piece::read(&packet).is_none(), "{total} {offset} {len}");
        }
        assert!(Piece::read(&written(Piece { id: 1, total: 100, offset: 50, bytes: &[1; 50] })).is_some());
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(flips in proptest::collection::vec((0usize..200, any::<u8>()), 0..8), cut in 0usize..200) {
            let mut packet = written(Piece { id: 1, total: 100, offset: 50, bytes: &[1; 50] });
            for (at, value) in &flips {
                let at = at % packet.len();
                packet[at] = *value;
            }
            packet.truncate(cut);
            if let Some(piece) = Piece::read(&packet) {
                prop_assert!(usize::from(piece.offset) + piece.bytes.len() <= MAX_TOTAL);
            }
        }
    }
}
