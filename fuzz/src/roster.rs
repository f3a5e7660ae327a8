//! The roster's parsers: what a coordinator hands to machines, machines to a coordinator, joiners to peers, and people
//! to programs.

use proto::{
    epoch::EpochKeys,
    identity::{MachineKeys, NetworkId},
    introduction::Introduction,
    roster::{Delta, Entry, EntryId, Head, JoinRecord, PublicState},
    sync::{Kind, Message},
    token::{EnrolToken, InviteToken, RecoveryKey, Token},
    wire::Wire,
};

/// A whole state. What reads must read the same again after being written, and only its own network may accept it.
pub fn roster_state(data: &[u8]) {
    let Some(state) = read::<PublicState>(data) else { return };
    let own = state.head.chain.root.network_id();
    if state.verify(&own).is_ok() {
        assert!(state.verify(&NetworkId([0; 32])).is_err());
        assert!(state.head.relation(&state.head) == proto::roster::Relation::Same);
        assert!(state.entries().len() == state.header().entries as usize);
    }
}

/// A chain and header.
pub fn roster_head(data: &[u8]) {
    let Some(head) = read::<Head>(data) else { return };
    if head.verify(&head.chain.root.network_id()).is_ok() {
        assert!(head.meets(&head.floor()).is_ok());
    }
}

/// A state and a change of it, the first four bytes saying where they part. What is applied must be newer.
pub fn roster_delta(data: &[u8]) {
    let Some((length, rest)) = data.split_first_chunk::<4>() else { return };
    let Some((state, delta)) = rest.split_at_checked(u32::from_be_bytes(*length) as usize) else { return };
    let Some(delta) = read::<Delta>(delta) else { return };
    let Some(state) = read::<PublicState>(state) else { return };
    if state.verify(&state.head.chain.root.network_id()).is_err() {
        return;
    }
    if let Ok(next) = state.apply(&delta) {
        assert!(next.order() > state.order());
        assert!(next.apply(&delta).is_err());
    }
}

/// A state and what a peer says about its own, the first four bytes saying where they part. An update under the head of a
/// state leads to that state or to none.
pub fn sync_message(data: &[u8]) {
    let Some((length, rest)) = data.split_first_chunk::<4>() else { return };
    let Some((state, said)) = rest.split_at_checked(u32::from_be_bytes(*length) as usize) else { return };
    let Ok(message) = Message::from_bytes(said) else { return };
    // Optional fields of the future are left out when it is written.
    let written = message.to_bytes();
    assert!(said.starts_with(&written) && written.len() <= said.len());
    assert!(message.kind() != Kind::Floor || written.len() <= Kind::Floor.max());
    let Some(state) = read::<PublicState>(state) else { return };
    let own = state.head.chain.root.network_id();
    if state.verify(&own).is_err() {
        return;
    }
    if let Message::Update(update) = message
        && let Some(next) = update.onto(&state, state.head.clone())
        && next.verify(&own).is_ok()
    {
        assert!(next.to_bytes() == state.to_bytes());
    }
}

/// An entry's plaintext, which a joiner can choose in an introduction.
pub fn roster_entry(data: &[u8]) {
    let _ = Entry::from_plaintext(EntryId([0; 16]), data);
}

/// A join record as it stands within its seal.
pub fn join_record(data: &[u8]) {
    let _ = read::<JoinRecord>(data);
}

/// An introduction as it stands within its seal.
pub fn introduction(data: &[u8]) {
    if let Ok(introduction) = Introduction::from_bytes(data) {
        // Optional fields of the future are left out when it is written.
        let written = introduction.to_bytes();
        assert!(data.starts_with(&written));
    }
}

/// The secrets that a state directory holds.
pub fn kept_keys(data: &[u8]) {
    if let Ok(keys) = MachineKeys::from_bytes(data) {
        assert!(keys.to_bytes() == data);
    }
    if let Ok(keys) = EpochKeys::from_bytes(data) {
        // An older version is written as the present one.
        let written = keys.to_bytes();
        assert!(data[0] == 1 || written == data);
        assert!(EpochKeys::from_bytes(&written).is_ok_and(|again| again.to_bytes() == written));
    }
}

/// What a person pastes. No text is two kinds of token.
pub fn tokens(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (invite, enrol) = (InviteToken::from_text(text), EnrolToken::from_text(text));
    let paper = RecoveryKey::from_text(text);
    assert!([invite.is_ok(), enrol.is_ok(), paper.is_ok()].into_iter().filter(|ok| *ok).count() <= 1);
    if let Ok(token) = invite {
        assert!(InviteToken::from_text(&token.to_text()) == Ok(token));
    }
}

/// Reads a value that is kept as the bytes it came in: it must come back as them.
fn read<T: Wire>(data: &[u8]) -> Option<T> {
    let value = T::from_bytes(data).ok()?;
    assert!(value.to_bytes() == data);
    Some(value)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proto::{sync::Update, wire::Reader};

    use super::*;

    fn vectors(text: &str) -> BTreeMap<String, String> {
        serde_json::from_str(text).unwrap()
    }

    fn bytes(vectors: &BTreeMap<String, String>, name: &str) -> Vec<u8> {
        let hex = &vectors[name];
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    /// Feeds `whole`, its beginnings, and copies of it with one bit changed; not at every place, for time.
    fn feed(target: fn(&[u8]), whole: &[u8]) {
        target(whole);
        let step = whole.len() / 300 + 1;
        for at in (0..whole.len()).step_by(step) {
            target(&whole[..at]);
            let mut changed = whole.to_vec();
            changed[at] ^= 1 << (at % 8);
            target(&changed);
        }
    }

    #[test]
    fn states_deltas_records_and_introductions_whole_and_broken() {
        let v = vectors(include_str!("../../proto/tests/vectors/roster.json"));
        let (state, delta) = (bytes(&v, "first state"), bytes(&v, "invite added"));
        feed(roster_state, &state);
        feed(roster_state, &bytes(&v, "last state"));
        feed(roster_head, &state[1..]);
        feed(join_record, &bytes(&v, "join record"));
        feed(introduction, &bytes(&v, "introduction"));
        let length = (state.len() as u32).to_be_bytes();
        feed(roster_delta, &[&length[..], &state, &delta].concat());
        // The invite's plaintext lies behind head, id and version.
        let whole = bytes(&v, "introduction");
        let mut rest = Reader::new(&whole);
        assert!(Head::decode(&mut rest).is_ok());
        rest.raw(24).unwrap();
        let plain = rest.bytes(4096).unwrap();
        assert!(matches!(Entry::from_plaintext(EntryId([0; 16]), plain), Ok(Entry::Invite(_))));
        feed(roster_entry, plain);
    }

    #[test]
    fn what_peers_say_about_their_rosters_whole_and_broken() {
        let v = vectors(include_str!("../../proto/tests/vectors/roster.json"));
        let (first, last) = (bytes(&v, "first state"), bytes(&v, "last state"));
        let state = PublicState::from_bytes(&first).unwrap();
        let newer = PublicState::from_bytes(&last).unwrap();
        let Message::Want(have) = Message::want(&state, &newer.head) else { unreachable!() };
        let own = Message::want(&state, &state.head);
        let Message::Want(all) = &own else { unreachable!() };
        let length = (first.len() as u32).to_be_bytes();
        for message in [
            Message::Floor(newer.head.floor()),
            Message::Head(Box::new(newer.head.clone())),
            Message::Want(have.clone()),
            Message::Update(Update::of(&newer, &have)),
            Message::Update(Update::of(&state, all)),
            Message::Update(Update::of(&state, &[])),
        ] {
            let whole = [&length[..], &first, &message.to_bytes()].concat();
            feed(sync_message, &whole);
            // More of the message than of the state.
            let said = message.to_bytes();
            for at in 0..said.len().min(600) {
                let mut changed = whole.clone();
                changed[4 + first.len() + at] ^= 1 << (at % 8);
                sync_message(&changed);
            }
        }
    }

    #[test]
    fn keys_and_tokens_whole_and_broken() {
        let v = vectors(include_str!("../../proto/tests/vectors/roster.json"));
        feed(kept_keys, &bytes(&v, "founder's keys"));
        let v = vectors(include_str!("../../proto/tests/vectors/epoch.json"));
        feed(kept_keys, &bytes(&v, "epoch keys"));
        for token in vectors(include_str!("../../proto/tests/vectors/token.json")).values() {
            feed(tokens, token.as_bytes());
        }
    }
}
