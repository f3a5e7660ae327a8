//! How servers are reached: directly, or through an HTTP proxy where one is set.
//!
//! A proxy that is set is used always and for every server but those that are exempt, never as one way of two: who
//! sets a proxy counts on it, and a connection that went around it unasked would show this machine's address where it was
//! not to be seen. The proxy resolves the server's name; TLS is with the server, and the proxy carries it.

mod exempt;
mod proxy;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

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
    /// There is no such name, or no address with it.
    Name,
    /// The name could not be asked for: the resolver does not answer, or fails itself.
    Resolver,
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
    /// There is a way, and something on it answers that it leads nowhere or is forbidden.
    Unreachable,
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
    let addrs = resolve(host, port).await?;
    race(addrs).await.map_err(Fault::Connect)
}

/// Where `host` is, asked of this machine's resolver.
///
/// # Errors
/// [`Fault::Name`] or [`Fault::Resolver`].
pub(crate) async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, Fault> {
    match lookup_host((host, port)).await {
        Ok(found) => Ok(found.collect()),
        Err(error) if is_the_resolvers(&error) => Err(Fault::Resolver),
        Err(_) => Err(Fault::Name),
    }
}

/// Whether a failed look-up says nothing of the name. `EAI_AGAIN` has no kind of its own, only its text, glibc's or musl's.
fn is_the_resolvers(error: &io::Error) -> bool {
    let text = error.to_string();
    text.ends_with("Temporary failure in name resolution") || text.ends_with("Try again")
}

/// The first of `addrs` that accepts; each starts [`STAGGER`] after the one before it.
///
/// # Errors
/// [`Unconnected`].
pub(crate) async fn race(addrs: Vec<SocketAddr>) -> Result<TcpStream, Unconnected> {
    let mut attempts: FuturesUnordered<_> = addrs
        .into_iter()
        .zip(0u32..)
        .map(|(addr, i)| async move {
            sleep(STAGGER * i).await;
            (addr, timeout(ACCEPT_WITHIN, begin(addr)).await)
        })
        .collect();
    let mut why = Unconnected::NoRoute;
    while let Some(attempt) = attempts.next().await {
        match attempt {
            (_, Ok(Ok(stream))) => return Ok(stream),
            (addr, Ok(Err(error))) => why = why.max(unconnected(&error, addr)),
            (_, Err(_)) => why = why.max(Unconnected::Silent),
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

fn unconnected(error: &io::Error, addr: SocketAddr) -> Unconnected {
    match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => Unconnected::Refused,
        io::ErrorKind::TimedOut => Unconnected::Silent,
        // The kernel gives what others answer (ICMP) and what it finds itself the same numbers.
        _ if has_route(addr) => Unconnected::Unreachable,
        _ => Unconnected::NoRoute,
    }
}

/// Whether this machine would know where to send what is for `addr`. Nothing is sent.
fn has_route(addr: SocketAddr) -> bool {
    let any: IpAddr =
        if addr.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    UdpSocket::bind((any, 0)).and_then(|socket| socket.connect(addr)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resolver_that_fails_says_nothing_of_the_name() {
        let failed = |text: &str| {
            is_the_resolvers(&io::Error::other(format!("failed to lookup address information: {text}")))
        };
        assert!(failed("Temporary failure in name resolution") && failed("Try again"));
        for text in
            ["Name or service not known", "Name does not resolve", "No address associated with hostname"]
        {
            assert!(!failed(text), "{text}");
        }
    }

    #[test]
    fn what_is_answered_on_the_way_is_told_from_having_no_way() {
        let somewhere: SocketAddr = "127.0.0.1:9".parse().unwrap();
        // The kernel has no route to an address of link scope without a link.
        let nowhere: SocketAddr = "[fe80::1]:9".parse().unwrap();
        for (kind, addr, why) in [
            (io::ErrorKind::HostUnreachable, somewhere, Unconnected::Unreachable),
            (io::ErrorKind::NetworkUnreachable, somewhere, Unconnected::Unreachable),
            (io::ErrorKind::PermissionDenied, somewhere, Unconnected::Unreachable),
            (io::ErrorKind::NetworkUnreachable, nowhere, Unconnected::NoRoute),
            (io::ErrorKind::ConnectionRefused, somewhere, Unconnected::Refused),
            (io::ErrorKind::TimedOut, somewhere, Unconnected::Silent),
        ] {
            assert_eq!(unconnected(&kind.into(), addr), why, "{kind} {addr}");
        }
    }
}
