//! A network's interface on this machine: the TUN device with its addresses, and the UDP sockets.
//!
//! Control makes and configures both and hands copies to the data path; what it keeps lets a data path that ended be
//! started again with the same interface and port, so that addresses, routes and NAT mappings survive it. Dropping
//! this takes the interface away.

use std::{
    io, iter,
    net::IpAddr,
    os::fd::{AsFd, OwnedFd},
    time::{Duration, Instant},
};

use netio::{
    netlink::{Netlink, NetlinkError, Prefix},
    tun::{Tun, TunError},
    udp::{Pair, UdpError, bind_pair, share, spare},
};
use proto::api::{ApiError, ErrorCode, Warning};
use tokio::time::sleep;

use crate::{child::Manner, message::Message, workers::CHOICE};

/// Inner packets of this size fit a 1,500-byte link with WireGuard's and IPv6's headers around them (1,420 + 80).
pub(crate) const MTU: u16 = 1_420;

/// Segments that the kernel hands over as one packet: what one batched UDP send takes.
const MAX_SEGMENTS: u32 = 45;

/// Where the search for a free name begins.
const PREFIX: &str = "tacet";

/// Names tried before giving up.
const MAX_NAMES: u32 = 256;

/// Where the search for a free port begins.
const PORT: u16 = 51_820;

/// A port that the data path of a daemon that was killed holds is free within this, and is worth waiting for: peers, NATs
/// and firewalls know it.
const PATIENCE: Duration = Duration::from_millis(500);

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(20);

/// What the command line fixes of an interface.
#[derive(Clone)]
pub(crate) struct Wanted {
    pub(crate) name: Option<String>,
    pub(crate) port: Option<u16>,
    /// Whether it is the daemon's first, which no other of its own keeps from the usual port.
    pub(crate) first: bool,
    /// Of its data path.
    pub(crate) manner: Manner,
    /// Into how many queues of the device, and sockets on the port, its packets come.
    pub(crate) workers: u8,
    /// Whether the router is asked for a port.
    pub(crate) map_port: bool,
    /// Whether peers are looked for on the LAN.
    pub(crate) discover: bool,
}

/// Why there is no interface.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InterfaceError {
    /// No TUN device, or its name is taken.
    #[error(transparent)]
    Tun(#[from] TunError),
    /// No UDP sockets, or their port is taken.
    #[error(transparent)]
    Udp(#[from] UdpError),
    /// The kernel does not take the addresses.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
}

/// Why there is no interface, as far as status tells reasons apart.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lack {
    /// Another program has the UDP port.
    Port,
    /// Another interface has the name.
    Name,
    /// The system has no TUN device.
    Tun,
    /// vpnd may not make interfaces.
    Forbidden,
    /// Anything else.
    Other,
}

/// An interface that exists.
pub(crate) struct Interface {
    name: String,
    index: u32,
    /// The device's queues, one for each worker.
    tuns: Vec<Tun>,
    /// The first worker's.
    sockets: Pair,
    /// The others', worker by worker.
    more_sockets: Vec<OwnedFd>,
    netlink: Netlink,
}

impl Interface {
    /// Makes the interface and opens the sockets. It is not up yet.
    ///
    /// # Errors
    /// [`InterfaceError`]; nothing is left then.
    pub(crate) async fn open(netlink: &Netlink, wanted: &Wanted) -> Result<Self, InterfaceError> {
        let sockets = match wanted.port {
            Some(port) => bind(port).await?,
            None if !wanted.first => bind_pair(PORT, false, None)?,
            None => match bind(PORT).await {
                Err(UdpError::PortTaken(_)) => bind_pair(PORT, false, None)?,
                bound => bound?,
            },
        };
        let more_sockets = more_sockets(&sockets, wanted.workers)?;
        let queues = wanted.workers.into();
        let (name, tuns) = match &wanted.name {
            Some(name) => (name.clone(), Tun::create_queues(name, queues)?),
            None => next_free(queues)?,
        };
        let index = netlink.index(&name).await?;
        netlink.set_mtu(index, u32::from(MTU), Some(MAX_SEGMENTS)).await?;
        Ok(Self { name, index, tuns, sockets, more_sockets, netlink: netlink.clone() })
    }

    /// Whether an interface could be made now: makes one and takes it away again, before anybody is told of a network
    /// that this machine could not reach.
    ///
    /// # Errors
    /// [`InterfaceError`].
    pub(crate) async fn probe(netlink: &Netlink, wanted: &Wanted) -> Result<(), InterfaceError> {
        Self::open(netlink, wanted).await.map(drop)
    }

    /// Gives the interface these addresses and routes, no others, and switches it on. On a system without IPv6 the
    /// IPv4 ones have to do.
    ///
    /// # Errors
    /// [`NetlinkError`].
    pub(crate) async fn configure(
        &self,
        addresses: &[Prefix],
        routes: &[(Prefix, Option<IpAddr>)],
    ) -> Result<(), NetlinkError> {
        self.set(addresses, routes, true).await
    }

    /// Gives it back what somebody took: its MTU, these addresses and routes. It is not switched on.
    ///
    /// # Errors
    /// [`NetlinkError`], of an interface that is off again, for instance.
    pub(crate) async fn restore(
        &self,
        addresses: &[Prefix],
        routes: &[(Prefix, Option<IpAddr>)],
    ) -> Result<(), NetlinkError> {
        self.netlink.set_mtu(self.index, u32::from(MTU), Some(MAX_SEGMENTS)).await?;
        self.set(addresses, routes, false).await
    }

    async fn set(
        &self,
        addresses: &[Prefix],
        routes: &[(Prefix, Option<IpAddr>)],
        on: bool,
    ) -> Result<(), NetlinkError> {
        let v4 = match self.netlink.set_addresses(self.index, addresses).await {
            Err(NetlinkError::NoIpv6) => {
                let v4: Vec<Prefix> = addresses.iter().filter(|(ip, _)| ip.is_ipv4()).copied().collect();
                self.netlink.set_addresses(self.index, &v4).await?;
                true
            }
            set => set.map(|()| false)?,
        };
        if on {
            self.netlink.set_up(self.index).await?;
        }
        let usable = routes.iter().filter(|((ip, _), _)| ip.is_ipv4() || !v4).copied();
        self.netlink.set_routes(self.index, &usable.collect::<Vec<_>>()).await
    }

    /// Whether somebody has taken the interface away. Waits for the kernel's answer, and holds nothing meanwhile.
    pub(crate) fn gone(&self) -> impl Future<Output = bool> + Send + use<> {
        let (netlink, name) = (self.netlink.clone(), self.name.clone());
        async move { matches!(netlink.index(&name).await, Err(NetlinkError::NoLink)) }
    }

    /// Whether it is there and switched on.
    pub(crate) async fn is_up(&self) -> bool {
        self.netlink.state(self.index).await.is_ok_and(|(up, _)| up)
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Its index.
    pub(crate) fn index(&self) -> u32 {
        self.index
    }

    /// The UDP port of the data path.
    pub(crate) fn port(&self) -> u16 {
        self.sockets.port
    }

    /// What speaks to the kernel's routing.
    pub(crate) fn netlink(&self) -> &Netlink {
        &self.netlink
    }

    /// Descriptors of the device's queues for the data path.
    ///
    /// # Errors
    /// As `dup(2)`.
    pub(crate) fn tun_fds(&self) -> io::Result<Vec<OwnedFd>> {
        self.tuns.iter().map(Tun::try_clone_fd).collect()
    }

    /// Descriptors of the sockets for the data path, worker by worker.
    ///
    /// # Errors
    /// As `dup(2)`.
    pub(crate) fn socket_fds(&self) -> io::Result<Vec<OwnedFd>> {
        let first = iter::once(&self.sockets.v4).chain(&self.sockets.v6).map(AsFd::as_fd);
        let sockets = first.chain(self.more_sockets.iter().map(AsFd::as_fd));
        sockets.map(|socket| socket.try_clone_to_owned()).collect()
    }
}

impl Lack {
    /// What status warns of.
    pub(super) fn warning(self) -> Warning {
        match self {
            Self::Port => Warning::PortTaken,
            Self::Name => Warning::InterfaceNameTaken,
            Self::Tun => Warning::NoTun,
            Self::Forbidden => Warning::InterfaceForbidden,
            Self::Other => Warning::InterfaceFailed,
        }
    }

    /// What is printed.
    pub(super) fn message(self) -> Message {
        match self {
            Self::Port => Message::PortTaken,
            Self::Name => Message::InterfaceNameTaken,
            Self::Tun => Message::NoTun,
            Self::Forbidden | Self::Other => Message::NetworkFailed,
        }
    }
}

impl InterfaceError {
    /// The reason, as far as it is told apart.
    pub(super) fn lack(&self) -> Lack {
        match self {
            Self::Udp(UdpError::PortTaken(_)) => Lack::Port,
            Self::Tun(TunError::NameTaken) => Lack::Name,
            Self::Tun(TunError::Missing) => Lack::Tun,
            Self::Tun(TunError::NotPermitted) | Self::Netlink(NetlinkError::NotPermitted) => Lack::Forbidden,
            Self::Tun(_) | Self::Udp(_) | Self::Netlink(_) => Lack::Other,
        }
    }

    /// What the person is told.
    pub(crate) fn refusal(&self, what: &str) -> ApiError {
        let text = self.to_string();
        let (why, next) = text
            .split_once(": ")
            .or_else(|| text.split_once("; "))
            .unwrap_or((&text, "see the kernel's messages: dmesg | tail"));
        ApiError::new(ErrorCode::Interface, what, why, next)
    }
}

/// Opens this port and no other; waits a moment for whoever is about to give it up.
async fn bind(port: u16) -> Result<Pair, UdpError> {
    let began = Instant::now();
    loop {
        match bind_pair(port, true, None) {
            Err(UdpError::PortTaken(_)) if began.elapsed() < PATIENCE => sleep(PAUSE).await,
            bound => return bound,
        }
    }
}

/// Sockets that share the port of the first worker's, for the others: worker by worker.
fn more_sockets(first: &Pair, workers: u8) -> Result<Vec<OwnedFd>, UdpError> {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for (socket, others) in [(Some(&first.v4), &mut v4), (first.v6.as_ref(), &mut v6)] {
        let Some(socket) = socket else { continue };
        let family = socket.family();
        *others = (1..workers).map(|_| spare(family)).collect::<Result<Vec<_>, _>>()?;
        if !others.is_empty() {
            share(socket, others, family, first.port, CHOICE)?;
        }
    }
    let mut v6 = v6.into_iter();
    Ok(v4.into_iter().flat_map(|v4| iter::once(v4).chain(v6.next())).collect())
}

/// Makes the first of tacet0, tacet1, ... that does not exist.
fn next_free(queues: usize) -> Result<(String, Vec<Tun>), TunError> {
    let mut names = (0..MAX_NAMES).map(|n| format!("{PREFIX}{n}"));
    names
        .find_map(|name| match Tun::create_queues(&name, queues) {
            Err(TunError::NameTaken) => None,
            other => Some(other.map(|tuns| (name, tuns))),
        })
        .unwrap_or(Err(TunError::NameTaken))
}
