//! Whether a relay answers and is who it should be, without a credential: the beginning of a connection.

use std::{io, time::Duration};

use bytes::BytesMut;
use tokio::{net::TcpStream, time::Instant};

use super::{
    client::BadRelayUrl,
    connect::{Target, hello, secure, upgrade},
};
use crate::dial::Way;

/// What a relay said of itself.
pub(crate) struct Proven {
    /// One round trip on the connection.
    pub(crate) rtt: Duration,
    /// The unix day by its clock.
    pub(crate) day: u32,
}

/// Why it is not known to be that relay.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unproven {
    /// The connection broke.
    Lost,
    /// Somebody else answers.
    Stranger,
}

/// Asks whoever is at the other end of `tcp` to prove to be the relay with this URL and key. Waits as long as it takes.
///
/// # Errors
/// [`BadRelayUrl`]; [`Unproven`] within.
pub(crate) async fn probe(
    url: &str,
    key: [u8; 32],
    tcp: TcpStream,
) -> Result<Result<Proven, Unproven>, BadRelayUrl> {
    let target = Target::new(url, key, Way::default())?;
    Ok(prove(&target, tcp).await)
}

async fn prove(target: &Target, tcp: TcpStream) -> Result<Proven, Unproven> {
    let tls = secure(target, tcp).await.map_err(|error| unproven(&error))?;
    let asked = Instant::now();
    let (mut io, exporter) = upgrade(target, tls).await.map_err(|_| Unproven::Stranger)?;
    let rtt = asked.elapsed();
    let mut received = BytesMut::new();
    let hello = hello(target, &mut io, &exporter, &mut received).await.map_err(|_| Unproven::Stranger)?;
    Ok(Proven { rtt, day: hello.day })
}

/// What speaks TLS badly, or not at all, is somebody else.
fn unproven(error: &io::Error) -> Unproven {
    let spoke = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    if spoke.is_some() { Unproven::Stranger } else { Unproven::Lost }
}
