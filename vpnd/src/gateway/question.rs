//! Whether the router would open a port, without one being opened: for whoever wants to know what is possible.

use std::time::Duration;

use netio::netlink::Netlink;
use proto::{
    api::MappingProtocol,
    gateway::{natpmp, pcp},
};
use rand_core::{OsRng, RngCore};
use tokio::{net::UdpSocket, time::timeout};

use super::{Place, place, pmp, socket_to, upnp};

/// What a router said.
pub(crate) enum Asked {
    /// No router of this machine's translates its address.
    NotNeeded,
    /// By these protocols it answered.
    Answered(Vec<MappingProtocol>),
}

/// When a router that is silent is asked again, and given up.
const ROUNDS: [Duration; 3] =
    [Duration::from_millis(250), Duration::from_millis(500), Duration::from_millis(1_000)];

/// Answers to one round: one by each protocol, and late ones.
const ANSWERS: usize = 8;

/// Asks the router that packets go to by default, unless they leave by the link `except`.
pub(crate) async fn ask(netlink: &Netlink, except: Option<u32>) -> Asked {
    let Some(place) = place(netlink, except).await else { return Asked::NotNeeded };
    let (mut answered, upnp) = tokio::join!(by_datagram(place), upnp::Control::find(place));
    answered.extend(upnp.map(|_| MappingProtocol::Upnp));
    Asked::Answered(answered)
}

/// By PCP and NAT-PMP.
async fn by_datagram(place: Place) -> Vec<MappingProtocol> {
    let mut answered = Vec::new();
    let Some(socket) = socket_to(place.router).await else { return answered };
    let Ok(own) = socket.local_addr() else { return answered };
    let mut nonce = [0; 12];
    OsRng.fill_bytes(&mut nonce);
    // To give back a mapping that there is not changes nothing (RFC 6887, section 15).
    let ask = pcp::Ask {
        nonce,
        client: place.own,
        internal: own.port(),
        suggested: (std::net::Ipv4Addr::UNSPECIFIED, 0),
        lifetime: 0,
    };
    for (round, wait) in ROUNDS.into_iter().enumerate() {
        if socket.send(&ask.request()).await.is_err() {
            return answered;
        }
        // As when a port is asked for: who knows PCP alone is not troubled with the older question at first.
        if round > 0 && socket.send(&natpmp::address_request()).await.is_err() {
            return answered;
        }
        let over = timeout(wait, listen(&socket, &ask, &mut answered)).await;
        if over.is_ok() || !answered.is_empty() {
            break;
        }
    }
    answered
}

/// Listens until nobody is there, or all has been said.
async fn listen(socket: &UdpSocket, ask: &pcp::Ask, answered: &mut Vec<MappingProtocol>) {
    let mut buffer = [0; pmp::ANSWER_MAX];
    for _ in 0..ANSWERS {
        let Ok(len) = socket.recv(&mut buffer).await else { return };
        let said = match (ask.read(&buffer[..len]), natpmp::read(&buffer[..len])) {
            (Some(pcp::Answer::Granted(_) | pcp::Answer::Refused), _) => MappingProtocol::Pcp,
            // It speaks NAT-PMP: that is how it says that it does not know PCP.
            (Some(pcp::Answer::OtherVersion), _) | (None, Some(natpmp::Answer::Address(_))) => {
                MappingProtocol::NatPmp
            }
            _ => continue,
        };
        if !answered.contains(&said) {
            answered.push(said);
        }
    }
}
