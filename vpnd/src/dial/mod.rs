//! How servers are reached: directly, or through an HTTP proxy where one is set.
//!
//! A proxy that is set is used always and for every server but those that are exempt, never as one way of two: who
//! sets a proxy counts on it, and a connection that went around it unasked would show this machine's address where it was
//! not to be seen. The proxy resolves the server's name; TLS is with the server, and the proxy carries it.

mod exempt;
mod proxy;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use nix::sys::socket::{setsockopt, sockopt};
use tokio::{
    net::{TcpSocket, TcpStream, lookup_host},
    time::{sleep, timeout},
};

pub use self::proxy::{Proxy, ProxyError, ProxyFault};

/// Lead of one address over the next (RFC 8305, section 8, "Connection Attempt Delay").
const STAGGER: Duration = Duration::from_millis(250);

/// How long an address may take to accept: the kernel asks again after one and after three seconds.
const ACCEPT_WITHIN: Duration = Duration::from_secs(4);

/// The largest TCP segment to and from servers, in bytes: what fits 1280 with IPv6, which every link carries. A path that
/// swallows larger ones without a word would hold up the relay's connection, and the kernel does not look for that.
const SEGMENT: u32 = 1_220;

/// The way to servers.
#[derive(Clone, Default)]
pub struct Way(Option<Arc<Proxy>>);

/// Why a server could not be connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Its name could not be resolved.
    Name,
    /// No address of it accepts.
    Connect(Unconnected),
    /// The proxy is at fault, or says that it cannot.
    Proxy(ProxyFault),
}

/// Why no address of a server accepts; of several addresses, what the one says that says most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Unconnected {
    /// There is no way there.
    NoRoute,
    /// Nothing came back.
    Silent,
    /// Nobody listens there.
    Refused,
}

impl Way {
    /// Through a proxy, but for the servers that it exempts.
    #[must_use]
    pub fn through(proxy: Proxy) -> Self {
        Self(Some(Arc::new(proxy)))
    }

    /// Where the proxy is, HOST:PORT.
    pub(crate) fn proxy(&self) -> Option<String> {
        self.0.as_ref().map(|proxy| proxy.place())
    }

    /// Whether no proxy is on the way to this server, named by host and port.
    pub(crate) fn is_direct(&self, host: &str, port: u16) -> bool {
        self.0.as_ref().is_none_or(|proxy| !proxy.serves(host, port))
    }

    /// A connection that leads to `host`, a name or an address without brackets.
    ///
    /// # Errors
    /// [`Fault`].
    pub(crate) async fn connect(&self, host: &str, port: u16) -> Result<TcpStream, Fault> {
        match &self.0 {
            Some(proxy) if proxy.serves(host, port) => proxy.tunnel(host, port).await.map_err(Fault::Proxy),
            _ => dial(host, port).await,
        }
    }
}

/// A connection to `host` itself.
async fn dial(host: &str, port: u16) -> Result<TcpStream, Fault> {
    let addrs = lookup_host((host, port)).await.map_err(|_| Fault::Name)?.collect();
    race(addrs).await.map_err(Fault::Connect)
}

/// The first of `addrs` that accepts; each starts [`STAGGER`] after the one before it.
async fn race(addrs: Vec<SocketAddr>) -> Result<TcpStream, Unconnected> {
    let mut attempts: FuturesUnordered<_> = addrs
        .into_iter()
        .zip(0u32..)
        .map(|(addr, i)| async move {
            sleep(STAGGER * i).await;
            timeout(ACCEPT_WITHIN, begin(addr)).await
        })
        .collect();
    let mut why = Unconnected::NoRoute;
    while let Some(attempt) = attempts.next().await {
        match attempt {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => why = why.max(unconnected(&error)),
            Err(_) => why = why.max(Unconnected::Silent),
        }
    }
    Err(why)
}

/// A connection whose segments pass everywhere, in both directions.
async fn begin(addr: SocketAddr) -> io::Result<TcpStream> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A kernel that refuses does no harm on most paths.
    let _ = setsockopt(&socket, sockopt::TcpMaxSeg, &SEGMENT);
    socket.connect(addr).await
}

fn unconnected(error: &io::Error) -> Unconnected {
    match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => Unconnected::Refused,
        io::ErrorKind::TimedOut => Unconnected::Silent,
        _ => Unconnected::NoRoute,
    }
}
