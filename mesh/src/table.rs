//! Peers by slot, by control's number and by key.

use std::collections::HashMap;

use crate::session::MAX_SLOTS;

/// Peers, each in a slot that stays its own while it is here.
pub(crate) struct Table<P> {
    slots: Vec<Option<Box<Entry<P>>>>,
    free: Vec<u32>,
    /// Slots at most.
    most: usize,
    by_id: HashMap<u32, u32>,
    by_key: HashMap<[u8; 32], u32>,
}

struct Entry<P> {
    key: [u8; 32],
    peer: P,
}

impl<P> Default for Table<P> {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            most: MAX_SLOTS,
            by_id: HashMap::new(),
            by_key: HashMap::new(),
        }
    }
}

impl<P> Table<P> {
    /// For so many peers at most.
    pub(crate) fn with_room(most: usize) -> Self {
        Self { most, ..Self::default() }
    }

    /// The peer in a slot.
    pub(crate) fn get(&mut self, slot: u32) -> Option<&mut P> {
        Some(&mut self.slots.get_mut(slot as usize)?.as_mut()?.peer)
    }

    /// The peer that control calls so, and its slot.
    pub(crate) fn of_id(&mut self, id: u32) -> Option<(u32, &mut P)> {
        let slot = *self.by_id.get(&id)?;
        Some((slot, self.get(slot)?))
    }

    /// The key of the peer that control calls so.
    pub(crate) fn key_of(&self, id: u32) -> Option<[u8; 32]> {
        let slot = *self.by_id.get(&id)?;
        Some(self.slots.get(slot as usize)?.as_ref()?.key)
    }

    /// The slot of the peer with this public key. Of two with the same the one that came last.
    pub(crate) fn of_key(&self, key: &[u8; 32]) -> Option<u32> {
        self.by_key.get(key).copied()
    }

    /// Makes a peer that is not here yet, in a slot of its own; nothing where there is none left.
    pub(crate) fn insert(&mut self, id: u32, key: [u8; 32], make: impl FnOnce(u32) -> P) -> Option<u32> {
        let slot = self.free.pop().or_else(|| {
            let slot = self.slots.len();
            (slot < self.most).then(|| {
                self.slots.push(None);
                slot as u32
            })
        })?;
        self.slots[slot as usize] = Some(Box::new(Entry { key, peer: make(slot) }));
        self.by_id.insert(id, slot);
        self.by_key.insert(key, slot);
        Some(slot)
    }

    /// Takes a peer out.
    pub(crate) fn remove(&mut self, id: u32) -> Option<(u32, P)> {
        let slot = self.by_id.remove(&id)?;
        let Entry { key, peer } = *self.slots[slot as usize].take()?;
        if self.by_key.get(&key) == Some(&slot) {
            self.by_key.remove(&key);
        }
        self.free.push(slot);
        Some((slot, peer))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &P> {
        self.slots.iter().flatten().map(|entry| &entry.peer)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut P> {
        self.slots.iter_mut().flatten().map(|entry| &mut entry.peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_found_by_slot_number_and_key_until_it_is_gone() {
        let mut table = Table::default();
        let first = table.insert(7, [1; 32], |_| 'a').unwrap();
        let second = table.insert(8, [2; 32], |_| 'b').unwrap();
        assert_eq!(table.get(first), Some(&mut 'a'));
        assert_eq!(table.of_key(&[2; 32]), Some(second));
        assert_eq!(table.of_id(8), Some((second, &mut 'b')));
        assert_eq!(table.remove(7), Some((first, 'a')));
        assert!(table.get(first).is_none() && table.of_key(&[1; 32]).is_none() && table.remove(7).is_none());
        assert_eq!(table.insert(9, [3; 32], |_| 'c'), Some(first), "the slot is used again");
        assert_eq!(table.iter().count(), 2);
    }

    #[test]
    fn of_two_with_one_key_the_later_is_found_and_outlives_the_other() {
        let mut table = Table::default();
        table.insert(1, [1; 32], |_| ());
        let later = table.insert(2, [1; 32], |_| ());
        table.remove(1);
        assert_eq!(table.of_key(&[1; 32]), later);
    }
}
