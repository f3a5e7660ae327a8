//! What a roster asks of the data path and of the interface.
//!
//! [`Wanted`] is computed anew from the roster and the memberships that stand on an invite; [`Peers`] remembers what
//! the data path was told and yields the frames that make the difference. A data path that was started again is told
//! everything ([`Peers::all`]).

use std::{collections::BTreeMap, net::IpAddr};

use netio::netlink::Prefix;
use proto::{
    epoch::EpochKey,
    metadata::{InnerAddr, InnerNet},
    pipe::{EpochTag, Peer, ToData},
    roster::{MachineEntry, Settings},
};
use zeroize::Zeroizing;

/// A machine's WireGuard public key, by which this room knows it.
pub type Key = [u8; 32];

/// One epoch as sessions use it.
pub struct Pairing<'a> {
    /// Its number.
    pub number: u64,
    /// Its key.
    pub key: &'a EpochKey,
}

/// A peer as the data path should know it; its number is not chosen yet.
#[derive(Clone, PartialEq, Eq)]
pub struct Wanted {
    psks: Vec<(EpochTag, Zeroizing<[u8; 32]>)>,
    allowed: Vec<InnerNet>,
    endpoints: Vec<proto::metadata::Endpoint>,
    relays: u8,
}

/// What the data path was told.
#[derive(Default)]
pub struct Peers {
    told: BTreeMap<Key, (u32, Wanted)>,
    numbers: BTreeMap<u32, Key>,
    next: u32,
}

impl Wanted {
    /// What `machine` is to a machine whose WireGuard key is `own`. `epochs` are the present one and at most one
    /// before it; `relays` has a bit for each relay's number.
    #[must_use]
    pub fn of(machine: &MachineEntry, own: &Key, epochs: &[Pairing<'_>], relays: u8) -> Self {
        let theirs = &machine.identity.wireguard;
        let psk = |epoch: &Pairing<'_>| (EpochTag::of(epoch.number), epoch.key.pairing_psk(own, theirs));
        Self {
            psks: epochs.iter().map(psk).collect(),
            allowed: addresses(machine).chain(machine.routes.iter().copied()).collect(),
            endpoints: machine.endpoints.clone(),
            relays,
        }
    }

    fn frame(&self, wireguard: Key, id: u32) -> Peer {
        Peer {
            id,
            wireguard,
            psks: self.psks.clone(),
            allowed: self.allowed.clone(),
            endpoints: self.endpoints.clone(),
            relays: self.relays,
        }
    }
}

impl Peers {
    /// The frames that bring the data path from what it was told to `wanted`: removals first, so that an address that
    /// moves from one machine to another never belongs to both.
    pub fn update(&mut self, wanted: &BTreeMap<Key, Wanted>) -> Vec<ToData<'static>> {
        let gone: Vec<Key> = self.told.keys().filter(|key| !wanted.contains_key(*key)).copied().collect();
        let mut frames: Vec<ToData<'static>> = gone
            .iter()
            .filter_map(|key| self.told.remove(key))
            .map(|(id, _)| {
                self.numbers.remove(&id);
                ToData::RemovePeer(id)
            })
            .collect();
        for (key, peer) in wanted {
            if self.told.get(key).is_some_and(|(_, told)| told == peer) {
                continue;
            }
            frames.push(ToData::SetPeer(self.set(*key, peer.clone())));
        }
        frames
    }

    /// Adds one peer, and returns it as the data path is to know it.
    pub fn set(&mut self, key: Key, wanted: Wanted) -> Peer {
        let id = self.number(&key).unwrap_or_else(|| {
            self.next += 1;
            self.next
        });
        let frame = wanted.frame(key, id);
        self.numbers.insert(id, key);
        self.told.insert(key, (id, wanted));
        frame
    }

    /// The frames that tell a new data path all that the last one was told.
    pub fn all(&self) -> impl Iterator<Item = ToData<'static>> + use<'_> {
        self.told.iter().map(|(key, (id, wanted))| ToData::SetPeer(wanted.frame(*key, *id)))
    }

    /// The number of a peer.
    #[must_use]
    pub fn number(&self, key: &Key) -> Option<u32> {
        self.told.get(key).map(|(id, _)| *id)
    }

    /// The peer with this number.
    #[must_use]
    pub fn key(&self, number: u32) -> Option<&Key> {
        self.numbers.get(&number)
    }
}

/// The single addresses of a machine: what it may send from.
pub fn addresses(machine: &MachineEntry) -> impl Iterator<Item = InnerNet> + use<'_> {
    let v4 = machine.ipv4.map(|addr| InnerNet::host(InnerAddr(addr.into())));
    v4.into_iter().chain([InnerNet::host(InnerAddr(machine.ipv6.into()))])
}

/// The addresses of this machine's interface.
#[must_use]
pub fn interface_addresses(own: &MachineEntry) -> Vec<Prefix> {
    addresses(own).map(|net| (net.addr(), net.prefix_len())).collect()
}

/// The routes into the network: its two ranges, each from this machine's own address there. A machine that has no
/// IPv4 address yet has no route for it.
#[must_use]
pub fn interface_routes(own: &MachineEntry, settings: &Settings) -> Vec<(Prefix, Option<IpAddr>)> {
    let range = |net: InnerNet, source: IpAddr| ((net.addr(), net.prefix_len()), Some(source));
    let v4 = own.ipv4.map(|addr| range(settings.ipv4, addr.into()));
    v4.into_iter().chain([range(settings.ipv6, own.ipv6.into())]).collect()
}

#[cfg(test)]
mod tests {
    use proto::{epoch::EpochKey, identity::MachineKeys, roster::EntryId};
    use rand_core::OsRng;

    use super::*;

    fn machine(n: u8) -> MachineEntry {
        MachineEntry {
            id: EntryId([n; 16]),
            name: format!("m{n}"),
            identity: MachineKeys::generate(&mut OsRng).public(),
            ipv4: Some([10, 77, 0, n].into()),
            ipv6: [0xfd00, 0, 0, 0, 0, 0, 0, u16::from(n)].into(),
            groups: Vec::new(),
            routes: Vec::new(),
            endpoints: Vec::new(),
            invite: None,
        }
    }

    fn wanted(machines: &[&MachineEntry], epoch: &EpochKey) -> BTreeMap<Key, Wanted> {
        let pairing = [Pairing { number: 1, key: epoch }];
        let of = |m: &&MachineEntry| (m.identity.wireguard, Wanted::of(m, &[9; 32], &pairing, 1));
        machines.iter().map(of).collect()
    }

    /// `+n` for a peer set, `-n` for one removed, by number.
    fn text(frames: &[ToData<'_>]) -> String {
        let one = |frame: &ToData<'_>| match frame {
            ToData::SetPeer(peer) => format!("+{}", peer.id),
            ToData::RemovePeer(id) => format!("-{id}"),
            _ => "?".into(),
        };
        frames.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn only_what_differs_is_told_and_removals_come_first() {
        let epoch = EpochKey::generate(&mut OsRng);
        let (a, mut b, mut c) = (machine(1), machine(2), machine(3));
        let mut peers = Peers::default();
        peers.update(&wanted(&[&a], &epoch));
        peers.update(&wanted(&[&a, &b], &epoch));
        assert_eq!(text(&peers.update(&wanted(&[&a, &b], &epoch))), "");

        // c takes over the address of a, which goes; b gets a route.
        c.ipv4 = a.ipv4;
        b.routes.push(InnerNet::new("192.168.7.0".parse().unwrap(), 24).unwrap());
        let frames = text(&peers.update(&wanted(&[&b, &c], &epoch)));
        assert!(frames == "-1 +2 +3" || frames == "-1 +3 +2", "{frames}");
        assert!(peers.key(1).is_none() && peers.number(&c.identity.wireguard) == Some(3));
    }

    #[test]
    fn a_new_data_path_is_told_all_under_the_same_numbers() {
        let epoch = EpochKey::generate(&mut OsRng);
        let (a, b) = (machine(1), machine(2));
        let mut peers = Peers::default();
        let first = text(&peers.update(&wanted(&[&a, &b], &epoch)));
        assert_eq!(text(&peers.all().collect::<Vec<_>>()), first);
    }

    #[test]
    fn a_new_epoch_changes_every_peer_and_keeps_its_number() {
        let mut peers = Peers::default();
        let a = machine(1);
        peers.update(&wanted(&[&a], &EpochKey::generate(&mut OsRng)));
        assert_eq!(text(&peers.update(&wanted(&[&a], &EpochKey::generate(&mut OsRng)))), "+1");
    }
}
