//! The sans-I/O core of the data path: WireGuard sessions, cryptokey routing, path discovery and their timers.
//!
//! Packets go in as bytes, packets come out as bytes; the caller owns sockets, TUN and clock ([`Mesh`]).

mod mesh;
mod out;

pub use mesh::Mesh;
pub use out::{Event, To, Transmit, TunBatch};
