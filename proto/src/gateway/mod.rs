//! What a router is asked for a port of its outer address, in the three ways that routers know.
//!
//! | room | what is in it |
//! |---|---|
//! | [`pcp`] | Port Control Protocol (RFC 6887), its MAP request for UDP over IPv4 |
//! | [`natpmp`] | NAT Port Mapping Protocol (RFC 6886), which came before it |
//! | [`upnp`] | UPnP Internet Gateway Device: the search for it (SSDP), what it says that it offers, its actions (SOAP) |
//!
//! Whoever is on the LAN can answer in the router's place. An outer address believed wrongly costs peers a probe and
//! no more, so nothing here is authenticated; all of it is bounded.

pub mod natpmp;
pub mod pcp;
pub mod upnp;

use crate::metadata::Endpoint;

/// Where routers listen for PCP and NAT-PMP (RFC 6887, section 19.2; RFC 6886, section 3.1).
pub const PORT: u16 = 5_351;

/// A port of the router's outer address leads to this machine.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Granted {
    /// The outer address and port.
    pub external: Endpoint,
    /// For how long, in seconds.
    pub lifetime: u32,
}

/// UDP among the protocols of IP.
const UDP: u8 = 17;
