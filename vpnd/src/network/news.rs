//! What peers say inside their sessions about the roster that they have.
//!
//! A peer is a member, and may lie: what it says is a reason to look, and nothing more.

use proto::roster::Floor;

use super::actor::Actor;

impl Actor {
    /// The roster that this machine has, as its peers are told.
    pub(super) fn floor(&self) -> Floor {
        self.present.borrow().roster.head().floor()
    }

    /// A peer says that it has another roster.
    pub(super) fn heed_peer_floor(&self, peer: u32, floor: Floor) {
        let (Some(running), Some(key)) = (&self.running, self.peers.key(peer)) else { return };
        // If the coordinator does not tell soon, the peer is asked.
        running.sync.claim(*key, floor);
        if floor.order > self.floor().order {
            // The coordinator should have told.
            running.look();
        }
    }
}
