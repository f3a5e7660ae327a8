//! The STUN server: answers where a datagram came from, and forgets it.
//!
//! Stateless: one datagram in, at most one out. An answer is at most 24 bytes longer than its question, so it is no
//! amplifier worth having.

use std::{io, net::SocketAddr, time::Duration};

use proto::{metadata::Endpoint, stun};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{net::UdpSocket, time::sleep};

/// The longest question read, in bytes; a binding request has 20 and some attributes.
const MAX_REQUEST: usize = 1_024;

/// A pause after a failed read: the network is down, or an earlier answer was rejected.
const READ_PAUSE: Duration = Duration::from_millis(10);

/// A bound port.
pub struct StunServer(UdpSocket);

impl StunServer {
    /// Binds `address`; an unspecified IPv6 address takes IPv4 as well. Needs a tokio runtime.
    ///
    /// # Errors
    /// As `bind(2)`.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        Ok(Self(UdpSocket::from_std(socket.into())?))
    }

    /// The address bound, with its port.
    ///
    /// # Errors
    /// As `getsockname(2)`.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Answers questions for ever.
    pub async fn serve(self) {
        let mut request = [0; MAX_REQUEST];
        loop {
            let Ok((len, source)) = self.0.recv_from(&mut request).await else {
                sleep(READ_PAUSE).await;
                continue;
            };
            let seen = Endpoint(SocketAddr::new(source.ip().to_canonical(), source.port()));
            if let Some(answer) = stun::answer(&request[..len], seen) {
                let _ = self.0.send_to(&answer, source).await;
            }
        }
    }
}
