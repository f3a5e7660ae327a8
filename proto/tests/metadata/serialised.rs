//! Nothing that says who is where can be stored or sent but through a codec.

#[macro_use]
mod types;

use serde::Serialize;

fn shown<T: Serialize>() {}

fn main() {
    who_is_where!(shown);
}
