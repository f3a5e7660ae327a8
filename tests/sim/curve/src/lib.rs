//! Curve25519's key pairs as they are, each computed once.
//!
//! The simulated machines have four secrets between them, for ever the same, and start anew so often that their public
//! keys would be the dearest of all that is computed. The sources of `mesh` are compiled over this in the simulator's fast
//! mode; no secret of anybody's comes here.

use std::cell::RefCell;

pub use x25519_dalek::StaticSecret;

/// Pairs that are remembered by each thread: the simulated machines' and some more.
const KNOWN: usize = 16;

thread_local! {
    static PAIRS: RefCell<Vec<([u8; 32], PublicKey)>> = const { RefCell::new(Vec::new()) };
}

/// A public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Its bytes.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 32] {
        self.0
    }
}

impl From<[u8; 32]> for PublicKey {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl From<&StaticSecret> for PublicKey {
    fn from(secret: &StaticSecret) -> Self {
        PAIRS.with_borrow_mut(|pairs| {
            if let Some((_, public)) = pairs.iter().find(|(known, _)| known == secret.as_bytes()) {
                return *public;
            }
            let public = Self(x25519_dalek::PublicKey::from(secret).to_bytes());
            if pairs.len() < KNOWN {
                pairs.push((secret.to_bytes(), public));
            }
            public
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_those_of_the_curve_the_first_time_and_later() {
        for n in (0..2 * KNOWN as u8).chain(0..4) {
            let secret = StaticSecret::from([n; 32]);
            let real = x25519_dalek::PublicKey::from(&secret);
            assert_eq!(PublicKey::from(&secret).as_bytes(), real.as_bytes());
        }
    }
}
