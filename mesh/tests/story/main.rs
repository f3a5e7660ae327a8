//! Stories of machines that find each other, and of those who want to prevent it.

#![allow(unreachable_pub)] // A story's world is public to the stories.

mod paths;
mod sessions;
mod world;
