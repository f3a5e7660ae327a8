//! New inputs, by number.

use rand_core::RngCore as _;

use crate::dice::Dice;

/// Bytes of the longest input: four machines and twelve events.
const LONGEST: u64 = 54;
/// Of the shortest: two machines, and nothing happens.
const SHORTEST: u64 = 10;

/// The input with this number. Short ones are more frequent: they are quick, and a fault in one is soon understood.
#[must_use]
pub fn input(seed: u64) -> Vec<u8> {
    let mut dice = Dice::new(seed.wrapping_mul(0x2545_f491_4f6c_dd1d));
    let len = SHORTEST + dice.below(LONGEST - SHORTEST).min(dice.below(LONGEST - SHORTEST));
    let mut bytes = vec![0; len as usize];
    dice.fill_bytes(&mut bytes);
    bytes
}
