//! Machines, NATs, links and relays in virtual time, against an oracle.
//!
//! One input of bytes is one simulation: a [`Plan`] of machines in their networks and of what happens to them. It is run
//! on the real core of the data path, one for each machine, jumping from one deadline to the next, and everything
//! that the core does is held against what must be so ([`run`]). The seed loop, the corpus and the fuzzer give the same
//! bytes to the same function. Same bytes, same simulation.
//!
//! | room | what is in it |
//! |---|---|
//! | `plan`, `story` | what happens, from bytes, and told in words |
//! | `nat`, `net` | routers, firewalls, lines; where a datagram ends; whether a direct path is possible at all |
//! | `host`, `relay`, `lan` | a machine and the double of its control; connections to relays; whom it looks for on a LAN |
//! | `world` | virtual time, and what happens in it |
//! | `watch` | the oracle: what must be so, and how long things took |
//! | `corpus`, `shrink`, `seeds` | kept inputs, smaller inputs, new inputs |
//!
//! Two modes. By default Noise is replaced by a stub (`sim-noise`, below the sources of `mesh` as they are), which is
//! fast and has virtual wall clocks. With the feature `real` it is `mesh` as shipped, with boringtun's clock mocked.

mod clock;
pub mod corpus;
mod dice;
mod host;
mod lan;
mod nat;
mod net;
mod plan;
mod relay;
pub mod seeds;
pub mod shrink;
mod story;
mod watch;
mod world;

pub use dice::Dice;
pub use plan::{Event, HostPlan, Line, Place, Plan, Site, What};
pub use story::tell;
pub use watch::{CAUSES, Report, Times};

#[cfg(feature = "real")]
pub(crate) use mesh as core;
#[cfg(not(feature = "real"))]
pub(crate) use sim_core as core;

/// Whether Noise is real in this build.
pub const REAL: bool = cfg!(feature = "real");

/// Runs the simulation that bytes stand for.
#[must_use]
pub fn run(bytes: &[u8]) -> Report {
    world::World::new(&Plan::read(bytes), false).run().0
}

/// The same, and what happened when, for a person.
#[must_use]
pub fn run_with_notes(bytes: &[u8]) -> (Report, Vec<String>) {
    world::World::new(&Plan::read(bytes), true).run()
}
