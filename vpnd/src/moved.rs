//! Whether this machine has moved away from an address.
//!
//! A connection from an address that is this machine's no more is dead, and neither end knows: the kernel goes on
//! repeating what was sent for many seconds. Whoever hears that addresses changed asks here.

use std::{
    io::ErrorKind,
    net::{SocketAddr, UdpSocket},
};

/// Whether `address` is no address of this machine any more. `false` if the kernel does not say.
pub(crate) fn moved_from(mut address: SocketAddr) -> bool {
    address.set_port(0);
    // The kernel binds to nothing but its own.
    UdpSocket::bind(address).is_err_and(|error| error.kind() == ErrorKind::AddrNotAvailable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_this_machine_is_told_from_one_that_is_not() {
        for own in ["127.0.0.1:443", "127.0.0.1:0"] {
            assert!(!moved_from(own.parse().unwrap()), "{own}");
        }
        // For documentation (RFC 5737, RFC 3849): nobody's own.
        for other in ["192.0.2.1:443", "[2001:db8::1]:443"] {
            assert!(moved_from(other.parse().unwrap()), "{other}");
        }
    }
}
