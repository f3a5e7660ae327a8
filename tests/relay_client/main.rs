//! vpnd's relay client against the relay, over TLS on loopback.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod house;

use std::time::{Duration, Instant};

use house::{Event, House, NOON};
use proto::relay::{CredentialIssuer, MAX_PAYLOAD, Refusal, To};
use rand_core::OsRng;

/// Long enough for anything here to have happened on a busy machine.
const QUIET: Duration = Duration::from_millis(1_500);

#[tokio::test]
async fn two_machines_exchange_by_mailbox_and_by_handle() {
    let house = House::start().await;
    let (mut a, mut b) = (house.machine(1).up().await, house.machine(2).up().await);
    a.send(house.mailbox_of(2), b"hello");
    let (epoch, handle, payload) = b.payload().await;
    assert!(epoch == Some(house.epoch()) && payload == b"hello"[..]);
    b.send(To::Handle(handle), b"and you");
    let (epoch, answer_to, payload) = a.payload().await;
    assert!(epoch.is_none() && answer_to == handle && payload == b"and you"[..]);
    a.send(To::Handle(handle), &[7; MAX_PAYLOAD]);
    assert!(b.payload().await.2 == [7; MAX_PAYLOAD][..]);
    assert!(!a.client().try_send(To::Handle(handle), &[7; MAX_PAYLOAD + 1]));
}

#[tokio::test]
async fn many_frames_arrive_whole_and_in_order() {
    let house = House::start().await;
    let (mut a, mut b) = (house.machine(1).up().await, house.machine(2).up().await);
    for round in 0..20_u32 {
        for i in 0..100_u32 {
            let number = round * 100 + i;
            a.send(
                house.mailbox_of(2),
                &[&number.to_be_bytes()[..], &vec![1; number as usize % 1_400]].concat(),
            );
        }
        for i in 0..100_u32 {
            let number = round * 100 + i;
            let (_, handle, payload) = b.payload().await;
            assert!(payload[..4] == number.to_be_bytes() && payload.len() == 4 + number as usize % 1_400);
            if i == 99 {
                b.send(To::Handle(handle), b"next");
            }
        }
        a.payload().await;
    }
}

#[tokio::test]
async fn the_newest_connection_of_a_machine_gets_its_mail() {
    let house = House::start().await;
    let mut old = house.machine(2).up().await;
    let mut new = house.machine(2).up().await;
    let a = house.machine(1).up().await;
    a.send(house.mailbox_of(2), b"for the newest");
    assert!(new.payload().await.2 == b"for the newest"[..]);
    assert!(old.next_within(Duration::from_millis(200)).await.is_none());
}

#[tokio::test]
async fn who_leaves_is_gone_for_its_partners() {
    let house = House::start().await;
    let mut a = house.machine(1).up().await;
    let mut b = house.machine(2).up().await;
    a.send(house.mailbox_of(2), b"hello");
    let (_, handle, _) = b.payload().await;
    drop(b);
    assert!(matches!(a.next().await, Event::Gone { handle: gone, .. } if gone == handle));
    a.send(To::Handle(handle), b"still there?");
    assert!(matches!(a.next().await, Event::Gone { handle: gone, .. } if gone == handle));
}

#[tokio::test]
async fn a_connection_that_the_network_took_away_is_made_anew_at_once_if_it_was_not_new_itself() {
    let house = House::start().await;
    let (way, cut) = house.fragile_way().await;
    let mut machine = house.machine(1).through(way).up().await;
    let mut lost_and_up = async || {
        cut.notify_one();
        assert!(matches!(machine.next().await, Event::Down { .. }));
        let down = Instant::now();
        assert!(matches!(machine.next().await, Event::Up { .. }));
        down.elapsed()
    };
    // The shortest pause before a connection. On a busy machine the connection itself may take as long, but not always.
    let pause = Duration::from_millis(250);
    let mut old = Vec::new();
    while !old.iter().any(|took| *took < pause) {
        assert!(old.len() < 5, "{old:?}");
        tokio::time::sleep(Duration::from_secs(3)).await;
        old.push(lost_and_up().await);
    }
    let new = lost_and_up().await;
    assert!(new >= pause, "{new:?}");
}

#[tokio::test]
async fn a_connection_that_takes_long_has_another_made_beside_it() {
    let house = House::start().await;
    let began = Instant::now();
    let mut a = house.machine(1).through(house.lossy_way(2).await).up().await;
    // Two are begun beside the first, after three seconds each; all of it would be given up after twenty.
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    let b = house.machine(2).up().await;
    b.send(house.mailbox_of(1), b"here");
    assert!(a.payload().await.2 == b"here"[..]);
}

#[tokio::test]
async fn a_relay_with_another_key_is_not_spoken_to() {
    let house = House::start().await;
    let mut machine = house.machine(1).expecting([9; 32]).start();
    assert!(machine.next_within(QUIET).await.is_none());
}

#[tokio::test]
async fn somebody_in_the_middle_with_a_certificate_of_their_own_is_not_spoken_to() {
    let house = House::start().await;
    let mut direct = house.machine(1).start();
    assert!(matches!(direct.next().await, Event::Up { .. }));
    let mut spied = house.machine(1).through(house.middle_with_another_certificate().await).start();
    assert!(spied.next_within(QUIET).await.is_none());
    assert!(house.passed_the_middle() > 0, "the one in the middle must have been reached");
}

#[tokio::test]
async fn a_wrong_credential_is_told() {
    let house = House::start().await;
    let stranger = CredentialIssuer::generate(&mut OsRng);
    let mut machine = house.machine(1).with_credentials_of(&stranger).start();
    assert!(matches!(machine.next().await, Event::Refused { refusal: Refusal::Credential, .. }));
}

#[tokio::test]
async fn a_machine_without_a_credential_of_the_month_waits_for_one() {
    let house = House::start().await;
    let mut machine = house.machine(1).without_credentials().start();
    assert!(machine.next_within(QUIET).await.is_none());
    machine.credentials.send_replace(vec![house.credential()]);
    assert!(matches!(machine.next().await, Event::Up { .. }));
}

#[tokio::test]
async fn a_wrong_clock_is_told() {
    let house = House::start().await;
    let mut machine = house.machine(1).at(|| NOON + 86_400).start();
    assert!(matches!(machine.next().await, Event::ClockWrong { .. }));
}

#[tokio::test]
async fn a_clock_that_is_wrong_by_a_month_is_told_though_no_credential_is_of_that_month() {
    let house = House::start().await;
    let mut machine = house.machine(1).at(|| NOON + 70 * 86_400).start();
    assert!(matches!(machine.next().await, Event::ClockWrong { .. }));
}

#[tokio::test]
async fn machines_on_either_side_of_midnight_meet() {
    let house = House::start().await;
    // The relay's day begins at NOON - 12 h; this machine is half an hour before it.
    let mut late = house.machine(2).at(|| NOON - 43_200 - 1_800).up().await;
    let a = house.machine(1).up().await;
    a.send(house.mailbox_of(2), b"good morning");
    assert!(late.payload().await.2 == b"good morning"[..]);
}

#[tokio::test]
async fn a_new_epochs_mailbox_opens_and_an_old_one_closes_on_the_same_connection() {
    let house = House::start().await;
    let mut b = house.machine(2).up().await;
    let mut a = house.machine(1).up().await;
    a.send(house.mailbox_of(2), b"old epoch");
    let (_, handle, _) = b.payload().await;
    b.mailboxes.send_replace(vec![house.listen_in(2, 77)]);
    // Nothing tells when the relay has closed a mailbox; on loopback it has by then.
    tokio::time::sleep(Duration::from_millis(200)).await;
    a.send(house.mailbox_of(2), b"closed");
    a.send(house.mailbox_in(2, 77), b"new epoch");
    let (epoch, again, payload) = b.payload().await;
    assert!(payload == b"new epoch"[..] && again == handle && epoch == Some(house::epoch(77)));
    b.send(To::Handle(handle), b"got it");
    assert!(a.payload().await.2 == b"got it"[..]);
}

#[tokio::test]
async fn epochs_that_have_passed_use_up_no_place_at_the_relay() {
    let house = House::start().await;
    let (a, mut b) = (house.machine(1).up().await, house.machine(2).up().await);
    // More than a connection may hold at once.
    for number in 100..140 {
        b.mailboxes.send_replace(vec![house.listen_in(2, number)]);
        loop {
            a.send(house.mailbox_in(2, number), b"there?");
            match b.next_within(Duration::from_millis(50)).await {
                Some(Event::Recv { epoch, .. }) if epoch == Some(house::epoch(number)) => break,
                Some(Event::Recv { .. }) | None => {}
                Some(_) => panic!("the relay must let it go on"),
            }
        }
    }
}

#[tokio::test]
async fn a_restarted_relay_is_found_again() {
    let mut house = House::start().await;
    let (mut a, mut b) = (house.machine(1).up().await, house.machine(2).up().await);
    house.restart().await;
    for machine in [&mut a, &mut b] {
        loop {
            match machine.next().await {
                Event::Up { .. } => break,
                Event::Down { .. } | Event::Refused { refusal: Refusal::Stopping, .. } => {}
                _ => panic!("a connection is lost and found"),
            }
        }
    }
    a.send(house.mailbox_of(2), b"back again");
    assert!(b.payload().await.2 == b"back again"[..]);
}

#[tokio::test]
async fn a_relay_that_is_restarted_again_and_again_is_found_at_once_each_time() {
    /// Pauses that grew with each restart would be longer by the last.
    const RESTARTS: usize = 6;
    let mut house = House::start().await;
    let mut machine = house.machine(1).up().await;
    for restart in 0..RESTARTS {
        house.restart().await;
        let began = Instant::now();
        while !matches!(machine.next().await, Event::Up { .. }) {}
        assert!(began.elapsed() < QUIET, "restart {restart}: {:?}", began.elapsed());
    }
}

#[tokio::test]
async fn a_relay_that_left_is_asked_often_whether_it_is_back() {
    /// Pauses that grew would be of four seconds by then, more or less.
    const AWAY: Duration = Duration::from_secs(6);
    let mut house = House::start().await;
    let mut machine = house.machine(1).up().await;
    house.leave().await;
    assert!(matches!(machine.next().await, Event::Leaving { .. }));
    assert!(machine.next_within(AWAY).await.is_some_and(|event| matches!(event, Event::Down { .. })));
    tokio::time::sleep(AWAY).await;
    house.begin().await;
    let began = Instant::now();
    while !matches!(machine.next().await, Event::Up { .. }) {}
    assert!(began.elapsed() < QUIET, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_change_of_the_network_connects_at_once() {
    let mut house = House::start().await;
    house.stop().await;
    let mut machine = house.machine(1).start();
    // Some failures, so that the pause is a long one.
    assert!(machine.next_within(Duration::from_secs(6)).await.is_none());
    house.begin().await;
    machine.client().retry();
    assert!(matches!(machine.next_within(QUIET).await, Some(Event::Up { .. })));
}

#[tokio::test]
async fn nothing_waits_for_a_relay_that_is_away() {
    let mut house = House::start().await;
    let mut a = house.machine(1).up().await;
    house.stop().await;
    while !matches!(a.next().await, Event::Down { .. }) {}
    assert!(!a.client().try_send(house.mailbox_of(2), b"lost"));
}
