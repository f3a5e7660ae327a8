//! The relay: forwards ciphertext between mailboxes, and tells machines the address they are seen at.
//!
//! Everything is in memory and dies with the connection it belongs to. Nothing is logged, printed or written; no
//! wall clock is read but the day, which the caller passes in ([`Relay::new`]).
//!
//! A connection comes in through [`listener`], is upgraded ([`Relay::answer`]) and from then on carries the frames of
//! [`proto::relay`]. The relay speaks first and proves its key; the machine shows its network's credential, then
//! opens its mailboxes. What it sends is copied once, from the buffer it was read into to the queue of the connection
//! it goes to; each queue is written out whole at each wake-up, so frames leave one by one while there is no crowd and by the
//! dozen while there is. A queue is bounded: what does not fit is dropped, as a
//! router would, and the tunnels inside slow down. [`limits`] has every bound and its reason.
//!
//! What a live relay knows: the source address of each connection, the mailboxes it opened, which connections
//! exchange how much, and a network's pseudonym of the month. It forgets each with the connection.
//!
//! | room | what is in it |
//! |---|---|
//! | [`listener`] | TCP, TLS 1.3 and HTTP, shared with the coordinator |
//! | [`tls`] | what is shown in TLS: a certificate made under a long-lived key |
//! | [`certificate`] | ... or one that the operator has, which is renewed |
//! | [`limits`] | what one network, one connection and all together may use |
//! | [`stun`] | the STUN server |
//! | [`message`] | the sentences that the program may say |
//! | [`walls`] | what a server gives up before it serves |
//! | [`ready`] | tells systemd that it serves |
//!
//! [`Relay`] is made of a switchboard (who is where), connections (one task each), their queues, and the networks'
//! budgets.

#![deny(clippy::disallowed_macros, clippy::disallowed_methods, clippy::disallowed_types)]

mod asked;
mod bucket;
pub mod certificate;
mod connection;
mod gulp;
#[cfg(feature = "leaks")]
pub mod leaks;
pub mod limits;
mod link;
pub mod listener;
pub mod message;
mod queue;
pub mod ready;
mod relay;
pub mod stun;
mod switchboard;
pub mod tls;
pub mod walls;

pub use relay::Relay;
