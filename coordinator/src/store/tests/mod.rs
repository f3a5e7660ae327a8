//! The store against crashes, other processes, damage, and databases of before.

mod erasing;
mod formats;
mod previous;

use std::{collections::BTreeMap, fs, path::Path};

use proto::{account::AccountName, coordinator::RelayOffer, token::EnrolCode};
use tempfile::TempDir;

use super::{DataDir, NewAccount, Store};

const TODAY: u32 = 20_000;

/// A coordinator's directory, and its database.
async fn place() -> (TempDir, DataDir, Store) {
    let tmp = tempfile::tempdir().unwrap();
    let dir = DataDir::new(tmp.path(), None);
    let store = dir.create_or_open(&dir.lock().unwrap()).await.unwrap();
    (tmp, dir, store)
}

fn name(text: &str) -> AccountName {
    AccountName::parse(text).unwrap()
}

async fn register(store: &Store, text: &str) {
    let code = EnrolCode(text.as_bytes().to_vec());
    store.add_enrolment(&code, TODAY).await.unwrap();
    let made = store.add_account(&name(text), vec![7; 192], &code, TODAY).await.unwrap();
    assert_eq!(made, NewAccount::Made);
}

fn relay(number: u8) -> RelayOffer {
    RelayOffer { url: format!("https://{number}.example"), key: [number; 32], stun_port: None }
}

/// The keys in the file, by slot: every 32 bytes that are not zeros, after the first.
fn keys(dir: &DataDir) -> BTreeMap<usize, Vec<u8>> {
    let bytes = fs::read(dir.keys()).unwrap();
    let slots = bytes.chunks(32).skip(1).enumerate();
    slots.filter(|(_, key)| key.iter().any(|&b| b != 0)).map(|(slot, key)| (slot, key.to_vec())).collect()
}

/// Whether `needle` is anywhere in the file.
fn holds(path: &Path, needle: &[u8]) -> bool {
    fs::read(path).unwrap().windows(needle.len()).any(|bytes| bytes == needle)
}
