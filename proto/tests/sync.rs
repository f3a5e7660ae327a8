//! What two machines say when they compare rosters: an update is as large as the difference, and leads to the state that
//! was signed or to none.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod cast;

use cast::{NOW, found};
use proto::{
    roster::{PublicState, Roster},
    sync::{Digest, Kind, Message, PORT, Update},
    wire::{Wire, WireError},
};
use rand_core::OsRng;

fn wanted(own: &Roster, newer: &Roster) -> Vec<Digest> {
    match Message::want(own.state(), newer.head()) {
        Message::Want(have) => have,
        _ => unreachable!(),
    }
}

fn bytes(state: &PublicState) -> Vec<u8> {
    state.to_bytes()
}

/// Over the wire and onto the older state.
fn follow(own: &Roster, newer: &Roster) -> (usize, PublicState) {
    let update = Message::Update(Update::of(newer.state(), &wanted(own, newer)));
    let sent = update.to_bytes();
    let Message::Update(update) = Message::from_bytes(&sent).unwrap() else { unreachable!() };
    (sent.len(), update.onto(own.state(), newer.head().clone()).unwrap())
}

#[test]
fn an_update_leads_to_the_newer_state_whatever_lies_between() {
    let f = found(&mut OsRng);
    let server = f.roster.machines().next().unwrap().id;
    let renamed = f.roster.edit(&f.keys, NOW, &mut OsRng, |draft| draft.rename_machine(&server, "one"));
    let renamed = renamed.unwrap().roster;
    let (small, state) = follow(&f.roster, &renamed);
    assert!(bytes(&state) == bytes(renamed.state()) && state.verify(&f.network).is_ok());
    assert!(small < bytes(renamed.state()).len() / 2, "{small}");

    // Another epoch: entries stay, all keys are others.
    let later = renamed.edit(&f.keys, NOW, &mut OsRng, |draft| {
        draft.new_epoch();
        Ok(())
    });
    let later = later.unwrap().roster;
    assert_eq!(wanted(&f.roster, &later).len(), f.roster.state().entries().len());
    assert!(wanted(&f.roster, &renamed).len() > f.roster.state().entries().len());
    assert!(bytes(&follow(&f.roster, &later).1) == bytes(later.state()));
    // And back, which nobody accepts and nothing prevents.
    assert!(bytes(&follow(&later, &f.roster).1) == bytes(f.roster.state()));
}

#[test]
fn an_update_that_leaves_out_what_the_other_lacks_leads_nowhere() {
    let f = found(&mut OsRng);
    let server = f.roster.machines().next().unwrap().id;
    let renamed = f.roster.edit(&f.keys, NOW, &mut OsRng, |draft| draft.rename_machine(&server, "one"));
    let renamed = renamed.unwrap().roster;
    let update = Update::of(renamed.state(), &wanted(&renamed, &renamed));
    assert!(update.onto(f.roster.state(), renamed.head().clone()).is_none());
    // What is of another state is not the one that was signed.
    let update = Update::of(f.roster.state(), &[]);
    let state = update.onto(f.roster.state(), renamed.head().clone()).unwrap();
    assert!(state.verify(&f.network).is_err());
}

#[test]
fn a_message_is_read_as_it_was_written_and_what_comes_later_is_skipped() {
    let f = found(&mut OsRng);
    let messages = [
        Message::Floor(f.roster.head().floor()),
        Message::Head(Box::new(f.roster.head().clone())),
        Message::want(f.roster.state(), f.roster.head()),
        Message::Update(Update::of(f.roster.state(), &[[7; 16]])),
    ];
    let kinds = [Kind::Floor, Kind::Head, Kind::Want, Kind::Update];
    for (message, kind) in messages.iter().zip(kinds) {
        let bytes = message.to_bytes();
        assert!(message.kind() == kind && bytes.len() <= kind.max());
        assert!(Message::from_bytes(&bytes).unwrap() == *message);
        let frame = message.to_frame();
        assert!(frame[..4] == (bytes.len() as u32).to_be_bytes() && frame[4..] == bytes);
        // An optional field of a later version: tag, length, bytes.
        let later = [&bytes[..], &[9, 0, 0, 0, 1, 7]].concat();
        assert!(Message::from_bytes(&later).unwrap() == *message);
        assert!((0..bytes.len()).all(|at| Message::from_bytes(&bytes[..at]).is_err()));
    }
    let mut newer = messages[0].to_bytes();
    newer[0] = 9;
    assert!(matches!(Message::from_bytes(&newer), Err(WireError::Newer { .. })));
    assert_eq!(PORT, 41_112, "peers of other versions ask there");
}
