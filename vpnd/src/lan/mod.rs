//! Finding other machines of the network on the LAN, where neither coordinator nor relay leads to them.
//!
//! When something waits for a peer that does not answer, the data path says so ([`Discovery::seek`]). Then a beacon
//! ([`proto::beacon`]) goes to every host of every link, one for each address, from the data path's own sockets; the peer
//! says the same of itself, and both begin a handshake. An idle machine says nothing. A peer that stays away is asked for more
//! and more rarely ([`sought`]).
//!
//! What is heard comes from anybody, and so many a second are read ([`pace`]). It counts if a member sealed it in the present
//! epoch, minutes ago at most, for the address that it comes from, on a link of ours, and it was not heard before; and it
//! concerns this machine only if one of the two looks for the other. An older epoch's is not read: whoever was removed
//! learns from silence nothing. Nothing of it is stored.

mod heard;
mod pace;
mod sought;

use std::{
    collections::BTreeSet,
    future::pending,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use netio::{
    netlink::{LocalAddress, Netlink},
    udp::{Family, hear},
};
use proto::{
    beacon::{Beacon, LEN, MAX_WANTED, PORT, name},
    metadata::Endpoint,
};
use rand_core::{OsRng, RngCore};
use tokio::{
    net::UdpSocket,
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, sleep_until},
};

use self::{heard::Heard, pace::Pace, sought::Sought};
use crate::{
    apply::Key,
    network::{Present, now},
};

/// A beacon leaves so long after there is reason to, at random: it says what came up meanwhile too, and hosts that heard the
/// same question do not all answer in one moment.
const GATHER: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(50));

/// Addresses that a machine speaks from: more links than most have.
const MAX_ADDRESSES: usize = 8;

/// Beacons at once, and one more in each of these.
const SAY: (u32, Duration) = (4, Duration::from_secs(1));

/// Datagrams at once, and one more in each of these: what costs a thousandth of a processor.
const HEAR: (u32, Duration) = (64, Duration::from_millis(10));

/// The port may be another program's for a while.
const BIND_AGAIN: Duration = Duration::from_secs(60);

/// What comes of it.
pub(crate) enum LanEvent {
    /// To be said on a link, from an address of this machine there.
    Say { link: u32, from: IpAddr, datagram: Box<[u8; LEN]> },
    /// A machine is there. Boxed: a channel keeps what went through it, and a box that is freed is overwritten.
    Sighted(Box<(Key, Endpoint)>),
}

/// The task. It ends when this is dropped.
pub(crate) struct Discovery {
    wishes: mpsc::Sender<Wish>,
    task: JoinHandle<()>,
}

/// What the machine is to the task.
pub(crate) struct Own {
    /// The network's own interface, which is no LAN.
    pub(crate) link: u32,
    /// The data path's port.
    pub(crate) port: u16,
    /// The WireGuard key.
    pub(crate) key: Key,
}

enum Wish {
    Seek(Key),
    Moved,
}

struct Keeper {
    netlink: Netlink,
    own: Own,
    present: watch::Receiver<Arc<Present>>,
    wishes: mpsc::Receiver<Wish>,
    events: mpsc::Sender<LanEvent>,
    ears: Ears,
    sought: Sought,
    /// Whom the next beacon looks for.
    wanted: BTreeSet<Key>,
    /// When it is said, if there is one to be said.
    due: Option<Instant>,
    say: Pace,
    hear: Pace,
    heard: Heard,
}

/// The sockets, as far as there are any.
struct Ears {
    sockets: Vec<UdpSocket>,
    /// When they are opened if some are missing.
    again: Instant,
}

impl Discovery {
    /// Starts to listen.
    pub(crate) fn start(
        netlink: Netlink,
        own: Own,
        present: watch::Receiver<Arc<Present>>,
        events: mpsc::Sender<LanEvent>,
    ) -> Self {
        let (wish, wishes) = mpsc::channel(64);
        let now = Instant::now();
        let keeper = Keeper {
            netlink,
            own,
            present,
            wishes,
            events,
            ears: Ears { sockets: Vec::new(), again: now },
            sought: Sought::default(),
            wanted: BTreeSet::new(),
            due: None,
            say: Pace::new(now, SAY),
            hear: Pace::new(now, HEAR),
            heard: Heard::default(),
        };
        Self { wishes: wish, task: tokio::spawn(keeper.run()) }
    }

    /// Something waits for this machine, and it does not answer.
    pub(crate) fn seek(&self, key: Key) {
        // One that is lost comes again with the next attempt.
        let _ = self.wishes.try_send(Wish::Seek(key));
    }

    /// This machine has other addresses.
    pub(crate) fn moved(&self) {
        let _ = self.wishes.try_send(Wish::Moved);
    }
}

impl Drop for Discovery {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Keeper {
    async fn run(mut self) {
        let mut bytes = [0; LEN + 1];
        loop {
            if Instant::now() >= self.ears.again {
                self.ears.open();
            }
            tokio::select! {
                wish = self.wishes.recv() => match wish {
                    Some(wish) => self.heed(&wish),
                    None => return,
                },
                () = at(self.due) => self.speak().await,
                (len, from) = self.ears.hear(&mut bytes, self.hear.ready_at()) => {
                    self.hear.take(Instant::now());
                    self.listen(&bytes[..len], from).await;
                }
                () = sleep_until(self.ears.again) => {}
            }
        }
    }

    fn heed(&mut self, wish: &Wish) {
        let now = Instant::now();
        match wish {
            Wish::Seek(key) if self.sought.ask(now, *key) => {
                self.wanted.insert(*key);
            }
            Wish::Seek(_) => return,
            Wish::Moved => {
                // Whoever did not hear us there may do so here.
                self.wanted.extend(self.sought.renew(now));
                if self.wanted.is_empty() {
                    return;
                }
            }
        }
        self.soon(now);
    }

    /// There is something to be said.
    fn soon(&mut self, now: Instant) {
        if self.due.is_none() {
            let spread = (GATHER.1 - GATHER.0) * (OsRng.next_u32() >> 16) / (1 << 16);
            self.due = Some((now + GATHER.0 + spread).max(self.say.ready_at()));
        }
    }

    /// Says who this machine is, and whom it looks for.
    async fn speak(&mut self) {
        let at = Instant::now();
        self.due = None;
        self.say.take(at);
        let named: Vec<Key> = self.wanted.iter().take(MAX_WANTED).copied().collect();
        for key in &named {
            self.wanted.remove(key);
        }
        if !self.wanted.is_empty() {
            self.soon(at);
        }
        let key = self.present.borrow().epochs.present().beacon_key();
        for address in self.addresses().await.iter().take(MAX_ADDRESSES) {
            let beacon = Beacon {
                time: now(),
                from: Endpoint(SocketAddr::new(address.ip, self.own.port)),
                sender: self.own.key,
                wanted: named.iter().map(name).collect(),
            };
            let datagram = Box::new(beacon.seal(&key, &mut OsRng));
            // Whoever listens outlives this task.
            let _ = self.events.send(LanEvent::Say { link: address.link, from: address.ip, datagram }).await;
        }
    }

    /// Takes what was heard. What does not count is dropped in silence: whoever sent it learns nothing.
    async fn listen(&mut self, datagram: &[u8], source: SocketAddr) {
        let key = self.present.borrow().epochs.present().beacon_key();
        let Some(beacon) = self.heard.take(datagram, source, &key, &self.own.key, now()) else { return };
        let asked = beacon.wants(&self.own.key);
        if !asked && !self.sought.is_sought(Instant::now(), &beacon.sender) {
            return;
        }
        if !self.addresses().await.iter().any(|own| neighbours(own, source.ip())) {
            return;
        }
        let _ = self.events.send(LanEvent::Sighted(Box::new((beacon.sender, beacon.from)))).await;
        if asked {
            self.soon(Instant::now());
        }
    }

    /// Where others on the same link may reach this machine.
    async fn addresses(&self) -> Vec<LocalAddress> {
        let mut all = self.netlink.shared_addresses(Some(self.own.link)).await.unwrap_or_default();
        all.retain(|address| address.global && !address.transient);
        all
    }
}

impl Ears {
    fn open(&mut self) {
        let sockets = [Family::V4, Family::V6].map(|family| hear(family, PORT).and_then(UdpSocket::from_std));
        let whole = sockets.iter().all(Result::is_ok);
        self.sockets = sockets.into_iter().flatten().collect();
        let pause = if whole { Duration::from_secs(3_600) } else { BIND_AGAIN };
        self.again = Instant::now() + pause;
    }

    /// The next datagram, once one may be read.
    async fn hear(&self, bytes: &mut [u8], ready: Instant) -> (usize, SocketAddr) {
        sleep_until(ready).await;
        let [first, rest @ ..] = self.sockets.as_slice() else { return pending().await };
        loop {
            let second = rest.first().unwrap_or(first);
            let heard = tokio::select! {
                ready = first.readable() => ready.and_then(|()| first.try_recv_from(bytes)),
                ready = second.readable() => ready.and_then(|()| second.try_recv_from(bytes)),
            };
            if let Ok(heard) = heard {
                return heard;
            }
        }
    }
}

async fn at(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => pending().await,
    }
}

/// Whether an address is one of this machine's link, and not its own.
fn neighbours(own: &LocalAddress, other: IpAddr) -> bool {
    let shared = match (own.ip, other) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        _ => return false,
    };
    own.ip != other && shared >= u32::from(own.prefix_len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_share_a_link_and_are_not_this_machine() {
        let own = |ip: &str, prefix_len| LocalAddress {
            link: 2,
            ip: ip.parse().unwrap(),
            prefix_len,
            global: true,
            transient: false,
        };
        let is = |own: LocalAddress, other: &str| neighbours(&own, other.parse().unwrap());
        assert!(is(own("192.168.1.10", 24), "192.168.1.20") && is(own("fd00::10", 64), "fd00::20"));
        for other in ["192.168.1.10", "192.168.2.20", "198.51.100.1", "fd00::20"] {
            assert!(!is(own("192.168.1.10", 24), other), "{other}");
        }
    }
}
