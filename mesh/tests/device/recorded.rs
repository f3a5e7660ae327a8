//! Initiations that somebody recorded and sends to an interface that does not know that they are old, for it began the session itself.

use std::time::Duration;

use proto::metadata::Endpoint;

use super::link::{Link, NONE, Sent, packet};

/// How messages begin.
const INITIATION: u8 = 1;
const ANSWER: u8 = 2;

/// Two with a session that the first began, and true initiations of the second's, made before.
fn recorded(count: usize) -> (Link, Vec<Sent>) {
    let mut link = Link::pair(NONE);
    let mut recorded = Vec::new();
    for _ in 0..count {
        link.restart(1);
        link.introduce(1, 0, |_| {});
        link.sides[1].device.handle_tun(link.now, &packet("10.0.0.1", "10.0.0.0", 100));
        recorded.extend(link.collect());
    }
    assert!(recorded.len() == count && recorded.iter().all(|sent| sent.bytes[0] == INITIATION));
    link.restart(1);
    link.introduce(1, 0, |_| {});
    assert!(link.crosses(0, 1) && link.crosses(1, 0));
    (link, recorded)
}

#[test]
fn they_cost_a_session_nothing_and_are_not_answered() {
    for gap in [Duration::ZERO, Duration::from_millis(900), Duration::from_secs(4)] {
        let (mut link, recorded) = recorded(20);
        let endpoint = link.sides[1].addr;
        for (n, initiation) in (0..).zip(&recorded) {
            let elsewhere = format!("203.0.113.{n}:9").parse().unwrap();
            link.inject(elsewhere, initiation);
            let sent = link.collect();
            assert!(sent.iter().all(|sent| sent.bytes[0] == INITIATION), "{gap:?}");
            sent.iter().for_each(|sent| link.deliver(sent));
            link.settle();
            assert!(link.crosses(0, 1) && link.crosses(1, 0), "{gap:?}, after {n}");
            assert!(link.state(0, 1).endpoint == Some(Endpoint(endpoint)));
            link.now += gap;
        }
        assert!(link.sent.iter().all(|sent| sent.bytes[0] != ANSWER || sent.from == 1), "{gap:?}");
    }
}

#[test]
fn a_peer_that_starts_anew_somewhere_else_is_there_at_once() {
    for elsewhere in [false, true] {
        let (mut link, _) = recorded(0);
        link.restart(1);
        if elsewhere {
            link.sides[1].addr = "203.0.113.7:4000".parse().unwrap();
        }
        link.introduce(1, 0, |_| {});
        assert!(link.crosses(1, 0) && link.crosses(0, 1));
        assert!(link.state(0, 1).endpoint == Some(Endpoint(link.sides[1].addr)));
        // It was heard in no session that it began, and that is no hindrance the next time.
        link.now += Duration::from_secs(2);
        link.restart(1);
        link.introduce(1, 0, |_| {});
        assert!(link.crosses(1, 0) && link.crosses(0, 1));
    }
}

#[test]
fn where_nobody_answers_an_initiation_is_taken_as_it_is() {
    let (mut link, recorded) = recorded(6);
    let mut kinds = Vec::new();
    for initiation in &recorded {
        link.inject("203.0.113.7:9".parse().unwrap(), initiation);
        // Not delivered.
        kinds.push(link.collect().iter().map(|sent| sent.bytes[0]).collect::<Vec<u8>>());
        link.now += Duration::from_millis(700);
    }
    // There and where the peer was, and no more than once a second.
    let asked = vec![INITIATION; 2];
    assert_eq!(kinds, [asked.clone(), vec![], asked.clone(), vec![], asked, vec![ANSWER]]);
}

#[test]
fn they_do_not_keep_anybody_from_beginning() {
    let (mut link, recorded) = recorded(20);
    link.restart(0);
    link.introduce(0, 1, |_| {});
    link.sides[0].device.handle_tun(link.now, &packet("10.0.0.0", "10.0.0.1", 100));
    let before = link.sides[1].tun.len();
    link.collect();
    for initiation in recorded.iter().take(8) {
        link.inject("203.0.113.7:9".parse().unwrap(), initiation);
        link.now += Duration::from_millis(500);
        link.sides[0].device.handle_timeout(link.now);
        link.settle();
    }
    assert!(link.sides[1].tun.len() > before);
}
