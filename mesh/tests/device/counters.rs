//! What a peer may number its messages, asked by one that is no boringtun: its Noise is `snow`'s, and it numbers as it likes.

use std::net::SocketAddr;

use blake2::{
    Blake2s256, Blake2sMac, Digest,
    digest::{Mac, consts::U16},
};
use proto::{metadata::Endpoint, pipe::PlainPeer};
use snow::{Builder, StatelessTransportState};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use super::link::{Link, NONE, Sent, net, packet};

/// The first counter that no session has (the paper, section 6.1): 2^64 - 2^13 - 1.
const REJECT_AFTER_MESSAGES: u64 = u64::MAX - (1 << 13);
/// How many counters behind the newest are remembered.
const WINDOW: u64 = 1_024;
const SECRET: [u8; 32] = [3; 32];
/// Side 0 knows it as its peer 1.
const ADDRESS: &str = "198.18.0.1:4000";

#[test]
fn a_counter_that_no_session_has_is_refused_and_leaves_the_window_as_it_was() {
    let mut peer = Numbering::meet();
    assert!(peer.is_taken(0));
    for counter in [REJECT_AFTER_MESSAGES, REJECT_AFTER_MESSAGES + 1, u64::MAX - WINDOW, u64::MAX - 1] {
        assert!(!peer.is_taken(counter), "{counter}");
    }
    assert!(!peer.is_taken(0) && peer.is_taken(1) && !peer.is_taken(1));
    assert!(peer.is_taken(REJECT_AFTER_MESSAGES - 1));
    assert!(!peer.is_taken(REJECT_AFTER_MESSAGES - 1) && !peer.is_taken(REJECT_AFTER_MESSAGES));
    assert!(!peer.is_taken(2), "long past");
    assert!(peer.is_taken(REJECT_AFTER_MESSAGES - 2) && !peer.is_taken(REJECT_AFTER_MESSAGES - 2));
}

#[test]
fn messages_may_come_in_any_order_within_the_window_and_each_once() {
    let mut peer = Numbering::meet();
    for counter in [5, 3, 4, 0, 2_000, 2_000 - WINDOW + 1, 1_999] {
        assert!(peer.is_taken(counter), "{counter}");
    }
    for counter in [5, 3, 4, 0, 2_000, 2_000 - WINDOW + 1, 1_999, 1, 2_000 - WINDOW - 1] {
        assert!(!peer.is_taken(counter), "{counter}");
    }
}

/// A peer of side 0.
struct Numbering {
    link: Link,
    session: StatelessTransportState,
    /// What side 0 calls it by.
    index: [u8; 4],
}

impl Numbering {
    fn meet() -> Self {
        let mut link = Link::new(2);
        let public = PublicKey::from(&StaticSecret::from(SECRET)).to_bytes();
        link.introduce(0, 1, |peer: &mut PlainPeer| {
            peer.wireguard = public;
            peer.endpoint = Some(Endpoint(ADDRESS.parse().unwrap()));
            peer.allowed = vec![net("10.0.0.1/32")];
            peer.psk = Zeroizing::new(NONE);
        });
        let remote = link.sides[0].public();
        let mut noise = Builder::new("Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s".parse().unwrap())
            .local_private_key(&SECRET)
            .and_then(|builder| builder.remote_public_key(&remote))
            .and_then(|builder| builder.prologue(b"WireGuard v1 zx2c4 Jason@zx2c4.com"))
            .and_then(|builder| builder.psk(2, &NONE))
            .and_then(Builder::build_initiator)
            .unwrap();

        let mut initiation = [0; 148];
        initiation[0] = 1;
        let len = noise.write_message(&[1; 12], &mut initiation[8..]).unwrap();
        let key = Blake2s256::new().chain_update(b"mac1----").chain_update(remote).finalize();
        let mac = Blake2sMac::<U16>::new_from_slice(&key).unwrap().chain_update(&initiation[..8 + len]);
        initiation[8 + len..][..16].copy_from_slice(&mac.finalize().into_bytes());
        inject(&mut link, &initiation);

        let answer = link.collect().pop().unwrap().bytes;
        noise.read_message(&answer[12..60], &mut []).unwrap();
        let index = answer[4..8].try_into().unwrap();
        Self { link, session: noise.into_stateless_transport_mode().unwrap(), index }
    }

    /// Whether a packet in a message of that number reaches side 0's TUN.
    fn is_taken(&mut self, counter: u64) -> bool {
        let inner = packet("10.0.0.1", "10.0.0.0", 96);
        let mut message = [4, 0, 0, 0].into_iter().chain(self.index).collect::<Vec<u8>>();
        message.extend(counter.to_le_bytes());
        message.resize(16 + inner.len() + 16, 0);
        self.session.write_message(counter, &inner, &mut message[16..]).unwrap();
        let before = self.link.sides[0].tun.len();
        inject(&mut self.link, &message);
        self.link.settle();
        self.link.sides[0].tun.len() > before
    }
}

fn inject(link: &mut Link, bytes: &[u8]) {
    let (src, dst): (SocketAddr, _) = (ADDRESS.parse().unwrap(), link.sides[0].addr);
    link.inject(src, &Sent { from: 1, socket: 0, dst, bytes: bytes.to_vec() });
}
