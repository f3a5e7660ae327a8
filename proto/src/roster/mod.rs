//! The roster: a network's whole present state, signed, sealed, and without a past.

mod entry;
mod invite;
mod order;

pub use entry::EntryId;
pub use invite::InviteSecret;
pub use order::{Floor, Order};
