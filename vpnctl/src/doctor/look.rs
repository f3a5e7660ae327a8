//! What any program on this machine meets when it sends to the network.
//!
//! A datagram's socket that is connected, and sends nothing, says which of this machine's addresses the kernel would send
//! from: another one than the network's means that another route has the destination. A TCP connection to another machine,
//! whether it is accepted or refused there, shows that packets pass both ways.

use std::{
    io,
    net::{IpAddr, SocketAddr, TcpStream, UdpSocket},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use proto::api::{NetworkStatus, Path, Peer};

/// Where machines answer each other's questions for the roster; at another address of theirs nobody listens there, which
/// the kernel says at once.
const PORT: u16 = proto::sync::PORT;

/// For an answer through the tunnel, where a round trip takes no time…
const ANSWER_WITHIN: Duration = Duration::from_millis(1_600);

/// …and so many round trips more…
const ROUND_TRIPS: u32 = 4;

/// …and at most.
const ANSWER_WITHIN_MOST: Duration = Duration::from_secs(4);

/// Lead of one attempt over the next: the kernel alone would ask but once more in that time, and packets get lost.
const AGAIN: Duration = Duration::from_millis(400);

/// Bytes of the smallest TCP answer, in an IPv4 packet.
const LEAST: u64 = 40;

/// One network that is up.
pub(crate) struct Tunnel {
    /// Its name on this machine.
    pub(crate) network: String,
    /// Whether its interface has the IPv4 address; `None` if there is none to have.
    pub(crate) ipv4: Option<bool>,
    /// Whether its interface has the IPv6 address.
    pub(crate) ipv6: bool,
    /// Other machines that were tried.
    pub(crate) machines: Vec<Looked>,
}

/// Another machine.
pub(crate) struct Looked {
    /// Its name.
    pub(crate) name: String,
    /// Whether a signer has yet to take it in; only where it was asked about.
    pub(crate) provisional: bool,
    /// An address of it that this machine would send to by another way than the network's interface.
    pub(crate) elsewhere: Option<IpAddr>,
    /// The best of its answers inside the session.
    pub(crate) echo: Option<Echo>,
    /// How far a program's packet comes; not tried where the machine did not answer.
    pub(crate) carried: Option<Carried>,
}

/// An answer inside the session.
#[derive(Clone, Copy)]
pub(crate) struct Echo {
    /// By which path.
    pub(crate) path: Path,
    /// Where a direct one leads.
    pub(crate) endpoint: Option<SocketAddr>,
}

/// How far a program's packet comes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Carried {
    /// There and back.
    Both,
    /// Not into the tunnel.
    NotSent,
    /// Into the tunnel; nothing came back.
    NoAnswer,
    /// There and back into the tunnel, not to the program.
    NotTaken,
}

/// Looks at a network that is up, and has `machine` look at those of its machines that `which` names.
pub(crate) fn look(
    network: &NetworkStatus,
    which: &[&Peer],
    machine: impl Fn(&Peer, Option<IpAddr>) -> Looked + Sync,
) -> Tunnel {
    let own = &network.machine;
    let looked = thread::scope(|scope| {
        let threads: Vec<_> = which
            .iter()
            .map(|peer| {
                let machine = &machine;
                scope.spawn(move || machine(peer, elsewhere(network, peer)))
            })
            .collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    Tunnel {
        network: network.name.clone(),
        ipv4: own.ipv4.map(|ip| has(ip.into())),
        ipv6: has(own.ipv6.into()),
        machines: looked,
    }
}

/// Whether this machine has an address.
fn has(ip: IpAddr) -> bool {
    UdpSocket::bind((ip, 0)).is_ok()
}

/// An address of `peer` that does not lead into the network's interface, of those whose family the interface has.
fn elsewhere(network: &NetworkStatus, peer: &Peer) -> Option<IpAddr> {
    let own = &network.machine;
    let v4 = own.ipv4.zip(peer.ipv4).map(|(own, peer)| (IpAddr::from(own), IpAddr::from(peer)));
    let v6 = (IpAddr::from(own.ipv6), IpAddr::from(peer.ipv6));
    v4.into_iter()
        .chain([v6])
        .find(|(own, peer)| has(*own) && sends_from(*peer) != Some(*own))
        .map(|(_, peer)| peer)
}

/// The address that packets to `peer` are from. Nothing is sent.
fn sends_from(peer: IpAddr) -> Option<IpAddr> {
    let any: IpAddr = match peer {
        IpAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((peer, PORT)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// Tries whether a program's packet comes to `peer`, which is a round trip `rtt` away, and back; `counters` tells the bytes received from it and sent to it so far.
pub(crate) fn carried(
    own: &proto::api::Own,
    peer: &Peer,
    rtt: Duration,
    counters: impl Fn() -> Option<(u64, u64)>,
) -> Option<Carried> {
    let to: IpAddr = match (own.ipv4, peer.ipv4) {
        (Some(_), Some(peer)) => peer.into(),
        _ => peer.ipv6.into(),
    };
    let (received, sent) = counters()?;
    let within = ANSWER_WITHIN.saturating_add(rtt.saturating_mul(ROUND_TRIPS)).min(ANSWER_WITHIN_MOST);
    if answers(SocketAddr::from((to, PORT)), within) {
        return Some(Carried::Both);
    }
    let (received_now, sent_now) = counters()?;
    Some(if sent_now.saturating_sub(sent) < LEAST {
        Carried::NotSent
    } else if received_now.saturating_sub(received) < LEAST {
        Carried::NoAnswer
    } else {
        Carried::NotTaken
    })
}

/// Whether one of several attempts at a connection is accepted or refused, each begun [`AGAIN`] after the one before it.
fn answers(to: SocketAddr, within: Duration) -> bool {
    let end = Instant::now() + within;
    let (tell, told) = mpsc::channel();
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        let tell = tell.clone();
        // It ends by itself, and nobody listens then.
        thread::spawn(move || {
            let passed = match TcpStream::connect_timeout(&to, left) {
                Ok(_) => true,
                Err(error) => error.kind() == io::ErrorKind::ConnectionRefused,
            };
            let _ = tell.send(passed);
        });
        if let Ok(passed) = told.recv_timeout(AGAIN.min(left)) {
            return passed;
        }
    }
}
