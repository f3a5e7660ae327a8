//! Nothing that says who is where can be written into a log.

#[macro_use]
mod types;

use std::fmt::Debug;

fn shown<T: Debug>() {}

fn main() {
    who_is_where!(shown);
    answers!(shown);
}
