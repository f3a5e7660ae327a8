//! vpnd
fn main() {}
