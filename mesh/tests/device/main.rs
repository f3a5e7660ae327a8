//! Stories of two plain WireGuard interfaces on a link that loses nothing, and of those who want to come between.

#![allow(unreachable_pub, clippy::unwrap_used)]
mod counters;
mod independent;
mod link;
mod load;
mod others;
mod recorded;
mod rules;
mod sessions;
mod sharing;
