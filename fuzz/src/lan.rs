//! What any host on a LAN may say to all of them.

use proto::beacon::{Beacon, LEN};

const KEY: [u8; 32] = [7; 32];

/// A datagram at the port of beacons: opened as it is, and taken for what a member sealed.
pub fn beacon_datagram(data: &[u8]) {
    assert!(Beacon::open(data, &KEY).is_none(), "nothing opens without the key");
    if let Ok(beacon) = Beacon::read(data) {
        let sealed = beacon.seal(&KEY, &mut rand_core::OsRng);
        assert!(sealed.len() == LEN && Beacon::open(&sealed, &KEY).is_some_and(|read| read == beacon));
        assert!(beacon.wants(&[0; 32]) == beacon.wanted.contains(&[0; 8]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Xorshift (Marsaglia, 2003): the same bytes at each run.
    fn next(state: &mut u64) -> u64 {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state
    }

    #[test]
    fn random_beacons_of_every_length() {
        let mut state = 11;
        for _ in 0..30_000 {
            let len = next(&mut state) as usize % (LEN + 8);
            let mut data: Vec<u8> = (0..len).map(|_| next(&mut state) as u8).collect();
            beacon_datagram(&data);
            // A version, a family and a count that fit are rare by chance.
            if len > 61 {
                (data[0], data[9], data[60]) = (1, 4 + 2 * (data[9] & 1), data[60] % 10);
                if data[9] == 4 {
                    data[10..22].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]);
                }
                beacon_datagram(&data);
            }
        }
    }
}
