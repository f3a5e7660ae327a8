//! Machines and a coordinator in one thread, without sockets: what machines believe when it lies, and where they all end
//! when it does not.
//!
//! Machines that compare rosters with each other do so over a stream in memory ([`sync`]).
//!
//! The machines run the product's own code from the coordinator's answer to the roster that is kept ([`catch_up`],
//! [`signer`]); the coordinator is a double, whose lies are told answer by answer ([`shelf`]).
//!
//! [`catch_up`]: super::catch_up
//! [`signer`]: super::signer

mod hostile;
mod machine;
mod model;
mod newcomer;
mod reference;
mod shelf;
mod sync;
