//! From nothing to a connection on which both hellos were said: TCP, TLS, Upgrade, the relay's hello, ours.
//!
//! The relay's welcome is not waited for: what follows the hello may leave with it, and saves a round trip.

use std::{io, net::SocketAddr, os::fd::AsFd, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream::FuturesUnordered};
use http_body_util::Empty;
use hyper::{
    Request, StatusCode,
    client::conn::http1,
    header::{CONNECTION, HOST, UPGRADE as UPGRADE_HEADER},
    upgrade::{self, Upgraded},
};
use hyper_util::rt::TokioIo;
use proto::{
    relay::{Credential, EXPORTER_LABEL, ExporterValue, Frame, PATH, RelayHello, UPGRADE, peek},
    wire::WireError,
};
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    time::{Instant, interval_at, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use url::{Host, Url};

use super::{
    calendar::{self, Clock},
    client::BadRelayUrl,
    link::Link,
    session::End,
};
use crate::dial::{Fault, Way};

/// How long all of it may take: a dozen round trips of a bad link.
const ALL_WITHIN: Duration = Duration::from_secs(20);

/// When a connection that is not there yet has another begun beside it, and that one a third: more than a link needs that loses nothing,
/// and what the kernel waits before it repeats a new connection's first bytes where it does not know the way. The first
/// that the relay greets is used, and the others are dropped before they open a mailbox.
const BESIDE_AFTER: Duration = Duration::from_secs(3);

/// So many at once.
const BESIDE: usize = 3;

/// How long sent bytes may stay unacknowledged before the kernel gives the connection up, until the relay has greeted: a slow and
/// lossy way has nothing better to go over. From then on it is [`Link`] that says.
const UNGREETED: Duration = Duration::from_secs(15);

/// The relay's hellos are shorter; more before the welcome is no relay of ours.
const MAX_GREETING: usize = 4_096;

/// Bytes read of the kernel at once, where there are as many; the TLS library would ask for 4 KiB each time.
const READ_AT_ONCE: usize = 64 << 10;

/// TLS over TCP, which is read much at once.
pub(super) type Tls = TlsStream<BufReader<TcpStream>>;

/// Where a relay is, and who it is.
pub(super) struct Target {
    host: Host,
    port: u16,
    key: [u8; 32],
    tls: Arc<ClientConfig>,
    way: Way,
}

/// A connection to a relay that has proven its key and was shown the credential.
pub(super) struct Connection {
    pub(super) io: TokioIo<Upgraded>,
    pub(super) link: Link,
    pub(super) exporter: ExporterValue,
    /// What was read beyond the hello.
    pub(super) received: BytesMut,
    /// Our end of it.
    pub(super) local: Option<SocketAddr>,
    /// Whether it goes through a proxy.
    pub(super) proxied: bool,
}

impl Target {
    pub(super) fn new(url: &str, key: [u8; 32], way: Way) -> Result<Self, BadRelayUrl> {
        let url = Url::parse(url).map_err(|_| BadRelayUrl)?;
        let plain = url.username().is_empty() && url.password().is_none() && url.path() == "/";
        let (true, true, Some(host)) = (url.scheme() == "https", plain, url.host()) else {
            return Err(BadRelayUrl);
        };
        let port = url.port_or_known_default().ok_or(BadRelayUrl)?;
        Ok(Self { host: host.to_owned(), port, key, tls: client_config(), way })
    }

    pub(super) fn key(&self) -> [u8; 32] {
        self.key
    }

    /// The host, an address without brackets.
    fn host(&self) -> String {
        match &self.host {
            Host::Domain(name) => name.clone(),
            Host::Ipv4(ip) => ip.to_string(),
            Host::Ipv6(ip) => ip.to_string(),
        }
    }

    fn is_proxied(&self) -> bool {
        !self.way.is_direct(&self.host(), self.port)
    }
}

/// Connects to a relay and shows it the credential.
///
/// # Errors
/// Why there is no connection.
pub(super) async fn connect(
    target: &Target,
    credential: &Credential,
    clock: Clock,
) -> Result<Connection, End> {
    let attempts = beside(BESIDE_AFTER, || attempt(target, credential, clock));
    timeout(ALL_WITHIN, attempts).await.unwrap_or(Err(End::Lost))
}

/// What the first attempt comes to that does not get lost. Others are begun beside it while it takes longer than `after`, one
/// after the other.
async fn beside<T, F>(after: Duration, attempt: impl Fn() -> F) -> Result<T, End>
where
    F: Future<Output = Result<T, End>>,
{
    let mut attempts = FuturesUnordered::from_iter([attempt()]);
    let mut begun = 1;
    let mut next = interval_at(Instant::now() + after, after);
    loop {
        tokio::select! {
            Some(came) = attempts.next() => match came {
                Err(End::Lost) if !attempts.is_empty() => {}
                came => return came,
            },
            _ = next.tick(), if begun < BESIDE => {
                begun += 1;
                attempts.push(attempt());
            }
        }
    }
}

async fn attempt(target: &Target, credential: &Credential, clock: Clock) -> Result<Connection, End> {
    let tcp = dial(target).await?;
    let local = tcp.local_addr().ok();
    // The same socket, to be found again beneath TLS and HTTP.
    let socket = tcp.as_fd().try_clone_to_owned();
    let tls = secure(target, tcp).await?;
    let (mut io, exporter) = upgrade(target, tls).await?;
    let received = greet(target, credential, clock, &mut io, &exporter).await?;
    let link = Link::new(socket.ok());
    Ok(Connection { io, link, exporter, received, local, proxied: target.is_proxied() })
}

/// TLS over a connection that leads to the relay, or to whoever answers in its place.
///
/// # Errors
/// If TLS does not come about.
pub(super) async fn secure(target: &Target, tcp: TcpStream) -> io::Result<Tls> {
    // Frames must not wait for more to come, and what little is on its way is repeated six times before the pauses between begin to
    // double. A kernel that refuses does no harm.
    let socket = SockRef::from(&tcp);
    let _ = socket.set_tcp_nodelay(true);
    let _ = socket.set_tcp_thin_linear_timeouts(true);
    let _ = socket.set_tcp_user_timeout(Some(UNGREETED));

    let name = match &target.host {
        Host::Domain(name) => ServerName::try_from(name.clone()).map_err(io::Error::other)?,
        Host::Ipv4(ip) => ServerName::from(std::net::IpAddr::V4(*ip)),
        Host::Ipv6(ip) => ServerName::from(std::net::IpAddr::V6(*ip)),
    };
    let tcp = BufReader::with_capacity(READ_AT_ONCE, tcp);
    TlsConnector::from(Arc::clone(&target.tls)).connect(name, tcp).await
}

/// The Upgrade to the relay's protocol, and what its hello must sign.
///
/// # Errors
/// If what answers is no relay.
pub(super) async fn upgrade(target: &Target, tls: Tls) -> Result<(TokioIo<Upgraded>, ExporterValue), End> {
    let exporter =
        tls.get_ref().1.export_keying_material([0; 32], EXPORTER_LABEL, None).map_err(|_| End::Lost)?;

    let (mut sender, connection) =
        http1::handshake::<_, Empty<Bytes>>(TokioIo::new(tls)).await.map_err(|_| End::Lost)?;
    // Ends by itself: with the upgrade, or when `sender` and what it answered are dropped.
    tokio::spawn(connection.with_upgrades());
    let request = Request::get(PATH)
        .header(HOST, format!("{}:{}", target.host, target.port))
        .header(CONNECTION, "upgrade")
        .header(UPGRADE_HEADER, UPGRADE)
        .body(Empty::new())
        .map_err(|_| End::Lost)?;
    let response = sender.send_request(request).await.map_err(|_| End::Lost)?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(End::Lost);
    }
    let io = upgrade::on(response).await.map_err(|_| End::Lost)?;
    Ok((TokioIo::new(io), exporter))
}

async fn dial(target: &Target) -> Result<TcpStream, End> {
    target.way.connect(&target.host(), target.port).await.map_err(|fault| match fault {
        Fault::Proxy(fault) => End::Proxy(fault),
        Fault::Name | Fault::Resolver | Fault::Connect(_) => End::Lost,
    })
}

/// The relay's hello, checked; ours. What was read beyond the relay's.
async fn greet(
    target: &Target,
    credential: &Credential,
    clock: Clock,
    io: &mut TokioIo<Upgraded>,
    exporter: &ExporterValue,
) -> Result<BytesMut, End> {
    let mut received = BytesMut::new();
    let hello = hello(target, io, exporter, &mut received).await?;
    if !calendar::days(clock()).contains(&hello.day) {
        return Err(End::ClockWrong);
    }
    io.write_all(&Frame::ClientHello(credential.clone()).to_vec()).await?;
    io.flush().await?;
    Ok(received)
}

/// The relay's hello, which proves its key. What was read beyond it is in `received`.
///
/// # Errors
/// If it is not the relay's.
pub(super) async fn hello(
    target: &Target,
    io: &mut TokioIo<Upgraded>,
    exporter: &ExporterValue,
    received: &mut BytesMut,
) -> Result<RelayHello, End> {
    let frame = read_frame(io, received).await?;
    match Frame::decode(&frame)? {
        Frame::RelayHello(hello) if hello.verify(&target.key, exporter) => Ok(hello),
        _ => Err(End::Lost),
    }
}

async fn read_frame(io: &mut TokioIo<Upgraded>, received: &mut BytesMut) -> Result<BytesMut, End> {
    loop {
        if let Some(len) = peek(received)? {
            return Ok(received.split_to(len));
        }
        if received.len() > MAX_GREETING || io.read_buf(received).await? == 0 {
            return Err(End::Lost);
        }
    }
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        Self::Lost
    }
}

impl From<WireError> for End {
    fn from(error: WireError) -> Self {
        match error {
            WireError::Newer { .. } => Self::Refused(proto::relay::Refusal::Protocol),
            _ => Self::Lost,
        }
    }
}

/// TLS 1.3 with a server that may show any certificate: who it is, its hello says.
fn client_config() -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = Arc::new(AnyCertificate(Arc::clone(&provider)));
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .expect("the provider has suites for TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Arc::new(config)
}

/// Accepts any certificate, whose key must still have signed the handshake.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::time::sleep;

    use super::*;

    #[test]
    fn a_relay_is_named_by_host_and_port_alone() {
        for good in ["https://relay.example.org", "https://192.0.2.1:8443/", "https://[2001:db8::1]:443"] {
            assert!(Target::new(good, [0; 32], Way::default()).is_ok(), "{good}");
        }
        for bad in
            ["http://relay.example.org", "relay.example.org", "https://", "https://a@b", "https://a/path", ""]
        {
            assert!(Target::new(bad, [0; 32], Way::default()).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn an_attempt_that_takes_long_has_others_beside_it_of_which_the_first_is_used() {
        const SHORT: Duration = Duration::from_millis(50);
        let begun = Cell::new(0);
        // What each of them comes to, and after how many pauses.
        let run = async |ends: [(u32, Result<u32, End>); BESIDE]| {
            begun.set(0);
            let took = beside(SHORT, || {
                let (pauses, end) = ends[begun.get()];
                begun.set(begun.get() + 1);
                async move {
                    sleep(SHORT * pauses).await;
                    end
                }
            });
            (took.await, begun.get())
        };
        let never = (1_000, Ok(0));
        assert!(run([(0, Ok(1)), never, never]).await == (Ok(1), 1));
        assert!(run([never, (0, Ok(2)), never]).await == (Ok(2), 2));
        assert!(run([never, never, (4, Ok(3))]).await == (Ok(3), 3));
        assert!(run([(5, Ok(1)), never, never]).await == (Ok(1), 3));
        // Who is lost leaves it to the others; if there is none, it is lost.
        assert!(run([(0, Err(End::Lost)), never, never]).await == (Err(End::Lost), 1));
        assert!(run([(2, Err(End::Lost)), (4, Ok(2)), never]).await.0 == Ok(2));
        // What the relay says, or the proxy, no other attempt will hear otherwise.
        assert!(run([never, (0, Err(End::ClockWrong)), never]).await == (Err(End::ClockWrong), 2));
    }
}
