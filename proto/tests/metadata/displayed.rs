//! Nothing that says who is where can be part of an error's text.

#[macro_use]
mod types;

use std::fmt::Display;

fn shown<T: Display>() {}

fn main() {
    who_is_where!(shown);
    answers!(shown);
}
