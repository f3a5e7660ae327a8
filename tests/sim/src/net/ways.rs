//! Whether two machines can reach each other directly at all.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    time::Duration,
};

use super::{Home, Net, RELAYS};
use crate::{
    host::PORT,
    nat::{Filtering, Mapping, Nat},
    plan::Site,
};

/// What leads from one machine to another beside relays.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Nothing.
    No,
    /// Simultaneous opens.
    Open,
    /// Many sockets of this machine alone: its router gives it another port towards the other one than everybody sees.
    Sought(usize),
}

/// How a router gives ports, as far as one destination is concerned.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Port {
    /// The one that STUN servers see.
    Seen,
    /// Another.
    Other,
    /// STUN servers see none, or more than one.
    Unknown,
}

impl Net {
    /// What leads from one machine to the other: by the theory of simultaneous opens, and by what their routers have in mind
    /// where that decides.
    pub(crate) fn way(&self, now: Duration, a: usize, b: usize) -> Way {
        let (sa, sb) = (self.stations[a], self.stations[b]);
        let (ha, hb) = (&self.homes[sa.home], &self.homes[sb.home]);
        let open_if = |open| if open { Way::Open } else { Way::No };
        if sa.home == sb.home {
            return open_if((sa.v4.is_some() && sb.v4.is_some()) || (sa.v6.is_some() && sb.v6.is_some()));
        }
        if ha.place.site == Site::Blocked || hb.place.site == Site::Blocked {
            return Way::No;
        }
        if sa.v6.is_some() && sb.v6.is_some() {
            return Way::Open;
        }
        if sa.v4.is_none() || sb.v4.is_none() {
            return Way::No;
        }
        if ha.shared.is_some() && ha.shared == hb.shared {
            // Only through the provider's router, back to itself.
            return open_if(ha.shared.is_some_and(|at| {
                self.shared[at].hairpin && self.shared[at].rules.mapping == Mapping::Independent
            }));
        }
        match (self.seen_as(ha), self.seen_as(hb)) {
            ((Mapping::Dependent, _), (Mapping::Dependent, _)) => Way::No,
            // The one with a port for each destination comes from a port that nobody has sent to.
            ((Mapping::Dependent, _), (_, lets)) | ((_, lets), (Mapping::Dependent, _)) => {
                open_if(lets != Filtering::AddressPort)
            }
            ((_, Filtering::AddressPort), (_, Filtering::AddressPort)) => {
                match (self.port_towards(now, a, b), self.port_towards(now, b, a)) {
                    (Port::Seen, Port::Seen) => Way::Open,
                    (Port::Other, Port::Seen) => Way::Sought(a),
                    (Port::Seen, Port::Other) => Way::Sought(b),
                    _ => Way::No,
                }
            }
            // Who lets in whatever comes from an address that was sent to needs no port.
            _ => Way::Open,
        }
    }

    /// How all the routers of a home look together from outside.
    fn seen_as(&self, home: &Home) -> (Mapping, Filtering) {
        let own = home.nat.as_ref().map(|nat| nat.rules);
        let shared = home.shared.map(|at| self.shared[at].rules);
        let rules = || own.into_iter().chain(shared);
        let dependent = rules().any(|rules| rules.mapping == Mapping::Dependent);
        let mapping = if dependent { Mapping::Dependent } else { Mapping::Independent };
        (mapping, rules().map(|rules| rules.filtering).max().unwrap_or(Filtering::Anyone))
    }

    /// What a machine's router gives towards another one.
    fn port_towards(&self, now: Duration, host: usize, other: usize) -> Port {
        let station = self.stations[host];
        let nat = self.homes[station.home].nat.as_ref();
        let Some(nat) = nat.filter(|nat| nat.rules.mapping == Mapping::Netfilter) else { return Port::Seen };
        let inner = station.v4.map(|addr| SocketAddrV4::new(addr, PORT));
        match (inner, self.shown(now, host), self.shown(now, other)) {
            (Some(inner), Some(own), Some(other)) if nat.towards(now, inner, other) == Some(own.port()) => {
                Port::Seen
            }
            (_, Some(_), Some(_)) => Port::Other,
            _ => Port::Unknown,
        }
    }

    /// Where all STUN servers that have lately heard of a machine see it.
    fn shown(&self, now: Duration, host: usize) -> Option<SocketAddrV4> {
        let station = self.stations[host];
        let home = &self.homes[station.home];
        let is_server = |to: SocketAddrV4| to.ip().octets()[2] >= RELAYS;
        let through = |nat: &Nat, inner: SocketAddrV4| -> Option<(Ipv4Addr, u16)> {
            let mut ports = nat.ports(now, inner, is_server);
            let port = ports.next()?;
            ports.all(|other| other == port).then_some((nat.ip, port))
        };
        let mut seen = SocketAddrV4::new(station.v4?, PORT);
        for nat in home.nat.iter().chain(home.shared.map(|at| &self.shared[at])) {
            let (ip, port) = through(nat, seen)?;
            seen = SocketAddrV4::new(ip, port);
        }
        Some(seen)
    }
}
