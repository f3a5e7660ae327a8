//! One actor per network.
//!
//! The actor owns everything that a network is on this machine: the opened roster and the keys, the interface, the
//! data path, the connections to coordinator and relays. It reacts to what comes, one thing after the other, and never
//! waits for the network itself: a task of its own keeps the coordinator's watch open ([`link`]), another one makes
//! changes of the roster ([`signer`]), and each relay has its client.
//!
//! | room | what is in it |
//! |---|---|
//! | [`handle`] | what the daemon may ask |
//! | [`actor`] | the loop, up and down, what a roster asks of interface and data path |
//! | [`adopt`] | taking a newer roster, keeping it, folding in who joined |
//! | [`running`] | what exists while the network is up |
//! | [`traffic`] | frames between relays and data path, introductions |
//! | [`queries`], [`view`] | answers to the local API |
//! | [`removal`] | removing a machine, revoking an invite, leaving |
//! | [`link`], [`catch_up`], [`upstream`] | the coordinator: pushes, catching up |
//! | [`signer`] | changes of the roster |
//! | [`signers`] | who may sign, what signers renew |
//! | [`sync`] | the newest roster from peer to peer |
//! | [`joiners`] | members that no signer has folded in yet |
//! | [`keys`] | whether this machine's keys are whole |
//! | [`relays`] | the connections to the relays |
//! | [`mailboxes`] | where peers are reached at the relays |
//! | [`interface`] | TUN device, addresses, UDP sockets |
//! | [`underlay`] | the addresses outside the network, as they change |
//! | [`range`], [`clock`] | the IPv4 range of a new network; the time |

mod actor;
mod adopt;
mod catch_up;
pub(crate) mod clock;
mod guests;
mod handle;
mod interface;
mod joiners;
mod keys;
mod link;
mod mailboxes;
mod news;
mod queries;
mod range;
mod relays;
mod removal;
mod running;
#[cfg(test)]
pub(crate) mod sample;
mod signer;
mod signers;
mod sync;
mod traffic;
#[cfg(test)]
mod trial;
mod underlay;
mod upstream;
mod view;

pub(crate) use actor::start;
pub(crate) use catch_up::{Asker, CatchUpError, Present, fetch};
pub(crate) use clock::now;
pub(crate) use handle::{Handle, Kept, NewInvite, Query, Rename, Reply, Revocation};
pub(crate) use interface::{Interface, Wanted};
pub(crate) use range::choose as choose_range;
pub(crate) use view::listed;
