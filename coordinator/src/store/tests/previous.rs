//! A database whose rows were not sealed becomes one whose rows are, and is overwritten.

use std::{
    fs::{self, File},
    io::Read,
    path::Path,
};

use hmac::{Hmac, Mac};
use proto::{
    account::AccountName,
    coordinator::Join,
    identity::{MachineKeys, NetworkId},
    metadata::InnerNet,
    roster::{EntryId, NewNetwork, PublicState, Roster},
    token::EnrolCode,
    wire::{Wire, Writer},
};
use rand_core::OsRng;
use sha2::Sha256;
use sqlx::SqlitePool;

use super::{TODAY, holds, keys, name, relay};
use crate::store::{
    DataDir, NewAccount, Store, StoreError,
    files::{connect, options, private},
};

/// Shape 1, as it was written.
const TABLES: &str = "
    CREATE TABLE settings (name TEXT NOT NULL PRIMARY KEY, body BLOB NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE accounts (id INTEGER PRIMARY KEY, tag BLOB NOT NULL UNIQUE, body BLOB NOT NULL) STRICT;
    CREATE TABLE enrolments (tag BLOB NOT NULL PRIMARY KEY, last_day INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE networks (id INTEGER PRIMARY KEY, tag BLOB NOT NULL UNIQUE,
        account INTEGER NOT NULL REFERENCES accounts (id) ON DELETE CASCADE, body BLOB NOT NULL) STRICT;
    CREATE INDEX networks_of_account ON networks (account);
    CREATE TABLE entries (network INTEGER NOT NULL REFERENCES networks (id) ON DELETE CASCADE,
        tag BLOB NOT NULL, body BLOB NOT NULL, PRIMARY KEY (network, tag)) STRICT, WITHOUT ROWID;
    CREATE TABLE slots (network INTEGER NOT NULL REFERENCES networks (id) ON DELETE CASCADE,
        tag BLOB NOT NULL, body BLOB NOT NULL, PRIMARY KEY (network, tag)) STRICT, WITHOUT ROWID;
    CREATE TABLE joins (id INTEGER PRIMARY KEY, network INTEGER NOT NULL REFERENCES networks (id) ON DELETE CASCADE,
        tag BLOB NOT NULL, body BLOB NOT NULL, UNIQUE (network, tag)) STRICT;
    CREATE TABLE relays (tag BLOB NOT NULL PRIMARY KEY, body BLOB NOT NULL) STRICT, WITHOUT ROWID;
    PRAGMA application_id = 0x54616365;
    PRAGMA user_version = 1;
";

/// What is in the old database.
struct Old {
    state: PublicState,
    joins: Vec<Join>,
    code: EnrolCode,
}

#[tokio::test]
async fn everything_of_an_older_database_is_there_and_the_old_file_is_overwritten() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = DataDir::new(tmp.path(), None);
    let old = write_old(&dir.database).await;
    let mut was = File::open(&dir.database).unwrap();

    let store = dir.create_or_open(&dir.lock().unwrap()).await.unwrap();

    assert_all_there(&store, &old).await;
    let mut bytes = Vec::new();
    was.read_to_end(&mut bytes).unwrap();
    assert!(!bytes.is_empty() && bytes.iter().all(|&byte| byte == 0));
    let mut files: Vec<_> = fs::read_dir(tmp.path())
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    files.retain(|file| file != "coordinator.db-journal");
    assert_eq!(files, ["coordinator.db", "coordinator.db-keys", "lock"]);
    for file in files {
        assert!(!holds(&tmp.path().join(&file), b"anna-of-before"), "{file}");
    }
}

#[tokio::test]
async fn a_command_seals_an_older_database_unless_an_older_coordinator_serves_from_it() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = DataDir::new(tmp.path(), None);
    let old = write_old(&dir.database).await;
    let serving = dir.lock().unwrap();
    assert_eq!(dir.open().await.err(), Some(StoreError::InUse));
    drop(serving);
    assert_all_there(&dir.open().await.unwrap(), &old).await;
}

#[tokio::test]
async fn an_older_backup_can_be_restored() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = DataDir::new(tmp.path(), None);
    let backup = tmp.path().join("backup");
    let old = write_old(&backup).await;
    let before = fs::read(&backup).unwrap();
    dir.restore(&backup, false, &dir.lock().unwrap()).await.unwrap();
    assert_all_there(&dir.open().await.unwrap(), &old).await;
    assert!(fs::read(&backup).unwrap() == before);
}

#[tokio::test]
async fn sealing_that_was_interrupted_begins_again_or_ends() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = DataDir::new(tmp.path(), None);
    let old = write_old(&dir.database).await;
    // Before the rename: half of a copy, keys of it, and a second name of the database.
    let aside = tmp.path().join("aside");
    fs::copy(&dir.database, &aside).unwrap();
    fs::write(dir.built(), &fs::read(&aside).unwrap()[..5000]).unwrap();
    let second = tmp.path().join("coordinator.db-old");
    fs::hard_link(&dir.database, &second).unwrap();
    let store = dir.create_or_open(&dir.lock().unwrap()).await.unwrap();
    assert_all_there(&store, &old).await;
    let rows = keys(&dir).len();
    store.close().await;
    // After it: the old file waits to be overwritten.
    fs::rename(&aside, &second).unwrap();
    let mut was = File::open(&second).unwrap();
    let store = dir.create_or_open(&dir.lock().unwrap()).await.unwrap();
    assert_all_there(&store, &old).await;
    assert!(!second.exists() && !dir.built().exists());
    let mut bytes = Vec::new();
    was.read_to_end(&mut bytes).unwrap();
    assert!(!bytes.is_empty() && bytes.iter().all(|&byte| byte == 0));
    // One code was used up, one account is more.
    assert_eq!(keys(&dir).len(), rows);
}

async fn assert_all_there(store: &Store, old: &Old) {
    let id = old.state.header().network;
    assert_eq!(store.account(&name("anna-of-before")).await.unwrap().unwrap().record, [7; 192]);
    assert!(store.state(&id).await.unwrap().unwrap() == old.state);
    let network = store.network(&id).await.unwrap().unwrap();
    assert!(store.joins(&network).await.unwrap() == old.joins);
    let owners = store.network_summaries().await.unwrap();
    assert!(owners[0].account == Some(name("anna-of-before")));
    assert!(store.relays().await.unwrap() == [relay(3)]);
    store.check_structure().await.unwrap();
    if store.has_enrolment(&old.code, TODAY).await.unwrap() {
        let made = store.add_account(&name("bert"), vec![8; 192], &old.code, TODAY).await.unwrap();
        assert_eq!(made, NewAccount::Made);
    } else {
        assert!(store.account(&name("bert")).await.unwrap().is_some());
    }
}

/// An account with a network, a used and an unused number of each row, two waiting records, a relay, a code.
async fn write_old(path: &Path) -> Old {
    private().create_new(true).write(true).open(path).unwrap();
    let (pool, _) = connect(options(path)).await.unwrap();
    sqlx::raw_sql(TABLES).execute(&pool).await.unwrap();
    let tag_key = [5; 32];
    let tag = |domain: &str, what: &[u8]| {
        let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(&tag_key).unwrap();
        mac.update(b"tacet tag v1\0");
        mac.update(domain.as_bytes());
        mac.update(b"\0");
        mac.update(what);
        mac.finalize().into_bytes().to_vec()
    };
    let code = EnrolCode(vec![9; 16]);
    let state = roster();
    let joins: Vec<_> = (0..2).map(|n| Join { invite: EntryId([n; 16]), record: vec![n; 100] }).collect();
    put(&pool, "INSERT INTO settings VALUES ('tag key', ?)", [tag_key.to_vec()]).await;
    put(&pool, "INSERT INTO settings VALUES ('authority', ?)", [vec![6; 32]]).await;
    let account = account(&name("anna-of-before"));
    put(&pool, "INSERT INTO accounts VALUES (3, ?, ?)", [tag("account", b"anna-of-before"), account]).await;
    put(&pool, "INSERT INTO enrolments VALUES (?, 20003)", [tag("enrolment", &code.0)]).await;
    let NetworkId(id) = state.header().network;
    put(&pool, "INSERT INTO networks VALUES (8, ?, 3, ?)", [tag("network", &id), state.head.to_bytes()])
        .await;
    for entry in state.entries() {
        put(&pool, "INSERT INTO entries VALUES (8, ?, ?)", [entry.id.0.to_vec(), entry.to_bytes()]).await;
    }
    for key in state.slots() {
        put(&pool, "INSERT INTO slots VALUES (8, ?, ?)", [key.slot.0.to_vec(), key.to_bytes()]).await;
    }
    for join in &joins {
        let row = [join.id().to_vec(), join.to_bytes()];
        put(&pool, "INSERT INTO joins (network, tag, body) VALUES (8, ?, ?)", row).await;
    }
    let mut w = Writer::new();
    w.version(1);
    w.text(&relay(3).url);
    w.raw(&relay(3).key);
    w.u16(0);
    let row = [tag("relay", relay(3).url.as_bytes()), w.finish()];
    put(&pool, "INSERT INTO relays VALUES (?, ?)", row).await;
    pool.close().await;
    Old { state, joins, code }
}

async fn put<const N: usize>(pool: &SqlitePool, query: &'static str, values: [Vec<u8>; N]) {
    let mut query = sqlx::query(query);
    for value in values {
        query = query.bind(value);
    }
    query.execute(pool).await.unwrap();
}

fn account(name: &AccountName) -> Vec<u8> {
    let mut w = Writer::new();
    w.version(1);
    w.text(name.as_str());
    w.bytes(&[7; 192]);
    w.finish()
}

fn roster() -> PublicState {
    let new = NewNetwork {
        name: "home".to_owned(),
        machine_name: "first".to_owned(),
        keys: &MachineKeys::generate(&mut OsRng),
        coordinator: "https://c.example".to_owned(),
        pin: None,
        relays: Vec::new(),
        ipv4: InnerNet::new("10.77.0.0".parse().unwrap(), 24).unwrap(),
    };
    let Ok((roster, _paper)) = Roster::create(new, 1_700_000_000, &mut OsRng) else {
        panic!("a network is made");
    };
    roster.state().clone()
}
