//! Coordinators and relays: a connection to each, and its proof of who it is.

use std::{io, time::Duration};

use proto::{
    api::{Server, ServerState},
    roster::RelayEntry,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};
use url::{Host, Url};

use crate::{
    coordinator::{Cause, Error},
    daemon,
    dial::{self, Fault, ProxyFault, Unconnected, Way},
    relay::{self, Unproven},
    state::Coordinator,
};

/// For a connection: the kernel asks a second time after one second.
const CONNECT_WITHIN: Duration = Duration::from_millis(1_800);

/// For TLS and what proves the server, on a connection that is there: two round trips…
const PROOF_WITHIN: Duration = Duration::from_millis(1_200);

/// …or so many times what a connection took, which is one round trip, where that is longer.
const ROUND_TRIPS: u32 = 3;

/// A request that fits the smallest packet; a server that speaks TLS ends the connection over it.
const SMALL: &[u8] = b"GET / HTTP/1.0\r\n\r\n";

/// A relay that was visited.
pub(super) struct Visited {
    pub(super) server: Server,
    /// The unix day by its clock.
    pub(super) day: Option<u32>,
}

/// What a visit brought: how long until the proof, and one round trip.
struct Reached {
    connect: Duration,
    rtt: Duration,
}

/// Host, without brackets, and port of a server's URL.
pub(super) fn host_and_port(url: &str) -> Option<(String, u16)> {
    let url = Url::parse(url).ok()?;
    let host = match url.host()? {
        Host::Domain(name) => name.to_owned(),
        Host::Ipv4(addr) => addr.to_string(),
        Host::Ipv6(addr) => addr.to_string(),
    };
    Some((host, url.port_or_known_default()?))
}

/// Visits a coordinator.
pub(super) async fn coordinator(coordinator: &Coordinator, way: &Way, until: Instant) -> Server {
    let visit = async {
        let began = Instant::now();
        drop(connect(&coordinator.url, way).await?);
        let within = proof_within(began);
        // The errors for a person are made elsewhere, of the state.
        let client = daemon::client("", coordinator, way).map_err(|_| ServerState::Other)?;
        match timeout(within, client.prepare()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(of_error(&error)),
            Err(_) => return Err(silent(&coordinator.url, way).await),
        }
        let (connect, asked) = (began.elapsed(), Instant::now());
        match timeout(within, client.info()).await {
            Ok(Ok(_)) => Ok(Reached { connect, rtt: asked.elapsed() }),
            Ok(Err(error)) => Err(of_error(&error)),
            Err(_) => Err(ServerState::TlsSilent),
        }
    };
    let reached = timeout_at(until, visit).await.unwrap_or(Err(ServerState::Silent));
    server(&coordinator.url, reached)
}

/// Visits a relay.
pub(super) async fn relay(entry: &RelayEntry, way: &Way, until: Instant) -> Visited {
    let mut day = None;
    let visit = async {
        let began = Instant::now();
        let tcp = connect(&entry.url, way).await?;
        match timeout(proof_within(began), relay::probe(&entry.url, entry.key, tcp)).await {
            Ok(Ok(Ok(proven))) => {
                day = Some(proven.day);
                Ok(Reached { connect: began.elapsed(), rtt: proven.rtt })
            }
            Ok(Ok(Err(Unproven::Stranger))) => Err(ServerState::Stranger),
            // Ended, or never answered: which of both depends on who is in between.
            Ok(Ok(Err(Unproven::Lost))) => Err(ServerState::TlsSilent),
            Ok(Err(_)) => Err(ServerState::Other),
            Err(_) => Err(silent(&entry.url, way).await),
        }
    };
    let reached = timeout_at(until, visit).await.unwrap_or(Err(ServerState::Silent));
    Visited { server: server(&entry.url, reached), day }
}

/// How long the proof may take, by what the connection took.
fn proof_within(began: Instant) -> Duration {
    PROOF_WITHIN.max(began.elapsed() * ROUND_TRIPS)
}

fn server(url: &str, reached: Result<Reached, ServerState>) -> Server {
    let ms = |time: Duration| time.as_secs_f64() * 1_000.0;
    let (state, connect_ms, rtt_ms) = match reached {
        Ok(reached) => (ServerState::Answers, Some(ms(reached.connect)), Some(ms(reached.rtt))),
        Err(state) => (state, None, None),
    };
    Server { url: url.to_owned(), state, connect_ms, rtt_ms, udp: Vec::new() }
}

async fn connect(url: &str, way: &Way) -> Result<TcpStream, ServerState> {
    let (host, port) = host_and_port(url).ok_or(ServerState::Other)?;
    if !way.is_direct(&host, port) {
        let connected = timeout(CONNECT_WITHIN, way.connect(&host, port)).await;
        return connected.map_or(Err(ServerState::ProxyUnreachable), |connected| connected.map_err(of_fault));
    }
    let found = timeout(CONNECT_WITHIN, dial::resolve(&host, port)).await;
    let addrs = found.map_or(Err(ServerState::ResolverSilent), |found| found.map_err(of_fault))?;
    let connected = timeout(CONNECT_WITHIN, dial::race(addrs)).await;
    connected
        .map_or(Err(ServerState::Silent), |connected| connected.map_err(|why| of_fault(Fault::Connect(why))))
}

/// What is the matter with a server that takes connections and does not answer over TLS, whose first packet is a large
/// one: a small request tells whether that is why.
async fn silent(url: &str, way: &Way) -> ServerState {
    let answered = async {
        let mut tcp = connect(url, way).await.map_err(|_| io::ErrorKind::NotConnected)?;
        tcp.write_all(SMALL).await?;
        tcp.read(&mut [0; 1]).await
    };
    match timeout(PROOF_WITHIN, answered).await {
        Ok(Ok(_)) => ServerState::LargeLost,
        // The server cut it: it has seen the request.
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionReset => ServerState::LargeLost,
        Ok(Err(_)) | Err(_) => ServerState::TlsSilent,
    }
}

fn of_fault(fault: Fault) -> ServerState {
    match fault {
        Fault::Name => ServerState::NameUnknown,
        Fault::Resolver => ServerState::ResolverSilent,
        Fault::Connect(Unconnected::NoRoute) => ServerState::NoRoute,
        Fault::Connect(Unconnected::Unreachable) => ServerState::Unreachable,
        Fault::Connect(Unconnected::Silent) => ServerState::Silent,
        Fault::Connect(Unconnected::Refused) => ServerState::Refused,
        Fault::Proxy(fault) => of_proxy(fault),
    }
}

fn of_proxy(fault: ProxyFault) -> ServerState {
    match fault {
        ProxyFault::Name | ProxyFault::Connect | ProxyFault::Silent => ServerState::ProxyUnreachable,
        ProxyFault::NotAProxy => ServerState::NotAProxy,
        ProxyFault::LoginWanted | ProxyFault::LoginRefused | ProxyFault::LoginKind => ServerState::ProxyLogin,
        ProxyFault::Refused => ServerState::ProxyRefuses,
        ProxyFault::Unreachable => ServerState::ProxyFails,
    }
}

fn of_error(error: &Error) -> ServerState {
    match error {
        Error::WrongPin | Error::Untrusted | Error::NotACoordinator => ServerState::Stranger,
        Error::Unreachable(Cause::Tls) => ServerState::Stranger,
        Error::Unreachable(Cause::Name) => ServerState::NameUnknown,
        Error::Unreachable(Cause::Proxy(fault)) => of_proxy(*fault),
        Error::Unreachable(_) => ServerState::TlsSilent,
        // It says why, so it is there.
        _ => ServerState::Answers,
    }
}

#[cfg(test)]
mod tests {
    use proto::identity::Pin;
    use tokio::net::TcpListener;

    use super::*;

    /// A server that does `act` with each connection; its URL.
    async fn serving<F: Future<Output = ()> + Send>(act: impl Fn(TcpStream) -> F + Send + 'static) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                act(tcp).await;
            }
        });
        url
    }

    async fn states(url: &str) -> [ServerState; 2] {
        let until = Instant::now() + Duration::from_secs(4);
        let known = Coordinator { url: url.to_owned(), pin: Some(Pin([7; 32])) };
        let entry = RelayEntry { url: url.to_owned(), key: [7; 32], stun_port: None };
        let way = Way::default();
        let (first, second) = tokio::join!(coordinator(&known, &way, until), relay(&entry, &way, until));
        [first.state, second.server.state]
    }

    #[tokio::test]
    async fn what_keeps_a_server_from_answering_is_told_apart() {
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        assert_eq!(states(&format!("https://{gone}")).await, [ServerState::Refused; 2]);

        let page = serving(|mut tcp| async move {
            let _ = tcp.read(&mut [0; 4_096]).await;
            let _ = tcp.write_all(b"HTTP/1.1 200 OK\r\n\r\nlog in here").await;
        });
        assert_eq!(states(&page.await).await, [ServerState::Stranger; 2], "no TLS");

        let (sink, kept) = tokio::sync::mpsc::unbounded_channel();
        let mute = serving(move |tcp| {
            let _ = sink.send(tcp);
            async {}
        });
        assert_eq!(states(&mute.await).await, [ServerState::TlsSilent; 2]);
        drop(kept);

        // As where only what is small arrives: an answer to the short request alone.
        let picky = serving(|mut tcp| async move {
            tokio::spawn(async move {
                let mut first = [0; 64];
                let len = tcp.read(&mut first).await.unwrap_or(0);
                if first[..len].starts_with(b"GET") {
                    let _ = tcp.write_all(&[21]).await;
                } else {
                    tokio::time::sleep(Duration::from_secs(9)).await;
                }
            });
        });
        assert_eq!(states(&picky.await).await, [ServerState::LargeLost; 2]);
    }
}
