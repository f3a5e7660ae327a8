//! Push.

use std::time::Duration;

use proto::{
    coordinator::{Auth, Join, WatchEvent},
    identity::MachineKeys,
    roster::{JoinRecord, NewInvite},
    wire::Wire,
};
use rand_core::OsRng;
use tokio::time::timeout;
use vpnd::coordinator::{Error, Watch};

use crate::house::{House, directory, now, refused};

#[tokio::test]
async fn a_watch_brings_the_head_then_changes_and_joins_as_they_come() {
    let directory = directory();
    let house = House::open(directory.path()).await;
    let mut network = house.network("anna").await;
    let client = house.client();
    let mut watch = house.client().watch(&network.id(), &network.member(), 50).await.unwrap();
    assert!(next(&mut watch).await == WatchEvent::Head(network.roster.head().to_bytes()));

    let expires = now() + 3600;
    let (roster, delta, secret) = network
        .edit(|draft| draft.add_invite(NewInvite { name: None, uses: 1, expires, groups: Vec::new() }));
    client.push(&network.id(), &network.member(), delta.to_bytes(), Vec::new()).await.unwrap();
    assert!(next(&mut watch).await == WatchEvent::Delta(delta.to_bytes()));
    network.roster = roster;

    let keys = MachineKeys::generate(&mut OsRng);
    let record = JoinRecord::create(&network.roster, &secret, &keys, "joiner", &mut OsRng)
        .unwrap_or_else(|_| panic!("a record"));
    let join = Join { invite: secret.id(), record: network.roster.seal_join(&record, &mut OsRng) };
    let key = secret.signing();
    let auth = Auth::Invite { id: secret.id(), key: &key };
    client.append_join(&network.id(), &auth, &join).await.unwrap();
    assert!(next(&mut watch).await == WatchEvent::Join(join));
}

#[tokio::test]
async fn a_watch_ends_with_the_epoch_whose_key_opened_it() {
    let directory = directory();
    let house = House::open(directory.path()).await;
    let mut network = house.network("anna").await;
    let mut watch = house.client().watch(&network.id(), &network.member(), 50).await.unwrap();
    next(&mut watch).await;
    let (roster, delta, ()) = network.edit(|draft| {
        draft.new_epoch();
        Ok(())
    });
    house.client().push(&network.id(), &network.member(), delta.to_bytes(), Vec::new()).await.unwrap();
    network.roster = roster;
    assert!(next(&mut watch).await == WatchEvent::Delta(delta.to_bytes()));
    let ended = timeout(Duration::from_secs(5), watch.next()).await.unwrap();
    assert!(matches!(refused(ended), Error::Unreachable(_)));
    let mut watch = house.client().watch(&network.id(), &network.member(), 50).await.unwrap();
    assert!(next(&mut watch).await == WatchEvent::Head(network.roster.head().to_bytes()));
}

#[tokio::test]
async fn a_watch_ends_when_the_coordinator_stops_and_stopping_does_not_wait_for_it() {
    let directory = directory();
    let house = House::open(directory.path()).await;
    let network = house.network("anna").await;
    let mut watch = house.client().watch(&network.id(), &network.member(), 50).await.unwrap();
    next(&mut watch).await;
    timeout(Duration::from_secs(2), house.close()).await.unwrap();
    let ended = timeout(Duration::from_secs(2), watch.next()).await.unwrap();
    assert!(matches!(refused(ended), Error::Unreachable(_)));
}

async fn next(watch: &mut Watch) -> WatchEvent {
    timeout(Duration::from_secs(5), watch.next()).await.unwrap().unwrap()
}
