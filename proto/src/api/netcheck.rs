//! What the network around a machine allows, as measured while the command ran.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use serde::{Deserialize, Serialize};

/// What this machine's network allows.
#[derive(Serialize, Deserialize, PartialEq)]
pub struct Netcheck {
    /// Whether UDP gets out and back: a relay's STUN server answered, or where none did, another machine by a direct path
    /// that leads out ([`leads_out`]). `None` if there was none to ask.
    pub udp: Option<bool>,
    /// What is between this machine and the internet, for IPv4.
    pub nat: Nat,
    /// The addresses of this machine outside its networks, for IPv4.
    pub ipv4: Addresses,
    /// The same for IPv6.
    pub ipv6: Addresses,
    /// Whether the router opens ports for whoever asks.
    pub port_mapping: PortMapping,
    /// Whether something else answers in the servers' place.
    pub captive_portal: Portal,
    /// The HTTP proxy that is used, as HOST:PORT.
    pub proxy: Option<String>,
    /// Whether a relay has the same day as this machine; `None` if none answered.
    pub clock: Option<Clock>,
    /// One per network, and those coordinators that this machine knows besides.
    pub networks: Vec<Checked>,
}

/// A NAT, in the terms of RFC 4787.
#[derive(Clone, Copy, Serialize, Deserialize, PartialEq, Eq, Debug)]
pub struct Nat {
    /// How outer ports are given.
    pub mapping: Mapping,
    /// What that means for direct paths; `None` if it is not known.
    pub kind: Option<NatKind>,
    /// Whether the outer port is the inner one; `None` if it is not known.
    pub port_kept: Option<bool>,
}

/// How a NAT gives outer ports (RFC 4787, section 4.1).
#[derive(Clone, Copy, Serialize, Deserialize, PartialEq, Eq, Debug)]
#[serde(rename_all = "snake_case")]
pub enum Mapping {
    /// There is no NAT.
    NoNat,
    /// One port of this machine has one outer port, whomever it sends to.
    EndpointIndependent,
    /// It has another one for each address that it sends to.
    AddressDependent,
    /// It has another one for each address and port that it sends to.
    AddressAndPortDependent,
    /// One port of this machine has one outer port for all ports of an address; for another address was not to be told.
    PortIndependent,
    /// It has another one for another server; for the server's address or for its port, was not to be told.
    Dependent,
    /// Too few servers answered.
    #[serde(other)]
    Unknown,
}

/// What a NAT means for direct paths.
#[derive(Clone, Copy, Serialize, Deserialize, PartialEq, Eq, Debug)]
#[serde(rename_all = "snake_case")]
pub enum NatKind {
    /// None: who is not kept out by a firewall comes in.
    Open,
    /// Two machines behind such NATs reach each other.
    Easy,
    /// Two machines behind such NATs need a relay, or a port of one of the routers.
    Hard,
}

/// The addresses of one family.
#[derive(Serialize, Deserialize, PartialEq, Eq, Default)]
pub struct Addresses {
    /// This machine's own, of use beyond its own link.
    pub local: Vec<IpAddr>,
    /// Those that the relays' STUN servers saw.
    pub public: Vec<IpAddr>,
    /// Whether a STUN server answered by this family; `None` if none has an address of it.
    pub works: Option<bool>,
}

/// Whether the router opens ports.
#[derive(Clone, Serialize, Deserialize, PartialEq, Eq, Debug)]
pub struct PortMapping {
    /// Whether it was asked, and answered.
    pub state: MappingState,
    /// By which protocols it answered.
    pub protocols: Vec<MappingProtocol>,
}

/// Whether a router was asked for what it opens, and answered.
#[derive(Clone, Copy, Serialize, Deserialize, PartialEq, Eq, Debug)]
#[serde(rename_all = "snake_case")]
pub enum MappingState {
    /// vpnd is told to ask no router.
    Off,
    /// No router of this machine's network translates its address.
    NotNeeded,
    /// It answers by none of the protocols.
    None,
    /// It answers.
    #[serde(other)]
    Answers,
}

/// How a router is asked for a port.
#[derive(Clone, Copy, Serialize, Deserialize, PartialEq, Eq, Debug)]
#[serde(rename_all = "snake_case")]
pub enum MappingProtocol {
    /// RFC 6887.
    Pcp,
    /// RFC 6886.
    NatPmp,
    /// UPnP's gateway device.
    #[serde(other)]
    Upnp,
}

/// Whether something else answers in the servers' place until its page was visited.
#[derive(Clone, Copy, Serialize, Deserialize, PartialEq, Eq, Debug)]
#[serde(rename_all = "snake_case")]
pub enum Portal {
    /// A server answered as itself.
    None,
    /// A plain HTTP request for the coordinator or a relay was led elsewhere.
    Redirect,
    /// Several servers were all answered for by something that is none of them.
    Certificate,
    /// Nothing to tell by.
    #[serde(other)]
    Unknown,
}

/// Whether this machine's clock can be right.
#[derive(Clone, Copy, Serialize, Deserialize, PartialEq, Eq, Debug)]
#[serde(rename_all = "snake_case")]
pub enum Clock {
    /// A relay has the same day.
    Right,
    /// Every relay that answered has another day.
    Wrong,
}

/// The servers of one network.
#[derive(Serialize, Deserialize, PartialEq)]
pub struct Checked {
    /// The network's name on this machine; `None` for a coordinator of an account without a network.
    pub name: Option<String>,
    /// The address and port of the router that lead to the data path, if one is held.
    pub mapped: Option<SocketAddr>,
    /// Its coordinator.
    pub coordinator: Server,
    /// Its relays.
    pub relays: Vec<Server>,
}

/// A coordinator or relay, as it is reached from here.
#[derive(Serialize, Deserialize, PartialEq)]
pub struct Server {
    /// Its URL.
    pub url: String,
    /// Whether it answers, and what is in the way.
    pub state: ServerState,
    /// Milliseconds until a connection with it was there and it had proven who it is.
    pub connect_ms: Option<f64>,
    /// Milliseconds for one round trip on that connection.
    pub rtt_ms: Option<f64>,
    /// One per address family that its STUN server was asked by.
    pub udp: Vec<Udp>,
}

/// Whether a STUN server answers.
#[derive(Clone, Copy, Serialize, Deserialize, PartialEq, Debug)]
pub struct Udp {
    /// By which protocol.
    pub family: Family,
    /// Milliseconds for a round trip; `None` if nothing came back.
    pub rtt_ms: Option<f64>,
}

/// IPv4 or IPv6.
#[derive(Clone, Copy, Serialize, Deserialize, PartialEq, Eq, Debug)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

/// Whether a server answers, and what is in the way.
#[derive(Clone, Copy, Serialize, Deserialize, PartialEq, Eq, Debug)]
#[serde(rename_all = "snake_case")]
pub enum ServerState {
    /// It answers, and is who it should be.
    Answers,
    /// This machine's resolver knows no such name.
    NameUnknown,
    /// This machine's resolver does not answer, or fails itself.
    ResolverSilent,
    /// This machine has no route to it.
    NoRoute,
    /// There is a route, and something on it answers that it leads nowhere or is forbidden (ICMP).
    Unreachable,
    /// The connection is refused: nobody listens there, or a firewall says so.
    Refused,
    /// Nothing comes back.
    Silent,
    /// The proxy cannot be reached, or does not answer.
    ProxyUnreachable,
    /// What answers in the proxy's place is none.
    NotAProxy,
    /// The proxy takes no login from here.
    ProxyLogin,
    /// The proxy does not let this machine connect to it.
    ProxyRefuses,
    /// The proxy does not reach it.
    ProxyFails,
    /// A connection comes about, and then nothing: neither small nor large packets are answered.
    TlsSilent,
    /// Small packets are answered and large ones are not.
    LargeLost,
    /// Somebody else answers: with another key or certificate, or not over TLS.
    Stranger,
    /// Something that a newer vpnd tells apart.
    #[serde(other)]
    Other,
}

/// Whether a direct path to `endpoint` shows that UDP gets out of the network around a machine with the addresses `local`: it
/// is in none of the ranges for private use, and not one of its neighbours (24 bits of IPv4, 64 of IPv6).
#[must_use]
pub fn leads_out(endpoint: SocketAddr, local: &[IpAddr]) -> bool {
    let network = |ip: Ipv6Addr| ip.to_bits() >> 64;
    match endpoint.ip() {
        IpAddr::V4(ip) => {
            let [first, second, third, _] = ip.octets();
            let shared = first == 100 && second & 0xc0 == 64;
            let neighbour =
                |own: &IpAddr| matches!(own, IpAddr::V4(own) if own.octets()[..3] == [first, second, third]);
            !(ip.is_private()
                || ip.is_link_local()
                || ip.is_loopback()
                || shared
                || local.iter().any(neighbour))
        }
        IpAddr::V6(ip) => {
            let neighbour = |own: &IpAddr| matches!(own, IpAddr::V6(own) if network(*own) == network(ip));
            let narrow = ip.is_unique_local() || ip.is_unicast_link_local() || ip.is_loopback();
            !(narrow || local.iter().any(neighbour))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_path_to_somebody_elsewhere_leads_out() {
        let local: [IpAddr; 3] =
            ["192.168.1.10", "198.51.100.7", "2001:db8:1:2::10"].map(|ip| ip.parse().unwrap());
        for (endpoint, out) in [
            ("203.0.113.5:51820", true),
            ("198.51.101.9:51820", true),
            ("[2001:db8:1:3::10]:51820", true),
            ("198.51.100.9:51820", false),
            ("192.168.7.3:51820", false),
            ("10.0.0.1:51820", false),
            ("100.64.0.1:51820", false),
            ("100.128.0.1:51820", true),
            ("169.254.1.1:51820", false),
            ("127.0.0.1:51820", false),
            ("[2001:db8:1:2::99]:51820", false),
            ("[fd00::1]:51820", false),
            ("[fe80::1]:51820", false),
        ] {
            assert_eq!(leads_out(endpoint.parse().unwrap(), &local), out, "{endpoint}");
        }
    }
}
