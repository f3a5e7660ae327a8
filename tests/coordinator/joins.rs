//! The join list.

use proto::{
    coordinator::{Auth, Join, Reason},
    identity::MachineKeys,
    roster::{InviteSecret, JoinRecord, NewInvite},
    wire::Wire,
};
use rand_core::OsRng;
use vpnd::coordinator::{Client, Error};

use crate::house::{House, Network, directory, now, refused};

#[tokio::test]
async fn an_invite_reads_the_roster_and_appends_its_record() {
    let directory = directory();
    let house = House::open(directory.path()).await;
    let mut network = house.network("anna").await;
    let client = house.client();
    let secret = invite(&mut network, &client, 1).await;
    let key = secret.signing();
    let auth = Auth::Invite { id: secret.id(), key: &key };
    let state = client.state(&network.id(), &auth).await.unwrap();
    assert!(state == network.roster.state().to_bytes());
    let join = record(&network, &secret);
    client.append_join(&network.id(), &auth, &join).await.unwrap();
    assert!(client.joins(&network.id(), &auth).await.unwrap() == [join.clone()]);
    assert!(client.joins(&network.id(), &Auth::Member(&network.member())).await.unwrap() == [join]);
}

#[tokio::test]
async fn no_more_records_wait_than_an_invite_has_uses_and_the_same_one_counts_once() {
    let directory = directory();
    let house = House::open(directory.path()).await;
    let mut network = house.network("anna").await;
    let client = house.client();
    let secret = invite(&mut network, &client, 2).await;
    let key = secret.signing();
    let auth = Auth::Invite { id: secret.id(), key: &key };
    let joins = [record(&network, &secret), record(&network, &secret), record(&network, &secret)];
    client.append_join(&network.id(), &auth, &joins[0]).await.unwrap();
    client.append_join(&network.id(), &auth, &joins[0]).await.unwrap();
    client.append_join(&network.id(), &auth, &joins[1]).await.unwrap();
    let over = refused(client.append_join(&network.id(), &auth, &joins[2]).await);
    assert!(matches!(over, Error::Refused(Reason::InviteUsedUp)), "{over}");
    assert_eq!(client.joins(&network.id(), &auth).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_folded_record_leaves_the_list_with_the_change_that_folds_it() {
    let directory = directory();
    let house = House::open(directory.path()).await;
    let mut network = house.network("anna").await;
    let client = house.client();
    let secret = invite(&mut network, &client, 2).await;
    let key = secret.signing();
    let auth = Auth::Invite { id: secret.id(), key: &key };
    let (one, two) = (record(&network, &secret), record(&network, &secret));
    client.append_join(&network.id(), &auth, &one).await.unwrap();
    client.append_join(&network.id(), &auth, &two).await.unwrap();
    let opened = network.roster.open_join(&one.record).unwrap_or_else(|_| panic!("a record"));
    let (roster, delta, _) = network.edit(|draft| draft.fold(&opened));
    client.push(&network.id(), &network.member(), delta.to_bytes(), vec![one.id()]).await.unwrap();
    network.roster = roster;
    assert!(client.joins(&network.id(), &Auth::Member(&network.member())).await.unwrap() == [two]);
}

#[tokio::test]
async fn a_revoked_invite_takes_its_waiting_records_with_it() {
    let directory = directory();
    let house = House::open(directory.path()).await;
    let mut network = house.network("anna").await;
    let client = house.client();
    let secret = invite(&mut network, &client, 1).await;
    let key = secret.signing();
    let auth = Auth::Invite { id: secret.id(), key: &key };
    let (early, late) = (record(&network, &secret), record(&network, &secret));
    client.append_join(&network.id(), &auth, &early).await.unwrap();
    network.publish(&client, |draft| draft.remove_invite(&secret.id())).await;
    assert!(client.joins(&network.id(), &Auth::Member(&network.member())).await.unwrap().is_empty());
    let refusal = refused(client.append_join(&network.id(), &auth, &late).await);
    assert!(matches!(refusal, Error::Refused(Reason::InviteUnknown)), "{refusal}");
}

#[tokio::test]
async fn an_expired_invite_opens_nothing() {
    let directory = directory();
    let house = House::open(directory.path()).await;
    let mut network = house.network("anna").await;
    let client = house.client();
    let yesterday = now() - 86_400;
    let (roster, delta, secret) =
        network.edit_at(yesterday, |draft| draft.add_invite(new(1, yesterday + 60)));
    client.push(&network.id(), &network.member(), delta.to_bytes(), Vec::new()).await.unwrap();
    network.roster = roster;
    let key = secret.signing();
    let auth = Auth::Invite { id: secret.id(), key: &key };
    let refusals = [
        refused(client.state(&network.id(), &auth).await),
        refused(client.append_join(&network.id(), &auth, &record(&network, &secret)).await),
        refused(
            client
                .append_join(&network.id(), &Auth::Member(&network.member()), &record(&network, &secret))
                .await,
        ),
    ];
    for refusal in refusals {
        assert!(matches!(refusal, Error::Refused(Reason::InviteExpired)), "{refusal}");
    }
}

#[tokio::test]
async fn an_invite_appends_in_no_other_invites_name_and_changes_nothing() {
    let directory = directory();
    let house = House::open(directory.path()).await;
    let mut network = house.network("anna").await;
    let client = house.client();
    let (one, two) = (invite(&mut network, &client, 1).await, invite(&mut network, &client, 1).await);
    let (key, stranger) = (one.signing(), two.signing());
    let auth = Auth::Invite { id: one.id(), key: &key };
    let forged = Auth::Invite { id: one.id(), key: &stranger };
    let refusals = [
        refused(client.append_join(&network.id(), &auth, &record(&network, &two)).await),
        refused(client.append_join(&network.id(), &forged, &record(&network, &one)).await),
        refused(client.state(&network.id(), &forged).await),
        refused(client.watch(&network.id(), &key).await),
    ];
    for refusal in refusals {
        assert!(matches!(refusal, Error::NotPermitted), "{refusal}");
    }
}

async fn invite(network: &mut Network, client: &Client, uses: u32) -> InviteSecret {
    network.publish(client, |draft| draft.add_invite(new(uses, now() + 3600))).await
}

fn new(uses: u32, expires: u64) -> NewInvite {
    NewInvite { name: None, uses, expires, groups: Vec::new() }
}

fn record(network: &Network, secret: &InviteSecret) -> Join {
    let keys = MachineKeys::generate(&mut OsRng);
    let record = JoinRecord::create(&network.roster, secret, &keys, "joiner", &mut OsRng)
        .unwrap_or_else(|_| panic!("a record"));
    Join { invite: secret.id(), record: network.roster.seal_join(&record, &mut OsRng) }
}
