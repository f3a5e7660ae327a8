//! WireGuard's receiver index: which peer and which epoch a datagram is for.
//!
//! `Tunn` keeps 24 bits for us and counts its sessions in the other 8. Ours are the slot of the peer (22 bits) and the
//! epoch modulo 4 (2 bits). The upper half of the slots is for guests ([`guest_slot`]), whose epochs are older than four
//! numbers can tell. The index travels in the clear, so the slot is scrambled by a bijection that is drawn at
//! the start: it does not tell an observer how many peers there are.
//!
//! Where several workers share a machine's peers, the lowest bits of what is scrambled are the worker's number as it is, so that
//! whoever hands out datagrams, the kernel included, finds it without knowing the scrambling: four bits of the slot less.

use proto::pipe::EpochTag;
use rand_core::CryptoRngCore;

use crate::share::{MAX_WORKERS, Share};

const SLOT_BITS: u32 = 22;
#[cfg(test)]
const SLOT_MASK: u32 = (1 << SLOT_BITS) - 1;

/// Bits of a worker's number.
const WORKER_BITS: u32 = MAX_WORKERS.ilog2();
/// Bits under it in an index: the count of `Tunn` and the tag.
const UNDER_WORKER: u32 = 10;
/// Where the worker's number is in a data packet: the byte, counted from the beginning, how many bits of it are something else,
/// and which bits of the rest it is.
pub const WORKER_BYTE: u32 = 4 + UNDER_WORKER / 8;
/// See [`WORKER_BYTE`].
pub const WORKER_SHIFT: u32 = UNDER_WORKER % 8;
/// See [`WORKER_BYTE`].
pub const WORKER_MASK: u32 = (1 << WORKER_BITS) - 1;
const _: () = assert!(WORKER_SHIFT + WORKER_BITS <= 8, "a worker's number is within one byte");

/// Set in the slots of guests.
const GUEST: u32 = 1 << (SLOT_BITS - 1);

/// The most peers that an index can tell apart.
pub(crate) const MAX_SLOTS: usize = GUEST as usize;
/// Of one worker of several.
pub(crate) const MAX_SHARED_SLOTS: usize = MAX_SLOTS >> WORKER_BITS;

/// `slot * factor + offset`, modulo the number of slots, and back.
pub(crate) struct Indexes {
    factor: u32,
    inverse: u32,
    offset: u32,
    /// Bits of the worker's number, and the number.
    worker: (u32, u32),
}

impl Indexes {
    pub(crate) fn new(rng: &mut dyn CryptoRngCore, share: Share) -> Self {
        let factor = rng.next_u32() | 1;
        // Newton's iteration for the inverse of an odd number doubles the right bits: 3, 6, 12, 24.
        let inverse = (0..3).fold(factor, |x, _| x.wrapping_mul(2u32.wrapping_sub(factor.wrapping_mul(x))));
        let bits = if share.of() > 1 { WORKER_BITS } else { 0 };
        Self { factor, inverse, offset: rng.next_u32(), worker: (bits, share.me().into()) }
    }

    /// The 24 bits to create a `Tunn` with.
    pub(crate) fn of(&self, slot: u32, tag: EpochTag) -> u32 {
        let (bits, worker) = self.worker;
        // A guest's bit goes where it is the highest of those that are left.
        let slot = slot & (GUEST - 1) | (slot & GUEST) >> bits;
        let scrambled = slot.wrapping_mul(self.factor).wrapping_add(self.offset) & self.mask();
        (scrambled << bits | worker) << 2 | u32::from(tag.value())
    }

    /// The slot and tag in a receiver index of ours.
    pub(crate) fn split(&self, receiver: u32) -> (u32, EpochTag) {
        let (bits, _) = self.worker;
        let scrambled = receiver >> (UNDER_WORKER + bits);
        let slot = scrambled.wrapping_sub(self.offset).wrapping_mul(self.inverse) & self.mask();
        let guest = slot & GUEST >> bits;
        (slot ^ guest | guest << bits, tag_of(receiver))
    }

    fn mask(&self) -> u32 {
        (1 << (SLOT_BITS - self.worker.0)) - 1
    }
}

/// The slot that a peer has as a guest. No peer has it otherwise.
pub(crate) fn guest_slot(slot: u32) -> u32 {
    slot | GUEST
}

/// The slot of the peer that has this one as a guest; `None` if it is no guest's.
pub(crate) fn host_slot(slot: u32) -> Option<u32> {
    (slot & GUEST != 0).then_some(slot & !GUEST)
}

/// The number of the worker in an index, where there are several.
pub(crate) fn worker_in(index: u32) -> u8 {
    (index >> UNDER_WORKER & WORKER_MASK) as u8
}

/// The epoch that the owner of this index, ours or a peer's, says it belongs to.
pub(crate) fn tag_of(index: u32) -> EpochTag {
    EpochTag::of(u64::from(index >> 8 & 3))
}

#[cfg(test)]
mod tests {
    use rand_core::OsRng;

    use super::*;

    #[test]
    fn a_guest_has_a_slot_that_no_peer_has() {
        for slot in [0, 1, 77, MAX_SLOTS as u32 - 1] {
            assert_eq!((host_slot(slot), host_slot(guest_slot(slot))), (None, Some(slot)));
            assert!(guest_slot(slot) as usize >= MAX_SLOTS && guest_slot(slot) <= SLOT_MASK);
        }
    }

    #[test]
    fn an_index_names_its_worker_and_the_slot_comes_back_a_guest_s_too() {
        for of in [2, 7, MAX_WORKERS] {
            for me in 0..of {
                let indexes = Indexes::new(&mut OsRng, Share::new(me, of));
                for slot in
                    [0, 1, 77, MAX_SHARED_SLOTS as u32 - 1].into_iter().flat_map(|s| [s, guest_slot(s)])
                {
                    let receiver = indexes.of(slot, EpochTag::of(2)) << 8 | 0x5a;
                    assert!(indexes.of(slot, EpochTag::of(2)) < 1 << 24);
                    assert_eq!(worker_in(receiver), me);
                    assert!(indexes.split(receiver) == (slot, EpochTag::of(2)));
                    let byte = u32::from(receiver.to_le_bytes()[WORKER_BYTE as usize - 4]);
                    assert_eq!(byte >> WORKER_SHIFT & WORKER_MASK, u32::from(me));
                }
            }
        }
    }

    #[test]
    fn every_slot_and_tag_comes_back_from_its_index() {
        for _ in 0..50 {
            let indexes = Indexes::new(&mut OsRng, Share::whole());
            for slot in [0, 1, 2, 77, 4_095, SLOT_MASK] {
                for tag in (0..4).map(EpochTag::of) {
                    let receiver = indexes.of(slot, tag) << 8 | 0xa5;
                    assert!(indexes.split(receiver) == (slot, tag));
                }
            }
        }
    }
}
