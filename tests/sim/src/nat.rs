//! Routers that translate addresses, by mapping and filtering (RFC 4787), and firewalls that do not.
//!
//! Home routers run Linux, mostly, whose connection tracking looks at tuples, not at endpoints ([`Mapping::Netfilter`]): a port
//! may be taken towards one destination and free towards all others.

use std::{
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
    time::Duration,
};

use crate::{dice::Dice, plan::Site};

/// Which outside port an inside port gets.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mapping {
    /// One for all destinations.
    Independent,
    /// A random one for each.
    Dependent,
    /// Towards each destination the one that was given last, or else its own, if nobody else has that towards the same
    /// destination; otherwise a random one. A mapping lives as long as packets pass either way.
    Netfilter,
}

/// From whom packets are let in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Filtering {
    Anyone,
    /// Whose address was sent to.
    Address,
    /// Whose address and port were sent to.
    AddressPort,
}

#[derive(Clone, Copy)]
pub(crate) struct Rules {
    pub(crate) mapping: Mapping,
    pub(crate) filtering: Filtering,
    pub(crate) keeps_port: bool,
    pub(crate) blocked: bool,
    /// All that comes goes to this machine.
    pub(crate) forward: bool,
}

impl Rules {
    /// What a site's own router does; none if there is no router.
    pub(crate) fn of(site: Site) -> Option<Self> {
        let easy = Self {
            mapping: Mapping::Independent,
            filtering: Filtering::AddressPort,
            keeps_port: true,
            blocked: false,
            forward: false,
        };
        Some(match site {
            Site::Public => return None,
            Site::Easy | Site::Shared | Site::SharedHard | Site::SameLan | Site::OnlyV6 => easy,
            Site::Netfilter => Self { mapping: Mapping::Netfilter, ..easy },
            Site::Remap => Self { keeps_port: false, ..easy },
            Site::Address => Self { filtering: Filtering::Address, ..easy },
            Site::FullCone => Self { filtering: Filtering::Anyone, ..easy },
            Site::OneToOne => Self { filtering: Filtering::Anyone, forward: true, ..easy },
            Site::Hard => Self::hard(),
            Site::Blocked => Self { blocked: true, ..easy },
        })
    }

    pub(crate) fn hard() -> Self {
        Self {
            mapping: Mapping::Dependent,
            filtering: Filtering::AddressPort,
            keeps_port: false,
            blocked: false,
            forward: false,
        }
    }
}

/// One router.
pub(crate) struct Nat {
    pub(crate) rules: Rules,
    pub(crate) ip: Ipv4Addr,
    pub(crate) hairpin: bool,
    life: Duration,
    table: Vec<Entry>,
    /// No mapping is dead before.
    oldest_dies: Duration,
    inside: Option<SocketAddrV4>,
}

struct Entry {
    inner: SocketAddrV4,
    /// The one destination that it is for, unless mapping is independent of that.
    only: Option<SocketAddrV4>,
    port: u16,
    used: Duration,
    sent_to: Vec<(SocketAddrV4, Duration)>,
}

impl Nat {
    pub(crate) fn new(rules: Rules, ip: Ipv4Addr, hairpin: bool, life: Duration) -> Self {
        Self { rules, ip, hairpin, life, table: Vec::new(), oldest_dies: Duration::ZERO, inside: None }
    }

    /// A packet goes out; what it seems to come from.
    pub(crate) fn out(
        &mut self,
        now: Duration,
        inner: SocketAddrV4,
        dst: SocketAddrV4,
        dice: &mut Dice,
    ) -> Option<SocketAddrV4> {
        if self.rules.blocked {
            return None;
        }
        self.inside = Some(inner);
        if now >= self.oldest_dies {
            let life = self.life;
            self.table.retain(|entry| now < entry.used + life);
            let oldest = self.table.iter().map(|entry| entry.used).min();
            self.oldest_dies = oldest.unwrap_or(now) + life;
        }
        let only = (self.rules.mapping != Mapping::Independent).then_some(dst);
        let at = match self.table.iter().position(|entry| entry.inner == inner && entry.only == only) {
            Some(at) => at,
            None => {
                let kept = match self.rules.mapping {
                    Mapping::Netfilter => self.kept(now, inner, dst),
                    _ => None,
                };
                let port = kept.unwrap_or_else(|| self.port(inner.port(), dst, dice));
                self.table.push(Entry { inner, only, port, used: now, sent_to: Vec::new() });
                self.table.len() - 1
            }
        };
        let entry = &mut self.table[at];
        entry.used = now;
        match entry.sent_to.iter_mut().find(|(to, _)| *to == dst) {
            Some((_, used)) => *used = now,
            None => entry.sent_to.push((dst, now)),
        }
        Some(SocketAddrV4::new(self.ip, entry.port))
    }

    /// A packet comes to one of its ports; which machine inside it is for.
    pub(crate) fn incoming(&mut self, now: Duration, from: SocketAddrV4, port: u16) -> Option<SocketAddrV4> {
        if self.rules.blocked {
            return None;
        }
        let life = self.life;
        let live = |used: Duration| now < used + life;
        if self.rules.mapping == Mapping::Netfilter {
            let is = |entry: &&mut Entry| entry.port == port && entry.only == Some(from) && live(entry.used);
            let entry = self.table.iter_mut().find(is)?;
            entry.used = now;
            return Some(entry.inner);
        }
        let entry = self.table.iter().find(|entry| entry.port == port && live(entry.used));
        let Some(entry) = entry else {
            return self.inside.filter(|inside| self.rules.forward && inside.port() == port);
        };
        let open = match self.rules.filtering {
            Filtering::Anyone => true,
            Filtering::Address => entry.sent_to.iter().any(|(to, used)| to.ip() == from.ip() && live(*used)),
            Filtering::AddressPort => entry.sent_to.iter().any(|(to, used)| *to == from && live(*used)),
        };
        open.then_some(entry.inner)
    }

    /// Forgets all mappings.
    pub(crate) fn flush(&mut self) {
        self.table.clear();
    }

    /// The port that a machine has towards a destination, or would get there; none if that is left to chance.
    pub(crate) fn towards(&self, now: Duration, inner: SocketAddrV4, dst: SocketAddrV4) -> Option<u16> {
        let only = (self.rules.mapping != Mapping::Independent).then_some(dst);
        let known = self.live(now).find(|entry| entry.inner == inner && entry.only == only);
        let known = known.map(|entry| entry.port);
        known.or_else(|| self.kept(now, inner, dst).filter(|_| self.rules.mapping == Mapping::Netfilter))
    }

    /// The ports that a machine has towards destinations of some kind.
    pub(crate) fn ports(
        &self,
        now: Duration,
        inner: SocketAddrV4,
        to: impl Fn(SocketAddrV4) -> bool,
    ) -> impl Iterator<Item = u16> {
        let mine = move |entry: &&Entry| entry.inner == inner && entry.only.is_none_or(&to);
        self.live(now).filter(mine).map(|entry| entry.port)
    }

    /// What netfilter gives without chance, for a tuple that it does not know.
    fn kept(&self, now: Duration, inner: SocketAddrV4, dst: SocketAddrV4) -> Option<u16> {
        let newest = self.live(now).rfind(|entry| entry.inner == inner).map(|entry| entry.port);
        let taken = |port: u16| self.live(now).any(|entry| entry.port == port && entry.only == Some(dst));
        newest.into_iter().chain([inner.port()]).find(|port| !taken(*port))
    }

    fn live(&self, now: Duration) -> impl DoubleEndedIterator<Item = &Entry> {
        self.table.iter().filter(move |entry| now < entry.used + self.life)
    }

    fn port(&self, wanted: u16, dst: SocketAddrV4, dice: &mut Dice) -> u16 {
        let tuples = self.rules.mapping == Mapping::Netfilter;
        let taken = |port: u16| {
            self.table.iter().any(|entry| entry.port == port && (!tuples || entry.only == Some(dst)))
        };
        if self.rules.keeps_port && !taken(wanted) {
            return wanted;
        }
        loop {
            let port = 1_024 + dice.below(64_000) as u16;
            if !taken(port) && port != wanted {
                return port;
            }
        }
    }
}

/// What lets in over IPv6 whom a machine inside has sent to.
pub(crate) struct Firewall {
    life: Duration,
    table: Vec<(SocketAddrV6, SocketAddrV6, Duration)>,
}

impl Firewall {
    pub(crate) fn new(life: Duration) -> Self {
        Self { life, table: Vec::new() }
    }

    pub(crate) fn out(&mut self, now: Duration, inner: SocketAddrV6, dst: SocketAddrV6) {
        match self.table.iter_mut().find(|(i, d, _)| *i == inner && *d == dst) {
            Some((_, _, used)) => *used = now,
            None => self.table.push((inner, dst, now)),
        }
    }

    pub(crate) fn lets_in(&self, now: Duration, from: SocketAddrV6, to: SocketAddrV6) -> bool {
        self.table.iter().any(|(inner, dst, used)| *inner == to && *dst == from && now < *used + self.life)
    }

    pub(crate) fn flush(&mut self) {
        self.table.clear();
    }
}

/// The IPv4 form of an endpoint.
pub(crate) fn v4(endpoint: SocketAddr) -> Option<SocketAddrV4> {
    match endpoint {
        SocketAddr::V4(endpoint) => Some(endpoint),
        SocketAddr::V6(_) => None,
    }
}

/// The IPv6 form of an endpoint.
pub(crate) fn v6(endpoint: SocketAddr) -> Option<SocketAddrV6> {
    match endpoint {
        SocketAddr::V4(_) => None,
        SocketAddr::V6(endpoint) => Some(endpoint),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Duration = Duration::from_secs(30);
    const SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(203, 0, 240, 1), 3_478);
    const PEER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(198, 51, 1, 1), 51_820);

    fn inside(last: u8) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::new(192, 168, 1, last), 51_820)
    }

    fn router(site: Site) -> (Nat, impl FnMut(&mut Nat, u64, u8, SocketAddrV4) -> u16) {
        let rules = Rules::of(site).unwrap();
        let mut dice = Dice::new(1);
        let out = move |nat: &mut Nat, second, last, dst| {
            nat.out(Duration::from_secs(second), inside(last), dst, &mut dice).unwrap().port()
        };
        (Nat::new(rules, Ipv4Addr::new(198, 51, 7, 1), false, LIFE), out)
    }

    #[test]
    fn netfilter_keeps_a_port_towards_all_but_those_towards_whom_another_has_it() {
        let (mut nat, mut out) = router(Site::Netfilter);
        assert_eq!([out(&mut nat, 0, 10, PEER), out(&mut nat, 0, 10, SERVER)], [51_820, 51_820]);
        // The server's mapping dies; what the peer sends keeps its own.
        assert_eq!(nat.incoming(Duration::from_secs(20), PEER, 51_820), Some(inside(10)));
        let then = Duration::from_secs(40);
        assert_eq!(nat.towards(then, inside(11), SERVER), Some(51_820));
        assert_eq!(nat.towards(then, inside(11), PEER), None, "by chance");
        assert_eq!(out(&mut nat, 40, 11, SERVER), 51_820);
        let other = out(&mut nat, 40, 11, PEER);
        assert!(other != 51_820 && nat.towards(then, inside(11), PEER) == Some(other));
        assert_eq!(nat.incoming(then, PEER, other), Some(inside(11)));
        assert_eq!(nat.incoming(then, PEER, 51_820), Some(inside(10)), "and the old one is still there");
        assert_eq!(nat.incoming(then, SERVER, other), None);
        // It lives as long as it is used, though the port is free again.
        assert_eq!([out(&mut nat, 60, 11, PEER), out(&mut nat, 80, 11, PEER)], [other, other]);
    }

    #[test]
    fn netfilter_gives_a_machine_the_port_that_it_gave_it_last_where_that_is_free() {
        let (mut nat, mut out) = router(Site::Netfilter);
        out(&mut nat, 0, 10, SERVER);
        let other = out(&mut nat, 0, 11, SERVER);
        assert_ne!(other, 51_820);
        assert_eq!([out(&mut nat, 0, 11, PEER), out(&mut nat, 0, 10, PEER)], [other, 51_820]);
    }

    #[test]
    fn other_routers_give_one_port_for_all_or_one_for_each() {
        let (mut nat, mut out) = router(Site::Easy);
        out(&mut nat, 0, 10, SERVER);
        let other = out(&mut nat, 0, 11, PEER);
        assert!(other != 51_820 && out(&mut nat, 0, 11, SERVER) == other);
        // What comes in keeps no mapping.
        assert!(nat.incoming(Duration::from_secs(20), PEER, other).is_some());
        assert!(nat.incoming(Duration::from_secs(40), PEER, other).is_none());
        let (mut nat, mut out) = router(Site::Hard);
        assert_ne!(out(&mut nat, 0, 10, SERVER), out(&mut nat, 0, 10, PEER));
    }
}
