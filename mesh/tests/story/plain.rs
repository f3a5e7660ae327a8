//! A WireGuard peer whose messages the test makes itself.

use boringtun::noise::Tunn;
use proto::pipe::{EpochTag, Peer, ToData};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use crate::world::{World, host, ip4};

/// Where it is.
pub const PLAIN: &str = "203.0.113.77:7777";

/// A machine without a relay and its only peer, number 5, of which `more` says what else control told.
pub fn with_plain_peer(more: impl FnOnce(&mut Peer)) -> (World, Tunn) {
    let mut world = World::new(&[false]);
    world.relay = false;
    world.start(0);
    let secret = StaticSecret::from([9; 32]);
    let mut peer = world.peer(0, 0, 0);
    (peer.id, peer.wireguard) = (5, *PublicKey::from(&secret).as_bytes());
    peer.psks = vec![(EpochTag::of(0), Zeroizing::new([7; 32]))];
    peer.allowed = vec![host(ip4(5))];
    more(&mut peer);
    world.apply(0, ToData::SetPeer(peer));
    let ours = PublicKey::from(&StaticSecret::from([1; 32]));
    (world, Tunn::new(secret, ours, Some([7; 32]), None, 0, None))
}
