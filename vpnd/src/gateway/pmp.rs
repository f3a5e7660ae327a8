//! PCP and NAT-PMP over UDP: both at once until the router shows which it knows.

use std::{net::Ipv4Addr, time::Duration};

use proto::{
    gateway::{
        Granted,
        natpmp::{self, Answer as Older},
        pcp::{Answer, Ask},
    },
    metadata::Endpoint,
};
use rand_core::{OsRng, RngCore};
use tokio::{net::UdpSocket, time::timeout};

use super::{Place, socket_to};

/// How long each round waits for an answer (RFC 6886, section 3.1: from 250 ms on, doubling; a router is one hop away).
const ROUNDS: [Duration; 3] =
    [Duration::from_millis(250), Duration::from_millis(500), Duration::from_millis(1_000)];

/// Longer than any answer (RFC 6887, section 7).
pub(super) const ANSWER_MAX: usize = 1_100;

/// Answers that are looked at within one request: others than the router's do not come, but late ones may.
const ANSWERS: usize = 16;

/// What is known of a router.
pub(super) struct Session {
    nonce: [u8; 12],
    /// Whether it knows NAT-PMP alone; `None` until it has said anything.
    older: Option<bool>,
}

impl Default for Session {
    fn default() -> Self {
        let mut nonce = [0; 12];
        OsRng.fill_bytes(&mut nonce);
        Self { nonce, older: None }
    }
}

/// What has been said in one exchange.
#[derive(Default)]
struct Heard {
    address: Option<Ipv4Addr>,
    mapped: Option<(u16, u32)>,
}

impl Session {
    /// Asks for a mapping, or to keep the one that is held.
    pub(super) async fn map(
        &mut self,
        place: Place,
        port: u16,
        held: Option<Granted>,
        lifetime: u32,
    ) -> Option<Granted> {
        let socket = socket_to(place.router).await?;
        let suggested = match held.map(|held| held.external.0) {
            Some(std::net::SocketAddr::V4(external)) => (*external.ip(), external.port()),
            _ => (Ipv4Addr::UNSPECIFIED, port),
        };
        let ask = Ask { nonce: self.nonce, client: place.own, internal: port, suggested, lifetime };
        let mut heard = Heard::default();
        for (round, wait) in ROUNDS.into_iter().enumerate() {
            // A router that knows PCP alone does not answer the older questions, and is not troubled with them at first.
            let older = self.older.unwrap_or(round > 0);
            if self.older != Some(true) {
                socket.send(&ask.request()).await.ok()?;
            }
            if older {
                socket.send(&natpmp::address_request()).await.ok()?;
                socket.send(&natpmp::map_request(port, suggested.1, lifetime)).await.ok()?;
            }
            let answered = timeout(wait, self.listen(&socket, &ask, &mut heard)).await;
            if let Ok(said) = answered {
                // Nobody at this port, or a refusal: there is nothing to wait for.
                return said;
            }
        }
        None
    }

    /// Gives the mapping back, and waits for nothing.
    pub(super) async fn give_back(&mut self, place: Place, port: u16, held: Granted) {
        let Some(socket) = socket_to(place.router).await else { return };
        let std::net::SocketAddr::V4(external) = held.external.0 else { return };
        let suggested = (*external.ip(), external.port());
        let ask = Ask { nonce: self.nonce, client: place.own, internal: port, suggested, lifetime: 0 };
        let request = if self.older == Some(true) { natpmp::map_request(port, 0, 0) } else { ask.request() };
        let _ = socket.send(&request).await;
    }

    /// Listens until the router has granted or refused, or nobody is there.
    async fn listen(&mut self, socket: &UdpSocket, ask: &Ask, heard: &mut Heard) -> Option<Granted> {
        let mut buffer = [0; ANSWER_MAX];
        for _ in 0..ANSWERS {
            let len = socket.recv(&mut buffer).await.ok()?;
            match ask.read(&buffer[..len]) {
                Some(Answer::Granted(granted)) => {
                    self.older = Some(false);
                    return Some(granted);
                }
                Some(Answer::Refused) => return None,
                Some(Answer::OtherVersion) if self.older != Some(true) => {
                    self.older = Some(true);
                    socket.send(&natpmp::address_request()).await.ok()?;
                    let request = natpmp::map_request(ask.internal, ask.suggested.1, ask.lifetime);
                    socket.send(&request).await.ok()?;
                    continue;
                }
                Some(Answer::OtherVersion) | None => {}
            }
            match natpmp::read(&buffer[..len]) {
                Some(Older::Address(address)) => heard.address = Some(address),
                Some(Older::Mapped { internal, external, lifetime }) if internal == ask.internal => {
                    heard.mapped = Some((external, lifetime));
                }
                Some(Older::Refused) => return None,
                Some(Older::Mapped { .. }) | None => {}
            }
            if let (Some(address), Some((external, lifetime))) = (heard.address, heard.mapped) {
                self.older = Some(true);
                return Some(Granted { external: Endpoint((address, external).into()), lifetime });
            }
        }
        None
    }
}
