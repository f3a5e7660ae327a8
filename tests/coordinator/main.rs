//! A real coordinator on loopback, and the real client: every request, and what must be refused.

#![allow(clippy::unwrap_used, reason = "the whole program is a test")]

mod accounts;
mod crash;
mod erasure;
mod house;
mod image;
mod joins;
mod networks;
mod pace;
mod program;
mod trust;
mod walls;
mod watch;
