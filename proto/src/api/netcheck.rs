//! What the network around a machine allows, as measured while the command ran.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

/// What this machine's network allows.
#[derive(Serialize, Deserialize, PartialEq)]
pub struct Netcheck {
    /// Whether a relay's STUN server answered over UDP; `None` if there was none to ask.
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
    /// Its name is not known to this machine's resolver.
    NameUnknown,
    /// This machine has no route to it.
    NoRoute,
    /// Its host answers that nobody listens there.
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
