//! Stories of machines that find each other, and of those who want to prevent it.

// A story's world is public to the stories, and fails as they do.
#![allow(unreachable_pub, clippy::unwrap_used)]
mod congestion;
mod epochs;
mod guests;
mod hard;
mod lan;
mod news;
mod others;
mod paths;
mod plain;
mod sessions;
mod shared;
mod sizes;
mod workers;
mod world;
