//! Who may ask us, and how often.
//!
//! A peer is named by the address that its packets come from: the data path lets a machine send from its own addresses
//! alone. Each may have one exchange under way, and a bounded number in a span of time; so a member that was taken over
//! keeps nobody else out, and costs little.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv6Addr,
    time::{Duration, Instant},
};

use crate::apply::Key;

/// Exchanges at once that others asked for.
const AT_ONCE: usize = 8;

/// Exchanges that one peer may ask for in a burst: more than a machine without coordinator in a network of two does.
const BURST: u32 = 8;

/// After that, one more each so often.
const REFILL: Duration = Duration::from_secs(10);

/// The peers inside, and what each has left.
#[derive(Default)]
pub(super) struct Door {
    inside: BTreeSet<Key>,
    /// What was used up, and since when it fills again. Only of members, only while it is not full.
    used: BTreeMap<Key, (u32, Instant)>,
}

impl Door {
    /// Whether the owner of `address` may come in, and who it is. `members` are those who may at all.
    pub(super) fn knock(
        &mut self,
        now: Instant,
        address: Ipv6Addr,
        members: &BTreeMap<Key, Ipv6Addr>,
    ) -> Option<Key> {
        self.used.retain(|key, (used, since)| {
            let refilled = now.saturating_duration_since(*since).as_secs() / REFILL.as_secs();
            let refilled = u32::try_from(refilled).unwrap_or(u32::MAX).min(*used);
            *used -= refilled;
            *since += REFILL * refilled;
            *used > 0 && members.contains_key(key)
        });
        let key = *members.iter().find(|(_, member)| **member == address)?.0;
        if self.inside.len() >= AT_ONCE || self.inside.contains(&key) {
            return None;
        }
        let (used, _) = self.used.entry(key).or_insert((0, now));
        if *used >= BURST {
            return None;
        }
        *used += 1;
        self.inside.insert(key);
        Some(key)
    }

    /// It is gone again.
    pub(super) fn left(&mut self, key: &Key) {
        self.inside.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u8) -> Ipv6Addr {
        Ipv6Addr::from([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, n])
    }

    fn members(count: u8) -> BTreeMap<Key, Ipv6Addr> {
        (1..=count).map(|n| ([n; 32], address(n))).collect()
    }

    #[test]
    fn nobody_but_a_member_comes_in() {
        let mut door = Door::default();
        let now = Instant::now();
        assert_eq!(door.knock(now, address(9), &members(3)), None);
        assert_eq!(door.knock(now, address(2), &members(3)), Some([2; 32]));
        assert_eq!(door.used.len(), 1, "a stranger leaves no trace");
    }

    #[test]
    fn a_peer_has_one_exchange_at_a_time_and_a_bounded_number_in_a_while() {
        let mut door = Door::default();
        let (now, members) = (Instant::now(), members(2));
        let times = |at: Duration, door: &mut Door| {
            let mut times = 0;
            while let Some(key) = door.knock(now + at, address(1), &members) {
                assert_eq!(door.knock(now + at, address(1), &members), None, "it is inside");
                door.left(&key);
                times += 1;
            }
            times
        };
        assert_eq!(times(Duration::ZERO, &mut door), BURST);
        assert_eq!(times(REFILL * 3, &mut door), 3);
        assert_eq!(times(REFILL * 3, &mut door), 0);
        assert_eq!(times(REFILL * 1_000, &mut door), BURST);
        // Another one is not kept out by it.
        assert!(door.knock(now + REFILL * 1_000, address(2), &members).is_some());
    }

    #[test]
    fn no_more_than_eight_are_inside_and_those_who_left_the_network_are_forgotten() {
        let mut door = Door::default();
        let now = Instant::now();
        let came = (1..=20).filter(|n| door.knock(now, address(*n), &members(20)).is_some()).count();
        assert_eq!(came, AT_ONCE);
        door.left(&[1; 32]);
        assert!(door.knock(now, address(20), &members(20)).is_some());
        assert_eq!(door.knock(now, address(1), &members(1)), None);
        assert!(door.used.keys().all(|key| *key == [1; 32]));
    }
}
