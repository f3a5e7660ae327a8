//! kill -9 of the real program while it is written to.

use std::{path::Path, process::Stdio, time::Duration};

use coordinator::store::DataDir;
use proto::{coordinator::Auth, roster::Head, token::EnrolCode, wire::Wire};
use tokio::{sync::oneshot, time::sleep};
use vpnd::coordinator::Error;

use crate::{
    house::{Network, directory, name, today},
    program::{Program, account, command, free_port, json, keys, network},
};

/// Kills in one run; a long run has more.
const KILLS: usize = 5;
const KILLS_LONG: usize = 50;

#[tokio::test]
async fn a_change_that_was_acknowledged_survives_kill_9() {
    let directory = directory();
    let port = free_port();
    let mut program = Program::start(directory.path(), port).await;
    let (client, session) = account(directory.path(), "anna").await;
    let mut network = network(&client, &session).await;

    let mut acknowledged = 0;
    for kill in 0..kills() {
        // Each round is killed a little later after its first change was acknowledged, however long that took.
        let pause = Duration::from_millis(3 + 7 * kill as u64);
        let (begun, first) = oneshot::channel();
        let killed = tokio::spawn(async move {
            let _ = first.await;
            sleep(pause).await;
            drop(program);
        });
        let (mut begun, mut in_flight) = (Some(begun), None);
        for change in 0.. {
            let (roster, delta) = network.renamed(&format!("m{kill}-{change}"));
            match client.push(&network.id(), &network.member(), delta.to_bytes(), Vec::new()).await {
                Ok(()) => {
                    network.roster = roster;
                    acknowledged += 1;
                    if let Some(begun) = begun.take() {
                        let _ = begun.send(());
                    }
                }
                Err(Error::Unreachable(_)) => {
                    in_flight = Some(roster);
                    break;
                }
                Err(other) => panic!("{other}"),
            }
        }
        killed.await.unwrap();
        program = Program::start(directory.path(), port).await;
        let head = client.head(&network.id()).await.unwrap();
        let head = Head::from_bytes(&head).unwrap();
        let taken = in_flight.filter(|roster| roster.order() == head.order());
        if let Some(roster) = taken {
            network.roster = roster;
        }
        let state = client.state(&network.id(), &Auth::Member(&network.member())).await.unwrap();
        assert!(state == network.roster.state().to_bytes(), "after kill {kill}");
        // Whatever the kill left of versions that are gone, the start erased: an account, a network and its rows.
        let state = network.roster.state();
        assert_eq!(keys(directory.path()).len(), 2 + state.entries().len() + state.slots().len());
    }
    assert!(acknowledged >= kills());
    json(directory.path(), &["check"]);
}

#[tokio::test]
async fn a_removal_that_is_killed_is_whole_or_none_and_its_keys_go_in_the_end() {
    let directory = directory();
    let port = free_port();
    let program = Program::start(directory.path(), port).await;
    let (client, session) = account(directory.path(), "stays").await;
    let stays = network(&client, &session).await;
    let rows = keys(directory.path()).len();
    let mut removed = 0;
    for kill in 0..kills() {
        let goes = put(directory.path(), "goes").await;
        let mut removal = command(directory.path(), &["accounts", "remove", "goes", "--yes"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // From before its first write to after its last, which takes some 10 ms from its start.
        sleep(Duration::from_micros(2_000 + 25_000 / kills() as u64 * kill as u64)).await;
        let _ = removal.kill();
        removal.wait().unwrap();

        json(directory.path(), &["check"]);
        let listed = json(directory.path(), &["accounts"])["accounts"].as_array().unwrap().len();
        let there = client.head(&goes.id()).await.is_ok();
        assert_eq!(listed, 1 + usize::from(there), "after kill {kill}");
        if there {
            json(directory.path(), &["accounts", "remove", "goes", "--yes"]);
        } else {
            removed += 1;
        }
        assert_eq!(keys(directory.path()).len(), rows, "after kill {kill}");
        let state = client.state(&stays.id(), &Auth::Member(&stays.member())).await.unwrap();
        assert!(state == stays.roster.state().to_bytes());
    }
    drop(program);
    println!("{removed} of {} removals were done when they were killed", kills());
}

/// An account with a network, put there as the coordinator does it: it lets nobody register as often as this.
async fn put(directory: &Path, text: &str) -> Network {
    let store = DataDir::new(directory, None).open().await.unwrap();
    let code = EnrolCode(text.as_bytes().to_vec());
    store.add_enrolment(&code, today()).await.unwrap();
    store.add_account(&name(text), vec![7; 192], &code, today()).await.unwrap();
    let account = store.account(&name(text)).await.unwrap().unwrap();
    let network = Network::new("https://127.0.0.1");
    store.create_network(account.id, network.roster.state(), 1).await.unwrap();
    store.close().await;
    network
}

fn kills() -> usize {
    if tests::long() { KILLS_LONG } else { KILLS }
}
