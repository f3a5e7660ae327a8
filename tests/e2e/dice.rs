//! Chance that can be had again: a test that fails prints the seed, and takes it from the environment.

use std::{
    env,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Environment variable that gives the seed.
const SEED: &str = "TACET_SEED";

/// Numbers that look random (SplitMix64, by Steele, Lea and Flood).
pub(crate) struct Dice(u64);

impl Dice {
    /// With the seed that the environment gives, or another one each time. Prints it: it is shown if the test fails.
    pub(crate) fn thrown() -> Self {
        let given = env::var(SEED).ok().map(|text| text.parse().unwrap());
        let seed = given.unwrap_or_else(|| {
            u64::from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos())
        });
        println!("{SEED}={seed}");
        Self(seed)
    }

    /// Others, which do not depend on how often these are asked.
    pub(crate) fn another(&mut self) -> Self {
        Self(self.next())
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One of them.
    pub(crate) fn choose<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[(self.next() % all.len() as u64) as usize]
    }

    /// A time shorter than `longest`.
    pub(crate) fn moment(&mut self, longest: Duration) -> Duration {
        longest.mul_f64((self.next() >> 11) as f64 / (1_u64 << 53) as f64)
    }

    /// All of them in another order.
    pub(crate) fn shuffle<T>(&mut self, all: &mut [T]) {
        for at in (1..all.len()).rev() {
            all.swap(at, (self.next() % (at as u64 + 1)) as usize);
        }
    }
}
