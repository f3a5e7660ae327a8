//! Creating a network, reading it, changing it, healing it.

use ed25519_dalek::SigningKey;
use proto::{
    coordinator::{Auth, Reason},
    epoch::{EpochKey, Slot, slot},
    relay::month_of,
    roster::{Head, PublicState, Roster},
    wire::Wire,
};
use rand_core::OsRng;
use vpnd::coordinator::Error;

use crate::house::{House, Network, PASSWORD, directory, name, password, refused, today};

#[tokio::test]
async fn a_created_network_is_read_back_as_it_was_signed() {
    let directory = directory();
    let house = House::open(directory.path()).await;
    let network = house.network("anna").await;
    let client = house.client();
    assert!(client.head(&network.id()).await.unwrap() == network.roster.head().to_bytes());
    let state = client.state(&network.id(), &Auth::Member(&network.member())).await.unwrap();
    assert!(state == network.roster.state().to_bytes());

    let sealing = network.keys.sealing();
    let epoch = network.roster.header().epoch;
    let sealed = client.slot(&network.id(), &slot(&sealing.public(), &epoch)).await.unwrap();
    let key = EpochKey::open(sealing, &network.id(), &epoch, &sealed).unwrap();
    let state = PublicState::from_bytes(&state).unwrap();
    assert!(Roster::open(state, key, &network.id()).is_ok());
    let missing = refused(client.slot(&network.id(), &Slot([0; 32])).await);
    assert!(matches!(missing, Error::NotFound), "{missing}");
}

#[tokio::test]
async fn a_network_is_created_once_and_only_within_the_quota() {
    let directory = directory();
    let house = House::open(directory.path()).await;
    let session = house.account("anna").await;
    let client = house.client();
    let first = Network::new(&house.url());
    client.create_network(&session, first.roster.state().to_bytes()).await.unwrap();
    let again = refused(client.create_network(&session, first.roster.state().to_bytes()).await);
    assert!(matches!(again, Error::Refused(Reason::NetworkExists)), "{again}");
    for _ in 1..coordinator::server::NETWORKS_PER_ACCOUNT {
        let state = Network::new(&house.url()).roster.state().to_bytes();
        client.create_network(&session, state).await.unwrap();
    }
    let state = Network::new(&house.url()).roster.state().to_bytes();
    let over = refused(client.create_network(&session, state).await);
    assert!(matches!(over, Error::Refused(Reason::TooManyNetworks)), "{over}");
}

#[tokio::test]
async fn a_state_that_its_signers_did_not_sign_is_refused() {
    let directory = directory();
    let house = House::open(directory.path()).await;
    let session = house.account("anna").await;
    let mut state = Network::new(&house.url()).roster.state().to_bytes();
    *state.last_mut().unwrap() ^= 1;
    let refusal = refused(house.client().create_network(&session, state).await);
    assert!(matches!(refusal, Error::Refused(Reason::BadRoster)), "{refusal}");
}

#[tokio::test]
async fn of_two_writers_one_wins_and_the_other_sees_its_head() {
    let directory = directory();
    let house = House::open(directory.path()).await;
    let network = house.network("anna").await;
    let (client, member) = (house.client(), network.member());
    let (won, first) = network.renamed("one");
    let (_, second) = network.renamed("two");
    let other = house.client();
    let network_id = network.id();
    let (a, b) = tokio::join!(
        client.push(&network_id, &member, first.to_bytes(), Vec::new()),
        other.push(&network_id, &member, second.to_bytes(), Vec::new()),
    );
    let ((Ok(()), Err(lost)) | (Err(lost), Ok(()))) = (a, b) else { panic!("exactly one must win") };
    let Error::Conflict(head) = lost else { panic!("{lost}") };
    let present = client.head(&network_id).await.unwrap();
    assert!(head.0 == present);
    let present = Head::from_bytes(&present).unwrap();
    present.verify(&network_id).unwrap();
    assert!(present.order() == won.order());
}

#[tokio::test]
async fn the_same_change_again_is_told_that_it_is_there() {
    let directory = directory();
    let house = House::open(directory.path()).await;
    let network = house.network("anna").await;
    let client = house.client();
    let (after, delta, ()) = network.edit(|draft| {
        draft.new_epoch();
        Ok(())
    });
    client.push(&network.id(), &network.member(), delta.to_bytes(), Vec::new()).await.unwrap();
    // An answer was lost: the machine asks again with the key of the epoch that its own change ended.
    let again = refused(client.push(&network.id(), &network.member(), delta.to_bytes(), Vec::new()).await);
    let Error::Conflict(head) = again else { panic!("{again}") };
    assert!(head.0 == after.head().to_bytes());
}

#[tokio::test]
async fn only_a_member_of_the_present_epoch_reads_and_writes() {
    let directory = directory();
    let house = House::open(directory.path()).await;
    let mut network = house.network("anna").await;
    let (client, id) = (house.client(), network.id());
    let former = network.member();
    network
        .publish(&client, |draft| {
            draft.new_epoch();
            Ok(())
        })
        .await;
    let (_, delta) = network.renamed("renamed");
    for key in [&former, &SigningKey::generate(&mut OsRng)] {
        let refusals = [
            refused(client.state(&id, &Auth::Member(key)).await),
            refused(client.joins(&id, &Auth::Member(key)).await),
            refused(client.push(&id, key, delta.to_bytes(), Vec::new()).await),
            refused(client.watch(&id, key, 50).await),
            refused(client.credential(&id, key, month_of(today())).await),
        ];
        for refusal in refusals {
            assert!(matches!(refusal, Error::NotPermitted), "{refusal}");
        }
    }
    let state = client.state(&id, &Auth::Member(&network.member())).await.unwrap();
    assert!(state == network.roster.state().to_bytes());
}

#[tokio::test]
async fn an_unknown_network_is_not_found_whoever_asks() {
    let directory = directory();
    let house = House::open(directory.path()).await;
    let (client, network) = (house.client(), Network::new(&house.url()));
    let (id, member) = (network.id(), network.member());
    let refusals = [
        refused(client.head(&id).await),
        refused(client.state(&id, &Auth::Member(&member)).await),
        refused(client.watch(&id, &member, 50).await),
        refused(client.heal(&id, &member, network.roster.state().to_bytes()).await),
    ];
    for refusal in refusals {
        assert!(matches!(refusal, Error::NotFound), "{refusal}");
    }
}

#[tokio::test]
async fn credentials_are_issued_to_members_for_three_months_and_are_always_the_same() {
    let directory = directory();
    let house = House::open(directory.path()).await;
    let network = house.network("anna").await;
    let (client, month) = (house.client(), month_of(today()));
    let first = client.credential(&network.id(), &network.member(), month).await.unwrap();
    assert!(client.credential(&network.id(), &network.member(), month).await.unwrap() == first);
    let later = client.credential(&network.id(), &network.member(), month + 2).await.unwrap();
    assert!(later.pseudonym() != first.pseudonym());
    let issuer = house.store.secrets(&mut OsRng).await.unwrap().issuer;
    assert!(issuer.admission_key().verify(&first) && issuer.admission_key().verify(&later));
    for month in [month - 1, month + 3] {
        let refusal = refused(client.credential(&network.id(), &network.member(), month).await);
        assert!(matches!(refusal, Error::NotFound), "{refusal}");
    }
}

#[tokio::test]
async fn a_restart_keeps_every_network() {
    let directory = directory();
    let house = House::open(directory.path()).await;
    let mut network = house.network("anna").await;
    let client = house.client();
    network
        .publish(&client, |draft| {
            let id = draft.machines().next().unwrap().id;
            draft.rename_machine(&id, "renamed")
        })
        .await;
    let pin = house.pin;
    house.close().await;
    let house = House::open(directory.path()).await;
    assert!(house.pin == pin);
    let client = house.client();
    let state = client.state(&network.id(), &Auth::Member(&network.member())).await.unwrap();
    assert!(state == network.roster.state().to_bytes());
    let session = client.login(&name("anna"), password(PASSWORD)).await.unwrap();
    assert!(client.networks(&session).await.unwrap() == [network.id()]);
}

#[tokio::test]
async fn a_coordinator_that_went_back_is_healed_and_never_goes_back_itself() {
    let (directory, copies) = (directory(), directory());
    let backup = copies.path().join("backup");
    let house = House::open(directory.path()).await;
    let mut network = house.network("anna").await;
    let data = coordinator::store::DataDir::new(directory.path(), None);
    data.backup(&backup).await.unwrap();
    let old = network.roster.state().to_bytes();
    let old_member = network.member();
    network
        .publish(&house.client(), |draft| {
            draft.new_epoch();
            Ok(())
        })
        .await;
    let client = house.client();
    let back = refused(client.heal(&network.id(), &old_member, old).await);
    assert!(matches!(back, Error::Conflict(_)), "{back}");
    house.close().await;

    data.restore(&backup, true, &data.lock().unwrap()).await.unwrap();
    let house = House::open(directory.path()).await;
    let client = house.client();
    let stranger = SigningKey::generate(&mut OsRng);
    let state = network.roster.state().to_bytes();
    let refusal = refused(client.heal(&network.id(), &stranger, state.clone()).await);
    assert!(matches!(refusal, Error::NotPermitted), "{refusal}");
    client.heal(&network.id(), &network.member(), state.clone()).await.unwrap();
    assert!(client.state(&network.id(), &Auth::Member(&network.member())).await.unwrap() == state);
}
