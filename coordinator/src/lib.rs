//! The coordinator: hands out sealed rosters that it cannot read, keeps accounts, and pushes changes.
//!
//! It authenticates an account (OPAQUE), a member of a network (the epoch's shared key) or an invite, checks that a
//! roster is signed by its own signers, and swaps it atomically for the one before, which is not kept. It is asked
//! nothing when machines connect to one another. Requests, sessions, watchers and rate limits live in RAM and are
//! written nowhere; nothing is logged.
//!
//! | room | what is in it |
//! |---|---|
//! | [`store`] | the database |
//! | [`server`] | the requests |
//! | [`cli`] | the command line |
//! | [`walls`] | what it gives up before it serves |
//! | [`message`] | what it may say while it serves |

pub mod cli;
mod clock;
pub mod message;
pub mod server;
pub mod store;
pub mod walls;
