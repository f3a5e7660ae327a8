//! TCP, TLS 1.3 and HTTP/1.1 in front of a handler: what coordinator and relay both stand on.
//!
//! A handler gets a request and, in its extensions, what the connection adds: the value exported from its TLS session
//! ([`Exporter`]), which signatures bind to, and the connection's [`Slot`], which whoever takes the connection over
//! by an Upgrade keeps for as long as it lives. It does not get the peer's address: nobody behind here needs it. To count
//! attempts there is a number in its place ([`Source`]) that means nothing outside of this process.
//!
//! Strangers cost little: connections are bounded, and one that does not finish its TLS handshake or its request's
//! header in time is closed.

use std::{
    convert::Infallible,
    hash::{BuildHasher, RandomState},
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, LazyLock},
    time::Duration,
};

use hyper::{Request, Response, body::Body, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use proto::relay::{EXPORTER_LABEL, ExporterValue};
use rustls::ServerConfig;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

/// Connections at once. Each costs tens of kilobytes, so this is some hundred megabytes at worst; a host that serves
/// more machines runs more relays.
pub const MAX_CONNECTIONS: usize = 8_192;

/// How long a TLS handshake may take: several round trips of the slowest link, and no more.
pub const TLS_WITHIN: Duration = Duration::from_secs(10);

/// How long a request's header may take, and how long a connection may idle between two requests.
pub const HEADER_WITHIN: Duration = Duration::from_secs(30);

/// The largest request header, in bytes; ours have less than one kilobyte. Hyper's least is 8,192.
pub const MAX_HEADER: usize = 16 << 10;

/// How long requests under way may take to finish once the listener stops.
pub const DRAIN: Duration = Duration::from_secs(3);

/// Waiting connections that the kernel keeps for us.
const BACKLOG: i32 = 1_024;

/// A pause after a failed accept: the usual cause is too many open files, which time alone cures.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// When the kernel asks a silent peer whether it is there; less than a home router forgets a connection in.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// How long sent bytes may stay unacknowledged before the kernel gives the connection up.
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

/// The value exported from the TLS session that a request came over; in the request's extensions.
#[derive(Clone, Copy)]
pub struct Exporter(pub ExporterValue);

/// A connection's place among [`MAX_CONNECTIONS`]; in the request's extensions. An upgraded connection keeps it.
#[derive(Clone)]
pub struct Slot(#[expect(dead_code, reason = "held, not read")] Arc<OwnedSemaphorePermit>);

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

/// A bound port.
pub struct Listener {
    socket: TcpListener,
    tls: TlsAcceptor,
    slots: Arc<Semaphore>,
}

impl Listener {
    /// Binds `address`; an unspecified IPv6 address takes IPv4 as well. Needs a tokio runtime.
    ///
    /// # Errors
    /// As `bind(2)`.
    pub fn bind(address: SocketAddr, tls: Arc<ServerConfig>) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        if address.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        let socket = TcpListener::from_std(socket.into())?;
        Ok(Self { socket, tls: TlsAcceptor::from(tls), slots: Arc::new(Semaphore::new(MAX_CONNECTIONS)) })
    }

    /// The address bound, with its port.
    ///
    /// # Errors
    /// As `getsockname(2)`.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Answers requests with `handler` until `stop` resolves; then accepts no more, lets requests under way finish
    /// for at most [`DRAIN`], and returns.
    pub async fn serve<H, F, B>(self, handler: H, stop: impl Future<Output = ()>)
    where
        H: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
        F: Future<Output = Response<B>> + Send + 'static,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (stopping, stopped) = watch::channel(false);
        let accepting = async {
            loop {
                let slot =
                    Arc::clone(&self.slots).acquire_owned().await.expect("the semaphore is never closed");
                let Ok((stream, from)) = self.socket.accept().await else {
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                };
                let slot = Slot(Arc::new(slot));
                let source = Source::of(from.ip());
                let (tls, stopped) = (self.tls.clone(), stopped.clone());
                tokio::spawn(converse(stream, source, tls, slot, handler.clone(), stopped));
            }
        };
        tokio::select! {
            () = accepting => {}
            () = stop => {}
        }
        stopping.send_replace(true);
        let all = u32::try_from(MAX_CONNECTIONS).expect("a bound on connections fits 32 bits");
        drop(timeout(DRAIN, self.slots.acquire_many(all)).await);
    }
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
    let Ok(Ok(stream)) = timeout(TLS_WITHIN, tls.accept(stream)).await else {
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

/// Frames must not wait for more to come, and dead peers must not be kept. A kernel that refuses does no harm.
fn tune(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 4).with_retries(3);
    let _ = socket.set_tcp_nodelay(true);
    let _ = socket.set_tcp_keepalive(&keepalive);
    let _ = socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
}
