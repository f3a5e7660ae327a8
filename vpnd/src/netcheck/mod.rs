//! `netcheck`: what the network around this machine allows, measured while the caller waits.
//!
//! Asked are this machine's own coordinators and relays, the proxy and the router, and nobody else: no server of a third
//! party is ever contacted to find out whether there is an internet. Where no relay's STUN server answers, machines of the own
//! networks that a direct path leads to are sent a probe inside their session, for that is UDP too. STUN is asked from a socket of its own, so that nothing
//! of the data path is disturbed; a NAT treats both alike. Everything goes on at once and ends within [`REST_WITHIN`], also
//! where nothing answers, and some three seconds later where what answers takes long ([`patience`]). What was learnt is told and dropped.
//!
//! | room | what is in it |
//! |---|---|
//! | [`servers`] | coordinators and relays over TCP and TLS |
//! | [`stun`] | relays over UDP, by one socket for each address family |
//! | [`portal`] | whether a plain request is led elsewhere |
//! | [`patience`] | how long what is silent is waited for |
//! | [`judge`] | what the answers say: functions of nothing but them |

mod judge;
mod patience;
mod portal;
mod servers;
mod stun;

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use futures_util::future::join_all;
use netio::netlink::Netlink;
use proto::{
    api::{Addresses, Checked, Family, MappingState, Netcheck, PortMapping, Portal, Server, ServerState},
    roster::RelayEntry,
};
use tokio::time::{Instant, timeout_at};

use self::{patience::Patience, servers::Visited, stun::Heard};
use crate::{
    dial::Way,
    gateway::{self, Asked},
    state::Coordinator,
};

/// For the router, and for other machines that are asked once no STUN server has answered.
const REST_WITHIN: Duration = Duration::from_secs(5);

/// What is asked, for one network.
pub(crate) struct Subject {
    /// Its name here; none for a coordinator without a network.
    pub(crate) name: Option<String>,
    /// Its coordinator.
    pub(crate) coordinator: Coordinator,
    /// Its relays.
    pub(crate) relays: Vec<RelayEntry>,
    /// Its own interface, whose addresses are not those of the network around.
    pub(crate) link: Option<u32>,
    /// The router's port that leads to its data path.
    pub(crate) mapped: Option<SocketAddr>,
}

impl Subject {
    /// A coordinator that this machine knows and has no network at.
    pub(crate) fn without_network(coordinator: Coordinator) -> Self {
        Self { name: None, coordinator, relays: Vec::new(), link: None, mapped: None }
    }
}

/// Measures. `map_port` is whether the router may be asked. `directly`, which is begun only where no STUN server answers, asks
/// other machines by direct paths that lead out, and tells where those are that answer.
pub(crate) async fn check(
    subjects: Vec<Subject>,
    netlink: &Netlink,
    way: &Way,
    map_port: bool,
    directly: impl Future<Output = Vec<SocketAddr>>,
) -> Netcheck {
    let end = Instant::now() + REST_WITHIN;
    let patience = Patience::begin();
    let relays: Vec<&RelayEntry> = subjects.iter().flat_map(|subject| &subject.relays).collect();
    let links: Vec<u32> = subjects.iter().filter_map(|subject| subject.link).collect();
    let (own, heard, (visited, captive_portal), port_mapping) = tokio::join!(
        own_addresses(netlink, &links),
        heard(&relays, directly, &patience, end),
        visit_all(&subjects, way, &patience),
        router(netlink, links.first().copied(), map_port, end),
    );
    let days = visited.iter().flat_map(|visited| &visited.relays).filter_map(|relay| relay.day);
    let clock = judge::clock(days, crate::network::now());
    let networks = subjects
        .into_iter()
        .zip(visited)
        .map(|(subject, visited)| Checked {
            name: subject.name,
            mapped: subject.mapped,
            coordinator: visited.coordinator,
            relays: visited.relays.into_iter().map(|relay| with_udp(relay.server, &heard)).collect(),
        })
        .collect();
    Netcheck {
        udp: judge::works(&heard, None),
        nat: judge::nat(&own, &heard),
        ipv4: addresses(&own, &heard, Family::Ipv4),
        ipv6: addresses(&own, &heard, Family::Ipv6),
        port_mapping,
        captive_portal,
        proxy: way.proxy(),
        clock,
        networks,
    }
}

/// What STUN servers say, and where none does, other machines.
async fn heard(
    relays: &[&RelayEntry],
    directly: impl Future<Output = Vec<SocketAddr>>,
    patience: &Patience,
    end: Instant,
) -> Heard {
    let heard = stun::ask(relays, patience).await;
    if judge::works(&heard, None) != Some(false) {
        return heard;
    }
    Heard { direct: timeout_at(end, directly).await.unwrap_or_default(), ..heard }
}

/// The servers of one network, as they were reached.
struct Servers {
    coordinator: Server,
    relays: Vec<Visited>,
}

/// Visits all servers; where none was itself, looks whether something else answers in their place.
async fn visit_all(subjects: &[Subject], way: &Way, patience: &Patience) -> (Vec<Servers>, Portal) {
    let visited = join_all(subjects.iter().map(|subject| async move {
        let relays = subject.relays.iter().map(|relay| servers::relay(relay, way, patience));
        let (coordinator, relays) =
            tokio::join!(servers::coordinator(&subject.coordinator, way, patience), join_all(relays));
        Servers { coordinator, relays }
    }))
    .await;
    let all: Vec<&Server> = visited
        .iter()
        .flat_map(|servers| {
            std::iter::once(&servers.coordinator).chain(servers.relays.iter().map(|relay| &relay.server))
        })
        .collect();
    let portal = if all.iter().any(|server| server.state == ServerState::Answers) {
        Portal::None
    } else {
        // Who sets a proxy has no portal before it that a plain request of ours would meet.
        let places = all.iter().filter_map(|server| servers::host_and_port(&server.url));
        let direct = places.filter(|(host, port)| way.is_direct(host, *port)).map(|(host, _)| host);
        let redirected = portal::ask(direct.collect()).await;
        judge::portal(redirected, all.iter().map(|server| (server.url.as_str(), server.state)))
    };
    (visited, portal)
}

/// The router's answers, unless nobody may be asked or no answer would matter.
async fn router(netlink: &Netlink, link: Option<u32>, map_port: bool, end: Instant) -> PortMapping {
    if !map_port {
        return PortMapping { state: MappingState::Off, protocols: Vec::new() };
    }
    match timeout_at(end, gateway::ask(netlink, link)).await {
        Ok(Asked::NotNeeded) => PortMapping { state: MappingState::NotNeeded, protocols: Vec::new() },
        Ok(Asked::Answered(protocols)) if !protocols.is_empty() => {
            PortMapping { state: MappingState::Answers, protocols }
        }
        Ok(Asked::Answered(_)) | Err(_) => PortMapping { state: MappingState::None, protocols: Vec::new() },
    }
}

/// This machine's addresses outside of its networks, of use beyond its own link.
async fn own_addresses(netlink: &Netlink, links: &[u32]) -> Vec<IpAddr> {
    let all = netlink.local_addresses(None).await.unwrap_or_default();
    let usable = all.into_iter().filter(|address| address.global && !links.contains(&address.link));
    usable.map(|address| address.ip).collect()
}

fn addresses(own: &[IpAddr], heard: &Heard, family: Family) -> Addresses {
    let of_family = |ip: &IpAddr| ip.is_ipv4() == (family == Family::Ipv4);
    let mut public: Vec<IpAddr> = heard.answers.iter().map(|answer| answer.mapped.ip()).collect();
    public.sort_unstable();
    public.dedup();
    Addresses {
        local: own.iter().copied().filter(of_family).collect(),
        public: public.into_iter().filter(of_family).collect(),
        works: judge::works(heard, Some(family)),
    }
}

fn with_udp(server: Server, heard: &Heard) -> Server {
    let udp = judge::udp(heard, &server.url);
    Server { udp, ..server }
}
