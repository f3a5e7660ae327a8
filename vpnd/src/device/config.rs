//! What an interface is configured to be: the private key, the peers and their ranges. A range has one peer.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use proto::{
    metadata::{Endpoint, InnerNet},
    pipe::{MAX_ALLOWED, PlainPeer},
    uapi::{Errno, MAX_PEERS, Secret, Set, SetPeer, TOO_MUCH},
};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

/// The private key and the peers.
#[derive(Default)]
pub struct Config {
    private_key: Option<Secret>,
    public_key: Option<[u8; 32]>,
    /// Each in memory of its own, which is overwritten when it goes: the map's would be used on.
    peers: BTreeMap<u32, Box<Peer>>,
    by_key: HashMap<[u8; 32], u32>,
    owners: HashMap<InnerNet, u32>,
    next: u32,
}

/// A peer.
pub struct Peer {
    /// Its public key.
    pub public_key: [u8; 32],
    /// Its pre-shared key; zeros: none.
    pub preshared_key: Secret,
    /// Where a caller said last that it is. It may have moved since.
    pub endpoint: Option<Endpoint>,
    /// Seconds between keepalives; 0: none.
    pub keepalive: u16,
    /// Its ranges.
    pub allowed: BTreeSet<InnerNet>,
}

/// What the data path is to be told.
#[derive(Default)]
pub struct Changes {
    /// The private key is another one.
    pub key: bool,
    /// Numbers of peers that are gone.
    pub removed: Vec<u32>,
    /// Numbers of peers that are new or changed, and whether it was said where they are.
    pub changed: BTreeMap<u32, bool>,
}

impl Config {
    /// The private key.
    #[must_use]
    pub fn private_key(&self) -> Option<&Secret> {
        self.private_key.as_ref()
    }

    /// The peers by number, in the order in which they came.
    pub fn peers(&self) -> impl Iterator<Item = (u32, &Peer)> {
        self.peers.iter().map(|(id, peer)| (*id, &**peer))
    }

    /// The frame that tells a data path of a peer; `placed`: where it is, too.
    #[must_use]
    pub fn frame(&self, id: u32, placed: bool) -> Option<PlainPeer> {
        let peer = self.peers.get(&id)?;
        Some(PlainPeer {
            id,
            wireguard: peer.public_key,
            psk: peer.preshared_key.clone(),
            endpoint: peer.endpoint.filter(|_| placed),
            keepalive: peer.keepalive,
            allowed: peer.allowed.iter().copied().collect(),
        })
    }

    /// Changes all that is named, or nothing. (The port and the mark are the sockets'.)
    ///
    /// # Errors
    /// There would be more peers, or more ranges of one, than are kept.
    pub fn apply(&mut self, set: Set) -> Result<Changes, Errno> {
        self.has_room(&set)?;
        let mut changes = Changes::default();
        if let Some(key) = set.private_key.map(|key| key.map(clamped))
            && key != self.private_key
        {
            self.public_key = key.as_ref().map(|key| PublicKey::from(&StaticSecret::from(**key)).to_bytes());
            self.private_key = key;
            changes.key = true;
            // Nobody is a peer of itself.
            if let Some(id) = self.public_key.and_then(|own| self.by_key.get(&own).copied()) {
                self.remove(id, &mut changes);
            }
        }
        if set.replace_peers {
            let named: BTreeSet<[u8; 32]> = set.peers.iter().map(|peer| peer.public_key).collect();
            let kept = |peer: &Peer| named.contains(&peer.public_key);
            let gone: Vec<u32> =
                self.peers.iter().filter(|(_, peer)| !kept(peer)).map(|(id, _)| *id).collect();
            gone.into_iter().for_each(|id| self.remove(id, &mut changes));
            // Of those that are named again nothing stays but their sessions.
            for (id, peer) in &mut self.peers {
                peer.reset();
                changes.changed.insert(*id, false);
            }
            self.owners.clear();
        }
        for peer in set.peers {
            self.set_peer(peer, &mut changes);
        }
        Ok(changes)
    }

    fn set_peer(&mut self, set: SetPeer, changes: &mut Changes) {
        let known = self.by_key.get(&set.public_key).copied();
        if set.remove {
            known.into_iter().for_each(|id| self.remove(id, changes));
            return;
        }
        if known.is_none() && (set.update_only || self.public_key == Some(set.public_key)) {
            return;
        }
        let id = known.unwrap_or_else(|| self.add(set.public_key));
        let Some(peer) = self.peers.get_mut(&id) else { return };
        *changes.changed.entry(id).or_default() |= set.endpoint.is_some();
        peer.preshared_key = set.preshared_key.unwrap_or_else(|| peer.preshared_key.clone());
        peer.endpoint = set.endpoint.or(peer.endpoint);
        peer.keepalive = set.keepalive.unwrap_or(peer.keepalive);
        if set.replace_allowed_ips {
            for net in std::mem::take(&mut peer.allowed) {
                self.owners.remove(&net);
            }
        }
        for (net, add) in set.allowed {
            if add {
                self.give(net, id, changes);
            } else if self.owners.get(&net) == Some(&id) {
                self.take(net, changes);
            }
        }
    }

    fn add(&mut self, public_key: [u8; 32]) -> u32 {
        let id = self.next;
        self.next += 1;
        self.by_key.insert(public_key, id);
        let peer = Peer {
            public_key,
            preshared_key: Zeroizing::new([0; 32]),
            endpoint: None,
            keepalive: 0,
            allowed: BTreeSet::new(),
        };
        self.peers.insert(id, Box::new(peer));
        id
    }

    fn remove(&mut self, id: u32, changes: &mut Changes) {
        let Some(peer) = self.peers.remove(&id) else { return };
        self.by_key.remove(&peer.public_key);
        for net in &peer.allowed {
            self.owners.remove(net);
        }
        changes.changed.remove(&id);
        changes.removed.push(id);
    }

    fn give(&mut self, net: InnerNet, id: u32, changes: &mut Changes) {
        self.take(net, changes);
        self.owners.insert(net, id);
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.allowed.insert(net);
        }
    }

    /// Takes a range from whoever has it.
    fn take(&mut self, net: InnerNet, changes: &mut Changes) {
        let Some(owner) = self.owners.remove(&net) else { return };
        if let Some(peer) = self.peers.get_mut(&owner) {
            peer.allowed.remove(&net);
            changes.changed.entry(owner).or_default();
        }
    }

    /// Whether a request can be done.
    ///
    /// # Errors
    /// As [`Config::apply`].
    pub fn has_room(&self, set: &Set) -> Result<(), Errno> {
        let kept = if set.replace_peers { 0 } else { self.peers.len() };
        if kept + set.peers.iter().filter(|peer| !self.by_key.contains_key(&peer.public_key)).count()
            > MAX_PEERS
        {
            return Err(TOO_MUCH);
        }
        let mut ranges: HashMap<[u8; 32], usize> = HashMap::new();
        for peer in &set.peers {
            let known = self.by_key.get(&peer.public_key).and_then(|id| self.peers.get(id));
            let kept = known.filter(|_| !peer.replace_allowed_ips && !set.replace_peers);
            let count = ranges.entry(peer.public_key).or_insert(kept.map_or(0, |peer| peer.allowed.len()));
            *count += peer.allowed.iter().filter(|(_, add)| *add).count();
            if *count > MAX_ALLOWED {
                return Err(TOO_MUCH);
            }
        }
        Ok(())
    }
}

/// As a key is used, and as the kernel keeps it: which of the bits that say nothing were set is not told again.
fn clamped(mut key: Secret) -> Secret {
    key[0] &= 0b1111_1000;
    key[31] = key[31] & 0b0111_1111 | 0b0100_0000;
    key
}

impl Peer {
    fn reset(&mut self) {
        self.preshared_key = Zeroizing::new([0; 32]);
        (self.endpoint, self.keepalive) = (None, 0);
        self.allowed.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> InnerNet {
        let (addr, len) = text.split_once('/').unwrap();
        InnerNet::new(addr.parse().unwrap(), len.parse().unwrap()).unwrap()
    }

    /// What a request comes to.
    fn set(config: &mut Config, text: &str) -> Result<Changes, Errno> {
        let mut parser = proto::uapi::Parser::default();
        let lines = text.replace("KEY", &"00".repeat(31));
        let mut request = None;
        for line in std::iter::once("set=1").chain(lines.split_whitespace()).chain([""]) {
            request = parser.line(line.as_bytes(), |_| None);
        }
        match request.unwrap()? {
            proto::uapi::Request::Set(set) => config.apply(*set),
            proto::uapi::Request::Get => panic!("that is no get"),
        }
    }

    fn ranges(config: &Config, key: u8) -> Vec<InnerNet> {
        let peer = config.peers().find(|(_, peer)| peer.public_key[31] == key).unwrap().1;
        peer.allowed.iter().copied().collect()
    }

    #[test]
    fn a_range_moves_to_the_peer_that_is_given_it_and_both_are_told() {
        let mut config = Config::default();
        set(&mut config, "public_key=KEY01 allowed_ip=10.0.0.0/8 allowed_ip=10.1.0.0/16 public_key=KEY02")
            .unwrap();
        let changes = set(&mut config, "public_key=KEY02 allowed_ip=10.0.0.0/8").unwrap();
        assert!(ranges(&config, 1) == [net("10.1.0.0/16")] && ranges(&config, 2) == [net("10.0.0.0/8")]);
        assert_eq!(changes.changed.into_iter().collect::<Vec<_>>(), [(0, false), (1, false)]);
        set(&mut config, "public_key=KEY01 allowed_ip=-10.0.0.0/8 allowed_ip=-10.1.0.0/16").unwrap();
        assert!(
            ranges(&config, 1).is_empty() && ranges(&config, 2) == [net("10.0.0.0/8")],
            "not its own stays"
        );
        set(&mut config, "public_key=KEY02 replace_allowed_ips=true allowed_ip=fd00::/8").unwrap();
        assert!(ranges(&config, 2) == [net("fd00::/8")]);
    }

    #[test]
    fn a_peer_is_made_updated_and_removed() {
        let mut config = Config::default();
        let changes =
            set(&mut config, "public_key=KEY01 update_only=true public_key=KEY02 endpoint=192.0.2.1:9")
                .unwrap();
        assert_eq!(changes.changed.into_iter().collect::<Vec<_>>(), [(0, true)]);
        assert_eq!(config.peers().count(), 1, "an update makes none");
        let changes = set(&mut config, "public_key=KEY02 persistent_keepalive_interval=5").unwrap();
        assert!(!changes.changed[&0] && config.peers().next().unwrap().1.keepalive == 5);
        assert!(
            config.frame(0, false).unwrap().endpoint.is_none()
                && config.frame(0, true).unwrap().endpoint.is_some()
        );
        let changes = set(&mut config, "public_key=KEY02 remove=true public_key=KEY03 remove=true").unwrap();
        assert!(changes.removed == [0] && changes.changed.is_empty() && config.peers().count() == 0);
        set(&mut config, "public_key=KEY02").unwrap();
        assert_eq!(config.peers().next().unwrap().0, 1, "with a number of its own");
    }

    #[test]
    fn replacing_all_peers_keeps_the_sessions_of_those_that_are_named() {
        let mut config = Config::default();
        set(&mut config, "public_key=KEY01 allowed_ip=10.0.0.1/32 endpoint=192.0.2.1:9 public_key=KEY02")
            .unwrap();
        let changes = set(&mut config, "replace_peers=true public_key=KEY01 public_key=KEY03").unwrap();
        assert_eq!(changes.removed, [1]);
        assert_eq!(changes.changed.keys().copied().collect::<Vec<_>>(), [0, 2]);
        assert!(ranges(&config, 1).is_empty());
        assert!(config.owners.is_empty());
    }

    #[test]
    fn a_private_key_is_told_once_and_no_peer_has_it() {
        let mut config = Config::default();
        let own = PublicKey::from(&StaticSecret::from([0x11; 32])).to_bytes();
        let own: String = own.iter().map(|byte| format!("{byte:02x}")).collect();
        let key = "11".repeat(32);
        set(&mut config, &format!("public_key={own}")).unwrap();
        let changes = set(&mut config, &format!("private_key={key}")).unwrap();
        assert!(changes.key && changes.removed == [0]);
        let kept = config.private_key().unwrap();
        assert!((kept[0], kept[1], kept[31]) == (0x10, 0x11, 0x51), "as the kernel would show it");
        let changes = set(&mut config, &format!("private_key={key} public_key={own}")).unwrap();
        assert!(!changes.key && config.peers().count() == 0);
        assert!(set(&mut config, &format!("private_key={}", "00".repeat(32))).unwrap().key);
        assert!(config.private_key().is_none());
    }

    #[test]
    fn what_is_too_much_changes_nothing() {
        let mut config = Config::default();
        let ranges: String = (0..MAX_ALLOWED as u32)
            .map(|n| format!("allowed_ip={}/32 ", std::net::Ipv4Addr::from_bits(n)))
            .collect();
        set(&mut config, &format!("public_key=KEY01 {ranges}")).unwrap();
        let more = "listen_port=9 public_key=KEY02 public_key=KEY01 allowed_ip=10.0.0.0/8";
        assert_eq!(set(&mut config, more).err(), Some(TOO_MUCH));
        assert_eq!(config.peers().count(), 1);
        let instead = "public_key=KEY01 replace_allowed_ips=true allowed_ip=10.0.0.0/8";
        assert!(set(&mut config, instead).is_ok());
    }
}
