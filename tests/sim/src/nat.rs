//! Routers that translate addresses, by mapping and filtering (RFC 4787), and firewalls that do not.

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
    inside: Option<SocketAddrV4>,
}

struct Entry {
    inner: SocketAddrV4,
    /// The one destination that it is for, with dependent mapping.
    only: Option<SocketAddrV4>,
    port: u16,
    used: Duration,
    sent_to: Vec<(SocketAddrV4, Duration)>,
}

impl Nat {
    pub(crate) fn new(rules: Rules, ip: Ipv4Addr, hairpin: bool, life: Duration) -> Self {
        Self { rules, ip, hairpin, life, table: Vec::new(), inside: None }
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
        let life = self.life;
        self.table.retain(|entry| now < entry.used + life);
        let only = (self.rules.mapping == Mapping::Dependent).then_some(dst);
        let at = match self.table.iter().position(|entry| entry.inner == inner && entry.only == only) {
            Some(at) => at,
            None => {
                let port = self.port(inner.port(), dice);
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
    pub(crate) fn incoming(&self, now: Duration, from: SocketAddrV4, port: u16) -> Option<SocketAddrV4> {
        if self.rules.blocked {
            return None;
        }
        let live = |used: Duration| now < used + self.life;
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

    fn port(&self, wanted: u16, dice: &mut Dice) -> u16 {
        let taken = |port: u16| self.table.iter().any(|entry| entry.port == port);
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
