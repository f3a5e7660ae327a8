//! Machines that compare rosters with each other, and one among them that lies: whoever is behind comes to the newest
//! roster that was signed, and to nothing else.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use proto::{
    epoch::EpochKey,
    identity::RootKeys,
    roster::{EditError, Head, PublicState, Relation, Roster, RosterError},
    sync::{Message, Update},
    wire::{Wire, WireError},
};
use rand_core::OsRng;
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex, join, sink,
};

use super::{
    machine::{Machine, NOW, Network, Said, forged},
    shelf::Lie,
};
use crate::network::{
    link::Trouble,
    sync::exchange::{ExchangeError, Outcome, answer, ask, is_news},
};

type Ended = Result<Outcome, ExchangeError>;

/// A stream that keeps what is written to it.
struct Recorded(DuplexStream, Vec<u8>);

impl AsyncRead for Recorded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Recorded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut self.0).poll_write(cx, bytes);
        if let Poll::Ready(Ok(written)) = written {
            self.1.extend_from_slice(&bytes[..written]);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// What both made of an exchange, and what each said.
struct Met {
    asked: Ended,
    answered: Ended,
    said: [Vec<u8>; 2],
}

async fn meet(asking: &Machine, answering: &Machine) -> Met {
    // Narrow, so that both wait for each other.
    let (one, other) = duplex(500);
    let (mut one, mut other) = (Recorded(one, Vec::new()), Recorded(other, Vec::new()));
    let (asked, answered) = tokio::join!(
        async {
            let asked = ask(&mut one, &asking.asker, &asking.present).await;
            (asked, std::mem::take(&mut one.1), drop(one))
        },
        async {
            let answered = answer(&mut other, &answering.asker, &answering.present).await;
            (answered, std::mem::take(&mut other.1), drop(other))
        }
    );
    Met { asked: asked.0, answered: answered.0, said: [asked.1, answered.1] }
}

/// What a machine makes of somebody who says this, whatever it hears.
async fn hears(machine: &Machine, said: &[u8], asks: bool) -> Ended {
    let mut stream = join(said, sink());
    if asks {
        ask(&mut stream, &machine.asker, &machine.present).await
    } else {
        answer(&mut stream, &machine.asker, &machine.present).await
    }
}

fn frames(messages: &[Message]) -> Vec<u8> {
    messages.iter().flat_map(Message::to_frame).collect()
}

fn head(roster: &Roster) -> Message {
    Message::Head(Box::new(roster.head().clone()))
}

fn everything(roster: &Roster) -> Message {
    Message::Update(Update::of(roster.state(), &[]))
}

fn bytes(roster: &Roster) -> Vec<u8> {
    roster.state().to_bytes()
}

/// Adopts what an exchange brought.
fn adopt(machine: &mut Machine, ended: Ended) {
    let Ok(Outcome::Took(roster)) = ended else { panic!("it took nothing: {}", kind(&ended)) };
    assert!(roster.head().relation(machine.roster().head()) == Relation::Newer);
    machine.take(*roster, NOW);
}

fn kind(ended: &Ended) -> String {
    match ended {
        Ok(Outcome::Same) => "same".into(),
        Ok(Outcome::Gave) => "gave".into(),
        Ok(Outcome::Took(_)) => "took".into(),
        Ok(Outcome::Forked(_)) => "forked".into(),
        Ok(Outcome::Removed) => "removed".into(),
        Err(error) => error.to_string(),
    }
}

/// Whoever asks, the older one takes the newer's, and then both have the same.
async fn spreads(newer: &Machine, older: &mut Machine) -> usize {
    let before = older.roster().clone();
    let met = meet(newer, older).await;
    assert_eq!(kind(&met.asked), "gave");
    let bytes_asking = met.said.concat().len();
    adopt(older, met.answered);
    assert!(bytes(older.roster()) == bytes(newer.roster()));

    older.present.roster = before;
    let met = meet(older, newer).await;
    assert_eq!(kind(&met.answered), "gave");
    adopt(older, met.asked);
    assert!(bytes(older.roster()) == bytes(newer.roster()));

    let met = meet(older, newer).await;
    assert_eq!((kind(&met.asked), kind(&met.answered)), ("same".into(), "same".into()));
    bytes_asking
}

#[tokio::test]
async fn who_is_behind_comes_to_the_other_s_roster_whatever_changed_meanwhile() {
    let mut network = Network::of(&["server", "nas", "laptop", "phone"]);
    let Network { shelf, machines, paper, .. } = &mut network;
    let [server, nas, laptop, phone] = machines.as_mut_slice() else { unreachable!() };
    let (nas_id, phone_id) = (nas.id(), phone.id());
    server.does(shelf, move |draft| draft.rename_machine(&nas_id, "attic"));
    spreads(server, laptop).await;
    // A newcomer.
    let mut other = Network::of(&["other"]);
    let invite = server.invites(shelf, 1);
    let keys = other.machines.remove(0).asker.keys;
    let record = proto::roster::JoinRecord::create(server.roster(), &invite, &keys, "tablet", &mut OsRng);
    let record = record.unwrap();
    server.does(shelf, move |draft| draft.fold(&record).map(drop));
    spreads(server, laptop).await;
    assert!(laptop.roster().machine_by_name("tablet").is_some());
    // A new epoch, and five at once.
    server.does(shelf, move |draft| draft.remove_machine(&phone_id).map(drop));
    spreads(server, laptop).await;
    assert!(laptop.roster().machine_by_name("phone").is_none());
    for _ in 0..5 {
        server.does(shelf, |draft| {
            draft.new_epoch();
            Ok(())
        });
    }
    assert_eq!(server.roster().epoch_number() - laptop.roster().epoch_number(), 5);
    spreads(server, laptop).await;
    // Another generation of signers, and the paper.
    server.does(shelf, move |draft| draft.add_signer(&nas_id));
    spreads(server, laptop).await;
    assert_eq!(laptop.roster().order().generation, 2);
    let root = RootKeys::from_seed(&paper.seed);
    let keys = server.asker.keys.clone();
    let recovered = server.roster().recover(&root, &keys, "server", NOW, &mut OsRng, |_| Ok(()));
    server.take(recovered.unwrap().roster, NOW);
    spreads(server, laptop).await;
    assert_eq!(laptop.roster().order().recovery, 1);
    // One that had slept through all of it.
    spreads(laptop, nas).await;
}

#[tokio::test]
async fn a_machine_that_no_signer_has_folded_in_yet_follows_by_its_invite() {
    let mut network = Network::of(&["server", "laptop"]);
    let Network { shelf, machines, .. } = &mut network;
    let invite = machines[0].invites(shelf, 1);
    let keys = proto::identity::MachineKeys::generate(&mut OsRng);
    let roster = machines[0].roster().clone();
    let mut joiner = Machine::new(keys, roster, Some(invite));
    let laptop = machines[1].id();
    machines[0].does(shelf, move |draft| draft.remove_machine(&laptop).map(drop));
    let met = meet(&joiner, &machines[0]).await;
    adopt(&mut joiner, met.asked);
    assert_eq!(joiner.roster().epoch_number(), machines[0].roster().epoch_number());
}

#[tokio::test]
async fn a_machine_that_was_removed_is_handed_the_roster_and_opens_nothing() {
    let mut network = Network::of(&["server", "laptop"]);
    let Network { shelf, machines, .. } = &mut network;
    let laptop = machines[1].id();
    machines[0].does(shelf, move |draft| draft.remove_machine(&laptop).map(drop));
    // Nobody answers it (`door`); if somebody did:
    let met = meet(&machines[1], &machines[0]).await;
    assert_eq!(kind(&met.asked), "removed");
}

#[tokio::test]
async fn only_what_changed_goes_over_the_wire() {
    let names: Vec<String> = (0..20).map(|n| format!("machine-{n}")).collect();
    let mut network = Network::of(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let whole = network.shelf.present().to_bytes().len();
    let Network { shelf, machines, .. } = &mut network;
    let [server, laptop, ..] = machines.as_mut_slice() else { unreachable!() };
    let same = meet(server, laptop).await.said.concat().len();
    let id = laptop.id();
    server.does(shelf, move |draft| draft.rename_machine(&id, "attic"));
    let renamed = spreads(server, laptop).await;
    server.does(shelf, |draft| {
        draft.new_epoch();
        Ok(())
    });
    let epoch = spreads(server, laptop).await;
    assert!(same < 150 && renamed < whole / 7, "{same}, {renamed} of {whole}");
    // All keys of the epoch, the digests of the entries, and both heads with their ancestors.
    assert!(epoch < 21 * 1_200 + 6_500, "{epoch}");
}

/// Two signers, and what each signed in the same place.
fn forked() -> (Network, [Roster; 2]) {
    let mut network = Network::of(&["server", "nas", "laptop"]);
    let nas = network.machines[1].id();
    network.machines[0].does(&network.shelf, move |draft| draft.add_signer(&nas));
    network.all_look(NOW);
    let laptop = network.machines[2].id();
    let fork = [0, 1]
        .map(|by| network.machines[by].signs(|draft| draft.rename_machine(&laptop, ["one", "two"][by])));
    (network, fork)
}

#[tokio::test]
async fn two_machines_that_were_shown_different_rosters_both_notice_and_keep_their_own() {
    let (mut network, fork) = forked();
    let [server, nas, laptop] = network.machines.as_mut_slice() else { unreachable!() };
    server.take(fork[0].clone(), NOW);
    nas.take(fork[1].clone(), NOW);
    assert!(is_news(&fork[0].head().floor(), &fork[1].head().floor()));
    let met = meet(server, nas).await;
    let (Ok(Outcome::Forked(one)), Ok(Outcome::Forked(other))) = (&met.asked, &met.answered) else {
        panic!("{}, {}", kind(&met.asked), kind(&met.answered))
    };
    assert!(**one == *fork[1].head() && **other == *fork[0].head());
    // Also where one went on since: another generation.
    let id = laptop.id();
    let gone_on = [(&fork[0], &*server), (&fork[1], &*nas)].map(|(roster, by)| {
        roster.edit(&by.asker.keys, NOW, &mut OsRng, |draft| draft.add_signer(&id)).unwrap().roster
    });
    server.take(gone_on[0].clone(), NOW);
    nas.take(gone_on[1].clone(), NOW);
    let met = meet(nas, server).await;
    assert_eq!((kind(&met.asked), kind(&met.answered)), ("forked".into(), "forked".into()));
    // What a later state follows of the two is not told any more: it is newer than both.
    laptop.take(fork[0].clone(), NOW);
    assert!(gone_on[1].head().relation(laptop.roster().head()) == Relation::Newer);
}

#[tokio::test]
async fn what_a_coordinator_keeps_from_a_machine_a_peer_has_and_the_coordinator_is_told_on() {
    let mut network = Network::of(&["server", "laptop", "phone"]);
    let Network { shelf, machines, .. } = &mut network;
    let [server, laptop, phone] = machines.as_mut_slice() else { unreachable!() };
    let before = shelf.present();
    let old = || Lie::Shows(Box::new(before.clone()));
    let id = phone.id();
    server.does(shelf, move |draft| draft.rename_machine(&id, "attic"));
    assert_eq!(phone.look(&shelf.honest(), NOW), Said::Fine);
    // Nothing that the laptop is shown is false.
    assert_eq!(laptop.look(&shelf.lying(old()), NOW), Said::Fine);
    assert!(is_news(&phone.roster().head().floor(), &laptop.roster().head().floor()));
    let met = meet(laptop, phone).await;
    adopt(laptop, met.asked);
    assert_eq!(laptop.look(&shelf.lying(old()), NOW), Said::No(Trouble::Untrusted));
    assert!(bytes(laptop.roster()) == bytes(server.roster()));
    // One that was restored from a backup is put right.
    shelf.restore(1);
    assert_eq!(laptop.look(&shelf.honest(), NOW), Said::Fine);
    assert!(shelf.present().to_bytes() == bytes(server.roster()));
}

#[tokio::test]
async fn another_network_is_refused_by_both() {
    let (one, other) = (Network::of(&["server"]), Network::of(&["server", "laptop"]));
    let met = meet(&one.machines[0], &other.machines[0]).await;
    let refused = |ended| matches!(ended, Err(ExchangeError::Roster(RosterError::OtherNetwork)));
    assert!(refused(met.asked) && met.answered.is_err());
    let theirs = other.machines[0].roster();
    let said = frames(&[Message::Floor(theirs.head().floor()), head(theirs), everything(theirs)]);
    assert!(refused(hears(&one.machines[0], &said, false).await));
}

#[tokio::test]
async fn what_no_signer_signed_is_refused_before_anything_is_asked_for() {
    let mut network = Network::of(&["server", "laptop", "phone"]);
    let keys = network.machines[2].asker.keys.clone();
    let laptop = &mut network.machines[1];
    let state = forged(laptop.roster(), &keys, |header| header.order.version += 7);
    let forgery = Message::Head(Box::new(state.head.clone()));
    for asks in [true, false] {
        let mut said = vec![forgery.clone()];
        if !asks {
            said.insert(0, Message::Floor(state.head.floor()));
        }
        let ended = hears(laptop, &frames(&said), asks).await;
        assert!(matches!(ended, Err(ExchangeError::Roster(RosterError::Unsigned))), "{}", kind(&ended));
    }
}

#[tokio::test]
async fn entries_and_keys_that_are_not_those_of_the_header_are_refused() {
    let mut network = Network::of(&["server", "laptop", "phone"]);
    let Network { shelf, machines, .. } = &mut network;
    let [server, laptop, phone] = machines.as_mut_slice() else { unreachable!() };
    let id = phone.id();
    server.does(shelf, move |draft| draft.rename_machine(&id, "attic"));
    let renamed = server.roster().clone();
    server.does(shelf, |draft| {
        draft.new_epoch();
        Ok(())
    });
    let newest = server.roster();
    // Entries of an older state under the newest head, and a key of another epoch in our slot.
    let sealed = EpochKey::generate(&mut OsRng).seal_to(
        &laptop.asker.keys.public().sealing,
        &laptop.asker.network,
        &mut OsRng,
    );
    let state = newest.state();
    let mut slots = state.slots().to_vec();
    slots[0].sealed = sealed.clone();
    let other_key = PublicState::new(newest.head().clone(), state.entries().to_vec(), slots);
    let mut fewer = state.entries().to_vec();
    fewer.pop();
    let fewer = PublicState::new(newest.head().clone(), fewer, state.slots().to_vec());
    for update in [renamed.state(), &other_key, &fewer] {
        let said = frames(&[head(newest), Message::Update(Update::of(update, &[]))]);
        let ended = hears(laptop, &said, true).await;
        assert!(matches!(ended, Err(ExchangeError::Roster(RosterError::Damaged))), "{}", kind(&ended));
    }
    // What we are said to have, and do not.
    let Message::Want(unknown) = Message::want(newest.state(), newest.head()) else { unreachable!() };
    let said = frames(&[head(newest), Message::Update(Update::of(newest.state(), &unknown))]);
    let ended = hears(laptop, &said, true).await;
    assert!(matches!(ended, Err(ExchangeError::Roster(RosterError::Damaged))), "{}", kind(&ended));
    // The true one.
    adopt(laptop, hears(laptop, &frames(&[head(newest), everything(newest)]), true).await);
}

#[tokio::test]
async fn a_peer_that_shows_what_is_older_or_the_same_brings_nothing() {
    let mut network = Network::of(&["server", "laptop"]);
    let old = network.machines[1].roster().clone();
    let id = network.machines[1].id();
    network.machines[0].does(&network.shelf, move |draft| draft.rename_machine(&id, "attic"));
    network.all_look(NOW);
    let laptop = &network.machines[1];
    // It says that it has something newer, and goes back on it; what it said before, said once more.
    let mut lie = old.head().floor();
    lie.order.version += 9;
    let before = bytes(laptop.roster());
    for said in [
        frames(&[Message::Floor(lie), head(&old), everything(&old)]),
        frames(&[Message::Floor(lie), head(laptop.roster()), everything(laptop.roster())]),
        frames(&[Message::Floor(lie), Message::Floor(lie)]),
    ] {
        assert!(hears(laptop, &said, false).await.is_err());
    }
    for said in [
        frames(&[head(laptop.roster()), everything(laptop.roster())]),
        frames(&[Message::Floor(lie)]),
        frames(&[head(&old), everything(&old)]),
    ] {
        assert!(hears(laptop, &said, true).await.is_err());
    }
    assert!(bytes(laptop.roster()) == before);
}

#[tokio::test]
async fn nothing_damaged_is_taken_and_nobody_is_kept_waiting_for_what_ended() {
    let mut network = Network::of(&["server", "laptop"]);
    let Network { shelf, machines, .. } = &mut network;
    let [server, laptop] = machines.as_mut_slice() else { unreachable!() };
    server.does(shelf, |draft| {
        draft.new_epoch();
        Ok(())
    });
    let newest = bytes(server.roster());
    let said = [
        (meet(laptop, server).await.said[1].clone(), true),
        (meet(server, laptop).await.said[0].clone(), false),
    ];
    let began = Instant::now();
    for (whole, asks) in &said {
        assert_eq!(kind(&hears(laptop, whole, *asks).await), "took");
        let step = whole.len() / 300 + 1;
        for at in (0..whole.len()).step_by(step) {
            let mut changed = whole.clone();
            changed[at] ^= 1 << (at % 8);
            let doubled = [&whole[..at], &whole[at.saturating_sub(99)..]].concat();
            for said in [&whole[..at], &changed, &doubled] {
                match hears(laptop, said, *asks).await {
                    Err(_) | Ok(Outcome::Same) => {}
                    // A flipped bit of a floor that was only said.
                    Ok(Outcome::Took(roster)) => assert!(bytes(&roster) == newest),
                    other => panic!("byte {at}: {}", kind(&other)),
                }
            }
        }
    }
    assert!(began.elapsed() < Duration::from_secs(8), "nobody waits for a stream that has ended");
}

#[tokio::test]
async fn what_is_too_long_or_not_due_is_refused_at_once() {
    let network = Network::of(&["server", "laptop"]);
    let laptop = &network.machines[1];
    for asks in [true, false] {
        let (mut ours, mut theirs) = duplex(1 << 10);
        theirs.write_all(&u32::MAX.to_be_bytes()).await.unwrap();
        let ended = if asks {
            ask(&mut ours, &laptop.asker, &laptop.present).await
        } else {
            answer(&mut ours, &laptop.asker, &laptop.present).await
        };
        assert!(matches!(ended, Err(ExchangeError::Format(WireError::TooLong))), "{}", kind(&ended));
        for message in [Message::Want(vec![[0; 16]; 3]), everything(laptop.roster())] {
            assert!(hears(laptop, &frames(&[message]), asks).await.is_err());
        }
    }
    // A message of another kind within the bounds of the one that is due.
    let floor = Message::Floor(laptop.roster().head().floor());
    let ended = hears(laptop, &frames(&[floor.clone(), Message::Want(Vec::new())]), false).await;
    assert_eq!(kind(&ended), "same", "what follows is not even read");
    let mut longer = floor.to_bytes();
    longer.extend([9; 60]);
    assert!(Message::from_bytes(&longer).is_err());
}

/// Each of these takes as long as a silent peer is borne with.
#[tokio::test]
async fn a_peer_that_falls_silent_at_any_point_is_given_up() {
    let mut network = Network::of(&["server", "laptop"]);
    let Network { shelf, machines, .. } = &mut network;
    server_moves_on(&mut machines[0], shelf);
    let [server, laptop] = machines.as_slice() else { unreachable!() };
    let whole = meet(laptop, server).await.said[1].clone();
    let began = Instant::now();
    let silent = |said: Vec<u8>, asks: bool| async move {
        let (mut ours, mut theirs) = duplex(1 << 20);
        theirs.write_all(&said).await.unwrap();
        let ended = if asks {
            ask(&mut ours, &laptop.asker, &laptop.present).await
        } else {
            answer(&mut ours, &laptop.asker, &laptop.present).await
        };
        assert!(matches!(ended, Err(ExchangeError::Silent)), "{}", kind(&ended));
        let mut heard = Vec::new();
        drop(ours);
        theirs.read_to_end(&mut heard).await.unwrap();
    };
    let cut = |at: usize| whole[..at].to_vec();
    tokio::join!(
        silent(Vec::new(), true),
        silent(Vec::new(), false),
        silent(cut(3), true),
        silent(cut(300), true),
        silent(cut(whole.len() - 1), true),
        silent(frames(&[Message::Floor(server.roster().head().floor())]), false),
    );
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

fn server_moves_on(server: &mut Machine, shelf: &super::shelf::Shelf) {
    server.does(shelf, |draft| -> Result<(), EditError> {
        draft.new_epoch();
        Ok(())
    });
}

#[test]
fn only_a_newer_place_or_another_roster_in_ours_is_news() {
    let (_, fork) = forked();
    let floors = fork.each_ref().map(|roster| roster.head().floor());
    assert!(!is_news(&floors[0], &floors[0]));
    assert!(is_news(&floors[0], &floors[1]) && is_news(&floors[1], &floors[0]));
    let mut older = floors[0];
    older.order.version -= 1;
    assert!(!is_news(&older, &floors[1]) && is_news(&floors[1], &older));
    assert!(Head::from_bytes(&fork[0].head().to_bytes()).is_ok());
}
