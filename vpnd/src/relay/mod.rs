//! The relays' client.
//!
//! A [`RelayClient`] keeps one connection to one relay for as long as it lives: it connects, checks that it speaks to
//! the relay that the roster names, shows the network's credential, opens the machine's mailboxes, and connects again
//! whenever that ends, after a pause that grows and is random (`crate::backoff`). The relay's TLS certificate is of no
//! account: the relay proves its Ed25519 key over a value exported from the TLS session, which nobody in the middle
//! can do.
//!
//! Mailboxes are of an epoch and a day. The client listens to those of today and, within an hour of midnight, of the
//! neighbouring day, so that machines whose clocks differ a little still meet ([`calendar`]). A relay says its own
//! day first: one that is neither tells of a clock that is wrong ([`RelayEvent::ClockWrong`]).
//!
//! Nothing grows: what cannot be sent at once waits in a bounded buffer and is dropped beyond it; so is what comes in
//! while its receiver is behind.

pub mod calendar;
mod client;
mod connect;
mod link;
mod outbox;
mod pace;
mod probe;
mod session;
mod slept;

pub use client::{BadRelayUrl, Listen, RelayClient, RelayEvent};
pub(crate) use probe::{Unproven, probe};
