//! The life of a roster: what a network's machines, coordinator and paper do to it and with it.

mod cast;

use cast::{DAY, Founder, NOW, found, relay, uses};
use proto::{
    identity::{MachineKeys, RootKeys},
    introduction::{INITIATION, Introduction},
    metadata::InnerNet,
    roster::{
        Delta, EditError, JoinRecord, MachineEntry, MembershipError, NewInvite, PublicState, Relation,
        Roster, RosterError,
    },
    wire::Wire,
};
use rand_core::OsRng;

#[test]
fn a_new_network_has_one_machine_that_is_its_signer() {
    let f = found(&mut OsRng);
    let server = f.roster.machine_by_identity(&f.keys.identity_public()).unwrap();
    assert_eq!((f.roster.name(), server.name.as_str()), ("home", "server"));
    assert!(f.roster.is_signer(&f.keys.identity_public()));
    assert!(f.roster.settings().ipv6.contains(proto::metadata::InnerAddr(server.ipv6.into())));
    assert!(f.roster.settings().ipv4.contains(proto::metadata::InnerAddr(server.ipv4.unwrap().into())));
    assert!(f.roster.relays() == [relay(1), relay(2)]);
    assert!(f.paper.network == f.network);
    // At least a month ahead, and the same for all that is made in one month.
    assert!((NOW + 30 * DAY..NOW + 60 * DAY).contains(&f.roster.not_after()));
    assert_eq!(f.roster.not_after() % (30 * DAY), 0);
}

#[test]
fn what_the_coordinator_keeps_opens_for_members_invites_and_the_paper_alone() {
    let mut f = found(&mut OsRng);
    let invite = f.invite(uses(1));
    let state = PublicState::from_bytes(&f.roster.state().to_bytes()).unwrap();
    assert_eq!(state.verify(&f.network), Ok(()));
    assert!(f.opened_by(f.keys.sealing()).is_ok());
    assert!(f.opened_by(&invite.sealing()).is_ok());
    assert!(f.opened_by(RootKeys::from_seed(&f.paper.seed).sealing()).is_ok());
    assert!(f.opened_by(MachineKeys::generate(&mut OsRng).sealing()).is_err());
}

#[test]
fn a_joiner_is_provisional_at_once_and_a_member_when_folded() {
    let mut f = found(&mut OsRng);
    let invite = f.invite(uses(1));
    let (keys, record) = f.joiner(&invite, "laptop");
    let provisional = f.roster.provisional(&record).unwrap();
    assert_eq!(provisional.name, "laptop");
    assert!(provisional.ipv4.is_some(), "an invite for one machine carries its address");
    assert_eq!(provisional.groups, ["guests"]);
    assert!(!f.roster.is_signer(&keys.identity_public()));

    f.take(|draft| draft.fold(&record));

    let member = f.roster.machine_by_identity(&keys.identity_public()).unwrap();
    // The invite is used up, so that it was this one is not kept.
    let kept = MachineEntry { invite: None, ..provisional };
    assert!(*member == kept, "folding changes nothing that peers rely on");
    assert!(f.roster.invites().next().is_none(), "the last use deletes the invite");
    assert!(f.opened_by(keys.sealing()).is_ok(), "the epoch key is sealed to the new member");
    assert!(f.opened_by(&invite.sealing()).is_err(), "and to the invite no more");
    assert_eq!(f.roster.provisional(&record).err(), Some(MembershipError::Member));
}

#[test]
fn machines_follow_by_deltas_what_a_signer_does() {
    let mut f = found(&mut OsRng);
    let (mut coordinator, mut peer) = (f.roster.state().clone(), f.roster.clone());
    let follow = |f: &mut Founder, edit: proto::roster::Edit<()>, c: &mut PublicState, p: &mut Roster| {
        let delta = Delta::from_bytes(&edit.delta.to_bytes()).unwrap();
        *c = c.apply(&delta).unwrap();
        *p = p.apply(&delta, delta.open_key(f.keys.sealing())).unwrap();
        assert!(*c == *edit.roster.state() && *p.state() == *c);
        f.roster = edit.roster;
    };
    let id = f.roster.machines().next().unwrap().id;
    let mut invite = None;
    let edit = f.edit(|draft| draft.add_invite(uses(3)).map(|secret| invite = Some(secret))).unwrap();
    follow(&mut f, edit, &mut coordinator, &mut peer);
    let (_, record) = f.joiner(&invite.unwrap(), "laptop");
    let edit = f.edit(|draft| draft.fold(&record).map(drop)).unwrap();
    follow(&mut f, edit, &mut coordinator, &mut peer);
    let edit = f.edit(|draft| draft.rename_machine(&id, "nas")).unwrap();
    follow(&mut f, edit, &mut coordinator, &mut peer);
    let laptop = f.roster.machine_by_name("laptop").unwrap().id;
    let edit = f.edit(|draft| draft.set_signers(&[id, laptop])).unwrap();
    assert_eq!((edit.roster.order().generation, edit.roster.order().version), (2, 1));
    follow(&mut f, edit, &mut coordinator, &mut peer);
    let edit = f.edit(|draft| draft.remove_machine(&laptop).map(drop)).unwrap();
    assert_eq!(edit.roster.order().generation, 3);
    follow(&mut f, edit, &mut coordinator, &mut peer);
    let edit = f.edit(|_| Ok(())).unwrap();
    follow(&mut f, edit, &mut coordinator, &mut peer);
    assert_eq!(peer.machines().map(|m| m.name.as_str()).collect::<Vec<_>>(), ["nas"]);
    assert_eq!(peer.epoch_number(), 1);
}

#[test]
fn a_change_of_one_entry_travels_alone() {
    let mut f = found(&mut OsRng);
    let invite = f.invite(uses(50));
    let records: Vec<_> = (0..20).map(|n| f.joiner(&invite, &format!("m{n}")).1).collect();
    let folded = f.take(|draft| Ok(draft.fold_all(&records)));
    assert!(folded.iter().all(Result::is_ok));
    let id = f.roster.machines().next().unwrap().id;
    let edit = f.edit(|draft| draft.rename_machine(&id, "renamed")).unwrap();
    assert!(edit.delta.to_bytes().len() < 4096, "{}", edit.delta.to_bytes().len());
    assert!(f.roster.state().to_bytes().len() > 20 * 2048);
}

#[test]
fn a_removed_machine_opens_nothing_of_the_next_epoch() {
    let mut f = found(&mut OsRng);
    let invite = f.invite(uses(2));
    let (keys, record) = f.joiner(&invite, "thief");
    let thief = f.take(|draft| draft.fold(&record));
    let before = f.roster.clone();
    let edit = f.edit(|draft| draft.remove_machine(&thief)).unwrap();
    assert!(edit.outcome == [invite.id()], "it knows the token that it joined by");
    assert!(edit.delta.open_key(keys.sealing()).is_none());
    assert!(edit.delta.open_key(&invite.sealing()).is_none());
    assert_eq!(before.apply(&edit.delta, None).err(), Some(RosterError::WrongKey));
    assert_eq!(
        before.apply(&edit.delta, Some(before.epoch_key().clone())).err(),
        Some(RosterError::WrongKey)
    );
    f.roster = edit.roster;
    assert_eq!(
        f.roster.provisional(&record).err(),
        Some(MembershipError::NoInvite),
        "nor does its old record help"
    );
}

#[test]
fn a_removed_signer_signs_for_nobody_however_high_its_version() {
    let mut f = found(&mut OsRng);
    let invite = f.invite(uses(1));
    let (keys, record) = f.joiner(&invite, "second");
    let second = f.take(|draft| draft.fold(&record));
    let server = f.roster.machine_by_name("server").unwrap().id;
    f.take(|draft| draft.set_signers(&[server, second]));
    let stolen = f.roster.clone();
    f.take(|draft| draft.remove_machine(&second));
    let mut theirs = stolen.edit(&keys, NOW, &mut OsRng, |_| Ok(())).unwrap();
    for _ in 0..5 {
        theirs = theirs.roster.edit(&keys, NOW, &mut OsRng, |_| Ok(())).unwrap();
        assert_eq!(f.roster.state().apply(&theirs.delta).err(), Some(RosterError::Stale));
    }
    assert_eq!(theirs.roster.head().relation(f.roster.head()), Relation::Older);
    assert_eq!(f.roster.edit(&keys, NOW, &mut OsRng, |_| Ok(())).err(), Some(EditError::NotSigner));
}

#[test]
fn two_signers_who_go_separate_ways_are_a_fork() {
    let f = found(&mut OsRng);
    let one = f.edit(|_| Ok(())).unwrap();
    let id = f.roster.machines().next().unwrap().id;
    let two = f.edit(|draft| draft.rename_machine(&id, "other")).unwrap();
    assert_eq!(one.roster.head().relation(two.roster.head()), Relation::Forked);
    assert_eq!(one.roster.head().relation(f.roster.head()), Relation::Newer);
    assert_eq!(f.roster.head().relation(one.roster.head()), Relation::Older);
    assert_eq!(one.roster.head().relation(one.roster.head()), Relation::Same);
    assert_eq!(one.roster.apply(&two.delta, None).err(), Some(RosterError::Stale));
}

#[test]
fn a_line_of_one_generation_that_leaves_out_a_state_contradicts_it_however_long_it_is() {
    let f = found(&mut OsRng);
    let id = f.roster.machines().next().unwrap().id;
    let kept = f.edit(|draft| draft.rename_machine(&id, "kept")).unwrap().roster;
    let renewed = f.edit(|draft| {
        draft.new_epoch();
        Ok(())
    });
    let renewed = renewed.unwrap().roster;
    let mut line = f.edit(|draft| draft.rename_machine(&id, "other")).unwrap().roster;
    let (start, floor) = (line.clone(), kept.head().floor());
    for length in 2..=70 {
        line = line.edit(&f.keys, NOW, &mut OsRng, |_| Ok(())).unwrap().roster;
        for whence in [&start, &f.roster] {
            assert_eq!(line.head().relation(whence.head()), Relation::Newer, "{length}");
            assert_eq!(whence.head().relation(line.head()), Relation::Older, "{length}");
            assert_eq!(line.head().meets(&whence.head().floor()), Ok(()));
        }
        // So many are named.
        let expected = if length <= 65 { Relation::Forked } else { Relation::Newer };
        assert_eq!(line.head().relation(kept.head()), expected, "{length}");
        let meets = if length <= 65 { Err(RosterError::Forked) } else { Ok(()) };
        assert_eq!(line.head().meets(&floor), meets, "{length}");
        assert_eq!(
            line.head().relation(renewed.head()),
            Relation::Forked,
            "{length}: the epoch tells for ever"
        );
    }
    let elsewhere = line.edit(&f.keys, NOW, &mut OsRng, |draft| {
        draft.new_epoch();
        Ok(())
    });
    let elsewhere = elsewhere.unwrap().roster;
    assert_eq!(elsewhere.head().relation(renewed.head()), Relation::Forked, "one number, two keys");
}

#[test]
fn a_delta_follows_its_parent_alone() {
    let f = found(&mut OsRng);
    let one = f.edit(|_| Ok(())).unwrap();
    let two = one.roster.edit(&f.keys, NOW, &mut OsRng, |_| Ok(())).unwrap();
    assert_eq!(f.roster.apply(&two.delta, None).err(), Some(RosterError::Detached));
    assert_eq!(two.roster.apply(&one.delta, None).err(), Some(RosterError::Stale));
    assert_eq!(one.roster.apply(&one.delta, None).err(), Some(RosterError::Stale));
}

#[test]
fn the_paper_wins_over_a_signer_that_took_everything() {
    let mut f = found(&mut OsRng);
    let invite = f.invite(uses(1));
    let (thief, record) = f.joiner(&invite, "thief");
    let id = f.take(|draft| draft.fold(&record));
    let server = f.roster.machine_by_name("server").unwrap().id;
    f.take(|draft| draft.set_signers(&[server, id]));
    let kept = f.roster.clone();
    let theirs = f.roster.edit(&thief, NOW, &mut OsRng, |draft| draft.remove_machine(&server)).unwrap();

    let root = RootKeys::from_seed(&f.paper.seed);
    let back =
        kept.recover(&root, &f.keys, "server", NOW, &mut OsRng, |draft| draft.remove_machine(&id)).unwrap();

    assert_eq!(back.roster.head().relation(theirs.roster.head()), Relation::Newer);
    assert!(
        back.roster.is_signer(&f.keys.identity_public()) && !back.roster.is_signer(&thief.identity_public())
    );
    assert!(back.roster.state().open_key(thief.sealing()).is_none());
    assert!(kept.state().apply(&back.delta).is_ok());
    assert_eq!(back.roster.state().apply(&theirs.delta).err(), Some(RosterError::Stale));
    let other = RootKeys::generate(&mut OsRng);
    let refused = kept.recover(&other, &f.keys, "server", NOW, &mut OsRng, |_| Ok(()));
    assert_eq!(refused.err(), Some(EditError::Roster(RosterError::OtherNetwork)));
}

#[test]
fn the_paper_alone_brings_a_new_machine_in() {
    let f = found(&mut OsRng);
    let root = RootKeys::from_seed(&f.paper.seed);
    let kept = f.opened_by(root.sealing()).unwrap();
    let fresh = MachineKeys::generate(&mut OsRng);
    let lost = kept.machines().next().unwrap().id;
    let back =
        kept.recover(&root, &fresh, "server", NOW, &mut OsRng, |draft| draft.remove_machine(&lost)).unwrap();
    assert!(back.roster.machines().count() == 1 && back.roster.is_signer(&fresh.identity_public()));
}

#[test]
fn a_second_pi_gets_a_digit_and_the_invites_name_goes_first() {
    let mut f = found(&mut OsRng);
    let many = f.invite(uses(9));
    let named = f.invite(NewInvite { name: Some("kitchen".into()), ..uses(1) });
    let records: Vec<_> = [(&many, "pi"), (&many, "pi"), (&named, "pi"), (&many, "server")]
        .map(|(i, n)| f.joiner(i, n).1)
        .into();
    let seen: Vec<_> = f.roster.provisional_all(&records).into_iter().map(|m| m.unwrap().name).collect();
    assert_eq!(seen, ["pi", "pi2", "kitchen", "server2"]);
    f.take(|draft| Ok(draft.fold_all(&records)));
    for (record, name) in records.iter().zip(seen) {
        assert_eq!(f.roster.machine_by_identity(&record.join().identity.identity).unwrap().name, name);
    }
    assert_eq!(f.roster.invite(&many.id()).unwrap().uses, 6);
    assert_eq!(f.roster.header().invites[0].uses, 6);
}

#[test]
fn more_joiners_than_uses_and_none_is_accepted() {
    let mut f = found(&mut OsRng);
    let (two, other) = (f.invite(uses(2)), f.invite(uses(1)));
    let mut records: Vec<_> = ["a", "b", "c"].map(|name| f.joiner(&two, name).1).into();
    records.push(f.joiner(&other, "d").1);
    let answers = f.roster.provisional_all(&records);
    assert!(answers[..3].iter().all(|answer| answer.as_ref().err() == Some(&MembershipError::Overused)));
    assert!(answers[3].is_ok());
    let edit = f.edit(|draft| Ok(draft.fold_all(&records))).unwrap();
    assert!(edit.outcome[..3].iter().all(|a| *a == Err(EditError::Membership(MembershipError::Overused))));
    assert_eq!(edit.roster.machines().count(), 2);
    // The same record twice is one machine.
    records.truncate(2);
    records.push(records[0].clone());
    let answers = f.roster.provisional_all(&records);
    assert!(answers[0].is_ok() && answers[1].is_ok() && answers[2].is_err());
}

#[test]
fn records_that_are_folded_or_that_no_invite_signed_crowd_nobody_out() {
    let mut f = found(&mut OsRng);
    let invite = f.invite(uses(2));
    let (first, second) = (f.joiner(&invite, "first").1, f.joiner(&invite, "second").1);
    f.take(|draft| draft.fold(&first));
    let forged = {
        let mut bytes = f.joiner(&invite, "forged").1.to_bytes();
        let by_invite = bytes.len() - 128;
        bytes[by_invite] ^= 1;
        JoinRecord::from_bytes(&bytes).unwrap()
    };
    let answers = f.roster.provisional_all(&[first, forged, second]);
    let refused: Vec<_> = answers.iter().map(|answer| answer.as_ref().err().copied()).collect();
    assert_eq!(refused, [Some(MembershipError::Member), Some(MembershipError::Unsigned), None]);
}

#[test]
fn members_who_are_no_signers_change_nothing_and_signers_do_not_sign_themselves_away() {
    let mut f = found(&mut OsRng);
    let invite = f.invite(uses(1));
    let (keys, record) = f.joiner(&invite, "laptop");
    let laptop = f.take(|draft| draft.fold(&record));
    let edit = |f: &Founder, keys: &MachineKeys| f.roster.edit(keys, NOW, &mut OsRng, |_| Ok(())).err();
    assert_eq!(edit(&f, &keys), Some(EditError::NotSigner));
    assert_eq!(edit(&f, &MachineKeys::generate(&mut OsRng)), Some(EditError::NotSigner));
    let server = f.roster.machine_by_name("server").unwrap().id;
    f.take(|draft| draft.set_signers(&[server, laptop]));
    assert_eq!(edit(&f, &keys), None);
    assert_eq!(f.edit(|draft| draft.remove_machine(&server)).err(), Some(EditError::OwnRemoval));
}

#[test]
fn revocation_folds_who_came_before_and_ends_the_token() {
    let mut f = found(&mut OsRng);
    let invite = f.invite(uses(5));
    let (early, late) = (f.joiner(&invite, "early"), f.joiner(&invite, "late"));
    let edit = f
        .edit(|draft| {
            draft.fold(&early.1)?;
            draft.remove_invite(&invite.id())
        })
        .unwrap();
    assert!(edit.delta.open_key(early.0.sealing()).is_some());
    assert!(edit.delta.open_key(&invite.sealing()).is_none());
    assert_eq!(edit.roster.provisional(&late.1).err(), Some(MembershipError::NoInvite));
    assert_eq!(edit.roster.epoch_number(), f.roster.epoch_number() + 1);
}

#[test]
fn an_invite_that_has_ended_is_not_folded_and_goes() {
    let mut f = found(&mut OsRng);
    let invite = f.invite(uses(1));
    let (_, record) = f.joiner(&invite, "late");
    let later = NOW + DAY;
    let folded = f.roster.edit(&f.keys, later, &mut OsRng, |draft| draft.fold(&record));
    assert_eq!(folded.err(), Some(EditError::Membership(MembershipError::Expired)));
    let edit = f.roster.edit(&f.keys, later, &mut OsRng, |draft| Ok(draft.remove_expired_invites())).unwrap();
    assert!(edit.outcome == 1 && edit.roster.invites().next().is_none());
}

#[test]
fn by_which_invite_a_machine_joined_is_kept_while_the_invite_is_live_and_no_longer() {
    let mut f = found(&mut OsRng);
    let (once, twice) = (f.invite(uses(1)), f.invite(uses(2)));
    let joined = |f: &Founder, name: &str| f.roster.machine_by_name(name).unwrap().invite;
    for (invite, name) in [(&once, "one"), (&twice, "two")] {
        let (_, record) = f.joiner(invite, name);
        f.take(|draft| draft.fold(&record));
    }
    assert!(joined(&f, "one").is_none(), "used up");
    assert!(joined(&f, "two") == Some(twice.id()), "removing the machine must remove the invite");
    f.take(|draft| draft.remove_invite(&twice.id()));
    assert!(joined(&f, "two").is_none(), "revoked");
}

#[test]
fn a_joiner_cannot_claim_what_another_machine_has() {
    let mut f = found(&mut OsRng);
    let invite = f.invite(uses(9));
    let (keys, record) = f.joiner(&invite, "one");
    f.take(|draft| draft.fold(&record));
    // Same WireGuard, sealing and mailbox keys under an identity of its own.
    let mut bytes = MachineKeys::generate(&mut OsRng).to_bytes();
    bytes[33..].copy_from_slice(&keys.to_bytes()[33..]);
    let thief = MachineKeys::from_bytes(&bytes).unwrap();
    let claim = JoinRecord::create(&f.roster, &invite, &thief, "two", &mut OsRng).unwrap();
    assert_eq!(f.roster.provisional(&claim).err(), Some(MembershipError::Taken));
    assert_eq!(f.edit(|draft| draft.fold(&claim)).err(), Some(EditError::Membership(MembershipError::Taken)));
}

#[test]
fn a_record_by_a_secret_that_is_no_invite_is_refused() {
    let mut f = found(&mut OsRng);
    let (real, other) = (f.invite(uses(1)), f.invite(uses(1)));
    let (_, record) = f.joiner(&real, "laptop");
    let id = real.id();
    let gone = f.edit(|draft| draft.remove_invite(&id)).unwrap().roster;
    assert_eq!(gone.provisional(&record).err(), Some(MembershipError::NoInvite));
    // A record that names one invite but is signed by another's key.
    let mut forged = record.to_bytes();
    let at = forged.windows(16).position(|w| w == real.id().0).unwrap();
    forged[at..at + 16].copy_from_slice(&other.id().0);
    let forged = JoinRecord::from_bytes(&forged).unwrap();
    assert_eq!(f.roster.provisional(&forged).err(), Some(MembershipError::Unsigned));
    let elsewhere = found(&mut OsRng);
    assert!(JoinRecord::create(&elsewhere.roster, &real, &f.keys, "x", &mut OsRng).is_err());
}

#[test]
fn a_sealed_join_record_is_read_in_its_epoch_and_the_next() {
    let mut f = found(&mut OsRng);
    let invite = f.invite(uses(1));
    let (_, record) = f.joiner(&invite, "laptop");
    let sealed = f.roster.seal_join(&record, &mut OsRng);
    assert!(sealed.len() <= proto::roster::MAX_SEALED_JOIN);
    assert!(f.roster.open_join(&sealed) == Ok(record.clone()));
    // Even if no entry of the former epoch stays as it was.
    let (server, invite) = (f.roster.machines().next().unwrap().id, invite.id());
    f.take(|draft| {
        draft.new_epoch();
        draft.set_relays(vec![relay(1)]);
        draft.set_coordinator("https://new.example.org".into(), Vec::new());
        draft.rename_machine(&server, "renamed")?;
        draft.remove_invite(&invite)
    });
    assert!(f.roster.state().entries().iter().all(|entry| entry.epoch == f.roster.header().epoch));
    assert!(f.roster.open_join(&sealed) == Ok(record));
    assert_eq!(found(&mut OsRng).roster.open_join(&sealed).err(), Some(MembershipError::Sealed));
}

#[test]
fn unchanged_entries_keep_their_ciphertext_over_epochs_until_twelve_keys_are_wrapped() {
    let mut f = found(&mut OsRng);
    let relays_sealed =
        |f: &Founder| f.roster.state().entries().iter().map(SealedBytes::of).collect::<Vec<_>>();
    let first = relays_sealed(&f);
    for n in 1..=12 {
        f.take(|draft| {
            draft.new_epoch();
            Ok(())
        });
        assert!(relays_sealed(&f) == first, "epoch {n}");
        // A key stays wrapped only as long as an entry needs it.
        assert!(f.roster.header().wrapped.len() <= 2);
    }
    // Every epoch changes the machine's name too: each leaves an entry behind, and thirteen are too many.
    for n in 0..30 {
        let relays = f.roster.relays().to_vec();
        f.take(|draft| {
            draft.new_epoch();
            match n % 2 {
                0 => draft.set_relays(relays[..1].to_vec()),
                _ => draft.set_relays(vec![relay(1), relay(2)]),
            }
            draft.add_invite(uses(1)).map(drop)
        });
        assert!(f.roster.header().wrapped.len() <= 12);
        assert!(f.opened_by(f.keys.sealing()).is_ok());
    }
    assert_eq!(f.roster.header().wrapped.len(), 12);
    assert!(relays_sealed(&f)[0] != first[0] || relays_sealed(&f)[1] != first[1]);
}

#[test]
fn an_introduction_convinces_a_peer_that_has_not_seen_the_invite() {
    let mut f = found(&mut OsRng);
    let behind = f.roster.clone();
    let invite = f.invite(uses(1));
    let (_, record) = f.joiner(&invite, "laptop");
    let sealed = Introduction::new(&f.roster, &record, &[1; INITIATION])
        .unwrap()
        .seal(f.roster.epoch_key(), &mut OsRng)
        .unwrap();
    assert!(Introduction::is_one(&sealed) && !Introduction::is_one(&[1, 0, 0, 0]));
    let intro = Introduction::open(&sealed, &f.network, behind.epoch_key()).unwrap();
    assert!(intro.check(&behind).unwrap().name == "laptop");
    assert!(intro.check(&f.roster).unwrap().name == "laptop");
    assert!(intro.initiation() == &[1; INITIATION]);

    // A peer that knows better than the joiner's roster follows its own.
    let id = invite.id();
    let revoked = f.roster.edit(&f.keys, NOW, &mut OsRng, |d| d.remove_invite(&id)).unwrap().roster;
    assert_eq!(intro.check(&revoked).err(), Some(MembershipError::NoInvite));
    f.take(|draft| draft.fold(&record));
    assert_eq!(intro.check(&f.roster).err(), Some(MembershipError::Member));
    let stranger = found(&mut OsRng);
    assert!(Introduction::open(&sealed, &f.network, stranger.roster.epoch_key()).is_err());
}

#[test]
fn an_introduction_out_of_an_epoch_that_the_peer_has_not_seen_waits_for_it() {
    let mut f = found(&mut OsRng);
    let behind = f.roster.clone();
    f.take(|draft| {
        draft.new_epoch();
        Ok(())
    });
    let invite = f.invite(uses(1));
    let (_, record) = f.joiner(&invite, "laptop");
    let intro = Introduction::new(&f.roster, &record, &[1; INITIATION]).unwrap();
    assert_eq!(intro.check(&behind).err(), Some(MembershipError::Sealed));
}

#[test]
fn no_byte_of_an_introduction_can_be_changed() {
    let mut f = found(&mut OsRng);
    let behind = f.roster.clone();
    let invite = f.invite(uses(1));
    let (_, record) = f.joiner(&invite, "laptop");
    let intro = Introduction::new(&f.roster, &record, &[1; INITIATION]).unwrap();
    let bytes = intro.to_bytes();
    // The initiation at its end authenticates itself to WireGuard.
    for at in 0..bytes.len() - INITIATION {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        let accepted = Introduction::from_bytes(&changed).is_ok_and(|intro| intro.check(&behind).is_ok());
        assert!(!accepted, "byte {at}");
    }
}

#[test]
fn a_newcomer_refuses_a_coordinator_that_was_rolled_back() {
    let mut f = found(&mut OsRng);
    let old = f.roster.head().clone();
    f.invite(uses(1));
    let floor = f.roster.head().floor();
    assert_eq!(f.roster.head().meets(&floor), Ok(()));
    assert_eq!(old.meets(&floor), Err(RosterError::Stale));
    let id = f.roster.machines().next().unwrap().id;
    let mut g = f.roster.clone();
    g = g.edit(&f.keys, NOW, &mut OsRng, |draft| draft.rename_machine(&id, "x")).unwrap().roster;
    assert_eq!(g.head().meets(&floor), Ok(()));
}

#[test]
fn a_draft_refuses_what_makes_no_sense() {
    let mut f = found(&mut OsRng);
    let invite = f.invite(uses(1));
    let (_, record) = f.joiner(&invite, "laptop");
    let laptop = f.take(|draft| draft.fold(&record));
    let server = f.roster.machine_by_name("server").unwrap().id;
    let err = |e: Result<proto::roster::Edit<()>, EditError>| e.err().unwrap();
    assert_eq!(err(f.edit(|d| d.rename_machine(&laptop, "server"))), EditError::NameTaken);
    assert_eq!(err(f.edit(|d| d.rename_machine(&laptop, "Laptop"))), EditError::InvalidName);
    assert_eq!(err(f.edit(|d| d.rename_machine(&invite.id(), "x"))), EditError::NoMachine);
    assert_eq!(err(f.edit(|d| d.remove_machine(&server).map(drop))), EditError::LastSigner);
    assert_eq!(err(f.edit(|d| d.add_invite(uses(0)).map(drop))), EditError::InvalidUses);
    assert_eq!(
        err(f.edit(|d| d.add_invite(NewInvite { expires: NOW, ..uses(1) }).map(drop))),
        EditError::InvalidExpiry
    );
    let named = |name: &str| NewInvite { name: Some(name.into()), ..uses(1) };
    for taken in ["server", "nas"] {
        let twice = f.edit(|d| d.add_invite(named("nas")).and_then(|_| d.add_invite(named(taken))).map(drop));
        assert_eq!(err(twice), EditError::NameTaken, "{taken}");
    }
    assert_eq!(err(f.edit(|d| d.set_signers(&[]))), EditError::LastSigner);
    assert_eq!(err(f.edit(|d| d.set_signers(&[laptop]))), EditError::OwnRemoval);
    assert!(matches!(
        err(f.edit(|d| {
            d.set_relays(vec![relay(1); 5]);
            Ok(())
        })),
        EditError::Format(_)
    ));
    assert!(matches!(
        err(f.edit(|d| {
            d.set_policy(vec![0; 1 << 20]);
            Ok(())
        })),
        EditError::Format(_)
    ));
}

#[test]
fn routes_groups_policy_and_dns_reach_every_machine() {
    let mut f = found(&mut OsRng);
    let id = f.roster.machines().next().unwrap().id;
    let route = InnerNet::new("192.0.2.0".parse().unwrap(), 24).unwrap();
    f.take(|draft| {
        draft.set_routes(&id, vec![route])?;
        draft.set_groups(&id, vec!["servers".into()])?;
        draft.set_policy(b"policy".to_vec());
        draft.set_dns(b"dns".to_vec());
        draft.set_coordinator("https://new.example.org".into(), Vec::new());
        Ok(())
    });
    let seen = f.opened_by(f.keys.sealing()).unwrap();
    let server = seen.machine(&id).unwrap();
    assert!(server.routes == [route] && server.groups == ["servers"]);
    assert_eq!((seen.policy(), seen.dns()), (Some(&b"policy"[..]), Some(&b"dns"[..])));
    assert_eq!(seen.settings().coordinator, "https://new.example.org");
}

/// A sealed entry's bytes, to compare ciphertexts.
#[derive(PartialEq)]
struct SealedBytes(Vec<u8>);

impl SealedBytes {
    fn of(entry: &proto::roster::SealedEntry) -> Self {
        Self(entry.to_bytes())
    }
}
