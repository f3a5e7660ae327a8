//! vpnctl
fn main() {}
