//! The keys of the rows: one slot of a file for each, overwritten in place once its row is gone.
//!
//! Bytes 0..32 say what the file is; slot *n* are the 32 bytes from 32 (n + 1). A slot of zeros is free. The file grows
//! by blocks of zeros that are on disk before a key is put there, and it never shrinks: so a slot has one place on the
//! disk for all its life, and overwriting it there is what erases everything that its key ever sealed, in whatever copy
//! SQLite or the file system left of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    os::unix::fs::FileExt,
    sync::Arc,
};

use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use rand_core::{OsRng, RngCore};
use zeroize::{Zeroize, Zeroizing};

use super::StoreError;

/// What the file begins with.
const MAGIC: [u8; KEY] = *b"tacet keys of rows, version 1\n\0\0";

/// What the file of every version begins with.
const FAMILY: &[u8] = b"tacet keys of rows, version ";

/// Bytes of a key, and of a slot.
const KEY: usize = 32;

/// The file grows by this many bytes at once: a block of the usual file systems.
const BLOCK: usize = 4096;

/// A slot's number.
pub(super) type Slot = u32;

/// A key that seals one row, once.
pub(super) struct Key(Zeroizing<[u8; KEY]>);

impl Key {
    pub(super) fn generate() -> Self {
        let mut key = Zeroizing::new([0; KEY]);
        OsRng.fill_bytes(&mut *key);
        Self(key)
    }

    /// Seals a row's content; `place` says which row.
    pub(super) fn seal(&self, place: &[u8], plain: &[u8]) -> Vec<u8> {
        // No other message is sealed under this key, so the nonce need not differ.
        XChaCha20Poly1305::new((&*self.0).into())
            .encrypt(&XNonce::default(), Payload { msg: plain, aad: place })
            .expect("a row is far shorter than the cipher's limit")
    }

    /// Opens what [`Key::seal`] made for the same place.
    pub(super) fn open(&self, place: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let payload = Payload { msg: sealed, aad: place };
        let plain = XChaCha20Poly1305::new((&*self.0).into()).decrypt(&XNonce::default(), payload);
        plain.ok().map(Zeroizing::new)
    }

    pub(super) fn as_bytes(&self) -> &[u8; KEY] {
        &self.0
    }

    /// `None` for zeros: that is no key but a free slot.
    pub(super) fn from_bytes(bytes: [u8; KEY]) -> Option<Self> {
        let key = Zeroizing::new(bytes);
        key.iter().any(|&byte| byte != 0).then_some(Self(key))
    }
}

/// The open file, and what is in it.
pub(super) struct Keyring {
    file: Arc<File>,
    bytes: Zeroizing<Vec<u8>>,
    free: BTreeSet<Slot>,
}

impl Keyring {
    /// Reads the keys from an open file; with `make`, an empty one becomes a keyring.
    ///
    /// # Errors
    /// [`StoreError::Keys`] if it is no keyring, [`StoreError::NewerKeys`]; [`StoreError`].
    pub(super) fn open(file: File, make: bool) -> Result<Self, StoreError> {
        if make && file.metadata()?.len() == 0 {
            let mut first = vec![0; BLOCK];
            first[..KEY].copy_from_slice(&MAGIC);
            file.write_all_at(&first, 0)?;
            file.sync_all()?;
        }
        Self::read(Arc::new(file))
    }

    /// The same keyring as the file has it now.
    ///
    /// # Errors
    /// As of [`Keyring::open`].
    pub(super) fn again(&self) -> Result<Self, StoreError> {
        Self::read(Arc::clone(&self.file))
    }

    fn read(file: Arc<File>) -> Result<Self, StoreError> {
        let mut keyring = Self { file, bytes: Zeroizing::default(), free: BTreeSet::new() };
        keyring.reload()?;
        Ok(keyring)
    }

    /// Reads the file again: another process changed it.
    ///
    /// # Errors
    /// [`StoreError::Keys`]; [`StoreError`].
    pub(super) fn reload(&mut self) -> Result<(), StoreError> {
        let length = usize::try_from(self.file.metadata()?.len()).map_err(|_| StoreError::Keys)?;
        // Of another length while it grows; what is beyond whole blocks is no slot yet.
        let mut bytes = Zeroizing::new(vec![0; length / BLOCK * BLOCK]);
        self.file.read_exact_at(&mut bytes, 0)?;
        match bytes.get(..KEY) {
            Some(magic) if magic == MAGIC => {}
            Some(magic) if magic.starts_with(FAMILY) => return Err(StoreError::NewerKeys),
            _ => return Err(StoreError::Keys),
        }
        let zero = [0; KEY];
        let slots = bytes[KEY..].chunks_exact(KEY).zip(0..);
        self.free = slots.filter(|(slot, _)| *slot == zero).map(|(_, number)| number).collect();
        self.bytes = bytes;
        Ok(())
    }

    /// The key in a slot, if there is one.
    pub(super) fn key(&self, slot: i64) -> Option<Key> {
        let at = (usize::try_from(slot).ok()? + 1).checked_mul(KEY)?;
        let bytes = self.bytes.get(at..at.checked_add(KEY)?)?;
        Key::from_bytes(bytes.try_into().ok()?)
    }

    /// The first free slot from `from` on; beyond the end there are only free ones.
    pub(super) fn free_from(&self, from: Slot) -> Slot {
        self.free.range(from..).next().copied().unwrap_or(from.max(self.slots()))
    }

    /// A free slot that is not among `taken`: the first from `near` on, or else any, or else one beyond the end.
    pub(super) fn free_near(&self, near: Slot, taken: &BTreeMap<Slot, Key>) -> Slot {
        let untaken = |slot: &&Slot| !taken.contains_key(*slot);
        let found = self.free.range(near..).find(untaken).or_else(|| self.free.range(..near).find(untaken));
        let beyond = || taken.keys().next_back().map_or(0, |last| last + 1).max(self.slots());
        found.copied().unwrap_or_else(beyond)
    }

    /// How many slots the file has.
    pub(super) fn slots(&self) -> Slot {
        Slot::try_from((self.bytes.len() / KEY).saturating_sub(1)).unwrap_or(Slot::MAX)
    }

    /// The slots that hold a key.
    pub(super) fn used(&self) -> impl Iterator<Item = Slot> {
        (0..self.slots()).filter(|slot| !self.free.contains(slot))
    }

    /// Puts keys into free slots, on disk before it returns. No row may name them yet.
    ///
    /// # Errors
    /// [`StoreError::Full`]: no key was written then; [`StoreError`].
    pub(super) async fn write(&mut self, keys: BTreeMap<Slot, Key>) -> Result<(), StoreError> {
        let Some((&last, _)) = keys.last_key_value() else {
            return Ok(());
        };
        let before = self.bytes.len();
        let after = position(last).saturating_add(KEY).next_multiple_of(BLOCK).max(before);
        let file = Arc::clone(&self.file);
        let keys = on_disk(move || {
            if after > before {
                file.write_all_at(&vec![0; after - before], before as u64)?;
                file.sync_all()?;
            }
            for (slot, key) in &keys {
                file.write_all_at(key.as_bytes(), position(*slot) as u64)?;
            }
            file.sync_data()?;
            Ok(keys)
        })
        .await?;
        let (first, end) = (self.slots(), (after / KEY - 1) as Slot);
        self.free.extend(first..end);
        if after > before {
            // Not resized: a buffer that moves would leave a copy of the keys behind.
            let mut bytes = Zeroizing::new(vec![0; after]);
            bytes[..before].copy_from_slice(&self.bytes);
            self.bytes = bytes;
        }
        for (slot, key) in keys {
            self.bytes[position(slot)..][..KEY].copy_from_slice(key.as_bytes());
            self.free.remove(&slot);
        }
        Ok(())
    }

    /// Overwrites slots that no row names. What was sealed under their keys is noise once it returns.
    ///
    /// # Errors
    /// [`StoreError`]; some may stand then, and it can be tried again.
    pub(super) async fn erase(&mut self, slots: Vec<Slot>) -> Result<(), StoreError> {
        if slots.is_empty() {
            return Ok(());
        }
        let file = Arc::clone(&self.file);
        let slots = on_disk(move || {
            for slot in &slots {
                file.write_all_at(&[0; KEY], position(*slot) as u64)?;
            }
            file.sync_data()?;
            Ok(slots)
        })
        .await?;
        for slot in slots {
            self.bytes[position(slot)..][..KEY].zeroize();
            self.free.insert(slot);
        }
        Ok(())
    }
}

fn position(slot: Slot) -> usize {
    (slot as usize + 1) * KEY
}

/// Waits for the disk away from the thread that also carries the relay's frames.
async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(StoreError::Io))
}

#[cfg(test)]
mod tests {
    use std::{
        fs::OpenOptions,
        path::{Path, PathBuf},
    };

    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn open(path: &Path) -> Result<Keyring, StoreError> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).open(path).unwrap();
        Keyring::open(file, true)
    }

    fn keyring() -> (Place, Keyring) {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("keys");
        let keyring = open(&path).unwrap();
        (Place(path, tmp), keyring)
    }

    struct Place(PathBuf, #[expect(dead_code, reason = "removes it when dropped")] tempfile::TempDir);

    fn key(byte: u8) -> Key {
        Key::from_bytes([byte; KEY]).unwrap()
    }

    #[test]
    fn a_row_opens_under_its_own_key_at_its_own_place_and_nowhere_else() {
        let (one, two) = (Key::generate(), Key::generate());
        let sealed = one.seal(b"accounts 1", b"anna");
        assert_eq!(*one.open(b"accounts 1", &sealed).unwrap(), b"anna");
        assert!(one.open(b"accounts 2", &sealed).is_none() && two.open(b"accounts 1", &sealed).is_none());
        assert!(!sealed.windows(4).any(|bytes| bytes == b"anna"));
    }

    #[tokio::test]
    async fn an_erased_key_is_nowhere_in_the_file_and_its_neighbours_stay() {
        let (place, mut keyring) = keyring();
        keyring.write(BTreeMap::from([(0, key(1)), (1, key(2)), (2, key(3))])).await.unwrap();
        keyring.erase(vec![1]).await.unwrap();
        let bytes = std::fs::read(&place.0).unwrap();
        assert!(!bytes.windows(KEY).any(|bytes| bytes == [2; KEY]));
        let again = open(&place.0).unwrap();
        assert!(again.key(0).is_some() && again.key(1).is_none() && again.key(2).is_some());
        assert_eq!(again.free_from(0), 1);
    }

    #[tokio::test]
    async fn it_grows_by_whole_blocks_and_what_was_there_keeps_its_place() {
        let (place, mut keyring) = keyring();
        let per_block = (BLOCK / KEY) as Slot;
        keyring.write(BTreeMap::from([(0, key(1))])).await.unwrap();
        keyring.write(BTreeMap::from([(keyring.free_from(per_block * 3), key(2))])).await.unwrap();
        let bytes = std::fs::read(&place.0).unwrap();
        assert_eq!(bytes.len(), 4 * BLOCK);
        assert_eq!(bytes[KEY..2 * KEY], [1; KEY]);
        assert!(open(&place.0).unwrap().key(i64::from(per_block * 3)).is_some());
        keyring.erase(vec![0, per_block * 3]).await.unwrap();
        assert_eq!(std::fs::read(&place.0).unwrap().len(), 4 * BLOCK);
    }

    #[test]
    fn a_file_that_is_no_keyring_is_refused_and_left_alone() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("keys");
        std::fs::write(&path, [7; 2 * BLOCK]).unwrap();
        assert_eq!(open(&path).err(), Some(StoreError::Keys));
        assert_eq!(std::fs::read(&path).unwrap(), [7; 2 * BLOCK]);
    }

    #[test]
    fn a_file_of_a_newer_version_is_told_apart_and_left_alone() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("keys");
        let mut newer = vec![0; BLOCK];
        newer[..KEY].copy_from_slice(b"tacet keys of rows, version 2\n\0\0");
        std::fs::write(&path, &newer).unwrap();
        assert_eq!(open(&path).err(), Some(StoreError::NewerKeys));
        assert!(std::fs::read(&path).unwrap() == newer);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Write(usize),
        Erase(usize),
        Reopen,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (1..200usize).prop_map(Step::Write),
            any::<usize>().prop_map(Step::Erase),
            Just(Step::Reopen)
        ]
    }

    proptest! {
        /// Against a plain map: what was written is there, what was erased is not, whatever the order.
        #[test]
        fn it_holds_what_was_written_and_not_erased(steps in vec(step(), 1..30), near in 0..300u32) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let (place, mut keyring) = keyring();
            let mut expected = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Write(count) => {
                        let mut keys = BTreeMap::new();
                        for _ in 0..count {
                            let (slot, key) = (keyring.free_near(near, &keys), Key::generate());
                            prop_assert!(expected.insert(slot, *key.as_bytes()).is_none());
                            keys.insert(slot, key);
                        }
                        runtime.block_on(keyring.write(keys)).unwrap();
                    }
                    Step::Erase(which) if !expected.is_empty() => {
                        let slot = *expected.keys().nth(which % expected.len()).unwrap();
                        expected.remove(&slot);
                        runtime.block_on(keyring.erase(vec![slot])).unwrap();
                    }
                    Step::Erase(_) => {}
                    Step::Reopen => keyring = open(&place.0).unwrap(),
                }
                prop_assert!(keyring.used().eq(expected.keys().copied()));
                for (slot, key) in &expected {
                    prop_assert!(keyring.key(i64::from(*slot)).is_some_and(|there| there.as_bytes() == key));
                }
            }
        }
    }
}
