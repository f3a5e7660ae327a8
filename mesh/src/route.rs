//! Cryptokey routing: which peer an inner address belongs to.
//!
//! A binary trie over address bits in which chains of single children are one node. The longest range that contains
//! an address decides, for packets that go out and for the source of packets that come in: a peer with a wide range
//! can't send as the owner of a narrower one inside it. A range has one owner; the newest claim wins.

use std::net::IpAddr;

use proto::metadata::InnerNet;

const NONE: u32 = u32::MAX;

/// Ranges and their owners, by slot.
pub(crate) struct Routes {
    v4: Trie,
    v6: Trie,
}

struct Trie {
    nodes: Vec<Node>,
    root: u32,
    free: Vec<u32>,
}

struct Node {
    /// The first `len` bits, at the top; the rest is zero.
    bits: u128,
    len: u8,
    owner: Option<u32>,
    children: [u32; 2],
}

impl Routes {
    pub(crate) fn new() -> Self {
        Self { v4: Trie::new(), v6: Trie::new() }
    }

    /// Gives a range to a peer.
    pub(crate) fn insert(&mut self, net: InnerNet, owner: u32) {
        let trie = if net.addr().is_ipv4() { &mut self.v4 } else { &mut self.v6 };
        trie.insert(top_bits(net.addr()), net.prefix_len(), owner);
    }

    /// Takes a range from a peer, if it is still that peer's.
    pub(crate) fn remove(&mut self, net: InnerNet, owner: u32) {
        let trie = if net.addr().is_ipv4() { &mut self.v4 } else { &mut self.v6 };
        trie.remove(top_bits(net.addr()), net.prefix_len(), owner);
    }

    /// The owner of the longest range that contains the address.
    pub(crate) fn owner(&self, addr: IpAddr) -> Option<u32> {
        let trie = if addr.is_ipv4() { &self.v4 } else { &self.v6 };
        trie.longest(top_bits(addr), 0)
    }

    /// Whether an address belongs to a peer by more than a share of the whole internet, which does not make it part
    /// of the network.
    pub(crate) fn is_inside(&self, addr: IpAddr) -> bool {
        let (trie, shortest) = if addr.is_ipv4() { (&self.v4, 8) } else { (&self.v6, 16) };
        trie.longest(top_bits(addr), shortest).is_some()
    }
}

fn top_bits(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(a) => u128::from(a.to_bits()) << 96,
        IpAddr::V6(a) => a.to_bits(),
    }
}

/// How many leading bits two values share, at most `limit`.
fn shared(a: u128, b: u128, limit: u8) -> u8 {
    ((a ^ b).leading_zeros() as u8).min(limit)
}

/// The bit behind the first `len`.
fn bit(bits: u128, len: u8) -> usize {
    (bits >> (127 - len) & 1) as usize
}

fn prefix(bits: u128, len: u8) -> u128 {
    bits & u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0)
}

impl Trie {
    fn new() -> Self {
        Self { nodes: Vec::new(), root: NONE, free: Vec::new() }
    }

    /// The owner of the longest range around the address, of those with `shortest` bits at least.
    fn longest(&self, addr: u128, shortest: u8) -> Option<u32> {
        let mut best = None;
        let mut at = self.root;
        while at != NONE {
            let node = &self.nodes[at as usize];
            if shared(addr, node.bits, node.len) < node.len {
                break;
            }
            best = node.owner.filter(|_| node.len >= shortest).or(best);
            if node.len == 128 {
                break;
            }
            at = node.children[bit(addr, node.len)];
        }
        best
    }

    fn insert(&mut self, bits: u128, len: u8, owner: u32) {
        let mut parent: Option<(u32, usize)> = None;
        let mut at = self.root;
        loop {
            if at == NONE {
                let leaf = self.add(bits, len, Some(owner));
                return self.hang(parent, leaf);
            }
            let (node_bits, node_len) = (self.nodes[at as usize].bits, self.nodes[at as usize].len);
            let common = shared(bits, node_bits, len.min(node_len));
            if common == node_len && common == len {
                self.nodes[at as usize].owner = Some(owner);
                return;
            }
            if common == node_len {
                let side = bit(bits, node_len);
                parent = Some((at, side));
                at = self.nodes[at as usize].children[side];
                continue;
            }
            // The new range contains this node, or they part ways above it.
            let fork = self.add(prefix(bits, common), common, (common == len).then_some(owner));
            self.nodes[fork as usize].children[bit(node_bits, common)] = at;
            if common < len {
                let leaf = self.add(bits, len, Some(owner));
                self.nodes[fork as usize].children[bit(bits, common)] = leaf;
            }
            return self.hang(parent, fork);
        }
    }

    fn remove(&mut self, bits: u128, len: u8, owner: u32) {
        let mut path: Vec<(u32, usize)> = Vec::new();
        let mut at = self.root;
        while at != NONE {
            let node = &mut self.nodes[at as usize];
            if node.bits == bits && node.len == len {
                if node.owner == Some(owner) {
                    node.owner = None;
                    self.prune(at, path);
                }
                return;
            }
            if node.len >= len || shared(bits, node.bits, node.len) < node.len {
                return;
            }
            let side = bit(bits, node.len);
            path.push((at, side));
            at = node.children[side];
        }
    }

    /// Takes out nodes that hold nothing and fork nothing, from `at` upwards.
    fn prune(&mut self, mut at: u32, mut path: Vec<(u32, usize)>) {
        loop {
            let node = &self.nodes[at as usize];
            let only = match node.children {
                _ if node.owner.is_some() => return,
                [NONE, child] | [child, NONE] => child,
                _ => return,
            };
            self.free.push(at);
            let parent = path.pop();
            self.hang(parent, only);
            match parent {
                Some((above, _)) => at = above,
                None => return,
            }
        }
    }

    fn add(&mut self, bits: u128, len: u8, owner: Option<u32>) -> u32 {
        let node = Node { bits, len, owner, children: [NONE; 2] };
        if let Some(at) = self.free.pop() {
            self.nodes[at as usize] = node;
            return at;
        }
        self.nodes.push(node);
        (self.nodes.len() - 1) as u32
    }

    fn hang(&mut self, parent: Option<(u32, usize)>, child: u32) {
        match parent {
            None => self.root = child,
            Some((at, side)) => self.nodes[at as usize].children[side] = child,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;
    use proto::metadata::InnerAddr;

    use super::*;

    fn net(text: &str) -> InnerNet {
        let (addr, len) = text.split_once('/').unwrap();
        InnerNet::new(addr.parse().unwrap(), len.parse().unwrap()).unwrap()
    }

    #[test]
    fn the_longest_range_owns_an_address() {
        let mut routes = Routes::new();
        routes.insert(net("0.0.0.0/0"), 1);
        routes.insert(net("10.0.0.0/8"), 2);
        routes.insert(net("10.1.2.3/32"), 3);
        assert_eq!(routes.owner("10.1.2.3".parse().unwrap()), Some(3));
        assert_eq!(routes.owner("10.1.2.4".parse().unwrap()), Some(2));
        assert_eq!(routes.owner("9.9.9.9".parse().unwrap()), Some(1));
        assert_eq!(routes.owner("fd00::1".parse().unwrap()), None);
    }

    #[test]
    fn removing_every_range_leaves_no_node_in_use() {
        let mut routes = Routes::new();
        let nets = ["0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.3/32", "192.168.0.0/16"];
        for (owner, text) in nets.iter().enumerate() {
            routes.insert(net(text), owner as u32);
        }
        for (owner, text) in nets.iter().enumerate() {
            routes.remove(net(text), owner as u32);
        }
        assert_eq!(routes.v4.root, NONE);
        assert_eq!(routes.v4.free.len(), routes.v4.nodes.len());
    }

    /// Addresses from a small space, so that ranges nest and collide.
    fn addrs() -> impl Strategy<Value = IpAddr> {
        prop_oneof![
            (0u32..64).prop_map(|n| IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 | n << 26 | n))),
            (0u128..64).prop_map(|n| IpAddr::V6(Ipv6Addr::from_bits(n << 122 | n))),
        ]
    }

    fn range(addr: IpAddr, len: u8) -> InnerNet {
        let longest = if addr.is_ipv4() { 32 } else { 128 };
        InnerNet::new(addr, len % (longest + 1)).unwrap()
    }

    proptest! {
        /// The oracle keeps a list and looks at all of it.
        #[test]
        fn the_trie_agrees_with_a_plain_list(
            steps in proptest::collection::vec((any::<bool>(), addrs(), any::<u8>(), 0u32..4), 1..120),
            asked in proptest::collection::vec(addrs(), 1..40),
        ) {
            let mut routes = Routes::new();
            let mut list: Vec<(InnerNet, u32)> = Vec::new();
            for (add, addr, len, owner) in steps {
                let net = range(addr, len);
                if add {
                    routes.insert(net, owner);
                    list.retain(|(n, _)| *n != net);
                    list.push((net, owner));
                } else {
                    routes.remove(net, owner);
                    list.retain(|entry| *entry != (net, owner));
                }
            }
            for addr in asked {
                let expected = list
                    .iter()
                    .filter(|(net, _)| net.contains(InnerAddr(addr)))
                    .max_by_key(|(net, _)| net.prefix_len())
                    .map(|(_, owner)| *owner);
                prop_assert_eq!(routes.owner(addr), expected);
            }
        }
    }
}
