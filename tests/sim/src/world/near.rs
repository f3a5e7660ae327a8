//! Machines that find each other on their LAN.

use std::net::SocketAddr;

use proto::{metadata::Endpoint, pipe::ToData};

use super::{Task, World};
use crate::{host::PORT, lan::CLOCKS, net::LAN};

/// What a machine says to all on its link: that it is there, and whom it looks for.
pub(super) struct Beacon {
    sender: usize,
    at: SocketAddr,
    /// Whether it looks for who hears it.
    asked: bool,
    /// Whose key seals it.
    epoch: u64,
}

impl World {
    /// The core of a machine has something for another that does not answer.
    pub(super) fn seek(&mut self, host: usize, peer: usize) {
        if self.hosts[host].lan.seek(self.now, peer) {
            self.say_soon(host);
        }
    }

    /// A machine has other addresses.
    pub(super) fn seek_here(&mut self, host: usize) {
        if self.hosts[host].lan.moved(self.now) {
            self.say_soon(host);
        }
    }

    fn say_soon(&mut self, host: usize) {
        if let Some(wait) = self.hosts[host].lan.soon(self.now, &mut self.net.dice) {
            self.after(wait, Task::Say(host));
        }
    }

    /// A machine says its beacon from each of its addresses.
    pub(super) fn say(&mut self, host: usize) {
        let wanted = self.hosts[host].lan.speak(self.now);
        if !self.hosts[host].awake {
            return;
        }
        let epoch = self.hosts[host].epoch;
        for hearer in (0..self.hosts.len()).filter(|hearer| *hearer != host) {
            if !self.net.together(host, hearer) {
                continue;
            }
            for local in self.net.locals(host) {
                let at = SocketAddr::new(local.addr, PORT);
                let beacon = Beacon { sender: host, at, asked: wanted.contains(&hearer), epoch };
                self.after(LAN, Task::Beacon { host: hearer, beacon });
            }
        }
    }

    /// A machine hears one.
    pub(super) fn heard(&mut self, host: usize, Beacon { sender, at, asked, epoch }: Beacon) {
        let here = &self.hosts[host];
        let reads = here.epoch == epoch && here.peers[sender] && self.agree(host, sender);
        let neighbour = self.net.locals(host).iter().any(|own| own.addr.is_ipv4() == at.is_ipv4());
        let there = self.net.together(host, sender) && neighbour && here.awake && !self.is_cut(host, sender);
        if !there || !reads || !(asked || here.lan.is_sought(self.now, sender)) {
            return;
        }
        self.note(|| format!("  {host} hears {sender} at {at}"));
        self.tell(host, ToData::Sighted { peer: sender as u32, at: Endpoint(at) });
        if asked {
            self.say_soon(host);
        }
    }

    /// Whether two machines find each other without a relay: they hear, read and believe each other.
    pub(super) fn are_near(&self, a: usize, b: usize) -> bool {
        self.net.share_lan(a, b)
            && !self.is_cut(a, b)
            && self.hosts[a].epoch == self.hosts[b].epoch
            && self.hosts[a].peers[b]
            && self.hosts[b].peers[a]
            && self.agree(a, b)
    }

    fn agree(&self, a: usize, b: usize) -> bool {
        self.hosts[a].skew.abs_diff(self.hosts[b].skew) < CLOCKS
    }
}
