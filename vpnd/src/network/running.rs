//! What exists while a network is up: interface, data path, and the connections to coordinator and relays.

use std::{io, net::SocketAddr, sync::Arc};

use netio::netlink::{Change, NetlinkError, changes};
use proto::{
    metadata::Endpoint,
    pipe::ToData,
    relay::Credential,
    roster::{RelayEntry, Roster},
};
use tokio::{
    net::lookup_host,
    sync::{mpsc, watch},
};
use url::Url;

use super::{
    catch_up::{Asker, Present},
    interface::{Interface, Wanted},
    link::{Link, LinkEvent},
    relays::Relays,
    signer::Signer,
    sync::{Sync, SyncEvent},
};
use crate::{
    child::{self, Child, ChildError, Descriptors, Pool},
    coordinator::Client,
    dial::Way,
    gateway::Mapper,
    lan::{self, Discovery, LanEvent},
    relay::RelayEvent,
};

/// Events that wait for a busy actor.
const QUEUE: usize = 1_024;

/// What is said and heard on the LAN and waits for a busy actor.
const LAN_QUEUE: usize = 16;

/// Addresses taken of one relay's name for STUN: two of each family suffice.
const STUN_ADDRESSES: usize = 4;

/// Why a network cannot be brought up, once its interface is there.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartError {
    /// The data path.
    #[error(transparent)]
    Child(#[from] ChildError),
    /// Its descriptors.
    #[error("the data path's descriptors could not be copied: {0}")]
    Io(#[from] io::Error),
    /// The kernel's notifications.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
}

/// What the parts of a running network tell the actor.
pub(super) struct Ears {
    pub(super) data: mpsc::Receiver<child::Event>,
    pub(super) link: mpsc::Receiver<LinkEvent>,
    pub(super) rosters: mpsc::Receiver<Box<Roster>>,
    pub(super) sync: mpsc::Receiver<SyncEvent>,
    pub(super) relays: mpsc::Receiver<RelayEvent>,
    pub(super) changes: mpsc::Receiver<Change>,
    pub(super) mappings: mpsc::Receiver<Option<Endpoint>>,
    pub(super) lan: mpsc::Receiver<LanEvent>,
}

/// A network that is up.
pub(super) struct Running {
    pub(super) interface: Interface,
    pub(super) signer: Signer,
    pub(super) sync: Sync,
    /// The data path process of the moment; `None` while there is none.
    pub(super) data: Option<child::Link>,
    pub(super) relays: Relays,
    /// The port of the router that leads here.
    pub(super) mapping: Option<Endpoint>,
    mapper: Option<Mapper>,
    pub(super) discovery: Option<Discovery>,
    child: Child,
    link: Link,
}

impl Running {
    /// Starts all but the relay clients, which follow the roster ([`Relays::follow`]).
    ///
    /// # Errors
    /// [`StartError`].
    pub(super) fn start(
        interface: Interface,
        client: Client,
        asker: Asker,
        present: &watch::Sender<Arc<Present>>,
        credentials: Vec<Credential>,
        way: Way,
        wanted: &Wanted,
    ) -> Result<(Self, Ears), StartError> {
        let descriptors =
            Descriptors { tun: interface.tun_fds()?, udp: interface.socket_fds()?, pool: Pool::Mesh };
        let changes = changes()?;
        let (child, data) = Child::start(descriptors, wanted.manner)?;
        let (link_events, link) = mpsc::channel(QUEUE);
        let (roster_sender, rosters) = mpsc::channel(1);
        let (sync_events, sync) = mpsc::channel(1);
        let (relay_events, relays) = mpsc::channel(QUEUE);
        let (mapping_events, mappings) = mpsc::channel(1);
        let (lan_events, lan) = mpsc::channel(LAN_QUEUE);
        let map = || {
            Mapper::start(interface.netlink().clone(), interface.index(), interface.port(), mapping_events)
        };
        let mapper = wanted.map_port.then(map);
        let own =
            lan::Own { link: interface.index(), port: interface.port(), key: asker.keys.wireguard_public() };
        let discover = || Discovery::start(interface.netlink().clone(), own, present.subscribe(), lan_events);
        let discovery = wanted.discover.then(discover);
        let running = Self {
            mapping: None,
            mapper,
            discovery,
            sync: Sync::start(interface.name(), asker.clone(), present.subscribe(), sync_events),
            interface,
            signer: Signer::start(client.clone(), asker.clone(), present.subscribe(), roster_sender),
            data: None,
            relays: Relays::new(way, credentials.clone(), relay_events),
            child,
            link: Link::start(client, asker, present.subscribe(), credentials, link_events),
        };
        Ok((running, Ears { data, link, rosters, sync, relays, changes, mappings, lan }))
    }

    /// Sends a frame to the data path. False if there is none, or it dropped the frame.
    pub(super) fn tell(&self, frame: &ToData<'_>) -> bool {
        self.data.as_ref().is_some_and(|data| data.send(frame))
    }

    /// The underlay changed: connections may be broken without knowing.
    pub(super) fn retry(&self) {
        self.link.retry();
        self.sync.retry();
        self.relays.retry();
        self.discovery.iter().for_each(Discovery::moved);
        self.look_at_router();
    }

    /// A relay is there again: what took it away may have taken the watch too.
    pub(super) fn doubt_watch(&self) {
        self.link.doubt();
    }

    /// The coordinator may have a newer roster than it told.
    pub(super) fn look(&self) {
        self.link.look();
    }

    /// The router may be another one, or may have forgotten what it granted.
    pub(super) fn look_at_router(&self) {
        self.mapper.iter().for_each(Mapper::look);
    }

    /// Ends the data path, gives back what the router granted, and takes the interface away.
    pub(super) async fn stop(self) {
        tokio::join!(self.child.stop(), async {
            if let Some(mapper) = self.mapper {
                mapper.stop().await;
            }
        });
    }
}

/// Where the relays' STUN servers are. They answer on the next port too, by which a machine learns whether its NAT maps
/// each destination to another port; only for IPv4, as nobody translates IPv6.
pub(super) async fn stun_servers(entries: Vec<RelayEntry>) -> Vec<Endpoint> {
    let mut servers = Vec::new();
    for entry in entries {
        let Some(port) = entry.stun_port else { continue };
        let Ok(url) = Url::parse(&entry.url) else { continue };
        let Some(host) = url.host_str() else { continue };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        if let Ok(found) = lookup_host((host, port)).await {
            for server in found.take(STUN_ADDRESSES) {
                servers.push(Endpoint(server));
                let next = port.checked_add(1).filter(|_| server.is_ipv4());
                servers.extend(next.map(|port| Endpoint(SocketAddr::new(server.ip(), port))));
            }
        }
    }
    servers
}
