//! What is around the machine: its addresses outside the network, and where the STUN servers are.

use std::time::{Duration, Instant};

use netio::netlink::Change;
use proto::{
    metadata::Endpoint,
    pipe::{LocalAddr, ToData},
};
use tokio::time::sleep;

use super::{
    actor::{Actor, Note},
    running::stun_servers,
};
use crate::{apply, lan::LanEvent};

/// Links and addresses change in bursts; this long after the first change they are read anew.
const SETTLE: Duration = Duration::from_millis(200);

impl Actor {
    /// Takes the kernel's word that a link, an address or a route is another one now.
    pub(super) async fn heed_change(&mut self, change: Change) {
        let Some(running) = &self.running else { return };
        let own = |link: u32| link == running.interface.index();
        let notes = self.notes.clone();
        match change {
            Change::Link(link) if own(link) => {
                let gone = running.interface.gone();
                tokio::spawn(async move {
                    if gone.await {
                        let _ = notes.send(Note::InterfaceGone).await;
                    }
                });
                if self.health.interface_down {
                    self.restore_interface().await;
                }
            }
            // Whoever did it means it, or not: it is told, and undone by nobody but them.
            Change::Down(link) if own(link) => self.health.interface_down = true,
            Change::Address(link) if own(link) => {}
            Change::Route => running.look_at_router(),
            Change::Address(_) | Change::Link(_) | Change::Down(_) | Change::Lost => {
                // What was lost may have been the interface's own going down, or coming up.
                let up = change == Change::Lost && running.interface.is_up().await;
                self.settle();
                if up {
                    self.restore_interface().await;
                }
            }
        }
    }

    /// Looks at all of it anew in a moment.
    fn settle(&mut self) {
        if !std::mem::replace(&mut self.settling, true) {
            let notes = self.notes.clone();
            tokio::spawn(async move {
                sleep(SETTLE).await;
                let _ = notes.send(Note::Settled).await;
            });
        }
    }

    /// Gives an interface that is up again what the kernel forgot when it went down: routes and IPv6 addresses.
    async fn restore_interface(&mut self) {
        self.health.interface_down = false;
        let (Some(running), Some(own)) = (&self.running, self.own()) else { return };
        let routes = apply::interface_routes(&own, self.present.borrow().roster.settings());
        // Where it is off again by now, or the system has no IPv6, there is nothing to do but to say so.
        let _ = running.interface.restore(&apply::interface_addresses(&own), &routes).await;
    }

    /// Tells the data path the addresses of the underlay, and looks up where the STUN servers are.
    pub(super) async fn tell_addresses(&mut self) {
        let Some(running) = &self.running else { return };
        let Ok(all) = self.netlink.local_addresses(Some(running.interface.index())).await else { return };
        let usable = all.into_iter().filter(|address| address.global && !address.transient);
        let local = usable.map(|address| LocalAddr { addr: address.ip, prefix_len: address.prefix_len });
        running.tell(&ToData::LocalAddrs(local.collect()));
        self.resolve();
    }

    /// Tells the data path which port of the router leads here.
    pub(super) fn heed_mapping(&mut self, mapping: Option<Endpoint>) {
        let Some(running) = &mut self.running else { return };
        running.mapping = mapping;
        running.tell(&ToData::Mappings(mapping.into_iter().collect()));
    }

    /// Something waits for a peer that does not answer: it may be on the LAN.
    pub(super) fn seek(&self, peer: u32) {
        let discovery = self.running.as_ref().and_then(|running| running.discovery.as_ref());
        if let (Some(discovery), Some(key)) = (discovery, self.peers.key(peer)) {
            discovery.seek(*key);
        }
    }

    /// Lets the data path say on the LAN what is to be said there, and tells it which peer was seen there.
    pub(super) fn heed_lan(&self, event: &LanEvent) {
        match event {
            LanEvent::Say { link, from, datagram } => {
                self.tell(&ToData::Beacon { link: *link, from: *from, datagram });
            }
            LanEvent::Sighted(seen) => {
                let (key, at) = **seen;
                if let Some(peer) = self.peers.number(&key) {
                    self.tell(&ToData::Sighted { peer, at });
                }
            }
        }
    }

    /// Looks up where the STUN servers are; the answer comes as a note.
    pub(super) fn resolve(&mut self) {
        self.resolved = Some(Instant::now());
        let entries = self.present.borrow().roster.relays().to_vec();
        let notes = self.notes.clone();
        tokio::spawn(async move {
            let servers = stun_servers(entries).await;
            let _ = notes.send(Note::Stun(servers)).await;
        });
    }
}
