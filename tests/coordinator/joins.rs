//! The join list.

use ed25519_dalek::SigningKey;
use proto::{
    coordinator::{Auth, Join, Reason},
    identity::MachineKeys,
    roster::{InviteSecret, JoinRecord, NewInvite},
    wire::Wire,
};
use rand_core::OsRng;
use tempfile::TempDir;
use vpnd::coordinator::{Client, Error};

use crate::house::{House, Network, directory, now, refused};

#[tokio::test]
async fn an_invite_reads_the_roster_and_appends_its_record() {
    let stage = Stage::with_an_invite(1).await;
    let state = stage.client.state(&stage.network.id(), &stage.invite()).await.unwrap();
    assert!(state == stage.network.roster.state().to_bytes());
    let join = stage.record();
    stage.append(&join).await.unwrap();
    assert!(stage.client.joins(&stage.network.id(), &stage.invite()).await.unwrap() == [join.clone()]);
    assert!(stage.listed().await == [join]);
}

#[tokio::test]
async fn no_more_records_wait_than_an_invite_has_uses_and_the_same_one_counts_once() {
    let stage = Stage::with_an_invite(2).await;
    let joins = [stage.record(), stage.record(), stage.record()];
    stage.append(&joins[0]).await.unwrap();
    stage.append(&joins[0]).await.unwrap();
    stage.append(&joins[1]).await.unwrap();
    let over = refused(stage.append(&joins[2]).await);
    assert!(matches!(over, Error::Refused(Reason::InviteUsedUp)), "{over}");
    assert_eq!(stage.listed().await.len(), 2);
}

#[tokio::test]
async fn a_folded_record_leaves_the_list_with_the_change_that_folds_it() {
    let mut stage = Stage::with_an_invite(2).await;
    let (one, two) = (stage.record(), stage.record());
    stage.append(&one).await.unwrap();
    stage.append(&two).await.unwrap();
    let network = &mut stage.network;
    let opened = network.roster.open_join(&one.record).unwrap_or_else(|_| panic!("a record"));
    let (roster, delta, _) = network.edit(|draft| draft.fold(&opened));
    stage.client.push(&network.id(), &network.member(), delta.to_bytes(), vec![one.id()]).await.unwrap();
    network.roster = roster;
    assert!(stage.listed().await == [two]);
}

#[tokio::test]
async fn a_revoked_invite_takes_its_waiting_records_with_it() {
    let mut stage = Stage::with_an_invite(1).await;
    let (early, late) = (stage.record(), stage.record());
    stage.append(&early).await.unwrap();
    let id = stage.secret.id();
    stage.network.publish(&stage.client, |draft| draft.remove_invite(&id)).await;
    assert!(stage.listed().await.is_empty());
    let refusal = refused(stage.append(&late).await);
    assert!(matches!(refusal, Error::Refused(Reason::InviteUnknown)), "{refusal}");
}

#[tokio::test]
async fn an_expired_invite_opens_nothing() {
    let yesterday = now() - 86_400;
    let stage = Stage::set(yesterday, new(1, yesterday + 60)).await;
    let (network, client, auth) = (stage.network.id(), &stage.client, stage.invite());
    let (join, member) = (stage.record(), stage.network.member());
    let refusals = [
        refused(client.state(&network, &auth).await),
        refused(stage.append(&join).await),
        refused(client.append_join(&network, &Auth::Member(&member), &join).await),
    ];
    for refusal in refusals {
        assert!(matches!(refusal, Error::Refused(Reason::InviteExpired)), "{refusal}");
    }
}

#[tokio::test]
async fn an_invite_appends_in_no_other_invites_name_and_changes_nothing() {
    let mut stage = Stage::with_an_invite(1).await;
    let other = stage.network.publish(&stage.client, |draft| draft.add_invite(new(1, now() + 3600))).await;
    let (network, client) = (stage.network.id(), &stage.client);
    let stranger = other.signing();
    let forged = Auth::Invite { id: stage.secret.id(), key: &stranger };
    let refusals = [
        refused(stage.append(&record(&stage.network, &other)).await),
        refused(client.append_join(&network, &forged, &stage.record()).await),
        refused(client.state(&network, &forged).await),
        refused(client.watch(&network, &stage.key, 50).await),
    ];
    for refusal in refusals {
        assert!(matches!(refusal, Error::NotPermitted), "{refusal}");
    }
}

/// A coordinator with a network that has an invite.
struct Stage {
    network: Network,
    client: Client,
    secret: InviteSecret,
    key: SigningKey,
    _house: House,
    _directory: TempDir,
}

impl Stage {
    async fn with_an_invite(uses: u32) -> Self {
        Self::set(now(), new(uses, now() + 3600)).await
    }

    /// The same by a signer whose clock says `time`.
    async fn set(time: u64, invite: NewInvite) -> Self {
        let directory = directory();
        let house = House::open(directory.path()).await;
        let mut network = house.network("anna").await;
        let client = house.client();
        let (roster, delta, secret) = network.edit_at(time, |draft| draft.add_invite(invite));
        client.push(&network.id(), &network.member(), delta.to_bytes(), Vec::new()).await.unwrap();
        network.roster = roster;
        let key = secret.signing();
        Self { network, client, secret, key, _house: house, _directory: directory }
    }

    /// The invite's proof.
    fn invite(&self) -> Auth<'_> {
        Auth::Invite { id: self.secret.id(), key: &self.key }
    }

    /// A record of one more machine that joins by it.
    fn record(&self) -> Join {
        record(&self.network, &self.secret)
    }

    async fn append(&self, join: &Join) -> Result<(), Error> {
        self.client.append_join(&self.network.id(), &self.invite(), join).await
    }

    /// The list, as a member reads it.
    async fn listed(&self) -> Vec<Join> {
        self.client.joins(&self.network.id(), &Auth::Member(&self.network.member())).await.unwrap()
    }
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
