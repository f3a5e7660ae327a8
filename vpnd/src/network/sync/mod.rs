//! The newest roster, from peer to peer inside the tunnel, while the coordinator is away or keeps it back.
//!
//! Every machine answers on TCP port [`proto::sync::PORT`] of its own IPv6 address in the network, and asks others
//! there. Cryptokey routing names the peer by its source address; whoever is no member of the present roster, nor a
//! joiner that its invite bears, is closed without a byte. Nothing that a peer says is believed: what leads to a newer
//! roster is checked as what a coordinator says ([`exchange`]).
//!
//! | room | what is in it |
//! |---|---|
//! | [`exchange`] | one exchange, over any stream |
//! | [`plan`] | when to ask, and whom; no clock and no chance of its own |
//! | [`door`] | who may ask us, and how often |
//! | [`service`] | the task: sockets, exchanges under way, what the actor is told |
//! | [`heed`] | what the actor makes of it |
//!
//! While the coordinator answers nobody asks: peers say in their sessions how new a roster they have, and only one that
//! the coordinator has not brought after [`plan::GRACE`] is asked for.

mod door;
pub(super) mod exchange;
mod heed;
mod plan;
mod service;

pub(super) use service::{Sync, SyncEvent};
