//! What a peer may number its messages.

use super::{independent::Independent, link::packet};

/// The first counter that no session has (the paper, section 6.1): 2^64 - 2^13 - 1.
const REJECT_AFTER_MESSAGES: u64 = u64::MAX - (1 << 13);
/// How many counters behind the newest are remembered.
const WINDOW: u64 = 1_024;

#[test]
fn a_counter_that_no_session_has_is_refused_and_leaves_the_window_as_it_was() {
    let mut peer = Independent::meet();
    assert!(is_taken(&mut peer, 0));
    for counter in [REJECT_AFTER_MESSAGES, REJECT_AFTER_MESSAGES + 1, u64::MAX - WINDOW, u64::MAX - 1] {
        assert!(!is_taken(&mut peer, counter), "{counter}");
    }
    assert!(!is_taken(&mut peer, 0) && is_taken(&mut peer, 1) && !is_taken(&mut peer, 1));
    let last = REJECT_AFTER_MESSAGES - 1;
    assert!(is_taken(&mut peer, last) && !is_taken(&mut peer, last) && !is_taken(&mut peer, last + 1));
    assert!(!is_taken(&mut peer, 2), "long past");
    assert!(is_taken(&mut peer, last - 1) && !is_taken(&mut peer, last - 1));
}

#[test]
fn messages_may_come_in_any_order_within_the_window_and_each_once() {
    let mut peer = Independent::meet();
    for counter in [5, 3, 4, 0, 2_000, 2_000 - WINDOW + 1, 1_999] {
        assert!(is_taken(&mut peer, counter), "{counter}");
    }
    for counter in [5, 3, 4, 0, 2_000, 2_000 - WINDOW + 1, 1_999, 1, 2_000 - WINDOW - 1] {
        assert!(!is_taken(&mut peer, counter), "{counter}");
    }
}

/// Whether a packet under that counter reaches the TUN.
fn is_taken(peer: &mut Independent, counter: u64) -> bool {
    let before = peer.link.sides[0].tun.len();
    peer.send_as(0, counter, &packet("10.0.0.1", "10.0.0.0", 96));
    peer.link.settle();
    peer.link.sides[0].tun.len() > before
}
