//! Handshakes in the mailboxes of epochs that ended: of machines that slept through epochs, and of whoever was removed since.
//!
//! Sessions are of the present epoch and the one before ([`Present::pairings`]). In the mailboxes of older ones this machine
//! listens still ([`super::relays::Relays::listen`]); what begins a session there is read here first, for the data path
//! does not know the epoch's key. If it is from a machine that counts as a member now, the data path gets the handshake with
//! the pre-shared key of that epoch for that peer alone, and lets it reach nothing but sync. Anybody else gets no answer.
//!
//! Whoever knew the epoch can write to its mailboxes, so handshakes are read at a bounded rate, and no more than one in a
//! while of each sender.
//!
//! [`Present::pairings`]: super::catch_up::Present::pairings

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use proto::{
    epoch::{EpochKey, EpochName},
    identity::MachineKeys,
    introduction::INITIATION,
    pipe::{Guest, ToData},
    relay::Handle,
};
use zeroize::Zeroizing;

use super::{actor::Actor, joiners::Gate};
use crate::apply::Peers;

/// The first byte of a WireGuard handshake initiation (WireGuard's paper, section 5.4.2).
pub(super) const INITIATION_TYPE: u8 = 1;

/// Between two handshakes of one sender that are read: it repeats its own after a second.
const PAUSE: Duration = Duration::from_millis(500);

/// Bounds how many handshakes of ended epochs are read.
pub(crate) struct Knocks {
    gate: Gate,
    /// Who passed lately: by relay and handle, oldest first. The gate bounds how many.
    lately: VecDeque<((u8, u64), Instant)>,
}

impl Knocks {
    pub(crate) fn new(now: Instant) -> Self {
        Self { gate: Gate::new(now), lately: VecDeque::new() }
    }

    /// Whether one more may be read now that came from there.
    fn pass(&mut self, now: Instant, from: (u8, u64)) -> bool {
        let stale = |(_, at): &(_, Instant)| now.saturating_duration_since(*at) >= PAUSE;
        while self.lately.front().is_some_and(stale) {
            self.lately.pop_front();
        }
        if self.lately.iter().any(|(known, _)| *known == from) || !self.gate.pass(now) {
            return false;
        }
        self.lately.push_back((from, now));
        true
    }
}

impl Actor {
    /// A WireGuard datagram that came over a relay goes to the data path; one that begins a session of an older epoch than
    /// sessions are of goes there with what it takes to answer it.
    pub(super) fn pass_on(&mut self, relay: u8, epoch: Option<EpochName>, handle: Handle, datagram: &[u8]) {
        let Some(key) = epoch.filter(|_| is_initiation(datagram)).and_then(|epoch| self.bygone(epoch)) else {
            self.tell(&ToData::RelayRecv { relay, handle: handle.0, payload: datagram });
            return;
        };
        if !self.knocks.pass(Instant::now(), (relay, handle.0)) {
            return;
        }
        if let Some(guest) = guest(&self.keys, &self.peers, &key, (relay, handle), datagram) {
            self.tell(&ToData::Guest(guest));
        }
    }

    /// The key of an epoch that sessions are of no more.
    pub(super) fn bygone(&self, epoch: EpochName) -> Option<EpochKey> {
        self.present.borrow().bygone(&epoch).cloned()
    }
}

/// The handshake as the data path is to know it, if it is a peer's.
fn guest<'a>(
    keys: &MachineKeys,
    peers: &Peers,
    epoch: &EpochKey,
    (relay, handle): (u8, Handle),
    initiation: &'a [u8],
) -> Option<Guest<'a>> {
    let theirs = mesh::initiator(&Zeroizing::new(keys.wireguard().to_bytes()), initiation)?;
    let peer = peers.number(&theirs)?;
    let psk = epoch.pairing_psk(&keys.wireguard_public(), &theirs);
    Some(Guest { peer, psk, relay, handle: handle.0, initiation })
}

fn is_initiation(datagram: &[u8]) -> bool {
    datagram.len() == INITIATION && datagram[0] == INITIATION_TYPE
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use mesh::Mesh;
    use proto::pipe::{Config, EpochTag, Peer};
    use rand_core::OsRng;

    use super::*;
    use crate::{
        apply::{Pairing, Wanted},
        network::sample::network,
    };

    #[test]
    fn handshakes_pass_at_a_rate_and_one_sender_takes_nothing_from_another() {
        let start = Instant::now();
        let mut knocks = Knocks::new(start);
        let mut passed = 0;
        for ms in 0..10_000 {
            let now = start + Duration::from_millis(ms);
            // One floods, another repeats as machines do.
            passed += usize::from(knocks.pass(now, (0, 1)));
            if ms % 1_000 == 500 {
                assert!(knocks.pass(now, (0, 2)), "after {ms} ms");
            }
        }
        assert_eq!(passed, 20);
        let crowd = (0..10_000).filter(|n| knocks.pass(start + Duration::from_secs(20), (0, 10 + n))).count();
        assert_eq!(crowd, 32);
        assert!(knocks.lately.len() <= 32);
    }

    #[test]
    fn a_peers_handshake_goes_to_the_data_path_with_the_key_of_its_epoch_and_a_strangers_nowhere() {
        let (roster, own, _) = network(1);
        let (epoch, old) = (EpochKey::generate(&mut OsRng), EpochKey::generate(&mut OsRng));
        let [member, removed] = [(); 2].map(|()| MachineKeys::generate(&mut OsRng));
        let mut entry = roster.machines().next().unwrap().clone();
        entry.identity = member.public();
        let pairing = [Pairing { number: 9, key: &epoch }];
        let wanted = Wanted::of(&entry, &own.wireguard_public(), &pairing, 1);
        let mut peers = Peers::default();
        peers.update(&BTreeMap::from([(member.wireguard_public(), wanted)]));

        let asked = |who: &MachineKeys| {
            let initiation = initiation(who, &own.wireguard_public());
            assert!(is_initiation(&initiation));
            let guest = guest(&own, &peers, &old, (2, Handle(7)), &initiation)?;
            assert!((guest.relay, guest.handle) == (2, 7) && guest.initiation == initiation);
            Some((guest.peer, guest.psk))
        };
        let psk = old.pairing_psk(&member.wireguard_public(), &own.wireguard_public());
        assert!(asked(&member) == Some((1, psk)));
        assert!(asked(&removed).is_none());
        assert!(guest(&own, &peers, &old, (2, Handle(7)), &[1; INITIATION]).is_none());
    }

    /// What a machine sends first to another.
    fn initiation(from: &MachineKeys, to: &[u8; 32]) -> Vec<u8> {
        let now = Instant::now();
        let mut mesh = Mesh::new(now, Box::new(OsRng), &[]);
        let secret = Zeroizing::new(from.wireguard().to_bytes());
        mesh.apply(now, ToData::Config(Config { secret, own: Vec::new(), mtu: 1_420 }));
        mesh.apply(now, ToData::RelayUp(0));
        let psks = vec![(EpochTag::of(0), Zeroizing::new([0; 32]))];
        let (allowed, endpoints) = (Vec::new(), Vec::new());
        mesh.apply(now, ToData::SetPeer(Peer { id: 1, wireguard: *to, psks, allowed, endpoints, relays: 1 }));
        mesh.apply(now, ToData::Ping { token: 0, peer: 1 });
        mesh.poll_transmit().unwrap().data.to_vec()
    }
}
