//! Who may sign, and what signers renew.

#![allow(clippy::unwrap_used, reason = "tests")]

mod cast;

use cast::{DAY, Founder, NOW, found, relay, uses};
use proto::roster::{Draft, EditError, FRESH, NewInvite};
use rand_core::OsRng;

#[test]
fn the_first_change_of_a_new_month_renews_header_and_epoch_and_the_next_one_does_not() {
    let mut home = found(&mut OsRng);
    let (fresh, epoch) = (home.roster.not_after(), home.roster.epoch_number());
    assert!(matches!(home.edit(renew), Err(EditError::Fresh)));
    let later = fresh - FRESH + 1;
    let renewed = home.roster.edit(&home.keys, later, &mut OsRng, renew).unwrap().roster;
    assert_eq!((renewed.not_after(), renewed.epoch_number()), (fresh + FRESH, epoch + 1));
    // Another signer that wanted to do the same finds it done.
    let again = renewed.edit(&home.keys, later + DAY, &mut OsRng, renew);
    assert!(matches!(again, Err(EditError::Fresh)));
    // A network that is changed every day is renewed too.
    home.roster = home
        .roster
        .edit(&home.keys, later, &mut OsRng, |draft| draft.add_invite(in_a_day(later)))
        .unwrap()
        .roster;
    assert_eq!((home.roster.not_after(), home.roster.epoch_number()), (fresh + FRESH, epoch + 1));
    home.roster = home
        .roster
        .edit(&home.keys, later, &mut OsRng, |draft| draft.add_invite(in_a_day(later)))
        .unwrap()
        .roster;
    assert_eq!(home.roster.epoch_number(), epoch + 1);
}

fn renew(draft: &mut Draft<'_>) -> Result<(), EditError> {
    draft.renew()
}

fn in_a_day(now: u64) -> NewInvite {
    NewInvite { expires: now + DAY, ..uses(1) }
}

#[test]
fn a_right_to_sign_is_given_and_taken_in_generations_and_never_one_s_own_or_the_last() {
    let mut home = found(&mut OsRng);
    let invite = home.invite(uses(1));
    let (keys, record) = home.joiner(&invite, "laptop");
    let laptop = home.take(|draft| draft.fold(&record));
    let server = home.roster.machine_by_name("server").unwrap().id;
    let error = |home: &Founder, take: bool, id| {
        home.edit(|draft| if take { draft.remove_signer(&id) } else { draft.add_signer(&id) }).err()
    };
    assert_eq!(error(&home, true, server), Some(EditError::LastSigner));
    assert_eq!(error(&home, true, laptop), Some(EditError::NoSigner));
    assert_eq!(error(&home, false, server), Some(EditError::SignerAlready));

    home.take(|draft| draft.add_signer(&laptop));
    let order = home.roster.order();
    assert_eq!((order.generation, order.version), (2, 1));
    assert!(home.roster.is_signer(&keys.identity_public()));
    assert_eq!(error(&home, true, server), Some(EditError::OwnRemoval));

    // The new signer takes the right of the old one, which stays a member.
    let edit = home.roster.edit(&keys, NOW, &mut OsRng, |draft| draft.remove_signer(&server)).unwrap();
    assert_eq!(edit.roster.order().generation, 3);
    assert!(!edit.roster.is_signer(&home.keys.identity_public()));
    assert_eq!(edit.roster.machines().count(), 2);
    home.roster = edit.roster;
    assert!(matches!(home.edit(|_| Ok(())), Err(EditError::NotSigner)));
}

#[test]
fn relays_are_added_behind_the_others_renewed_by_their_url_and_removed() {
    let mut home = found(&mut OsRng);
    let urls =
        |home: &Founder| home.roster.relays().iter().map(|relay| relay.url.clone()).collect::<Vec<_>>();
    assert_eq!(home.edit(|draft| draft.add_relays(&[relay(2)])).err(), Some(EditError::RelaysPresent));
    home.take(|draft| draft.add_relays(&[relay(2), relay(3)]));
    assert_eq!(urls(&home), [1, 2, 3].map(|n| relay(n).url));
    let rekeyed = proto::roster::RelayEntry { key: relay(9).key, ..relay(1) };
    home.take(|draft| draft.add_relays(std::slice::from_ref(&rekeyed)));
    assert!(home.roster.relays()[0] == rekeyed && home.roster.relays().len() == 3);
    assert_eq!(home.edit(|draft| draft.add_relays(&[relay(4), relay(5)])).err(), Some(EditError::RelaysFull));
    home.take(|draft| draft.remove_relay(&format!("{}/", relay(2).url)));
    assert_eq!(urls(&home), [1, 3].map(|n| relay(n).url));
    assert_eq!(home.edit(|draft| draft.remove_relay(&relay(2).url)).err(), Some(EditError::NoRelay));
}
