//! Links, addresses and routes through the kernel's netlink socket; asynchronous, used by control alone.
//!
//! A link is named by its index, which [`Netlink::index`] looks up. Every change is idempotent: adding what is there
//! and removing what is not succeed, so control states what it wants and can state it again after any interruption.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt, TryStreamExt};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope},
    link::{LinkAttribute, LinkFlags, LinkMessage},
    route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope},
};
use rtnetlink::{
    Handle, LinkUnspec, MulticastGroup, RouteMessageBuilder,
    packet_core::{NetlinkMessage, NetlinkPayload},
};
use tokio::{
    sync::{Mutex, mpsc},
    time::{Instant, sleep},
};

/// Our mark on routes (`proto` in `ip route`), a number that no well-known routing daemon uses: what we may remove.
pub const ROUTE_PROTOCOL: u8 = 0x7a;

/// Changes kept for a reader that is busy. Any number of them says the same: look again.
const CHANGES: usize = 64;

/// How long [`Netlink::set_up`] waits at most for addresses to be in use; it takes about a millisecond.
const IN_USE: Duration = Duration::from_millis(500);

/// How often it looks.
const IN_USE_POLL: Duration = Duration::from_millis(1);

/// Why the kernel did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// No link has this name or index.
    #[error("the network interface does not exist")]
    NoLink,
    /// `CAP_NET_ADMIN` is missing.
    #[error("not permitted to change network interfaces: run vpnd as root, or as its systemd service")]
    NotPermitted,
    /// IPv6 is switched off on this system or this link.
    #[error("IPv6 is switched off on this system (sysctl net.ipv6.conf.*.disable_ipv6)")]
    NoIpv6,
    /// The system refused otherwise.
    #[error("the kernel refused to change the network: {0}")]
    Io(#[from] io::Error),
}

/// An address range of a route or an address with its prefix length.
pub type Prefix = (IpAddr, u8);

/// An address of one of the machine's links.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct LocalAddress {
    /// The link that has it.
    pub link: u32,
    /// The address.
    pub ip: IpAddr,
    /// Bits of it that its neighbours share.
    pub prefix_len: u8,
    /// For use in the whole world or the site, not on this link or host alone.
    pub global: bool,
    /// An IPv6 address that is temporary or about to go: good for sending, bad for being found.
    pub transient: bool,
}

/// What changed. Read what it names anew: several changes may come as one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// An address came or went on the link of this index.
    Address(u32),
    /// The link of this index came, went, or changed its state, and is not switched off.
    Link(u32),
    /// The link of this index is there and switched off: its routes are gone, and its IPv6 addresses.
    Down(u32),
    /// A route came or went.
    Route,
    /// Changes were lost: read everything anew.
    Lost,
}

/// A connection to the kernel.
#[derive(Clone)]
pub struct Netlink {
    handle: Handle,
    /// The kernel lists one thing at a time for a connection, and refuses the second (EBUSY).
    listing: Arc<Mutex<()>>,
}

impl Netlink {
    /// Connects; must be called within a tokio runtime, which runs the connection until the last clone is dropped.
    ///
    /// # Errors
    /// As `socket(2)`.
    pub fn connect() -> Result<Self, NetlinkError> {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        tokio::spawn(connection);
        Ok(Self { handle, listing: Arc::default() })
    }

    /// The index of the link called `name`.
    ///
    /// # Errors
    /// [`NetlinkError::NoLink`].
    pub async fn index(&self, name: &str) -> Result<u32, NetlinkError> {
        let mut links = self.handle.link().get().match_name(name).execute();
        let link = links.try_next().await.map_err(reason)?.ok_or(NetlinkError::NoLink)?;
        Ok(link.header.index)
    }

    /// Whether the link of this index is on, and its largest packet in bytes.
    ///
    /// # Errors
    /// [`NetlinkError::NoLink`].
    pub async fn state(&self, link: u32) -> Result<(bool, u32), NetlinkError> {
        let mut links = self.handle.link().get().match_index(link).execute();
        let link = links.try_next().await.map_err(reason)?.ok_or(NetlinkError::NoLink)?;
        let mtu = link.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::Mtu(mtu) => Some(*mtu),
            _ => None,
        });
        Ok((link.header.flags.contains(LinkFlags::Up), mtu.unwrap_or(0)))
    }

    /// Sets the largest packet of the link, in bytes, and how many segments the kernel may hand over as one packet
    /// (`None` leaves it).
    ///
    /// # Errors
    /// [`NetlinkError`].
    pub async fn set_mtu(&self, link: u32, mtu: u32, max_segments: Option<u32>) -> Result<(), NetlinkError> {
        let mut message = LinkUnspec::new_with_index(link).mtu(mtu);
        if let Some(segments) = max_segments {
            message = message.append_extra_attribute(LinkAttribute::GsoMaxSegs(segments));
        }
        self.set_link(message.build()).await
    }

    /// Switches the link on, and returns once its addresses are in use: even without duplicate detection the kernel
    /// takes a moment over IPv6 ones, and drops what arrives for them until then.
    ///
    /// # Errors
    /// [`NetlinkError`].
    pub async fn set_up(&self, link: u32) -> Result<(), NetlinkError> {
        self.set_link(LinkUnspec::new_with_index(link).up().build()).await?;
        let end = Instant::now() + IN_USE;
        while Instant::now() < end && self.addresses(link).await?.iter().any(|address| address.transient) {
            sleep(IN_USE_POLL).await;
        }
        Ok(())
    }

    async fn set_link(&self, message: LinkMessage) -> Result<(), NetlinkError> {
        self.handle.link().set(message).execute().await.map_err(reason)
    }

    /// Every address of every link that is up, loopback and `except` left out.
    ///
    /// # Errors
    /// [`NetlinkError`].
    pub async fn local_addresses(&self, except: Option<u32>) -> Result<Vec<LocalAddress>, NetlinkError> {
        self.addresses_where(except, LinkFlags::empty()).await
    }

    /// Every address of every link that is up and where a datagram reaches all hosts at once: no tunnels, no loopback.
    ///
    /// # Errors
    /// [`NetlinkError`].
    pub async fn shared_addresses(&self, except: Option<u32>) -> Result<Vec<LocalAddress>, NetlinkError> {
        self.addresses_where(except, LinkFlags::Broadcast | LinkFlags::Multicast).await
    }

    async fn addresses_where(
        &self,
        except: Option<u32>,
        flags: LinkFlags,
    ) -> Result<Vec<LocalAddress>, NetlinkError> {
        let listing = self.listing.lock().await;
        let links: Vec<LinkMessage> =
            self.handle.link().get().execute().try_collect().await.map_err(reason)?;
        drop(listing);
        let usable = |index: u32| {
            links.iter().any(|link| {
                link.header.index == index
                    && link.header.flags.contains(LinkFlags::Up | flags)
                    && !link.header.flags.contains(LinkFlags::Loopback)
            })
        };
        let mut all = self.all_addresses().await?;
        all.retain(|address| Some(address.link) != except && usable(address.link));
        Ok(all)
    }

    /// The addresses of one link.
    ///
    /// # Errors
    /// [`NetlinkError`].
    pub async fn addresses(&self, link: u32) -> Result<Vec<LocalAddress>, NetlinkError> {
        let mut all = self.all_addresses().await?;
        all.retain(|address| address.link == link);
        Ok(all)
    }

    async fn all_addresses(&self) -> Result<Vec<LocalAddress>, NetlinkError> {
        let _listing = self.listing.lock().await;
        let messages: Vec<AddressMessage> =
            self.handle.address().get().execute().try_collect().await.map_err(reason)?;
        Ok(messages.iter().filter_map(local_address).collect())
    }

    /// Gives the link an address, whose prefix becomes a route while the link is up. An IPv6 address is usable at once,
    /// without duplicate detection.
    ///
    /// # Errors
    /// [`NetlinkError`].
    pub async fn add_address(&self, link: u32, (ip, len): Prefix) -> Result<(), NetlinkError> {
        let mut request = self.handle.address().add(link, ip, len).replace();
        if ip.is_ipv6() {
            let flags = AddressAttribute::Flags(AddressFlags::Nodad);
            request.message_mut().attributes.push(flags);
        }
        request.execute().await.map_err(|e| match reason(e) {
            // The kernel's answer on a link or system without IPv6.
            NetlinkError::NotPermitted | NetlinkError::Io(_) if ip.is_ipv6() && !ipv6_enabled() => {
                NetlinkError::NoIpv6
            }
            e => e,
        })
    }

    /// Takes an address from the link.
    ///
    /// # Errors
    /// [`NetlinkError`].
    pub async fn remove_address(&self, link: u32, (ip, len): Prefix) -> Result<(), NetlinkError> {
        let mut message = AddressMessage::default();
        message.header.family = family(ip);
        message.header.prefix_len = len;
        message.header.index = link;
        message.attributes.push(AddressAttribute::Local(ip));
        let done = self.handle.address().del(message).execute().await;
        absent_is_fine(done, libc::EADDRNOTAVAIL)
    }

    /// Makes the link's addresses those of `wanted`, apart from link-local ones, which are left alone.
    ///
    /// # Errors
    /// [`NetlinkError`].
    pub async fn set_addresses(&self, link: u32, wanted: &[Prefix]) -> Result<(), NetlinkError> {
        for have in self.addresses(link).await? {
            if have.global && !wanted.contains(&(have.ip, have.prefix_len)) {
                self.remove_address(link, (have.ip, have.prefix_len)).await?;
            }
        }
        for &address in wanted {
            self.add_address(link, address).await?;
        }
        Ok(())
    }

    /// Sends what is for `net` into the link, from `source` if given, in the main table.
    ///
    /// # Errors
    /// [`NetlinkError`].
    pub async fn add_route(
        &self,
        link: u32,
        net: Prefix,
        source: Option<IpAddr>,
    ) -> Result<(), NetlinkError> {
        let mut message = route(link, net)?;
        if let Some(source) = source {
            message.attributes.push(RouteAttribute::PrefSource(route_address(source)));
        }
        self.handle.route().add(message).replace().execute().await.map_err(reason)
    }

    /// Removes our route to `net` from the link.
    ///
    /// # Errors
    /// [`NetlinkError`].
    pub async fn remove_route(&self, link: u32, net: Prefix) -> Result<(), NetlinkError> {
        let done = self.handle.route().del(route(link, net)?).execute().await;
        absent_is_fine(done, libc::ESRCH)
    }

    /// The ranges of our own routes ([`ROUTE_PROTOCOL`]) on the link.
    ///
    /// # Errors
    /// [`NetlinkError`].
    pub async fn routes(&self, link: u32) -> Result<Vec<Prefix>, NetlinkError> {
        let all = self.all_routes().await?;
        let ours = RouteProtocol::from(ROUTE_PROTOCOL);
        Ok(all
            .iter()
            .filter(|r| r.header.protocol == ours && out(r) == Some(link))
            .filter_map(prefix)
            .collect())
    }

    /// The ranges that the system's main table sends somewhere else than to `except`, default routes left out: what a
    /// new network must not overlap.
    ///
    /// # Errors
    /// [`NetlinkError`].
    pub async fn other_routes(&self, except: Option<u32>) -> Result<Vec<Prefix>, NetlinkError> {
        let all = self.all_routes().await?;
        let main = |r: &&RouteMessage| r.header.table == RouteHeader::RT_TABLE_MAIN;
        let others = all.iter().filter(main).filter(|r| except.is_none() || out(r) != except);
        Ok(others.filter_map(prefix).filter(|&(_, len)| len > 0).collect())
    }

    /// The router that IPv4 packets go to by default, unless they leave by the link `except`.
    ///
    /// # Errors
    /// [`NetlinkError`].
    pub async fn gateway(&self, except: Option<u32>) -> Result<Option<Ipv4Addr>, NetlinkError> {
        let all = self.all_routes().await?;
        let main = |r: &&RouteMessage| r.header.table == RouteHeader::RT_TABLE_MAIN;
        let defaults = all.iter().filter(main).filter(|r| except.is_none() || out(r) != except);
        let defaults = defaults.filter(|r| prefix(r).is_some_and(|(net, len)| net.is_ipv4() && len == 0));
        let routers = defaults.filter_map(|r| Some((metric(r), router(r)?)));
        Ok(routers.min_by_key(|(metric, _)| *metric).map(|(_, router)| router))
    }

    /// Makes our routes on the link those of `wanted`.
    ///
    /// # Errors
    /// [`NetlinkError`].
    pub async fn set_routes(
        &self,
        link: u32,
        wanted: &[(Prefix, Option<IpAddr>)],
    ) -> Result<(), NetlinkError> {
        for have in self.routes(link).await? {
            if !wanted.iter().any(|(net, _)| *net == have) {
                self.remove_route(link, have).await?;
            }
        }
        for &(net, source) in wanted {
            self.add_route(link, net, source).await?;
        }
        Ok(())
    }

    async fn all_routes(&self) -> Result<Vec<RouteMessage>, NetlinkError> {
        let _listing = self.listing.lock().await;
        let mut all = Vec::new();
        let v4 = RouteMessageBuilder::<Ipv4Addr>::new().build();
        let v6 = RouteMessageBuilder::<Ipv6Addr>::new().build();
        for query in [v4, v6] {
            let mut some: Vec<RouteMessage> =
                self.handle.route().get(query).execute().try_collect().await.map_err(reason)?;
            all.append(&mut some);
        }
        Ok(all)
    }
}

/// A stream of what changes in the machine's links, addresses and routes from now on. It ends when the receiver is
/// dropped.
///
/// # Errors
/// As `socket(2)`.
pub fn changes() -> Result<mpsc::Receiver<Change>, NetlinkError> {
    let (connection, handle, mut messages) = rtnetlink::new_multicast_connection(&[
        MulticastGroup::Link,
        MulticastGroup::Ipv4Ifaddr,
        MulticastGroup::Ipv6Ifaddr,
        MulticastGroup::Ipv4Route,
        MulticastGroup::Ipv6Route,
    ])?;
    let (tx, rx) = mpsc::channel(CHANGES);
    let connection = tokio::spawn(connection);
    tokio::spawn(async move {
        // The connection ends once its handle is gone.
        let _handle = handle;
        while let Some((message, _)) = messages.next().await {
            // One place is kept free for `Lost`, which stands for all that find no room.
            let sent = match change(&message) {
                Some(change) if tx.capacity() > 1 => tx.try_send(change),
                Some(_) => tx.try_send(Change::Lost),
                None => continue,
            };
            if let Err(mpsc::error::TrySendError::Closed(_)) = sent {
                break;
            }
        }
        connection.abort();
    });
    Ok(rx)
}

fn change(message: &NetlinkMessage<RouteNetlinkMessage>) -> Option<Change> {
    use RouteNetlinkMessage as M;
    match &message.payload {
        NetlinkPayload::InnerMessage(M::NewAddress(m) | M::DelAddress(m)) => {
            Some(Change::Address(m.header.index))
        }
        NetlinkPayload::InnerMessage(M::NewLink(m)) if !m.header.flags.contains(LinkFlags::Up) => {
            Some(Change::Down(m.header.index))
        }
        NetlinkPayload::InnerMessage(M::NewLink(m) | M::DelLink(m)) => Some(Change::Link(m.header.index)),
        NetlinkPayload::InnerMessage(M::NewRoute(_) | M::DelRoute(_)) => Some(Change::Route),
        NetlinkPayload::Overrun(_) => Some(Change::Lost),
        _ => None,
    }
}

fn local_address(message: &AddressMessage) -> Option<LocalAddress> {
    let mut ip = None;
    let mut flags = AddressFlags::from_bits_retain(u32::from(message.header.flags.bits()));
    for attribute in &message.attributes {
        match attribute {
            // On a point-to-point link `Address` is the other end.
            AddressAttribute::Local(local) => ip = Some(*local),
            AddressAttribute::Address(address) => ip = ip.or(Some(*address)),
            AddressAttribute::Flags(all) => flags = *all,
            _ => {}
        }
    }
    let transient = AddressFlags::Deprecated | AddressFlags::Tentative | AddressFlags::Dadfailed;
    let ip = ip?;
    // For IPv6 this flag says "temporary"; for IPv4, the second address of a range.
    let temporary = ip.is_ipv6() && flags.contains(AddressFlags::Secondary);
    Some(LocalAddress {
        link: message.header.index,
        ip,
        prefix_len: message.header.prefix_len,
        global: matches!(message.header.scope, AddressScope::Universe | AddressScope::Site),
        transient: temporary || flags.intersects(transient),
    })
}

fn route(link: u32, (ip, len): Prefix) -> Result<RouteMessage, NetlinkError> {
    let invalid = |_| NetlinkError::Io(io::ErrorKind::InvalidInput.into());
    let mut message = RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(ip, len)
        .map_err(invalid)?
        .output_interface(link)
        .build();
    message.header.protocol = RouteProtocol::from(ROUTE_PROTOCOL);
    if ip.is_ipv4() {
        message.header.scope = RouteScope::Link;
    }
    Ok(message)
}

fn route_address(ip: IpAddr) -> RouteAddress {
    match ip {
        IpAddr::V4(ip) => RouteAddress::Inet(ip),
        IpAddr::V6(ip) => RouteAddress::Inet6(ip),
    }
}

fn out(route: &RouteMessage) -> Option<u32> {
    route.attributes.iter().find_map(|a| if let RouteAttribute::Oif(link) = a { Some(*link) } else { None })
}

fn router(route: &RouteMessage) -> Option<Ipv4Addr> {
    route.attributes.iter().find_map(|a| match a {
        RouteAttribute::Gateway(RouteAddress::Inet(ip)) => Some(*ip),
        _ => None,
    })
}

/// The less, the better; a route without one is best.
fn metric(route: &RouteMessage) -> u32 {
    let metric = route.attributes.iter().find_map(|a| match a {
        RouteAttribute::Priority(metric) => Some(*metric),
        _ => None,
    });
    metric.unwrap_or(0)
}

fn prefix(route: &RouteMessage) -> Option<Prefix> {
    let len = route.header.destination_prefix_length;
    let destination = route.attributes.iter().find_map(|a| match a {
        RouteAttribute::Destination(RouteAddress::Inet(ip)) => Some(IpAddr::V4(*ip)),
        RouteAttribute::Destination(RouteAddress::Inet6(ip)) => Some(IpAddr::V6(*ip)),
        _ => None,
    });
    let any = match route.header.address_family {
        AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    Some((destination.unwrap_or(any), len))
}

fn family(ip: IpAddr) -> AddressFamily {
    if ip.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

fn ipv6_enabled() -> bool {
    std::fs::read_to_string("/proc/sys/net/ipv6/conf/all/disable_ipv6").is_ok_and(|v| v.trim() == "0")
}

fn absent_is_fine(done: Result<(), rtnetlink::Error>, absent: i32) -> Result<(), NetlinkError> {
    match done.map_err(reason) {
        Err(NetlinkError::Io(e)) if e.raw_os_error() == Some(absent) => Ok(()),
        Err(NetlinkError::NoLink) => Ok(()),
        done => done,
    }
}

/// Keeps the number of the kernel's error and nothing of the message, which may hold addresses.
fn reason(e: rtnetlink::Error) -> NetlinkError {
    let rtnetlink::Error::NetlinkError(message) = e else {
        return NetlinkError::Io(io::ErrorKind::InvalidData.into());
    };
    let e = io::Error::from_raw_os_error(message.raw_code().abs());
    match e.raw_os_error() {
        Some(libc::ENODEV) => NetlinkError::NoLink,
        Some(libc::EPERM | libc::EACCES) => NetlinkError::NotPermitted,
        _ => NetlinkError::Io(e),
    }
}
