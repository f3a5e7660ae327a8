//! Coordinators and relays: a connection to each, and its proof of who it is.
//!
//! Single packets get lost, and the first ones of a connection are repeated only after a second or more. So a server that has not
//! proven itself yet is asked once more each second ([`AGAIN`]), beside what goes on already, and the first proof counts. What is
//! known at once ends a visit; what is silent is called so when the [`Patience`] is out, by the farthest that any attempt came.

use std::{
    io,
    pin::pin,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use futures_util::{
    StreamExt,
    future::{Either, select},
    stream::FuturesUnordered,
};
use proto::{
    api::{Server, ServerState},
    roster::RelayEntry,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, interval, timeout},
};
use url::{Host, Url};

use super::patience::Patience;
use crate::{
    coordinator::{Cause, Error},
    daemon,
    dial::{self, Fault, ProxyFault, Unconnected, Way},
    relay::{self, Unproven},
    state::Coordinator,
};

/// Lead of one attempt over the next: the kernel repeats what asks for a connection after as long.
const AGAIN: Duration = Duration::from_secs(1);

/// When TLS and what proves the server should long be there, on a connection that is: two round trips…
const PROOF_WITHIN: Duration = Duration::from_millis(1_200);

/// …or so many times what a connection took, which is one round trip, where that is longer.
const ROUND_TRIPS: u32 = 3;

/// A request that fits the smallest packet; a server that speaks TLS ends the connection over it.
const SMALL: &[u8] = b"GET / HTTP/1.0\r\n\r\n";

/// What a server is called that keeps silent, by how far an attempt came; the farther the later.
const SILENT: [ServerState; 5] = [
    ServerState::ResolverSilent,
    ServerState::ProxyUnreachable,
    ServerState::Silent,
    ServerState::TlsSilent,
    ServerState::LargeLost,
];

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
    /// The unix day by the server's clock, where it tells.
    day: Option<u32>,
}

/// Why an attempt ended without a proof.
enum Ended {
    /// Nothing more came of it; another one may fare better.
    Silent,
    /// What the matter is, is known.
    Known(ServerState),
}

/// One server's visit: what its attempts have in common.
struct Visit<'a> {
    url: &'a str,
    way: &'a Way,
    patience: &'a Patience,
    farthest: Mutex<ServerState>,
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
pub(super) async fn coordinator(coordinator: &Coordinator, way: &Way, patience: &Patience) -> Server {
    let visit = Visit::new(&coordinator.url, way, patience);
    let attempt = || async {
        let began = Instant::now();
        // The errors for a person are made elsewhere, of the state.
        let client = daemon::client("", coordinator, way).map_err(|_| Ended::Known(ServerState::Other))?;
        let tcp = visit.connect().await?;
        let proof = async {
            client.prepare_over(tcp).await.map_err(|error| of_error(&error))?;
            let (connect, asked) = (began.elapsed(), Instant::now());
            client.info().await.map_err(|error| of_error(&error))?;
            Ok(Reached { connect, rtt: asked.elapsed(), day: None })
        };
        visit.prove(proof, proof_within(began)).await
    };
    visit.server(visit.reached(attempt).await)
}

/// Visits a relay.
pub(super) async fn relay(entry: &RelayEntry, way: &Way, patience: &Patience) -> Visited {
    let visit = Visit::new(&entry.url, way, patience);
    let attempt = || async {
        let began = Instant::now();
        let tcp = visit.connect().await?;
        let proof = async {
            match relay::probe(&entry.url, entry.key, tcp).await {
                Ok(Ok(proven)) => {
                    Ok(Reached { connect: began.elapsed(), rtt: proven.rtt, day: Some(proven.day) })
                }
                Ok(Err(Unproven::Stranger)) => Err(Ended::Known(ServerState::Stranger)),
                // Ended, or never answered: which of both depends on who is in between.
                Ok(Err(Unproven::Lost)) => Err(Ended::Silent),
                Err(_) => Err(Ended::Known(ServerState::Other)),
            }
        };
        visit.prove(proof, proof_within(began)).await
    };
    let reached = visit.reached(attempt).await;
    let day = reached.as_ref().ok().and_then(|reached| reached.day);
    Visited { server: visit.server(reached), day }
}

/// How long the proof takes at most where nothing gets lost, by what the connection took.
fn proof_within(began: Instant) -> Duration {
    PROOF_WITHIN.max(began.elapsed() * ROUND_TRIPS)
}

impl<'a> Visit<'a> {
    fn new(url: &'a str, way: &'a Way, patience: &'a Patience) -> Self {
        let direct = host_and_port(url).is_none_or(|(host, port)| way.is_direct(&host, port));
        let nothing = if direct { ServerState::ResolverSilent } else { ServerState::ProxyUnreachable };
        Self { url, way, patience, farthest: Mutex::new(nothing) }
    }

    /// The first of its attempts that says something.
    async fn reached<F>(&self, attempt: impl Fn() -> F) -> Result<Reached, ServerState>
    where
        F: Future<Output = Result<Reached, Ended>>,
    {
        let mut attempts = FuturesUnordered::new();
        let mut again = interval(AGAIN);
        let mut out = pin!(self.patience.is_out());
        loop {
            tokio::select! {
                _ = again.tick() => attempts.push(attempt()),
                Some(ended) = attempts.next() => match ended {
                    Ok(reached) => return Ok(reached),
                    Err(Ended::Known(state)) => return Err(state),
                    Err(Ended::Silent) => {}
                },
                () = &mut out => return Err(self.came(ServerState::ResolverSilent)),
            }
        }
    }

    /// An attempt came so far. The farthest that any came.
    fn came(&self, state: ServerState) -> ServerState {
        let rank = |state: ServerState| SILENT.iter().position(|silent| *silent == state);
        let mut farthest = self.farthest.lock().unwrap_or_else(PoisonError::into_inner);
        if rank(state) > rank(*farthest) {
            *farthest = state;
        }
        *farthest
    }

    async fn connect(&self) -> Result<TcpStream, Ended> {
        let (host, port) = host_and_port(self.url).ok_or(Ended::Known(ServerState::Other))?;
        let began = Instant::now();
        let connected = if self.way.is_direct(&host, port) {
            let addrs = dial::resolve(&host, port).await.map_err(of_fault)?;
            self.came(ServerState::Silent);
            // Where the resolver is far, so are others.
            self.patience.answered(began.elapsed());
            dial::race(addrs).await.map_err(Fault::Connect)
        } else {
            self.way.connect(&host, port).await
        };
        let tcp = connected.map_err(of_fault)?;
        self.came(ServerState::TlsSilent);
        self.patience.answered(began.elapsed());
        Ok(tcp)
    }

    /// What `proof` says. A server that takes connections and does not answer over TLS, whose first packet is a large one, within
    /// this time may answer a small request, which tells why.
    async fn prove(
        &self,
        proof: impl Future<Output = Result<Reached, Ended>>,
        within: Duration,
    ) -> Result<Reached, Ended> {
        let mut proof = pin!(proof);
        if let Ok(proven) = timeout(within, &mut proof).await {
            return proven;
        }
        let small = pin!(async {
            if self.answers_small().await {
                self.came(ServerState::LargeLost);
            }
        });
        match select(proof, small).await {
            Either::Left((proven, _)) => proven,
            Either::Right(((), proof)) => proof.await,
        }
    }

    async fn answers_small(&self) -> bool {
        let Ok(mut tcp) = self.connect().await else { return false };
        let answered = async {
            tcp.write_all(SMALL).await?;
            tcp.read(&mut [0; 1]).await
        };
        // A server that cut it has seen the request.
        answered.await.map_or_else(|error| error.kind() == io::ErrorKind::ConnectionReset, |_| true)
    }

    fn server(&self, reached: Result<Reached, ServerState>) -> Server {
        let ms = |time: Duration| time.as_secs_f64() * 1_000.0;
        let (state, connect_ms, rtt_ms) = match reached {
            Ok(reached) => (ServerState::Answers, Some(ms(reached.connect)), Some(ms(reached.rtt))),
            Err(state) => (state, None, None),
        };
        Server { url: self.url.to_owned(), state, connect_ms, rtt_ms, udp: Vec::new() }
    }
}

fn of_fault(fault: Fault) -> Ended {
    match fault {
        Fault::Name => Ended::Known(ServerState::NameUnknown),
        Fault::Resolver => Ended::Known(ServerState::ResolverSilent),
        Fault::Connect(Unconnected::NoRoute) => Ended::Known(ServerState::NoRoute),
        Fault::Connect(Unconnected::Unreachable) => Ended::Known(ServerState::Unreachable),
        Fault::Connect(Unconnected::Silent) => Ended::Silent,
        Fault::Connect(Unconnected::Refused) => Ended::Known(ServerState::Refused),
        Fault::Proxy(fault) => of_proxy(fault),
    }
}

fn of_proxy(fault: ProxyFault) -> Ended {
    Ended::Known(match fault {
        ProxyFault::Silent => return Ended::Silent,
        ProxyFault::Name | ProxyFault::Connect => ServerState::ProxyUnreachable,
        ProxyFault::NotAProxy => ServerState::NotAProxy,
        ProxyFault::LoginWanted | ProxyFault::LoginRefused | ProxyFault::LoginKind => ServerState::ProxyLogin,
        ProxyFault::Refused => ServerState::ProxyRefuses,
        ProxyFault::Unreachable => ServerState::ProxyFails,
    })
}

fn of_error(error: &Error) -> Ended {
    Ended::Known(match error {
        Error::WrongPin | Error::Untrusted | Error::NotACoordinator => ServerState::Stranger,
        Error::Unreachable(Cause::Tls) => ServerState::Stranger,
        Error::Unreachable(Cause::Name) => ServerState::NameUnknown,
        Error::Unreachable(Cause::Proxy(fault)) => return of_proxy(*fault),
        Error::Unreachable(_) => return Ended::Silent,
        // It says why, so it is there.
        _ => ServerState::Answers,
    })
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
        let patience = Patience::between(Duration::from_secs(2), Duration::from_secs(4));
        let known = Coordinator { url: url.to_owned(), pin: Some(Pin([7; 32])) };
        let entry = RelayEntry { url: url.to_owned(), key: [7; 32], stun_port: None };
        let way = Way::default();
        let (first, second) =
            tokio::join!(coordinator(&known, &way, &patience), relay(&entry, &way, &patience));
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

    #[tokio::test]
    async fn one_connection_that_keeps_silent_is_no_silent_server() {
        let mut kept = Vec::new();
        let (sink, mut connections) = tokio::sync::mpsc::unbounded_channel();
        let url = serving(move |tcp| {
            let _ = sink.send(tcp);
            async {}
        })
        .await;
        let served = tokio::spawn(async move {
            // The first of each visit gets no answer.
            for _ in 0..2 {
                kept.push(connections.recv().await.unwrap());
            }
            while let Some(mut tcp) = connections.recv().await {
                let _ = tcp.read(&mut [0; 4_096]).await;
                let _ = tcp.write_all(b"not TLS").await;
            }
        });
        let began = Instant::now();
        assert_eq!(states(&url).await, [ServerState::Stranger; 2]);
        assert!(began.elapsed() < AGAIN * 2, "the second was begun beside the first");
        served.abort();
    }
}
