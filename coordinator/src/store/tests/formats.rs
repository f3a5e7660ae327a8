//! Every sealed shape of the database, as the version that introduced it wrote it: `coordinator/tests/formats/N`.
//!
//! Whoever changes what is stored meets these tests: a database of each shape must still be read, come to the same tables
//! as a fresh one, and what is read of its rows must be written again byte for byte. Another way of writing is another
//! shape, or another version of a row's body. For a new shape add a step to [`schema::STEPS`], write the fixture
//! (`TACET_WRITE_FORMAT=1` and this test), and leave those of before alone.

use std::{
    fs,
    path::{Path, PathBuf},
};

use proto::{
    account::AccountName,
    coordinator::Join,
    identity::MachineKeys,
    metadata::InnerNet,
    roster::{EntryId, NewNetwork, Roster, SealedEntry, SealedKey},
    token::EnrolCode,
    wire::Wire,
};
use rand_core::OsRng;
use sqlx::Row;

use super::{TODAY, place, register, relay};
use crate::store::{
    Appended, DataDir, PublicAddress, Store, accounts, enrolments, networks, relays,
    rows::{TABLES, Table},
    schema,
};

const FILES: [&str; 2] = ["coordinator.db", "coordinator.db-keys"];

fn fixture(shape: i64) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/formats").join(shape.to_string())
}

fn address() -> PublicAddress {
    PublicAddress { url: "https://c.example".to_owned(), pinned: true }
}

fn join() -> Join {
    Join { invite: EntryId([4; 16]), record: vec![5; 100] }
}

/// A database with a row of every kind.
async fn write(to: &Path) {
    let (_tmp, dir, store) = place().await;
    store.secrets(&mut OsRng).await.unwrap();
    store.set_public_address(&address()).await.unwrap();
    register(&store, "anna").await;
    store.add_enrolment(&EnrolCode(b"a code".to_vec()), TODAY).await.unwrap();
    store.put_relay(&relay(3)).await.unwrap();
    let new = NewNetwork {
        name: "home".to_owned(),
        machine_name: "first".to_owned(),
        keys: &MachineKeys::generate(&mut OsRng),
        coordinator: "https://c.example".to_owned(),
        pin: None,
        relays: Vec::new(),
        ipv4: InnerNet::new("10.77.0.0".parse().unwrap(), 24).unwrap(),
    };
    let Ok((roster, _)) = Roster::create(new, 1_700_000_000, &mut OsRng) else { panic!("a network is made") };
    let anna = store.account(&name()).await.unwrap().unwrap();
    store.create_network(anna.id, roster.state(), 1).await.unwrap();
    let appended = store.append_join(&roster.network(), &join(), |_| Ok::<_, ()>(1)).await.unwrap();
    assert!(matches!(appended, Appended::Added));
    store.close().await;
    fs::create_dir_all(to).unwrap();
    for file in FILES {
        fs::copy(dir.path().join(file), to.join(file)).unwrap();
    }
}

fn name() -> AccountName {
    super::name("anna")
}

/// The fixture of a shape, opened as the program does.
async fn opened(shape: i64) -> (tempfile::TempDir, Store) {
    let tmp = tempfile::tempdir().unwrap();
    for file in FILES {
        fs::copy(fixture(shape).join(file), tmp.path().join(file)).unwrap();
    }
    let dir = DataDir::new(tmp.path(), None);
    let store = dir.create_or_open(&dir.lock().unwrap()).await.unwrap();
    (tmp, store)
}

/// The tables and indices of a database.
async fn tables(store: &Store) -> Vec<String> {
    let rows = sqlx::query("SELECT sql FROM sqlite_schema WHERE sql NOT NULL ORDER BY name");
    let rows = rows.fetch_all(&store.pool).await.unwrap();
    let words = |sql: String| sql.split_whitespace().collect::<Vec<_>>().join(" ");
    rows.iter().map(|row| words(row.get(0))).collect()
}

#[tokio::test]
async fn a_database_of_every_shape_that_there_was_is_read_and_written_again_as_it_was() {
    let present = fixture(schema::newest(schema::STEPS));
    if std::env::var_os("TACET_WRITE_FORMAT").is_some() && !present.exists() {
        write(&present).await;
    }
    for shape in schema::SEALED..=schema::newest(schema::STEPS) {
        assert!(fixture(shape).exists(), "shape {shape} has no fixture");
        let (_tmp, store) = opened(shape).await;

        assert_eq!(store.account(&name()).await.unwrap().unwrap().record, [7; 192], "shape {shape}");
        assert!(store.public_address().await.unwrap() == Some(address()), "shape {shape}");
        assert!(store.relays().await.unwrap() == [relay(3)], "shape {shape}");
        assert!(store.has_enrolment(&EnrolCode(b"a code".to_vec()), TODAY).await.unwrap(), "shape {shape}");
        let networks = store.networks().await.unwrap();
        assert_eq!(networks.len(), 1, "shape {shape}");
        let state = store.state(&networks[0]).await.unwrap().unwrap();
        assert!(state.verify(&networks[0]).is_ok(), "shape {shape}");
        let network = store.network(&networks[0]).await.unwrap().unwrap();
        assert!(store.joins(&network).await.unwrap() == [join()], "shape {shape}");
        store.check_structure().await.unwrap();
        assert_eq!(store.unreadable().await.unwrap().1, 0, "shape {shape}");
        let (_fresh_tmp, _, fresh) = place().await;
        assert_eq!(tables(&store).await, tables(&fresh).await, "shape {shape}");
    }
}

#[tokio::test]
async fn what_is_read_of_a_row_is_written_again_byte_for_byte() {
    let (_tmp, store) = opened(schema::newest(schema::STEPS)).await;
    for table in TABLES {
        let mut reading = store.read().await.unwrap();
        let rows = reading.rows(table).await.unwrap();
        assert!(!rows.is_empty(), "{}", table.name());
        for (_, plain) in rows {
            let again = match table {
                Table::Accounts => again::<accounts::Body>(&plain),
                Table::Enrolments => again::<enrolments::Body>(&plain),
                Table::Networks => again::<networks::Body>(&plain),
                Table::Entries => again::<SealedEntry>(&plain),
                Table::Slots => again::<SealedKey>(&plain),
                Table::Joins => again::<networks::Waiting>(&plain),
                Table::Relays => again::<relays::Body>(&plain),
            };
            assert!(again == *plain, "a row of {} is written in another way than it was", table.name());
        }
    }
    assert!(address().to_bytes() == *store.setting("address").await.unwrap().unwrap());
}

fn again<T: Wire>(plain: &[u8]) -> Vec<u8> {
    T::from_bytes(plain).ok().unwrap().to_bytes()
}
