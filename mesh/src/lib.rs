//! The sans-I/O core of the data path: WireGuard sessions, cryptokey routing, path discovery and their timers.
//!
//! Packets go in as bytes and come out as bytes; the caller owns sockets, TUN, pipes and the clock, and passes time
//! and randomness in ([`Mesh`]). Nothing here performs I/O, logs, or reads the wall clock. (boringtun's `Tunn` reads
//! clocks of its own, for WireGuard's timers and timestamps.)
//!
//! | room | what is in it |
//! |---|---|
//! | `mesh` | [`Mesh`]: every call, and which peer it is for |
//! | `peer` | one peer: sending, receiving, its clock; what it may while it is a guest |
//! | `session` | `Tunn` by epoch, indexes, limits and memory of handshakes |
//! | `route` | which peer an inner address belongs to |
//! | `path` | which of a peer's paths carries its data |
//! | `announce`, `stun` | our candidates, and telling them |
//! | `ecn` | congestion that routers report, into the tunnel and out of it |
//! | `icmp`, `tcp`, `pieces` | what is too large for a path: its sender is told, or it goes in pieces |
//! | `device` | [`Device`]: a plain WireGuard interface, instead of all of the above that is the mesh's |
//! | `share` | a machine's peers shared out among several workers |
//! | `budgets` | what a machine sends that no packet asks for |
//! | `table`, `waiting`, `kept`, `ping`, `batch`, `timers` | peers by what names them, packets without a session yet, and those that may be lost, round trips, buffers, deadlines |
//!
//! # From nothing to a direct path
//!
//! The first packet for a peer starts a handshake, sent to its mailbox on a relay and to its static endpoints at
//! once. With the session up, data flows over the relay; both sides send their candidates through it and probe the
//! other's, at nearly the same time, so that their NATs open. The first echo makes a direct path, and data moves to
//! it. When it falls silent, data moves back to the relay within the trust time of `path`, and WireGuard is asked
//! for a new handshake in case the peer started anew.
//!
//! A path is also asked what size it carries. The interface keeps one MTU, each peer has its own: a larger packet goes
//! in pieces until the size is certain, then its sender is told by ICMP. TCP is told before, in the packets that open a
//! connection.
//!
//! # What holds whatever arrives
//!
//! * A packet reaches the TUN only if the longest range around its source is the sender's, and its destination ours.
//! * Data leaves only over a relay or on a path on which a fresh nonce came back.
//! * No datagram moves a path by where it came from.
//! * A message about paths comes from the machine at the other end of the session: not from a TUN, not forwarded.
//! * By a session of an epoch that control does not name, a guest's, only messages and sync pass.
//! * Queues, tables and rates are bounded by named constants.

#![deny(clippy::disallowed_macros, clippy::disallowed_methods, clippy::disallowed_types)]

mod announce;
mod batch;
mod budgets;
mod device;
mod ecn;
mod icmp;
mod kept;
mod machine;
mod mesh;
mod out;
mod path;
mod peer;
mod pieces;
mod ping;
mod route;
mod session;
mod share;
mod stun;
mod table;
mod tcp;
mod timers;
mod waiting;

pub use budgets::Budgets;
pub use device::Device;
pub use mesh::Mesh;
pub use out::{Event, To, Transmit, TunBatch};
pub use session::{WORKER_BYTE, WORKER_MASK, WORKER_SHIFT, initiator};
pub use share::{Handed, MAX_WORKERS, Noted, Share, addressee};
