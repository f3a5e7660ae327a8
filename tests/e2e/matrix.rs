//! Samples of the matrix of connectivity, which `cargo xtask matrix` measures whole.

use tests::matrix::{
    case::{self, Case},
    condition::Condition,
    crowd::Crowd,
    nat::{Expected, Nat},
    pair::{self, Row},
};

/// Each kind of NAT once at least; both outcomes.
const PAIRS: [(Nat, Nat); 8] = [
    (Nat::Easy, Nat::Easy),
    (Nat::None, Nat::Hard),
    (Nat::Remap, Nat::Addr),
    (Nat::Cgnat, Nat::One2One),
    (Nat::FullCone, Nat::Hard),
    (Nat::Easy, Nat::Hard),
    (Nat::UdpBlocked, Nat::Blocked),
    (Nat::V6Only, Nat::Addr),
];

#[test]
fn eight_pairs_of_nats_have_the_best_path_that_there_is() {
    let mut places = Vec::new();
    for (number, (one, other)) in PAIRS.iter().enumerate() {
        places.push((format!("a{number}"), *one));
        places.push((format!("b{number}"), *other));
    }
    let crowd = Crowd::up(&places).unwrap();
    let mut wrong = Vec::new();
    for (number, nats) in PAIRS.iter().enumerate() {
        let (one, other) = (format!("a{number}"), format!("b{number}"));
        let sample = pair::measure(&crowd, (&one, &other), *nats).unwrap();
        println!("{} {}: {sample:?}", nats.0, nats.1);
        let expected = nats.0.expected(nats.1);
        // A direct path where none is expected is welcome, and chance misses one in two hundred (`hard_nat` waits longer).
        let met = sample.direct.is_some() || expected != Expected::Direct;
        let row = Row { nats: *nats, expected, samples: vec![sample] };
        if !met || !row.holds() {
            wrong.push(row);
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Two homes with the same numbers, in one of which a stranger has the other machine's address; two behind one provider's NAT.
#[test]
fn machines_on_one_lan_on_like_lans_and_behind_one_nat_are_direct_and_strangers_hear_nothing() {
    let cases = [Case::SameLan, Case::OverlappingLans, Case::OneCgnatHairpin];
    let measured = case::measure(&cases, 1).unwrap();
    println!("{measured:?}");
    assert!(measured.iter().all(case::Measured::holds), "{measured:#?}");
}

fn holds(condition: Condition, times: usize) {
    let outcome = condition.measure(times).unwrap();
    println!("{outcome:?}");
    assert!(outcome.holds(), "{outcome:#?}");
}

#[test]
fn a_router_that_forgets_costs_less_than_two_seconds() {
    holds(Condition::NatFlush, 2);
}

#[test]
fn a_sleep_behind_a_router_that_forgot_costs_less_than_two_seconds() {
    holds(Condition::Sleep, 1);
}

#[test]
fn a_relay_that_dies_beside_another_costs_less_than_three_seconds() {
    holds(Condition::RelayDies, 2);
}

#[test]
fn a_lossy_and_slow_link_is_direct_and_stays_so() {
    holds(Condition::BadLink, 1);
}

#[test]
fn a_direct_path_that_dies_costs_a_transfer_less_than_half_a_second() {
    holds(Condition::PathDies, 1);
}
