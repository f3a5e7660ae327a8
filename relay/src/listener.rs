//! TCP, TLS 1.3 and HTTP/1.1 in front of a handler: what coordinator and relay both stand on.
//!
//! A handler gets a request and, in its extensions, what the connection adds: the value exported from its TLS session
//! ([`Exporter`]), which signatures bind to, and the connection's [`Slot`], which whoever takes the connection over
//! by an Upgrade keeps for as long as it lives. It does not get the peer's address: nobody behind here needs it. To count
//! attempts there is a number in its place ([`Source`]) that means nothing outside of this process.
//!
//! Strangers cost little: connections are bounded, in all and from one place, and one that does not finish its TLS
//! handshake or its request's header in time is closed.

use std::{
    collections::HashMap,
    convert::Infallible,
    future::poll_fn,
    hash::{BuildHasher, RandomState},
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use hyper::{Request, Response, body::Body, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::{
    errno::Errno::EAFNOSUPPORT,
    sys::resource::{Resource, getrlimit, setrlimit},
};
use proto::relay::{EXPORTER_LABEL, ExporterValue};
use rustls::ServerConfig;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use crate::{gulp::Gulping, link::Watched};

/// Connections at once. Each costs tens of kilobytes, so this is some hundred megabytes at worst; a host that serves
/// more machines runs more relays.
pub const MAX_CONNECTIONS: usize = 8_192;

/// Connections at once from one [`Source`]: the machines of a large office behind one address, each with a connection
/// to the coordinator and one to the relay; and an eighth of all, so that one stranger cannot take every place.
pub const CONNECTIONS_PER_SOURCE: usize = 1_024;

/// How long a TLS handshake may take: several round trips of the slowest link, and no more.
pub const TLS_WITHIN: Duration = Duration::from_secs(10);

/// How long a request's header may take, and how long a connection may idle between two requests.
pub const HEADER_WITHIN: Duration = Duration::from_secs(30);

/// The largest request header, in bytes; ours have less than one kilobyte. Hyper's least is 8,192.
pub const MAX_HEADER: usize = 16 << 10;

/// How long requests under way may take to finish once the listener stops.
pub const DRAIN: Duration = Duration::from_secs(3);

/// How long connections that somebody took over by an Upgrade may take to end once the listener stops: a relay's as long
/// as it leaves (4 s) and says why (5 s), rounded down to what whoever stops a service waits for.
pub const LINGER: Duration = Duration::from_secs(8);

/// Waiting connections that the kernel keeps for us.
const BACKLOG: i32 = 1_024;

/// The largest TCP segment on a connection that comes in, in bytes: what fits 1280 with IPv6, which every link carries. Machines
/// see to that themselves where they connect; a proxy between them and us does not.
const SEGMENT: u32 = 1_220;

/// A pause after a failed accept: the usual cause is too many open files, which time alone cures.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// When the kernel asks a silent peer whether it is there: later than whoever is well says something (a machine to a relay every 200 s
/// at least, see `limits`; a coordinator to a watch), so that it costs idle machines nothing.
const KEEPALIVE: Duration = Duration::from_secs(300);

/// How long sent bytes may stay unacknowledged before the kernel gives the connection up. (A relay's connection has less from its greeting
/// on: [`proto::relay::patience`].)
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

/// The value exported from the TLS session that a request came over; in the request's extensions.
#[derive(Clone, Copy)]
pub struct Exporter(pub ExporterValue);

/// A connection's place among [`MAX_CONNECTIONS`]; in the request's extensions. An upgraded connection keeps it.
#[derive(Clone)]
pub struct Slot(#[expect(dead_code, reason = "held, not read")] Arc<(OwnedSemaphorePermit, Place)>);

/// Stands for the network address that a connection comes from (of an IPv6 address its /64, which is one host's or one
/// home's), keyed anew in each process; in the request's extensions. Good for counting, and for nothing else.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Source(u64);

impl Source {
    /// The number of an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        Self(KEY.hash_one(match address.to_canonical() {
            IpAddr::V4(address) => u64::from(address.to_bits()),
            IpAddr::V6(address) => (address.to_bits() >> 64) as u64,
        }))
    }
}

/// How many connections each source has.
#[derive(Default)]
struct Places(Mutex<HashMap<Source, usize>>);

/// One of a source's connections.
struct Place {
    places: Arc<Places>,
    source: Source,
}

impl Places {
    /// Counts one more connection of a source, if it may have one more.
    fn take(self: &Arc<Self>, source: Source) -> Option<Place> {
        let mut counts = self.lock();
        let count = counts.entry(source).or_default();
        if *count >= CONNECTIONS_PER_SOURCE {
            return None;
        }
        *count += 1;
        Some(Place { places: Arc::clone(self), source })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Source, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.places.lock();
        if let Some(count) = counts.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.source);
            }
        }
    }
}

/// A bound port, on which connections are refused yet.
pub struct Port(Socket);

impl Port {
    /// Binds `address`; an unspecified IPv6 address takes IPv4 as well, and IPv4 alone on a host without IPv6. Lets the
    /// process open as many files as the system grants it, since each connection is one.
    ///
    /// # Errors
    /// As `bind(2)`.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        raise_file_limit();
        let port = bind(address, Type::STREAM, Protocol::TCP)?;
        // A kernel that refuses does no harm on most paths.
        let _ = port.set_tcp_mss(SEGMENT);
        Ok(Self(port))
    }

    /// The address bound, with its port.
    ///
    /// # Errors
    /// As `getsockname(2)`.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()?.as_socket().ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
    }

    /// Lets connections come in, which will be shown `tls`. Needs a tokio runtime.
    ///
    /// # Errors
    /// As `listen(2)`.
    pub fn listen(self, tls: Arc<ServerConfig>) -> io::Result<Listener> {
        self.0.listen(BACKLOG)?;
        Ok(Listener { socket: TcpListener::from_std(self.0.into())?, tls: TlsAcceptor::from(tls) })
    }
}

/// A port on which connections come in, and what they are shown.
pub struct Listener {
    socket: TcpListener,
    tls: TlsAcceptor,
}

impl Listener {
    /// [`Port::bind`] and [`Port::listen`].
    ///
    /// # Errors
    /// As those.
    pub fn bind(address: SocketAddr, tls: Arc<ServerConfig>) -> io::Result<Self> {
        Port::bind(address)?.listen(tls)
    }

    /// The address bound, with its port.
    ///
    /// # Errors
    /// As `getsockname(2)`.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Answers requests with `handler` until `stop` resolves; then accepts no more, lets requests under way finish
    /// for at most [`DRAIN`], connections that were taken over for at most [`LINGER`], and returns.
    pub async fn serve<H, F, B>(self, handler: H, stop: impl Future<Output = ()>)
    where
        H: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
        F: Future<Output = Response<B>> + Send + 'static,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let Self { socket, tls } = self;
        let (stopping, stopped) = watch::channel(false);
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let accepting = async {
            let places = Arc::default();
            loop {
                let slot = Arc::clone(&slots).acquire_owned().await.expect("the semaphore is never closed");
                let accepted = poll_fn(|context| accept(&socket, context)).await;
                sandbox::wipe::stack();
                let Ok((stream, source)) = accepted else {
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                };
                let Some(place) = Places::take(&places, source) else {
                    continue;
                };
                let slot = Slot(Arc::new((slot, place)));
                tokio::spawn(converse(stream, source, tls.clone(), slot, handler.clone(), stopped.clone()));
            }
        };
        tokio::select! {
            () = accepting => {}
            () = stop => {}
        }
        drop(socket);
        stopping.send_replace(true);
        let all = u32::try_from(MAX_CONNECTIONS).expect("a bound on connections fits 32 bits");
        drop(timeout(LINGER, slots.acquire_many(all)).await);
    }
}

/// The next connection. The address that it comes from stays below this call on the stack, which the caller overwrites.
#[inline(never)]
fn accept(socket: &TcpListener, context: &mut Context<'_>) -> Poll<io::Result<(TcpStream, Source)>> {
    let (stream, from) = ready!(socket.poll_accept(context))?;
    #[cfg(feature = "leaks")]
    crate::leaks::accepted(from);
    Poll::Ready(Ok((stream, Source::of(from.ip()))))
}

async fn converse<H, F, B>(
    stream: TcpStream,
    source: Source,
    tls: TlsAcceptor,
    slot: Slot,
    handler: H,
    mut stopped: watch::Receiver<bool>,
) where
    H: Fn(Request<Incoming>) -> F + Send + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    tune(&stream);
    let Ok(Ok(stream)) = timeout(TLS_WITHIN, tls.accept(Gulping::new(Watched::new(stream)))).await else {
        return;
    };
    let Ok(exporter) = stream.get_ref().1.export_keying_material([0; 32], EXPORTER_LABEL, None) else {
        return;
    };
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Exporter(exporter));
        request.extensions_mut().insert(slot.clone());
        request.extensions_mut().insert(source);
        let answer = handler(request);
        async { Ok::<_, Infallible>(answer.await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_WITHIN)
        .max_buf_size(MAX_HEADER)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = stopped.wait_for(|stopped| *stopped) => {}
    }
    connection.as_mut().graceful_shutdown();
    drop(timeout(DRAIN, connection).await);
}

/// Frames must not wait for more to come, and dead peers must not be kept. What little is on its way is repeated six times before
/// the pauses between begin to double. A kernel that refuses does no harm.
fn tune(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 4).with_retries(3);
    let _ = socket.set_tcp_nodelay(true);
    let _ = socket.set_tcp_keepalive(&keepalive);
    let _ = socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
    let _ = socket.set_tcp_thin_linear_timeouts(true);
}

/// A bound socket that does not block. An unspecified IPv6 address takes IPv4 as well, and IPv4 alone on a host without
/// IPv6.
pub(crate) fn bind(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = match Socket::new(Domain::for_address(address), kind, Some(protocol)) {
        Err(error) if error.raw_os_error() == Some(EAFNOSUPPORT as i32) && address.ip().is_unspecified() => {
            return bind((Ipv4Addr::UNSPECIFIED, address.port()).into(), kind, protocol);
        }
        socket => socket?,
    };
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    if kind == Type::STREAM {
        socket.set_reuse_address(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// A process that may not raise it serves fewer connections, and no harm is done.
fn raise_file_limit() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_is_one_source_and_its_neighbour_another() {
        let of = |address: &str| Source::of(address.parse().unwrap());
        assert!(of("192.0.2.1") == of("::ffff:192.0.2.1"));
        assert!(of("192.0.2.1") != of("192.0.2.2"));
        assert!(of("2001:db8:1:2::1") == of("2001:db8:1:2:ffff::9"));
        assert!(of("2001:db8:1:2::1") != of("2001:db8:1:3::1"));
    }

    #[test]
    fn one_source_has_a_bounded_number_of_connections_and_another_is_not_touched() {
        let places = Arc::default();
        let (crowd, other) = (Source(1), Source(2));
        let mut taken: Vec<Place> =
            (0..CONNECTIONS_PER_SOURCE).filter_map(|_| Places::take(&places, crowd)).collect();
        assert_eq!(taken.len(), CONNECTIONS_PER_SOURCE);
        assert!(Places::take(&places, crowd).is_none());
        assert!(Places::take(&places, other).is_some());
        taken.pop();
        assert!(Places::take(&places, crowd).is_some());
        drop(taken);
        assert!(places.lock().is_empty());
    }

    #[tokio::test]
    async fn a_stopped_listener_refuses_at_once() {
        let tls = crate::tls::Authority::new(ed25519_dalek::SigningKey::from_bytes(&[1; 32]));
        let tls = tls.server_config(&["listener.test".to_owned()]).unwrap();
        let listener = Listener::bind(([127, 0, 0, 1], 0).into(), tls).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let handler = |_: Request<Incoming>| async { Response::new(String::new()) };
        let serving = tokio::spawn(listener.serve(handler, async { drop(stopped.await) }));
        // A stranger who says nothing.
        let silent = TcpStream::connect(address).await.unwrap();
        sleep(Duration::from_millis(50)).await;
        stop.send(()).unwrap();
        sleep(Duration::from_millis(50)).await;
        assert!(TcpStream::connect(address).await.is_err());
        drop(silent);
        timeout(DRAIN, serving).await.unwrap().unwrap();
    }
}
