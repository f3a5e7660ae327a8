//! Initiations that a peer has sent before.
//!
//! A `Tunn` refuses an initiation that is not newer than the last, but a new `Tunn` (another epoch, a restart of the
//! machine's sessions) does not know the last. A recorded initiation replayed to it would be answered, and eight of
//! them would push every live session out of its ring. So the peer's ephemeral keys are remembered across them.

/// Ephemerals that are remembered for each peer: eight rings of sessions.
const REMEMBERED: usize = 64;

/// The ephemerals of the last accepted initiations.
#[derive(Default)]
pub(crate) struct Seen {
    ring: Vec<[u8; 32]>,
    oldest: usize,
}

impl Seen {
    /// Whether this ephemeral was accepted before.
    pub(crate) fn contains(&self, ephemeral: &[u8; 32]) -> bool {
        self.ring.contains(ephemeral)
    }

    /// Remembers an accepted ephemeral.
    pub(crate) fn insert(&mut self, ephemeral: [u8; 32]) {
        if self.ring.len() < REMEMBERED {
            self.ring.push(ephemeral);
        } else {
            self.ring[self.oldest] = ephemeral;
            self.oldest = (self.oldest + 1) % REMEMBERED;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_sixty_four_are_remembered() {
        let mut seen = Seen::default();
        for n in 0..=64u8 {
            seen.insert([n; 32]);
        }
        assert!(!seen.contains(&[0; 32]));
        assert!((1..=64u8).all(|n| seen.contains(&[n; 32])));
    }
}
