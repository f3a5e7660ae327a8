//! The built `vpnctl` against a vpnd that answers from a script: what it asks, what it prints, how it exits.

#![allow(clippy::unwrap_used)] // a test that cannot go on should stop

mod account;
mod doctor;
mod documents;
mod errors;
mod help;
mod invite;
mod machines;
mod netcheck;
mod network;
mod ping;
mod privacy;
mod removal;
mod secrets;
mod signer;
mod stage;
mod status;
mod terminal;
