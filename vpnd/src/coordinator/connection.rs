//! One TLS connection to a coordinator, and requests over it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response,
    body::Incoming,
    client::conn::http1::{SendRequest, handshake},
    header::HOST,
};
use hyper_util::rt::TokioIo;
use proto::coordinator::{AUTH_HEADER, Auth, EXPORTER_LABEL, RequestParts};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::{
    net::TcpStream,
    task::{AbortHandle, spawn},
    time::timeout,
};
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

use super::error::{Cause, Error};
use crate::{dial::Way, moved::moved_from};

/// For name, proxy, TCP and TLS together.
const CONNECT: Duration = Duration::from_secs(10);

/// Where a coordinator is.
pub(super) struct Target {
    /// Host as in the URL, without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// `Host` header: host, and port if it is not 443.
    pub(super) authority: String,
    pub(super) name: ServerName<'static>,
    /// `None` if nothing is pinned and this system trusts nobody: no server can be the right one.
    pub(super) tls: Option<Arc<ClientConfig>>,
    pub(super) way: Way,
}

/// A connection; dropping it closes it.
pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    exporter: Zeroizing<[u8; 32]>,
    driver: AbortHandle,
    /// Our end of it.
    local: Option<SocketAddr>,
}

/// A request, signed only when it is known which connection carries it.
pub(super) struct Call<'a> {
    pub(super) method: Method,
    pub(super) path: &'a str,
    pub(super) body: Bytes,
    pub(super) auth: Option<&'a Auth<'a>>,
}

/// Why a request over a connection failed.
pub(super) enum SendError {
    /// The connection had ended before; nothing was sent.
    Unsent,
    /// It ended on the way; the coordinator may have done what was asked.
    Lost,
}

impl Connection {
    pub(super) async fn open(target: &Target) -> Result<Self, Error> {
        timeout(CONNECT, Self::open_unbounded(target))
            .await
            .unwrap_or(Err(Error::Unreachable(Cause::Timeout)))
    }

    async fn open_unbounded(target: &Target) -> Result<Self, Error> {
        if target.tls.is_none() {
            return Err(Error::Untrusted);
        }
        let connected = target.way.connect(&target.host, target.port).await;
        Self::over(target, connected.map_err(|fault| Error::Unreachable(fault.into()))?).await
    }

    /// TLS over a connection that is there. Waits as long as it takes.
    pub(super) async fn over(target: &Target, tcp: TcpStream) -> Result<Self, Error> {
        let tls = target.tls.clone().ok_or(Error::Untrusted)?;
        // Without it small requests wait for acknowledgements; a failure costs only speed.
        let _ = tcp.set_nodelay(true);
        let local = tcp.local_addr().ok();
        #[cfg(feature = "leaks")]
        crate::leaks::connected(local);
        let tls = TlsConnector::from(tls)
            .connect(target.name.clone(), tcp)
            .await
            .map_err(|error| tls_error(&error))?;
        let exporter = tls
            .get_ref()
            .1
            .export_keying_material([0; 32], EXPORTER_LABEL, None)
            .map_err(|_| Error::Unreachable(Cause::Tls))?;
        let (sender, connection) =
            handshake(TokioIo::new(tls)).await.map_err(|_| Error::Unreachable(Cause::Lost))?;
        let driver = spawn(async move {
            // Its end shows at the sender.
            let _ = connection.await;
        });
        Ok(Self { sender, exporter: Zeroizing::new(exporter), driver: driver.abort_handle(), local })
    }

    /// Whether this machine has moved away from the address that the connection is from.
    pub(super) fn is_left_behind(&self) -> bool {
        self.local.is_some_and(moved_from)
    }

    pub(super) fn exporter(&self) -> &[u8; 32] {
        &self.exporter
    }

    /// Sends a request and waits for the head of its answer.
    pub(super) async fn send(
        &mut self,
        target: &Target,
        call: &Call<'_>,
    ) -> Result<Response<Incoming>, SendError> {
        self.sender.ready().await.map_err(|_| SendError::Unsent)?;
        let mut request = Request::builder()
            .method(call.method.clone())
            .uri(call.path)
            .header(HOST, target.authority.as_str());
        if let Some(auth) = call.auth {
            let parts = RequestParts {
                exporter: &self.exporter,
                method: call.method.as_str(),
                path: call.path,
                body: &call.body,
            };
            request = request.header(AUTH_HEADER, auth.prove(&parts).to_header());
        }
        #[cfg(feature = "leaks")]
        if let Some(value) = crate::leaks::header() {
            request = request.header("x-seen-at", value);
        }
        let request = request
            .body(Full::new(call.body.clone()))
            .expect("paths, hosts and headers are made of ASCII that HTTP allows");
        self.sender.try_send_request(request).await.map_err(|error| match error.message() {
            Some(_) => SendError::Unsent,
            None => SendError::Lost,
        })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

fn tls_error(error: &std::io::Error) -> Error {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(rustls::CertificateError::ApplicationVerificationFailure)) => {
            Error::WrongPin
        }
        Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented) => {
            Error::Untrusted
        }
        Some(_) => Error::Unreachable(Cause::Tls),
        None => Error::Unreachable(Cause::Lost),
    }
}
