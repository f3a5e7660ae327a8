//! The daemon of a machine, in two processes.
//!
//! `vpnd` is control: it keeps the machine's keys and rosters, speaks to the coordinator and the relays, sets
//! addresses and routes, and serves the local API. `vpnd data-path` is its child, one per network: it holds the TUN
//! device and the UDP sockets and is told everything else over two pipes.
//!
//! | room | what is in it |
//! |---|---|
//! | [`cli`] | the command line of both processes |
//! | [`message`] | the fixed sentences that vpnd may print |
//! | [`daemon`] | start and end, logins, commands |
//! | [`state`] | the state directory: all that a machine stores |
//! | [`network`] | one actor per network: roster, signer, joiners, mailboxes |
//! | [`apply`] | what a roster asks of the data path and the interface |
//! | [`inventory`] | what the state directory may hold, and what it holds now |
//! | [`api`] | the local API on a unix socket |
//! | [`coordinator`] | the coordinator's client |
//! | [`relay`] | the relays' client |
//! | [`dial`] | the way to both: directly or through a proxy |
//! | `gateway` | a port of the router's outer address |
//! | `netcheck` | what the network around allows |
//! | `lan` | finding peers on the LAN |
//! | `backoff`, `moved` | when either connects again: after a pause, or at once on another network |
//! | [`child`] | starts the data path and keeps it running |
//! | [`harden`] | what a process that holds keys does first |
//! | [`walls`] | what control gives up before it serves anybody |
//! | [`data_path`] | the data path's own process |
//! | [`workers`] | how many threads carry the packets |
//! | [`device`] | instead of all that: a plain WireGuard interface |

#![deny(clippy::disallowed_macros, clippy::disallowed_methods, clippy::disallowed_types)]

pub mod api;
pub mod apply;
mod backoff;
pub mod child;
pub mod cli;
pub mod coordinator;
pub mod daemon;
pub mod data_path;
pub mod device;
pub mod dial;
mod gateway;
pub mod harden;
pub mod inventory;
mod lan;
#[cfg(feature = "leaks")]
pub mod leaks;
pub mod message;
mod moved;
mod netcheck;
pub mod network;
pub mod relay;
pub mod state;
pub mod walls;
pub mod workers;
