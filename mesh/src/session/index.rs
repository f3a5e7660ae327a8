//! WireGuard's receiver index: which peer and which epoch a datagram is for.
//!
//! `Tunn` keeps 24 bits for us and counts its sessions in the other 8. Ours are the slot of the peer (22 bits) and the
//! epoch modulo 4 (2 bits). The upper half of the slots is for guests ([`guest_slot`]), whose epochs are older than four
//! numbers can tell. The index travels in the clear, so the slot is scrambled by a bijection that is drawn at
//! the start: it does not tell an observer how many peers there are.

use proto::pipe::EpochTag;
use rand_core::CryptoRngCore;

const SLOT_BITS: u32 = 22;
const SLOT_MASK: u32 = (1 << SLOT_BITS) - 1;

/// Set in the slots of guests.
const GUEST: u32 = 1 << (SLOT_BITS - 1);

/// The most peers that an index can tell apart.
pub(crate) const MAX_SLOTS: usize = GUEST as usize;

/// `slot * factor + offset`, modulo 2^22, and back.
pub(crate) struct Indexes {
    factor: u32,
    inverse: u32,
    offset: u32,
}

impl Indexes {
    pub(crate) fn new(rng: &mut dyn CryptoRngCore) -> Self {
        let factor = rng.next_u32() | 1;
        // Newton's iteration for the inverse of an odd number doubles the right bits: 3, 6, 12, 24.
        let inverse = (0..3).fold(factor, |x, _| x.wrapping_mul(2u32.wrapping_sub(factor.wrapping_mul(x))));
        Self { factor, inverse, offset: rng.next_u32() }
    }

    /// The 24 bits to create a `Tunn` with.
    pub(crate) fn of(&self, slot: u32, tag: EpochTag) -> u32 {
        let scrambled = slot.wrapping_mul(self.factor).wrapping_add(self.offset) & SLOT_MASK;
        scrambled << 2 | u32::from(tag.value())
    }

    /// The slot and tag in a receiver index of ours.
    pub(crate) fn split(&self, receiver: u32) -> (u32, EpochTag) {
        let scrambled = receiver >> 10;
        let slot = scrambled.wrapping_sub(self.offset).wrapping_mul(self.inverse) & SLOT_MASK;
        (slot, tag_of(receiver))
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
    fn every_slot_and_tag_comes_back_from_its_index() {
        for _ in 0..50 {
            let indexes = Indexes::new(&mut OsRng);
            for slot in [0, 1, 2, 77, 4_095, SLOT_MASK] {
                for tag in (0..4).map(EpochTag::of) {
                    let receiver = indexes.of(slot, tag) << 8 | 0xa5;
                    assert!(indexes.split(receiver) == (slot, tag));
                }
            }
        }
    }
}
