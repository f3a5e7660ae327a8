//! The local API on a unix socket: who may call, one connection per command, lines of JSON.
//!
//! The types are those of [`proto::api`]; what a command does is decided by whoever implements [`Serve`]. Root, the
//! user that runs vpnd and members of the group `tacet` may call; the socket's mode says so, and the kernel's word on
//! who called is asked again for each connection.
//!
//! A command runs in a task of its own: a caller that goes away does not stop a change half-way. What it would have
//! been told is dropped, and a command that only tells (`ping`) ends when [`Replies`] says that nobody listens.

mod access;
mod connection;
mod listener;

pub use access::Access;
pub use connection::{NobodyListens, Replies, Serve};
pub use listener::{Listener, ListenerError};
