//! The matrix of connectivity: every kind of NAT against every other, and what happens to networks on a bad day, each
//! with what was measured. `cargo xtask matrix` prints it; the end-to-end tests take samples of it.
//!
//! | file | what is in it |
//! |---|---|
//! | [`nat`] | the kinds of NAT, and which two of them let a direct path through |
//! | [`crowd`] | one network with machines behind the NATs asked for |
//! | [`pair`] | two machines from nothing: the first packet, the direct path, what was lost |
//! | [`case`] | one LAN, LANs with the same numbers, one NAT around two homes |
//! | [`condition`] | two machines in use, and something happens to one of them |
//! | [`idle`] | what a machine sends and receives while nobody uses its network |
//! | [`flow`] | pings and a TCP transfer that are watched meanwhile |

pub mod case;
pub mod condition;
pub mod crowd;
pub mod flow;
pub mod idle;
pub mod nat;
pub mod pair;

use std::time::Duration;

/// A first packet takes its way over the relay within this time.
pub const FIRST: Duration = Duration::from_secs(1);
/// A direct path carries data within this time, where there can be one.
pub const DIRECT: Duration = Duration::from_secs(2);
/// After a machine moved, slept, or lost what its router knew.
pub const BACK: Duration = Duration::from_secs(2);
/// After a relay died, while another is there.
pub const OTHER_RELAY: Duration = Duration::from_secs(3);
/// How long a TCP transfer may stand still while its path changes.
pub const STALL: Duration = Duration::from_millis(500);
