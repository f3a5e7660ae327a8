//! What a machine believes that knows nothing but its token.

use proto::{
    api::ErrorCode,
    roster::{InviteSecret, PublicState},
    token::InviteToken,
    wire::Wire,
};

use super::machine::{DAY, NOW, Network, forged};
use crate::daemon::join::open;

fn token(network: &Network, secret: InviteSecret) -> InviteToken {
    let floor = network.machines[0].roster().head().floor();
    InviteToken { url: "https://c.example".to_owned(), pin: None, network: network.id(), floor, secret }
}

fn refused(state: &PublicState, token: &InviteToken, now: u64) -> ErrorCode {
    open(state.clone(), token, now).err().unwrap().code
}

#[test]
fn a_newcomer_takes_no_roster_but_the_one_of_its_token_or_a_later_one() {
    let mut network = Network::of(&["server", "laptop"]);
    let early = network.shelf.present();
    let secret = network.machines[0].invites(&network.shelf, 1);
    let token = token(&network, secret);
    let present = network.shelf.present();
    assert!(open(present.clone(), &token, NOW).is_ok());

    assert_eq!(refused(&early, &token, NOW), ErrorCode::Untrusted, "older than the token");
    let other = Network::of(&["server"]).shelf.present();
    assert_eq!(refused(&other, &token, NOW), ErrorCode::Untrusted, "another network's");
    let server = &network.machines[0];
    let fork = forged(server.roster(), &server.asker.keys, |header| header.parent = [0; 32]);
    assert_eq!(refused(&fork, &token, NOW), ErrorCode::Untrusted, "another one in its place");
    let member = &network.machines[1].asker.keys;
    let unsigned = forged(server.roster(), member, |header| header.order.version += 1);
    assert_eq!(refused(&unsigned, &token, NOW), ErrorCode::Untrusted, "signed by no signer");

    let id = network.machines[1].id();
    network.machines[0].does(&network.shelf, move |draft| draft.rename_machine(&id, "attic"));
    assert!(open(network.shelf.present(), &token, NOW).is_ok(), "a later one");
}

#[test]
fn an_invite_that_ended_or_was_revoked_opens_nothing_and_no_other_invite_s_key_helps() {
    let mut network = Network::of(&["server"]);
    let [one, two] = [1, 2].map(|uses| network.machines[0].invites(&network.shelf, uses));
    let (one, two) = (token(&network, one), token(&network, two));
    let present = network.shelf.present();
    assert_eq!(refused(&present, &one, NOW + DAY + 1), ErrorCode::TokenExpired);

    // The key that is sealed to the one invite, in the slot of the other.
    let epoch = present.header().epoch;
    let [at, of] = [&one, &two].map(|token| {
        let slot = proto::epoch::slot(&token.secret.sealing().public(), &epoch);
        present.sealed_key(&slot).unwrap().to_vec()
    });
    let mut bytes = present.to_bytes();
    let start = bytes.windows(at.len()).position(|window| window == at).unwrap();
    bytes[start..start + of.len()].copy_from_slice(&of);
    let swapped = PublicState::from_bytes(&bytes).unwrap();
    assert_eq!(refused(&swapped, &one, NOW), ErrorCode::Untrusted);

    let id = one.secret.id();
    network.machines[0].does(&network.shelf, move |draft| draft.remove_invite(&id));
    let after = network.shelf.present();
    assert_eq!(refused(&after, &one, NOW), ErrorCode::TokenUsedUp);
    assert!(after.open_key(&one.secret.sealing()).is_none(), "the new epoch is not sealed to it");
    assert!(open(after, &two, NOW).is_ok());
}
