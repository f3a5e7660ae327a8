//! The coordinator's client.
//!
//! One [`Client`] speaks to one coordinator, whose long-lived key is pinned or whose certificate the system's roots
//! vouch for ([`Trust`]). It keeps a connection for a few seconds between requests, tries nothing twice, and waits
//! for nothing longer than its timeouts: when to try again is for the network's actor to say.
//!
//! Rosters, deltas and join records pass through as bytes: nothing the coordinator says is believed here, and
//! `proto::roster` checks it all.

mod client;
mod connection;
mod error;
mod trust;
mod watch;

pub use client::{BadUrl, Client, Session};
pub use error::{Cause, Error, UnverifiedHead};
pub use trust::Trust;
pub use watch::Watch;
