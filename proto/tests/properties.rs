//! What holds for every input: parsers never panic, no changed byte of anything signed or sealed is accepted, and a
//! state never gives way to an older one.
#![allow(clippy::unwrap_used, reason = "tests")]

mod cast;

use std::sync::LazyLock;

use cast::{Founder, Repeatable, found, uses};
use proptest::prelude::{Just, Strategy, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};
use proto::{
    epoch::EpochKeys,
    identity::MachineKeys,
    introduction::{INITIATION, Introduction},
    roster::{
        Delta, Draft, EditError, Entry, EntryId, Head, JoinRecord, MerkleProof, PublicState, Relation,
        RelayEntry, Roster,
    },
    token::{EnrolToken, InviteToken, RecoveryKey, Token},
    wire::{Wire, WireError},
};
use rand_core::OsRng;

/// One of everything that crosses a wire, with a roster to judge it by.
struct Specimens {
    before: Roster,
    state: Vec<u8>,
    delta: Vec<u8>,
    record: Vec<u8>,
    sealed_record: Vec<u8>,
    introduction: Vec<u8>,
    sealed_introduction: Vec<u8>,
}

static SPECIMENS: LazyLock<Specimens> = LazyLock::new(|| {
    let mut f = found(&mut Repeatable::new(1));
    let before = f.roster.clone();
    let edit = f.edit(|draft| draft.add_invite(uses(2))).unwrap();
    f.roster = edit.roster;
    let (_, record) = f.joiner(&edit.outcome, "laptop");
    let introduction = Introduction::new(&f.roster, &record, &[1; INITIATION]).unwrap();
    Specimens {
        before,
        state: f.roster.state().to_bytes(),
        delta: edit.delta.to_bytes(),
        record: record.to_bytes(),
        sealed_record: f.roster.seal_join(&record, &mut OsRng),
        introduction: introduction.to_bytes(),
        sealed_introduction: introduction.seal(f.roster.epoch_key(), &mut OsRng).unwrap(),
    }
});

/// Reads `bytes` as everything they might claim to be. What is accepted must come back the same when it is written
/// and read again.
fn read_as_everything(bytes: &[u8]) {
    fn again<T: Wire>(bytes: &[u8]) {
        if let Ok(value) = T::from_bytes(bytes) {
            let written = value.to_bytes();
            assert!(T::from_bytes(&written).is_ok_and(|again| again.to_bytes() == written));
        }
    }
    again::<PublicState>(bytes);
    again::<Delta>(bytes);
    again::<Head>(bytes);
    again::<JoinRecord>(bytes);
    again::<Introduction>(bytes);
    again::<MachineKeys>(bytes);
    again::<EpochKeys>(bytes);
    again::<MerkleProof>(bytes);
    again::<RelayEntry>(bytes);
    let _ = Entry::from_plaintext(EntryId([0; 16]), bytes);
    let s = &*SPECIMENS;
    let _ = s.before.open_join(bytes);
    let _ = Introduction::open(bytes, &s.before.network(), s.before.epoch_key());
    let text = String::from_utf8_lossy(bytes);
    let _ = (InviteToken::from_text(&text), EnrolToken::from_text(&text), RecoveryKey::from_text(&text));
}

proptest! {
    #[test]
    fn no_parser_panics_on_noise(bytes in prop::collection::vec(any::<u8>(), 0..4096)) {
        read_as_everything(&bytes);
        // Past the version byte too.
        read_as_everything(&[&[1], &bytes[..]].concat());
    }

    #[test]
    fn no_parser_panics_on_damage(which in 0..6_usize, cut in any::<prop::sample::Index>(),
                                  at in any::<prop::sample::Index>(), bytes in prop::collection::vec(any::<u8>(), 1..8)) {
        let s = &*SPECIMENS;
        let all = [&s.state, &s.delta, &s.record, &s.sealed_record, &s.introduction, &s.sealed_introduction];
        let mut damaged = all[which].clone();
        let start = at.index(damaged.len());
        for (old, new) in damaged[start..].iter_mut().zip(&bytes) {
            *old = *new;
        }
        read_as_everything(&damaged);
        damaged.truncate(cut.index(damaged.len()));
        read_as_everything(&damaged);
    }

    #[test]
    fn no_changed_byte_of_a_state_a_delta_or_a_record_is_accepted(at in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let s = &*SPECIMENS;
        let network = s.before.network();
        let flip = |bytes: &[u8]| {
            let mut changed = bytes.to_vec();
            changed[at.index(bytes.len())] ^= 1 << bit;
            changed
        };
        let state = PublicState::from_bytes(&flip(&s.state));
        prop_assert!(!state.is_ok_and(|state| state.verify(&network).is_ok()));
        let delta = Delta::from_bytes(&flip(&s.delta));
        prop_assert!(!delta.is_ok_and(|delta| s.before.state().apply(&delta).is_ok()));
        let delta = Delta::from_bytes(&s.delta).unwrap();
        let after = s.before.apply(&delta, None).unwrap();
        let record = JoinRecord::from_bytes(&flip(&s.record));
        prop_assert!(!record.is_ok_and(|record| after.provisional(&record).is_ok()));
        prop_assert!(after.open_join(&flip(&s.sealed_record)).is_err());
        let sealed = flip(&s.sealed_introduction);
        prop_assert!(Introduction::open(&sealed, &network, after.epoch_key()).is_err());
    }

    #[test]
    fn optional_fields_of_the_future_are_ignored_where_nothing_is_signed(
        tag in any::<u8>(), field in prop::collection::vec(any::<u8>(), 0..64)
    ) {
        let s = &*SPECIMENS;
        let mut bytes = s.introduction.clone();
        let mut w = proto::wire::Writer::new();
        w.optional(tag, &field);
        bytes.extend(w.finish());
        prop_assert!(Introduction::from_bytes(&bytes).is_ok_and(|i| i.check(&s.before).is_ok()));
    }
}

/// What a signer may do next.
#[derive(Clone, Copy, Debug)]
enum Step {
    Invite(u32),
    Join,
    FoldAll,
    Rename,
    Remove,
    Epoch,
    Promote,
    Renew,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (1..4_u32).prop_map(Step::Invite),
        Just(Step::Join),
        Just(Step::Join),
        Just(Step::FoldAll),
        Just(Step::Rename),
        Just(Step::Remove),
        Just(Step::Epoch),
        Just(Step::Promote),
        Just(Step::Renew),
    ];
    prop::collection::vec(step, 1..24)
}

proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(48))]

    #[test]
    fn whoever_follows_by_deltas_ends_where_the_signer_is_and_never_goes_back(steps in steps()) {
        let mut f = found(&mut OsRng);
        let (mut coordinator, mut follower) = (f.roster.state().clone(), f.roster.clone());
        let (mut invites, mut records, mut past) = (Vec::new(), Vec::new(), Vec::new());
        for (n, step) in steps.into_iter().enumerate() {
            if matches!(step, Step::Join) {
                records.extend(join(&f, &invites, n));
                continue;
            }
            let Ok(edit) = f.edit(|draft| take(draft, step, n, &mut invites, &records)) else {
                continue;
            };
            let delta = Delta::from_bytes(&edit.delta.to_bytes()).unwrap();
            coordinator = coordinator.apply(&delta).unwrap();
            follower = follower.apply(&delta, delta.open_key(f.keys.sealing())).unwrap();
            prop_assert!(coordinator == *edit.roster.state());
            prop_assert_eq!(edit.roster.head().relation(f.roster.head()), Relation::Newer);
            past.push(delta);
            for old in &past {
                prop_assert!(coordinator.apply(old).is_err());
            }
            f.roster = edit.roster;
        }
        // The same state, whether followed or fetched whole.
        let fetched = PublicState::from_bytes(&coordinator.to_bytes()).unwrap();
        let fetched = Roster::open(fetched, follower.epoch_key().clone(), &f.network).unwrap();
        prop_assert!(fetched.machines().eq(follower.machines()) && fetched.invites().eq(f.roster.invites()));
    }
}

/// A machine that joins by the first invite that is still live.
fn join(f: &Founder, invites: &[proto::roster::InviteSecret], n: usize) -> Option<JoinRecord> {
    let invite = invites.iter().find(|secret| f.roster.invite(&secret.id()).is_some())?;
    Some(f.joiner(invite, &format!("m{}", n % 3)).1)
}

fn take(
    draft: &mut Draft<'_>,
    step: Step,
    n: usize,
    invites: &mut Vec<proto::roster::InviteSecret>,
    records: &[JoinRecord],
) -> Result<(), EditError> {
    let last = draft.machines().last().map(|machine| machine.id);
    let all: Vec<_> = draft.machines().map(|machine| machine.id).collect();
    match step {
        Step::Invite(count) => invites.push(draft.add_invite(uses(count))?),
        Step::FoldAll => drop(draft.fold_all(records)),
        Step::Rename => draft.rename_machine(&last.unwrap(), &format!("renamed{n}"))?,
        Step::Remove => drop(draft.remove_machine(&last.unwrap())?),
        Step::Epoch => draft.new_epoch(),
        Step::Promote => draft.set_signers(&all)?,
        Step::Join | Step::Renew => {}
    }
    Ok(())
}

#[test]
fn a_newer_format_is_refused_in_plain_words_everywhere() {
    let s = &*SPECIMENS;
    let newer = |bytes: &[u8]| [&[2], &bytes[1..]].concat();
    let want = Some(WireError::Newer { found: 2, known: 1 });
    assert_eq!(PublicState::from_bytes(&newer(&s.state)).err(), want);
    assert_eq!(Delta::from_bytes(&newer(&s.delta)).err(), want);
    assert!(
        s.before.open_join(&newer(&s.sealed_record)).err().unwrap().to_string().contains("newer version")
    );
    let mut intro = s.sealed_introduction.clone();
    intro[1] = 2;
    let refused = Introduction::open(&intro, &s.before.network(), s.before.epoch_key());
    assert!(refused.err().unwrap().to_string().contains("newer version"));
}
