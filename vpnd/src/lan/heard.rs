//! What of all that is said on a LAN is a beacon that counts.

use std::{collections::VecDeque, net::SocketAddr};

use proto::beacon::Beacon;

use crate::apply::Key;

/// Nonces of beacons that are remembered, more than members say while one is fresh.
const MAX_HEARD: usize = 1_024;

/// Bytes of a nonce, which a beacon starts with.
const NONCE: usize = 24;

/// What was heard lately.
#[derive(Default)]
pub(super) struct Heard {
    /// Oldest first.
    nonces: VecDeque<[u8; NONCE]>,
}

impl Heard {
    /// Takes a datagram that came from `source` when the clock showed `now`, in unix seconds: the beacon, if another machine
    /// sealed it under `key`, about now, for where it came from, and it was not heard before.
    pub(super) fn take(
        &mut self,
        datagram: &[u8],
        source: SocketAddr,
        key: &[u8; 32],
        own: &Key,
        now: u64,
    ) -> Option<Beacon> {
        let beacon = Beacon::open(datagram, key)?;
        let from = (beacon.from.0.ip(), beacon.from.0.port());
        if beacon.sender == *own || from != (source.ip(), source.port()) || !beacon.is_fresh(now) {
            return None;
        }
        let nonce = datagram.first_chunk()?;
        if self.nonces.contains(nonce) {
            return None;
        }
        if self.nonces.len() >= MAX_HEARD {
            self.nonces.pop_front();
        }
        self.nonces.push_back(*nonce);
        Some(beacon)
    }
}

#[cfg(test)]
mod tests {
    use proto::{
        beacon::{FRESH, LEN},
        epoch::EpochKey,
        metadata::Endpoint,
    };
    use rand_core::OsRng;

    use super::*;

    const NOW: u64 = 1_700_000_000;
    const OWN: Key = [1; 32];
    const THERE: &str = "192.168.1.20:51820";

    fn said(by: Key, time: u64, key: &EpochKey) -> [u8; LEN] {
        let from = Endpoint(THERE.parse().unwrap());
        Beacon { time, from, sender: by, wanted: Vec::new() }.seal(&key.beacon_key(), &mut OsRng)
    }

    fn counts(heard: &mut Heard, datagram: &[u8], source: &str, key: &EpochKey) -> bool {
        heard.take(datagram, source.parse().unwrap(), &key.beacon_key(), &OWN, NOW).is_some()
    }

    #[test]
    fn a_beacon_counts_once_from_where_it_says_that_it_comes_about_when_it_was_said() {
        let (mut heard, key) = (Heard::default(), EpochKey::generate(&mut OsRng));
        let fresh = said([2; 32], NOW - FRESH, &key);
        for elsewhere in ["192.168.1.21:51820", "192.168.1.20:51821", "[fd00::20]:51820"] {
            assert!(!counts(&mut heard, &fresh, elsewhere, &key), "{elsewhere}");
        }
        assert!(counts(&mut heard, &fresh, THERE, &key));
        assert!(!counts(&mut heard, &fresh, THERE, &key), "heard before");
        assert!(counts(&mut heard, &said([2; 32], NOW, &key), THERE, &key), "said anew");
        for time in [NOW - FRESH - 1, NOW + FRESH + 1] {
            assert!(!counts(&mut heard, &said([2; 32], time, &key), THERE, &key));
        }
    }

    #[test]
    fn what_this_machine_said_itself_and_what_outsiders_say_does_not_count() {
        let (mut heard, key) = (Heard::default(), EpochKey::generate(&mut OsRng));
        let other = EpochKey::generate(&mut OsRng);
        assert!(!counts(&mut heard, &said(OWN, NOW, &key), THERE, &key));
        assert!(
            !counts(&mut heard, &said([2; 32], NOW, &other), THERE, &key),
            "another network, an epoch that ended"
        );
        assert!(!counts(&mut heard, &[0; LEN], THERE, &key) && !counts(&mut heard, b"", THERE, &key));
        assert!(heard.nonces.is_empty(), "nobody fills what is remembered from outside");
    }

    #[test]
    fn no_more_is_remembered_than_there_is_room_for() {
        let (mut heard, key) = (Heard::default(), EpochKey::generate(&mut OsRng));
        for _ in 0..MAX_HEARD + 10 {
            assert!(counts(&mut heard, &said([2; 32], NOW, &key), THERE, &key));
        }
        assert_eq!(heard.nonces.len(), MAX_HEARD);
    }
}
