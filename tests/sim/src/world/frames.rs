//! What goes over relays.

use std::time::Duration;

use proto::pipe::{RelayTo, ToData};

use super::{Task, World};
use crate::{host::epoch_of, net::TO_RELAY};

/// TCP sends again what was lost after this, besides a round trip.
const RESEND: Duration = Duration::from_millis(200);

impl World {
    /// Nothing is for a machine that was removed.
    pub(super) fn check_addressee(&mut self, host: usize, relay: usize, to: RelayTo) {
        let peer = match to {
            RelayTo::Peer { peer, .. } => Some(peer as usize),
            RelayTo::Handle(handle) => self.owner(relay, handle),
        };
        if let Some(peer) = peer.filter(|peer| self.forgotten[host][*peer].is_some()) {
            self.broken(format!("machine {host} sent to machine {peer} over a relay, which was removed"));
        }
    }

    /// Whose connection a handle names.
    pub(super) fn owner(&self, relay: usize, handle: u64) -> Option<usize> {
        (0..self.hosts.len()).find(|host| self.hosts[*host].links[relay].up == Some(handle))
    }

    /// Sends a frame over a relay to whom it is for.
    pub(super) fn send_frame(&mut self, host: usize, relay: usize, to: RelayTo, bytes: &[u8]) {
        let link = &mut self.hosts[host].links[relay];
        let Some(id) = link.up else { return };
        if link.broken {
            let back = self.round_trip(host);
            return self.after(back, Task::Close { host, relay, id });
        }
        if link.dark.is_some() {
            return link.stall(to, bytes.to_vec());
        }
        let target = match to {
            RelayTo::Peer { peer, epoch } => {
                let peer = peer as usize;
                // It listens where its two newest epochs are.
                let epoch = epoch_of(epoch, self.hosts[host].epoch);
                let newest = self.hosts[peer].epoch;
                let listens = |epoch: u64| epoch <= newest && epoch + 1 >= newest;
                self.hosts[peer].links[relay].up.filter(|_| epoch.is_some_and(listens)).map(|id| (peer, id))
            }
            RelayTo::Handle(handle) => self.owner(relay, handle).map(|owner| (owner, handle)),
        };
        let Some(target) = target else { return };
        let mut takes = self.net.way_out(host) + self.net.way_out(target.0) + TO_RELAY * 2;
        while self.net.lost(host) || self.net.lost(target.0) {
            takes = takes * 2 + RESEND;
        }
        let link = &mut self.hosts[host].links[relay];
        link.last = link.last.max(self.now + takes);
        let takes = link.last - self.now;
        let bytes = self.copy(bytes);
        self.after(takes, Task::Frame { relay, sender: host, from: id, to: target, bytes });
    }

    pub(super) fn frame(
        &mut self,
        relay: usize,
        (sender, from): (usize, u64),
        (host, id): (usize, u64),
        bytes: &[u8],
    ) {
        let link = &self.hosts[host].links[relay];
        if !self.hosts[host].awake || link.up != Some(id) || link.broken || link.dark.is_some() {
            return;
        }
        self.hosts[sender].links[relay].told.insert(host);
        self.tell(host, ToData::RelayRecv { relay: relay as u8, handle: from, payload: bytes });
    }
}
