//! A key lives exactly as long as its row, whatever comes in between.

use std::{fs, io::Read};

use proptest::prelude::*;
use proto::wire::Wire;

use super::{TODAY, holds, keys, name, place, register, relay};
use crate::store::{
    DataDir, NewAccount, Store, StoreError,
    accounts::Body,
    rows::{TABLES, Table},
};

#[tokio::test]
async fn a_removed_account_is_found_no_more_and_its_keys_are_nowhere() {
    let (_tmp, dir, store) = place().await;
    register(&store, "anna").await;
    register(&store, "bert").await;
    let before = keys(&dir);
    assert_eq!(before.len(), 2, "the codes are used up");

    assert_eq!(store.remove_account(&name("anna")).await.unwrap(), Some(0));

    assert!(store.account(&name("anna")).await.unwrap().is_none());
    assert_eq!(store.account(&name("bert")).await.unwrap().unwrap().record, [7; 192]);
    let after = keys(&dir);
    assert_eq!(after.len(), 1);
    let gone = before.values().find(|key| !after.values().any(|other| other == *key)).unwrap();
    assert!(!holds(&dir.keys(), gone));
    assert_eq!(store.remove_account(&name("anna")).await.unwrap(), None);
}

#[tokio::test]
async fn nothing_of_an_account_stands_in_the_files_and_all_accounts_rows_are_as_long() {
    let (tmp, _dir, store) = place().await;
    register(&store, "anna-of-the-long-name").await;
    register(&store, "bert").await;
    for file in fs::read_dir(tmp.path()).unwrap() {
        let file = file.unwrap().path();
        assert!(!holds(&file, b"anna-of") && !holds(&file, b"bert") && !holds(&file, &[7; 16]), "{file:?}");
    }
    let mut reading = store.read().await.unwrap();
    let rows = sqlx::query("SELECT DISTINCT length(body) FROM accounts").fetch_all(&mut *reading.transaction);
    assert_eq!(rows.await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_row_that_changes_gets_another_key_and_the_old_one_is_erased() {
    let (_tmp, dir, store) = place().await;
    store.put_relay(&relay(1)).await.unwrap();
    let before = keys(&dir).into_values().next().unwrap();
    let moved = proto::coordinator::RelayOffer { key: [9; 32], ..relay(1) };
    store.put_relay(&moved).await.unwrap();
    let after: Vec<_> = keys(&dir).into_values().collect();
    assert!(after.len() == 1 && after[0] != before && !holds(&dir.keys(), &before));
    assert!(store.relays().await.unwrap() == [moved]);
}

#[tokio::test]
async fn a_change_that_is_refused_or_given_up_leaves_no_key() {
    let (_tmp, dir, store) = place().await;
    register(&store, "anna").await;
    let before = keys(&dir);
    let code = proto::token::EnrolCode(vec![1; 16]);
    let bad = store.add_account(&name("bert"), vec![7; 192], &code, TODAY).await.unwrap();
    assert_eq!(bad, NewAccount::BadCode);
    let mut given_up = store.change().await.unwrap();
    given_up.insert(Table::Relays, b"x").await.unwrap();
    drop(given_up);
    assert!(store.account(&name("bert")).await.unwrap().is_none());
    assert!(keys(&dir) == before);
}

#[tokio::test]
async fn a_crash_before_the_commit_leaves_keys_that_the_next_start_erases() {
    let (_tmp, dir, store) = place().await;
    register(&store, "anna").await;
    let before = keys(&dir);
    let mut change = store.change().await.unwrap();
    let body = Body { name: name("bert"), record: vec![8; 192] };
    change.insert(Table::Accounts, &body.to_bytes()).await.unwrap();
    change.write_keys().await.unwrap();
    drop(change);
    store.close().await;
    assert_eq!(keys(&dir).len(), before.len() + 1);

    let store = dir.create_or_open(&dir.lock().unwrap()).await.unwrap();

    assert!(keys(&dir) == before);
    assert!(store.account(&name("bert")).await.unwrap().is_none());
    assert!(store.account(&name("anna")).await.unwrap().is_some());
}

#[tokio::test]
async fn a_crash_after_the_commit_leaves_keys_that_the_next_start_or_change_erases() {
    let (_tmp, dir, store) = place().await;
    for text in ["anna", "bert", "carl"] {
        register(&store, text).await;
    }
    for (left, text) in [(2, "anna"), (1, "bert")] {
        let mut change = store.change().await.unwrap();
        let id = change.state.index.account(&name(text)).unwrap().unwrap();
        change.delete(Table::Accounts, id).await.unwrap();
        change.commit().await.unwrap();
        assert_eq!(keys(&dir).len(), left + 1);
        match text {
            // A change, whatever it is.
            "anna" => store.settle().await.unwrap(),
            _ => drop(dir.create_or_open(&dir.lock().unwrap()).await.unwrap()),
        }
        assert_eq!(keys(&dir).len(), left);
    }
    assert!(store.account(&name("carl")).await.unwrap().is_some());
}

#[tokio::test]
async fn a_key_that_is_damaged_is_noticed_and_nobody_is_told_that_the_account_is_gone() {
    let (_tmp, dir, store) = place().await;
    register(&store, "anna").await;
    let (slot, _) = keys(&dir).into_iter().next().unwrap();
    store.put_relay(&relay(1)).await.unwrap();
    store.close().await;
    let mut bytes = fs::read(dir.keys()).unwrap();
    bytes[(slot + 1) * 32] ^= 1;
    fs::write(dir.keys(), &bytes).unwrap();

    let store = dir.open().await.unwrap();
    assert_eq!(store.unreadable().await.unwrap(), (2, 1));
    assert_eq!(store.account(&name("anna")).await.err(), Some(StoreError::Damaged));
    store.close().await;

    fs::write(dir.keys(), b"").unwrap();
    assert_eq!(dir.open().await.err(), Some(StoreError::Keys));
    fs::remove_file(dir.keys()).unwrap();
    assert_eq!(dir.open().await.err(), Some(StoreError::Keys));
}

#[tokio::test]
async fn keys_whose_database_was_lost_are_not_overwritten_by_a_new_one() {
    let (_tmp, dir, store) = place().await;
    register(&store, "anna").await;
    store.close().await;
    let (lost, keyring) = (fs::read(&dir.database).unwrap(), fs::read(dir.keys()).unwrap());
    fs::write(&dir.database, b"").unwrap();
    let refused = |store: Result<Store, StoreError>| store.err() == Some(StoreError::Lost);
    assert!(refused(dir.open().await) && refused(dir.create_or_open(&dir.lock().unwrap()).await));
    fs::remove_file(&dir.database).unwrap();
    assert!(refused(dir.create_or_open(&dir.lock().unwrap()).await));
    assert!(fs::read(dir.keys()).unwrap() == keyring);

    fs::write(&dir.database, lost).unwrap();
    let store = dir.create_or_open(&dir.lock().unwrap()).await.unwrap();
    assert!(store.account(&name("anna")).await.unwrap().is_some());
    store.close().await;

    // Who removes the keys begins anew.
    fs::remove_file(&dir.database).unwrap();
    fs::remove_file(dir.keys()).unwrap();
    assert!(dir.create_or_open(&dir.lock().unwrap()).await.is_ok());
}

#[tokio::test]
async fn what_is_restored_has_its_keys_here_and_what_it_replaced_has_none() {
    let (tmp, dir, store) = place().await;
    register(&store, "anna").await;
    let backup = tmp.path().join("backup");
    dir.backup(&backup).await.unwrap();
    for text in ["bert", "carl"] {
        register(&store, text).await;
    }
    store.remove_account(&name("anna")).await.unwrap();
    let replaced = keys(&dir);
    store.close().await;

    dir.restore(&backup, true, &dir.lock().unwrap()).await.unwrap();

    let after = keys(&dir);
    assert_eq!(after.len(), 1);
    assert!(replaced.values().all(|key| !holds(&dir.keys(), key)));
    let store = dir.open().await.unwrap();
    assert_eq!(store.account(&name("anna")).await.unwrap().unwrap().record, [7; 192]);
    assert!(store.account(&name("bert")).await.unwrap().is_none());
    register(&store, "dora").await;
    assert_eq!(store.unreadable().await.unwrap(), (2, 0));
}

#[tokio::test]
async fn a_keyring_that_cannot_be_read_is_overwritten_before_another_takes_its_place() {
    let (tmp, dir, store) = place().await;
    register(&store, "anna").await;
    let backup = tmp.path().join("backup");
    dir.backup(&backup).await.unwrap();
    store.close().await;
    let mut bytes = fs::read(dir.keys()).unwrap();
    bytes[0] ^= 1;
    fs::write(dir.keys(), &bytes).unwrap();
    let mut was = fs::File::open(dir.keys()).unwrap();

    dir.restore(&backup, true, &dir.lock().unwrap()).await.unwrap();

    let mut left = Vec::new();
    was.read_to_end(&mut left).unwrap();
    assert!(left.len() == bytes.len() && left.iter().all(|&byte| byte == 0));
    assert_eq!(dir.open().await.unwrap().unreadable().await.unwrap(), (1, 0));
}

#[tokio::test]
async fn a_backup_without_its_keys_is_refused_and_what_is_there_stays() {
    let (tmp, dir, store) = place().await;
    register(&store, "anna").await;
    let backup = tmp.path().join("backup");
    dir.backup(&backup).await.unwrap();
    store.close().await;
    let bytes = fs::read(&backup).unwrap();
    let database = fs::metadata(&dir.database).unwrap().len() as usize;
    let before = keys(&dir);
    for cut in [bytes.len() - 1, database, database / 2] {
        fs::write(&backup, &bytes[..cut]).unwrap();
        assert!(dir.restore(&backup, true, &dir.lock().unwrap()).await.is_err(), "{cut}");
        drop(dir.create_or_open(&dir.lock().unwrap()).await.unwrap());
        assert!(keys(&dir) == before);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Put(usize, u8),
    Remove(usize, u8),
    Crash(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let which = 0..2usize;
    prop_oneof![
        4 => (which.clone(), 0..5u8).prop_map(|(process, number)| Step::Put(process, number)),
        3 => (which.clone(), 0..5u8).prop_map(|(process, number)| Step::Remove(process, number)),
        1 => which.prop_map(Step::Crash),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Two processes that change the same rows in turn, one of which is killed in the middle now and then: every row
    /// opens for both, no key is left but those that a kill left, and a start erases those.
    #[test]
    fn two_processes_do_not_take_each_others_slots(steps in prop::collection::vec(step(), 1..25)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (_tmp, dir, one) = place().await;
            let mut processes = [one, dir.open().await.unwrap()];
            let mut expected = std::collections::BTreeSet::new();
            let mut killed = false;
            for step in steps {
                match step {
                    Step::Put(process, number) => {
                        processes[process].put_relay(&relay(number)).await.unwrap();
                        expected.insert(number);
                    }
                    Step::Remove(process, number) => {
                        let there = processes[process].remove_relay(&relay(number).url).await.unwrap();
                        prop_assert_eq!(there, expected.remove(&number));
                    }
                    Step::Crash(process) => {
                        crash(&dir, &mut processes[process]).await;
                        killed = true;
                    }
                }
                prop_assert!(killed || keys(&dir).len() == expected.len());
                for process in &processes {
                    let urls: Vec<_> = process.relays().await.unwrap().into_iter().map(|r| r.url).collect();
                    let wanted: Vec<_> = expected.iter().map(|&number| relay(number).url).collect();
                    prop_assert_eq!(urls, wanted);
                }
            }
            dir.create_or_open(&dir.lock().unwrap()).await.unwrap();
            prop_assert_eq!(keys(&dir).len(), expected.len());
            Ok(())
        })?;
    }
}

/// Ends a process between writing keys and the commit, and starts another in its place.
async fn crash(dir: &DataDir, process: &mut Store) {
    let mut change = process.change().await.unwrap();
    for table in TABLES.into_iter().filter(|table| matches!(table, Table::Relays | Table::Enrolments)) {
        change.insert(table, b"never there").await.unwrap();
    }
    change.write_keys().await.unwrap();
    drop(change);
    *process = dir.open().await.unwrap();
}
