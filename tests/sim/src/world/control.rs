//! What the machines' control does: connections to relays, epochs, removals.

use std::time::Duration;

use proto::pipe::ToData;

use super::{Task, World};
use crate::{
    net::TO_RELAY,
    relay::{CONNECT_WITHIN, GIVE_UP},
    watch::Cause,
};

/// Control takes this to learn of a new epoch, at most, and of a removal.
const NEWS: u64 = 3_000;
const NEWS_TIME: Duration = Duration::from_millis(NEWS);
/// From when it is online again.
const CAUGHT_UP: Duration = Duration::from_millis(500);

impl World {
    /// Whether packets pass between a machine and a relay.
    fn reaches(&self, host: usize, relay: usize) -> bool {
        let there = self.hosts[host].awake && !self.hosts[host].offline;
        self.relays[relay] && there && !self.cut_relay.contains(&(host, relay))
    }

    /// Whether a machine has a connection to a relay that works.
    pub(super) fn is_linked(&self, host: usize, relay: usize) -> bool {
        let link = &self.hosts[host].links[relay];
        link.up.is_some() && !link.broken && link.dark.is_none() && self.reaches(host, relay)
    }

    pub(super) fn round_trip(&mut self, host: usize) -> Duration {
        (self.net.way_out(host) + TO_RELAY) * 2
    }

    /// Tries to connect, after a while.
    pub(super) fn connect(&mut self, host: usize, relay: usize, after: Duration) {
        self.connections += 1;
        let attempt = self.connections;
        self.hosts[host].links[relay].trying = Some(attempt);
        self.after(after, Task::Connect { host, relay, attempt });
    }

    pub(super) fn try_relay(&mut self, host: usize, relay: usize, attempt: u64) {
        if self.hosts[host].links[relay].trying != Some(attempt) || !self.hosts[host].awake {
            return;
        }
        if self.reaches(host, relay) {
            // TCP, TLS and the upgrade: a round trip each.
            let takes = self.round_trip(host) * 3;
            return self.after(takes, Task::Open { host, relay, attempt });
        }
        // A relay that is not there refuses at once; nothing comes back over a line that is cut.
        let refused = !self.relays[relay] && !self.hosts[host].offline;
        self.again(host, relay, if refused { Duration::ZERO } else { CONNECT_WITHIN });
    }

    fn again(&mut self, host: usize, relay: usize, took: Duration) {
        let pause = self.hosts[host].links[relay].pause(&mut self.net.dice);
        self.connect(host, relay, took + pause);
    }

    pub(super) fn relay_open(&mut self, host: usize, relay: usize, attempt: u64) {
        if self.hosts[host].links[relay].trying != Some(attempt) || !self.hosts[host].awake {
            return;
        }
        if !self.reaches(host, relay) {
            return self.again(host, relay, Duration::ZERO);
        }
        self.connections += 1;
        let (now, id) = (self.now, self.connections);
        self.hosts[host].links[relay].open(now, id);
        self.touch(Cause::Relay, true, |a, _| a == host);
        self.note(|| format!("  {host} is connected to relay {relay}"));
        self.tell(host, ToData::RelayUp(relay as u8));
        self.catch_up(host);
    }

    /// A machine is online again, and hears what it missed.
    fn catch_up(&mut self, host: usize) {
        if self.hosts[host].epoch < self.epoch {
            self.after(CAUGHT_UP, Task::Epoch(host));
        }
    }

    /// A connection is gone, and both ends know.
    pub(super) fn relay_closed(&mut self, host: usize, relay: usize, id: u64) {
        if self.hosts[host].links[relay].up != Some(id) || !self.hosts[host].awake {
            return;
        }
        let told = self.hosts[host].links[relay].close(self.now);
        for other in told {
            let takes = self.net.way_out(other) + TO_RELAY;
            if self.is_linked(other, relay) {
                self.after(takes, Task::Gone { relay, host: other, handle: id });
            }
        }
        self.touch(Cause::Relay, true, |a, _| a == host);
        self.note(|| format!("  {host} is not connected to relay {relay}"));
        self.tell(host, ToData::RelayDown(relay as u8));
        self.again(host, relay, Duration::ZERO);
    }

    /// Nothing came for so long that control gives a connection up, if nothing comes still.
    pub(super) fn relay_silent(&mut self, host: usize, relay: usize, id: u64) {
        let link = &self.hosts[host].links[relay];
        let dark = link.dark.is_some_and(|since| self.now >= since + GIVE_UP);
        if link.up == Some(id) && (link.broken || dark) {
            self.relay_closed(host, relay, id);
        }
    }

    /// Looks anew which connections are cut, and which that were are no more.
    pub(super) fn check_lines(&mut self) {
        for host in 0..self.hosts.len() {
            for relay in 0..self.relays.len() {
                let reaches = self.reaches(host, relay);
                let now = self.now;
                let link = &mut self.hosts[host].links[relay];
                let Some(id) = link.up else { continue };
                if !reaches && link.dark.is_none() {
                    link.dark = Some(now);
                    self.after(GIVE_UP, Task::GiveUp { host, relay, id });
                } else if reaches && link.dark.take().is_some() {
                    for (to, bytes) in std::mem::take(&mut link.stalled) {
                        self.send_frame(host, relay, to, &bytes);
                    }
                    self.catch_up(host);
                }
            }
        }
    }

    pub(super) fn set_relay(&mut self, relay: usize, up: bool) {
        if self.relays[relay] == up {
            return;
        }
        self.relays[relay] = up;
        for host in (0..self.hosts.len()).filter(|_| !up) {
            if let Some(id) = self.hosts[host].links[relay].up
                && self.hosts[host].links[relay].dark.is_none()
            {
                let takes = self.net.way_out(host) + TO_RELAY;
                self.after(takes, Task::Close { host, relay, id });
            }
        }
        self.touch(Cause::Relay, true, |_, _| true);
        self.check_lines();
    }

    /// A new epoch begins; each machine hears of it when it does.
    pub(super) fn new_epoch(&mut self) {
        self.epoch += 1;
        self.epoch_at = self.now;
        for host in 0..self.hosts.len() {
            if !self.removed.contains(&host) {
                let wait = Duration::from_millis(self.net.dice.below(NEWS));
                self.after(wait, Task::Epoch(host));
            }
        }
    }

    /// A machine hears of the newest epoch, if it is online.
    pub(super) fn renew(&mut self, host: usize) {
        let online = (0..self.relays.len()).any(|relay| self.is_linked(host, relay));
        let behind = self.hosts[host].epoch < self.epoch && !self.removed.contains(&host);
        if !online || !behind {
            return;
        }
        let late = self.hosts[host].epoch + 1 < self.epoch;
        self.hosts[host].epoch = self.epoch;
        if late {
            self.touch(Cause::Epoch, false, |a, _| a == host);
        }
        self.tell_peers(host);
    }

    pub(super) fn remove(&mut self, host: usize) {
        if !self.removed.insert(host) {
            return;
        }
        // It goes on trying for a while.
        self.stirred.fill(self.now + NEWS_TIME);
        for other in (0..self.hosts.len()).filter(|other| *other != host) {
            let wait = Duration::from_millis(self.net.dice.below(NEWS));
            self.after(wait, Task::Forget { host: other, peer: host });
        }
    }

    pub(super) fn forget(&mut self, host: usize, peer: usize) {
        if !self.hosts[host].awake {
            return self.after(Duration::from_secs(1), Task::Forget { host, peer });
        }
        self.hosts[host].peers[peer] = false;
        self.tell(host, ToData::RemovePeer(peer as u32));
        self.forgotten[host][peer] = Some(self.now);
    }
}
