//! WireGuard's state machine without its cryptography, on a virtual clock.
//!
//! The simulator's fast mode runs the sources of `mesh` over this instead of boringtun: the same messages of the same
//! lengths, the same sessions, timers, replay windows and refusals (the paper, sections 5 and 6), but a mix of words
//! where there are curves and ciphers. It proves nothing about secrecy and everything about who sends what when.
//! What boringtun does differently from the paper is done here as it does it: its idea of time is as old as the last
//! [`noise::Tunn::update_timers`], and a tunnel that gave up starts over only when asked.
//!
//! There are no cookies: the simulated machines are never under such load.

pub mod clock;
mod mix;
pub mod noise;
mod session;
