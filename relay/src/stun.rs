//! The STUN server: answers where a datagram came from, and forgets it.
//!
//! Stateless: one datagram in, at most one out. An answer is at most 24 bytes longer than its question, so it is no
//! amplifier worth having.
//!
//! It answers on two ports, the one that it is given and the next: a machine that is seen at two different ports itself
//! then knows that its NAT maps each destination to another one. Where the next port is taken, or closed in a firewall,
//! everything else works.

use std::{io, net::SocketAddr, time::Duration};

use proto::{metadata::Endpoint, stun};
use socket2::{Protocol, Type};
use tokio::{task::yield_now, time::sleep};

use crate::{asked::Asked, listener::bind};

/// The longest question read, in bytes; a binding request has 20 and some attributes.
const MAX_REQUEST: usize = 1_024;

/// A pause after a failed read: the network is down, or an earlier answer was rejected.
const READ_PAUSE: Duration = Duration::from_millis(10);

/// So many questions are answered in a row, a fraction of a millisecond; then whoever shares the thread has its turn.
const TURN: usize = 32;

/// A bound port, and the next one if it was free.
pub struct StunServer {
    first: Answering,
    next: Option<Answering>,
}

struct Answering(Asked);

impl StunServer {
    /// Binds `address`, and the next port if it is free; an unspecified IPv6 address takes IPv4 as well, and IPv4 alone on a host without IPv6. Needs a tokio runtime.
    ///
    /// # Errors
    /// As `bind(2)`.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let first = Answering::bind(address)?;
        let next = first.0.local_addr()?.port().checked_add(1);
        let next = next.and_then(|port| Answering::bind(SocketAddr::new(address.ip(), port)).ok());
        Ok(Self { first, next })
    }

    /// The address bound, with its port.
    ///
    /// # Errors
    /// As `getsockname(2)`.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.first.0.local_addr()
    }

    /// Answers questions for ever.
    pub async fn serve(self) {
        match self.next {
            Some(next) => tokio::join!(self.first.serve(), next.serve()).0,
            None => self.first.serve().await,
        }
    }
}

impl Answering {
    fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = bind(address, Type::DGRAM, Protocol::UDP)?;
        Ok(Self(Asked::new(socket)?))
    }

    async fn serve(mut self) {
        let mut request = [0; MAX_REQUEST];
        let mut in_a_row = 0;
        loop {
            in_a_row = (in_a_row + 1) % TURN;
            if in_a_row == 0 {
                // While questions wait, nothing below would give the thread away.
                yield_now().await;
            }
            // No address is held over an `await`: it would stay in this task until the next one comes.
            match self.0.readable().await.and_then(|()| self.0.answer_one(&mut request, answer)) {
                Ok(()) => sandbox::wipe::stack(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => sleep(READ_PAUSE).await,
            }
        }
    }
}

/// What a question from there is answered with.
fn answer(question: &[u8], source: SocketAddr) -> Option<Vec<u8>> {
    stun::answer(question, Endpoint(SocketAddr::new(source.ip().to_canonical(), source.port())))
}

#[cfg(test)]
mod tests {
    use proto::stun::TransactionId;
    use tokio::net::UdpSocket;

    use super::*;

    #[tokio::test]
    async fn a_question_is_answered_with_where_it_came_from_by_ipv4_and_ipv6() {
        let server = StunServer::bind("[::]:0".parse().unwrap()).unwrap();
        let port = server.local_addr().unwrap().port();
        tokio::spawn(server.serve());
        for loopback in ["127.0.0.1", "::1"] {
            let ip: std::net::IpAddr = loopback.parse().unwrap();
            let socket = UdpSocket::bind((ip, 0)).await.unwrap();
            let id = TransactionId([4; 12]);
            socket.send_to(b"no question", (ip, port)).await.unwrap();
            socket.send_to(&stun::request(id), (ip, port)).await.unwrap();
            let mut answer = [0; 128];
            let (len, _) = socket.recv_from(&mut answer).await.unwrap();
            assert!(stun::read_answer(&answer[..len]) == Ok((id, Endpoint(socket.local_addr().unwrap()))));
        }
    }

    #[tokio::test]
    async fn an_answer_comes_from_the_address_that_was_asked() {
        for bound in ["[::]:0", "0.0.0.0:0"] {
            let server = StunServer::bind(bound.parse().unwrap()).unwrap();
            let asked = SocketAddr::from(([127, 9, 8, 7], server.local_addr().unwrap().port()));
            tokio::spawn(server.serve());
            // From another address, so that the route back would choose another.
            let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            socket.send_to(&stun::request(TransactionId([6; 12])), asked).await.unwrap();
            let (_, from) = socket.recv_from(&mut [0; 128]).await.unwrap();
            assert_eq!(from, asked);
        }
    }

    /// On a port whose next one is `free`, or taken by the socket that comes with it.
    async fn with_next_port(free: bool) -> (StunServer, Option<UdpSocket>) {
        loop {
            let address = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
            let Some(next) = address.port().checked_add(1) else { continue };
            let taken = if free { None } else { UdpSocket::bind(("127.0.0.1", next)).await.ok() };
            let Ok(server) = StunServer::bind(address) else { continue };
            if server.next.is_some() == free {
                return (server, taken);
            }
        }
    }

    #[tokio::test]
    async fn the_next_port_answers_too_and_is_done_without_where_it_is_taken() {
        for next_too in [true, false] {
            let (server, _taken) = with_next_port(next_too).await;
            let first = server.local_addr().unwrap();
            tokio::spawn(server.serve());
            let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let ports = if next_too { vec![first.port(), first.port() + 1] } else { vec![first.port()] };
            for port in ports {
                socket.send_to(&stun::request(TransactionId([5; 12])), (first.ip(), port)).await.unwrap();
                let mut answer = [0; 128];
                let (_, from) = socket.recv_from(&mut answer).await.unwrap();
                assert_eq!(from.port(), port);
            }
        }
    }

    #[tokio::test]
    async fn a_flood_of_questions_leaves_the_thread_to_others_too() {
        const FLOOD: usize = 4 * TURN;
        let server = StunServer::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = server.local_addr().unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        for _ in 0..FLOOD {
            socket.send_to(&stun::request(TransactionId([4; 12])), address).await.unwrap();
        }
        tokio::spawn(server.serve());
        let answers = || {
            let mut answer = [0; 128];
            std::iter::from_fn(|| socket.try_recv(&mut answer).ok()).count()
        };
        socket.readable().await.unwrap();
        let early = answers();
        assert!((1..FLOOD).contains(&early), "{early} answers in a row");
        let mut all = early;
        while all < FLOOD {
            socket.readable().await.unwrap();
            all += answers();
        }
    }
}
