//! A coordinator that lies, and thieves that it serves: nothing that no signer signed is believed, and what is wrong has
//! its name.

use proto::{
    identity::RootKeys,
    roster::{Delta, Draft, EditError, FRESH, Relation, Roster, RosterError, renewal_is_due},
    wire::Wire,
};
use rand_core::OsRng;

use super::{
    machine::{DAY, Machine, NOW, Network, Said, forged, resigned},
    shelf::Lie,
};
use crate::network::{
    link::Trouble,
    signer::{ChangeError, Outcome},
    signers::{is_due, renewal},
    view::is_stale,
};

const UNTRUSTED: Said = Said::No(Trouble::Untrusted);
const FORKED: Said = Said::No(Trouble::Forked);

fn bytes(machine: &Machine) -> Vec<u8> {
    machine.roster().state().to_bytes()
}

/// Gives a machine of `network` another name.
fn rename(network: &mut Network, by: usize, whom: usize, name: &'static str) {
    let id = network.machines[whom].id();
    network.machines[by].does(&network.shelf, move |draft| draft.rename_machine(&id, name));
}

/// Makes the second machine a signer.
fn with_two_signers(names: &[&str]) -> Network {
    let mut network = Network::of(names);
    let second = network.machines[1].id();
    network.machines[0].does(&network.shelf, move |draft| draft.add_signer(&second));
    network.all_look(NOW);
    network
}

#[test]
fn an_older_roster_is_not_taken_again_and_a_restored_coordinator_is_healed() {
    let mut network = Network::of(&["server", "laptop"]);
    rename(&mut network, 0, 1, "attic");
    network.all_look(NOW);
    let before = bytes(&network.machines[1]);
    network.shelf.restore(1);
    let older = Box::new(network.shelf.present());
    assert!(older.order() < network.machines[1].roster().order());

    // It insists, and takes nothing newer: nothing is lost, and it is noticed.
    let Network { shelf, machines, .. } = &mut network;
    assert_eq!(machines[1].look(&shelf.lying(Lie::Shows(older)), NOW), UNTRUSTED);
    assert!(bytes(&machines[1]) == before);
    // It was restored from a backup: whoever comes first brings it back.
    assert_eq!(machines[1].look(&shelf.honest(), NOW), Said::Fine);
    assert!(bytes(&machines[1]) == before && shelf.present().to_bytes() == before);
}

#[test]
fn another_network_s_roster_is_refused() {
    let mut network = Network::of(&["server", "laptop"]);
    let other = Network::of(&["server", "laptop"]);
    let before = bytes(&network.machines[1]);
    let Network { shelf, machines, .. } = &mut network;
    for lie in [Lie::Shows, Lie::Mixes] {
        let line = shelf.lying(lie(Box::new(other.shelf.present())));
        let said = machines[1].look(&line, NOW);
        assert!(said == UNTRUSTED || said == Said::Fine, "{said:?}");
        assert!(bytes(&machines[1]) == before);
    }
    let line = shelf.lying(Lie::Shows(Box::new(other.shelf.present())));
    assert_eq!(machines[1].look(&line, NOW), UNTRUSTED);
}

#[test]
fn a_header_that_no_present_signer_signed_is_refused() {
    let mut network = with_two_signers(&["server", "nas", "laptop"]);
    let thief = network.machines[1].id();
    network.machines[0].does(&network.shelf, move |draft| draft.remove_machine(&thief).map(drop));
    assert_eq!(network.all_look(NOW)[2], Said::Fine);
    let Network { shelf, machines, .. } = &mut network;
    let before = bytes(&machines[2]);
    // A member that is no signer, and a signer that was removed.
    for by in [2, 1] {
        let keys = machines[by].asker.keys.clone();
        let forgery = forged(machines[2].roster(), &keys, |header| header.order.version += 1);
        assert_eq!(machines[2].look(&shelf.lying(Lie::Shows(forgery)), NOW), UNTRUSTED, "by {by}");
        assert!(bytes(&machines[2]) == before);
    }
}

#[test]
fn a_delta_that_nobody_signed_neither_changes_anything_nor_removes_nor_forks() {
    let mut network = Network::of(&["server", "laptop"]);
    rename(&mut network, 0, 1, "attic");
    let renamed = network.shelf.kept().told.last().unwrap().clone();
    let expelled = network.machines[1].id();
    // The same change that removes it, signed by itself and not by a signer.
    network.machines[0].does(&network.shelf, move |draft| draft.remove_machine(&expelled).map(drop));
    let removal = network.shelf.kept().told.last().unwrap().clone();
    let Network { shelf, machines, .. } = &mut network;
    machines[1].hear(&shelf.honest(), &renamed, NOW);
    assert_eq!(machines[1].roster().machine(&expelled).unwrap().name, "attic");
    let (before, keys) = (bytes(&machines[1]), machines[1].asker.keys.clone());

    let removal = Delta::from_bytes(&removal).unwrap();
    let unsigned = resigned(&removal, removal.header(), &keys, |_| {}).to_bytes();
    assert_eq!(machines[1].hear(&shelf.honest(), &unsigned, NOW), UNTRUSTED);
    // One that claims a fresh chain: the byte after the version, before the generations.
    let chain = machines[1].roster().head().chain.generations()[0].to_bytes();
    let mut fresh = vec![unsigned[0], 1, 0, 0, 0, 1];
    fresh.extend(chain);
    fresh.extend_from_slice(&unsigned[6..]);
    assert_eq!(machines[1].hear(&shelf.honest(), &fresh, NOW), UNTRUSTED);
    assert!(bytes(&machines[1]) == before);
    // The signed one does.
    assert_eq!(machines[1].hear(&shelf.honest(), &removal.to_bytes(), NOW), Said::Removed);
    assert!(bytes(&machines[1]) == before, "it keeps what it had");
}

#[test]
fn of_two_rosters_in_one_place_the_first_seen_is_kept_the_fork_is_said_and_the_paper_ends_it() {
    let mut network = with_two_signers(&["server", "nas", "laptop", "phone"]);
    let [one, two] = [0, 1].map(|by| {
        let id = network.machines[3].id();
        network.machines[by].signs(|draft| draft.rename_machine(&id, ["one", "two"][by]))
    });
    assert_eq!(one.head().relation(two.head()), Relation::Forked);
    let Network { shelf, machines, paper, .. } = &mut network;
    let show = |roster: &Roster| Lie::Shows(Box::new(roster.state().clone()));
    assert_eq!(machines[2].look(&shelf.lying(show(&one)), NOW), Said::Fine);
    assert_eq!(machines[3].look(&shelf.lying(show(&two)), NOW), Said::Fine);
    assert!(bytes(&machines[2]) == one.state().to_bytes() && bytes(&machines[3]) == two.state().to_bytes());
    // Each is shown what the other was.
    assert_eq!(machines[2].look(&shelf.lying(show(&two)), NOW), FORKED);
    assert_eq!(machines[3].look(&shelf.lying(show(&one)), NOW), FORKED);
    assert!(bytes(&machines[2]) == one.state().to_bytes() && bytes(&machines[3]) == two.state().to_bytes());

    let root = RootKeys::from_seed(&paper.seed);
    let keys = machines[2].asker.keys.clone();
    let recovered = one.recover(&root, &keys, "laptop", NOW, &mut OsRng, |draft| {
        draft.remove_all_invites();
        Ok(())
    });
    let recovered = recovered.unwrap().roster;
    machines[2].take(recovered, NOW);
    machines[2].look(&shelf.honest(), NOW);
    assert_eq!(network.all_look(NOW), [Said::Fine; 4]);
    let healed = network.shelf.present().to_bytes();
    assert!(network.machines.iter().all(|machine| bytes(machine) == healed));
}

#[test]
fn a_coordinator_that_forgot_a_removal_brings_nobody_back_by_what_another_signer_adds() {
    let mut network = with_two_signers(&["server", "nas", "phone", "laptop"]);
    let laptop = network.machines[3].id();
    network.machines[0].does(&network.shelf, move |draft| draft.remove_machine(&laptop).map(drop));
    let Network { shelf, machines, .. } = &mut network;
    assert_eq!(machines[2].look(&shelf.honest(), NOW), Said::Fine);
    let before = bytes(&machines[2]);
    // The other signer was away. By version and signatures its line is the newer one.
    shelf.restore(1);
    for name in ["one", "two", "three"] {
        let id = machines[1].id();
        machines[1].does(shelf, move |draft| draft.rename_machine(&id, name));
    }
    assert!(machines[1].roster().order() > machines[2].roster().order());
    for knows in [0, 2] {
        assert_eq!(machines[knows].look(&shelf.honest(), NOW), FORKED);
        assert!(machines[knows].roster().machine(&laptop).is_none());
    }
    assert!(bytes(&machines[2]) == before);
}

#[test]
fn a_fork_among_pushed_changes_is_said_too() {
    let mut network = with_two_signers(&["server", "nas", "laptop"]);
    let id = network.machines[2].id();
    let other = network.machines[1].signs(|draft| draft.rename_machine(&id, "two"));
    network.machines[0].does(&network.shelf, move |draft| draft.rename_machine(&id, "one"));
    let pushed = network.shelf.kept().told.last().unwrap().clone();
    let Network { shelf, machines, .. } = &mut network;
    // The laptop was shown the second; what is pushed to the others now reaches it too.
    machines[2].take(other.clone(), NOW);
    assert_eq!(machines[2].hear(&shelf.honest(), &pushed, NOW), FORKED);
    assert!(bytes(&machines[2]) == other.state().to_bytes());
}

#[test]
fn no_damaged_answer_is_taken_and_the_next_good_one_is() {
    let mut network = Network::of(&["server", "laptop"]);
    // A new epoch: head, sealed key and state are all asked for.
    network.machines[0].does(&network.shelf, |draft| {
        draft.new_epoch();
        Ok(())
    });
    let newest = network.shelf.present().to_bytes();
    let Network { shelf, machines, .. } = &mut network;
    let [server, laptop] = machines.as_mut_slice() else { unreachable!() };
    let before = bytes(laptop);
    for answer in 0..3 {
        for n in 0..150 {
            // Spread over answers from 1,200 to some 6,000 bytes.
            for lie in [Lie::Flips { answer, bit: n * 331 + n }, Lie::Truncates { answer, at: n * 43 }] {
                let said = laptop.look(&shelf.lying(lie), NOW);
                assert!(said != Said::Fine && said != Said::Removed && said != FORKED, "{said:?}");
                assert!(bytes(laptop) == before);
            }
        }
    }
    assert_eq!(laptop.look(&shelf.honest(), NOW), Said::Fine);
    assert!(bytes(laptop) == newest && bytes(server) == newest);
}

#[test]
fn a_change_that_the_coordinator_took_and_forgot_is_brought_back_by_who_made_it() {
    let mut network = Network::of(&["server", "laptop"]);
    let before = network.shelf.present().to_bytes();
    let id = network.machines[1].id();
    let Network { shelf, machines, .. } = &mut network;
    let edit = Box::new(move |draft: &mut Draft<'_>| {
        draft.rename_machine(&id, "attic")?;
        Ok(Outcome::default())
    });
    machines[0].change(&shelf.lying(Lie::Swallows), NOW, edit).unwrap();
    assert!(shelf.present().to_bytes() == before);
    assert_eq!(network.all_look(NOW), [Said::Fine; 2]);
    assert_eq!(network.machines[1].roster().machine(&id).unwrap().name, "attic");
}

#[test]
fn without_the_coordinator_a_signer_changes_nothing_and_loses_nothing() {
    let mut network = Network::of(&["server", "laptop"]);
    let id = network.machines[1].id();
    let Network { shelf, machines, .. } = &mut network;
    let before = bytes(&machines[0]);
    let edit = Box::new(move |draft: &mut Draft<'_>| {
        draft.rename_machine(&id, "attic")?;
        Ok(Outcome::default())
    });
    let refused = machines[0].change(&shelf.lying(Lie::Away), NOW, edit);
    assert!(matches!(refused, Err(ChangeError::CatchUp(_))));
    assert_eq!(machines[0].look(&shelf.lying(Lie::Away), NOW), Said::No(Trouble::Unreachable));
    assert!(bytes(&machines[0]) == before);
}

#[test]
fn a_removed_machine_is_handed_everything_and_opens_nothing() {
    let mut network = Network::of(&["server", "laptop", "phone"]);
    let laptop = network.machines[1].id();
    network.machines[0].does(&network.shelf, move |draft| draft.remove_machine(&laptop).map(drop));
    let told = network.shelf.kept().told.len();
    rename(&mut network, 0, 2, "tablet");
    let invite = network.machines[0].invites(&network.shelf, 1);
    network.machines[0].does(&network.shelf, move |draft| draft.remove_invite(&invite.id()));
    network.all_look(NOW);

    let Network { shelf, machines, .. } = &mut network;
    let [_, laptop, _] = machines.as_mut_slice() else { unreachable!() };
    let (kept, id) = (shelf.kept(), laptop.asker.network);
    let since: Vec<_> = kept.past.iter().filter(|state| state.order() > laptop.roster().order()).collect();
    assert_eq!(since.len(), 4);
    let invite = laptop.asker.invite.as_ref().unwrap().sealing();
    for state in since {
        assert!(state.open_key(laptop.asker.keys.sealing()).is_none() && state.open_key(&invite).is_none());
        for key in std::iter::once(laptop.present.epochs.present())
            .chain(laptop.present.epochs.ended().iter().map(|ended| &ended.key))
        {
            assert_eq!(Roster::open(state.clone(), key.clone(), &id).err(), Some(RosterError::WrongKey));
        }
    }
    for delta in &kept.told[told..] {
        let delta = Delta::from_bytes(delta).unwrap();
        assert!(delta.open_key(laptop.asker.keys.sealing()).is_none() && delta.open_key(&invite).is_none());
    }
    drop(kept);
    assert_eq!(laptop.look(&shelf.honest(), NOW), Said::Removed);
}

#[test]
fn a_stolen_signer_at_the_last_version_is_removed_by_another_and_by_the_paper() {
    let mut network = with_two_signers(&["server", "thief", "laptop"]);
    let Network { shelf, machines, paper, .. } = &mut network;
    for version in [1 << 63, u64::MAX] {
        let keys = machines[1].asker.keys.clone();
        let state = forged(machines[1].roster(), &keys, |header| header.order.version = version);
        for machine in machines.iter_mut() {
            assert_eq!(machine.look(&shelf.lying(Lie::Shows(state.clone())), NOW), Said::Fine);
            assert_eq!(machine.roster().order().version, version);
        }
    }
    // The coordinator has it from one of them.
    assert_eq!(machines[0].look(&shelf.honest(), NOW), Said::Fine);
    let nothing = Box::new(|_: &mut Draft<'_>| Ok(Outcome::default()));
    let stuck = machines[0].change(&shelf.honest(), NOW, nothing);
    assert!(matches!(stuck, Err(ChangeError::Edit(EditError::Exhausted))));

    let offline = machines.pop().unwrap();
    let thief = machines[1].id();
    let last = machines[0].roster().clone();
    machines[0].does(shelf, move |draft| draft.remove_machine(&thief).map(drop));
    assert_eq!(machines[1].look(&shelf.honest(), NOW), Said::Removed);
    machines.push(offline);
    assert_eq!(machines[2].look(&shelf.honest(), NOW), Said::Fine);
    assert!(machines[2].roster().machine_by_name("thief").is_none());

    // The thief goes on from where it was; the paper wins over that and over the generation without it.
    let keys = machines[2].asker.keys.clone();
    let root = RootKeys::from_seed(&paper.seed);
    let back = last.recover(&root, &keys, "laptop", NOW, &mut OsRng, |draft| draft.remove_machine(&thief));
    machines[2].take(back.unwrap().roster, NOW);
    machines[2].look(&shelf.honest(), NOW);
    assert_eq!(network.all_look(NOW), [Said::Fine, Said::Removed, Said::Fine]);
    assert_eq!(network.machines[0].roster().order().recovery, 1);
    assert!(network.machines[2].is_signer() && !network.machines[0].is_signer());
}

#[test]
fn over_two_years_whichever_signer_is_up_renews_and_a_machine_kept_from_it_says_stale_within_two_months() {
    let mut network = with_two_signers(&["server", "nas", "laptop", "kept"]);
    let Network { shelf, machines, .. } = &mut network;
    let first = machines[3].roster().clone();
    let kept_from = || Lie::Shows(Box::new(first.state().clone()));
    let mut stale_since = None;
    for day in 1..=730 {
        let now = NOW + day * DAY;
        // Each is up in every other quarter, and both at each turn.
        for (n, signer) in machines[..2].iter_mut().enumerate() {
            if (day / 91) as usize % 2 == n || day % 91 == 0 {
                signer.look(&shelf.honest(), now);
                if is_due(signer.roster(), now) {
                    // The other one may have been faster on the same day.
                    let _ = signer.change(&shelf.honest(), now, renewal());
                }
            }
        }
        assert_eq!(machines[2].look(&shelf.honest(), now), Said::Fine);
        assert!(!is_stale(machines[2].roster(), now), "day {day}");
        assert!(!renewal_is_due(machines[2].roster().not_after(), now), "day {day}");
        // Nothing that it is shown is false: only time tells.
        assert_eq!(machines[3].look(&shelf.lying(kept_from()), now), Said::Fine);
        if is_stale(machines[3].roster(), now) {
            stale_since = stale_since.or(Some(day));
        }
    }
    let epochs = machines[2].roster().epoch_number() - first.epoch_number();
    assert!((24..=25).contains(&epochs), "{epochs} epochs");
    assert!(stale_since.is_some_and(|day| day * DAY <= 2 * FRESH), "{stale_since:?}");
    // Keys of ended epochs are erased after a month.
    assert!(machines[2].present.epochs.ended().len() <= 2);
    // One that slept all the time comes back.
    assert_eq!(machines[3].look(&shelf.honest(), NOW + 731 * DAY), Said::Fine);
    assert!(bytes(&machines[3]) == bytes(&machines[2]));
}
