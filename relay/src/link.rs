//! What an upgraded connection runs over.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::BytesMut;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use nix::{getsockopt_impl, libc, sockopt_impl, sys::socket::getsockopt};
use proto::relay::{ExporterValue, LOOK_AGAIN, patience};
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;

use crate::gulp::Gulping;

/// A connection as [`crate::listener`] makes it.
pub(crate) type Stream = TlsStream<Gulping<Watched>>;

/// Bytes in both directions.
pub(crate) trait Link: AsyncRead + AsyncWrite + Unpin {
    /// It is a relay's from now on: it ends once what was sent stays unacknowledged for longer than [`patience`] says.
    fn greeted(&mut self);
}

impl Link for Stream {
    fn greeted(&mut self) {
        self.get_mut().0.inner_mut().look(Instant::now());
    }
}

/// What is known of a connection that was just upgraded.
pub(crate) struct Arrival {
    pub(crate) exporter: ExporterValue,
    /// What was read beyond the request.
    pub(crate) received: BytesMut,
}

/// The listener's connection beneath one that was upgraded, and what was read of it already; `None` if it is another's.
pub(crate) fn beneath(upgraded: Upgraded) -> Option<(Stream, BytesMut)> {
    let parts = upgraded.downcast::<TokioIo<Stream>>().ok()?;
    Some((parts.io.into_inner(), BytesMut::from(parts.read_buf)))
}

/// A connection that looks at its link now and then, once it is a relay's.
pub(crate) struct Watched {
    stream: TcpStream,
    /// When it looked last, and what came of it.
    looked: Option<(Instant, Duration)>,
}

impl Watched {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self { stream, looked: None }
    }

    fn look_again(&mut self) {
        if let Some((then, _)) = self.looked {
            let now = Instant::now();
            if now - then >= LOOK_AGAIN {
                self.look(now);
            }
        }
    }

    /// Has the kernel give the connection up after the time that goes with its link.
    fn look(&mut self, now: Instant) {
        // Of a kernel that does not say nothing is known.
        let of = |micros: u32| Duration::from_micros(micros.into());
        let time = getsockopt(&self.stream, LinkInfo).map_or_else(
            |_| patience(Duration::ZERO, Duration::ZERO),
            |info| patience(of(info.tcpi_rtt), of(info.tcpi_rttvar)),
        );
        if self.looked.is_none_or(|(_, before)| before != time) {
            // One that refuses does no harm.
            let _ = SockRef::from(&self.stream).set_tcp_user_timeout(Some(time));
        }
        self.looked = Some((now, time));
    }
}

sockopt_impl!(
    /// What the kernel knows of a connection.
    LinkInfo,
    GetOnly,
    libc::IPPROTO_TCP,
    libc::TCP_INFO,
    libc::tcp_info
);

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, out)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.look_again();
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.look_again();
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        os::fd::{AsFd, OwnedFd},
        sync::Arc,
    };

    use ed25519_dalek::SigningKey;
    use hyper::{Request, Response, StatusCode, body::Incoming, upgrade};
    use proto::relay::{CredentialIssuer, Frame, RelayKeyFile, month_of};
    use rand_core::OsRng;
    use rustls::{ClientConfig, RootCertStore, version::TLS13};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
        sync::mpsc,
    };
    use tokio_rustls::{TlsConnector, client};

    use super::*;
    use crate::{Relay, connection, listener::Listener, tls};

    const TODAY: u32 = 20_000;

    /// What most links have.
    const USUAL: Duration = Duration::from_secs(3);

    impl Link for DuplexStream {
        fn greeted(&mut self) {}
    }

    /// A connection to `listener` that asked for an Upgrade and was answered.
    async fn upgraded(
        address: std::net::SocketAddr,
        authority: &tls::Authority,
    ) -> client::TlsStream<TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(authority.certificate().unwrap().der().clone()).unwrap();
        let config = ClientConfig::builder_with_provider(tls::provider())
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let tcp = TcpStream::connect(address).await.unwrap();
        let tls = TlsConnector::from(Arc::new(config));
        let mut tls = tls.connect("relay.test".try_into().unwrap(), tcp).await.unwrap();
        let request = "GET / HTTP/1.1\r\nhost: relay.test\r\nconnection: upgrade\r\nupgrade: test\r\n\r\n";
        tls.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(tls.read_u8().await.unwrap());
        }
        tls
    }

    #[tokio::test]
    async fn a_connection_has_time_until_its_greeting_and_three_seconds_on_a_fast_link_from_then_on() {
        let authority = tls::Authority::new(SigningKey::from_bytes(&[1; 32]));
        let config = authority.server_config(&["relay.test".to_owned()]).unwrap();
        let issuer = CredentialIssuer::generate(&mut OsRng);
        let relay = Relay::new(RelayKeyFile::generate(issuer.admission_key(), &mut OsRng), || TODAY);
        let listener = Listener::bind(([127, 0, 0, 1], 0).into(), config).unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, mut sockets) = mpsc::unbounded_channel::<OwnedFd>();
        let handler = move |mut request: Request<Incoming>| {
            let (upgrading, relay, sender) = (upgrade::on(&mut request), Arc::clone(&relay), sender.clone());
            tokio::spawn(async move {
                let (io, received) = beneath(upgrading.await.unwrap()).unwrap();
                let socket = io.get_ref().0.inner().stream.as_fd().try_clone_to_owned();
                sender.send(socket.unwrap()).unwrap();
                let arrival = Arrival { exporter: [5; 32], received };
                connection::serve(&relay, io, arrival, relay.stage()).await;
            });
            async {
                let mut response = Response::new(String::new());
                *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
                for name in ["connection", "upgrade"] {
                    response.headers_mut().insert(name, "upgrade".parse().unwrap());
                }
                response
            }
        };
        tokio::spawn(listener.serve(handler, std::future::pending()));

        let mut machine = upgraded(address, &authority).await;
        let socket = sockets.recv().await.unwrap();
        let time = || SockRef::from(&socket).tcp_user_timeout().unwrap();
        assert!(time() >= Some(USUAL * 5), "{:?}", time());
        let credential = issuer.issue(&[1; 32], month_of(TODAY));
        machine.write_all(&Frame::ClientHello(credential).to_vec()).await.unwrap();
        let mut received = Vec::new();
        let welcome = Frame::Welcome.to_vec();
        while !received.ends_with(&welcome) {
            received.push(machine.read_u8().await.unwrap());
        }
        assert_eq!(time(), Some(USUAL));
        // That it is fast, the kernel said.
        let round_trip = getsockopt(&socket, LinkInfo).unwrap().tcpi_rtt;
        assert!((1..100_000).contains(&round_trip), "{round_trip} µs");
    }
}
