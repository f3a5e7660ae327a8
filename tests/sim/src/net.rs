//! Where machines are, and how a datagram gets from one to another.
//!
//! Addresses say where they belong: the third part of an IPv4 address and of an IPv6 prefix is the number of the home
//! that it leads to. Homes are never taken away; a machine that roams gets a new one.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
    time::Duration,
};

use proto::pipe::LocalAddr;

use crate::{
    dice::Dice,
    nat::{Firewall, Nat, Rules, v4, v6},
    plan::{Line, Place, Site},
};

mod ways;

pub(crate) use ways::Way;

/// On a LAN, one way.
pub(crate) const LAN: Duration = Duration::from_micros(300);
/// From the middle of the internet to a relay.
pub(crate) const TO_RELAY: Duration = Duration::from_millis(5);
/// Where STUN is served.
const STUN: u16 = 3_478;
/// Headers before a datagram, in bytes.
const IPV4_UDP: usize = 28;
const IPV6_UDP: usize = 48;
/// Ranges of home networks.
const RANGES: [u8; 3] = [1, 178, 0];
/// The third part of the first relay's address; homes have smaller ones.
const RELAYS: u8 = 240;

pub(crate) struct Net {
    homes: Vec<Home>,
    /// The routers of a provider, which are shared: an easy one that sends back what is for itself, and a hard one
    /// that does not.
    shared: [Nat; 2],
    stations: Vec<Station>,
    /// The homes where the machines were before.
    former: Vec<usize>,
    pub(crate) dice: Dice,
}

struct Home {
    place: Place,
    nat: Option<Nat>,
    shared: Option<usize>,
    firewall: Firewall,
    /// Of the router to the outside.
    wan: Ipv4Addr,
    lan: [u8; 3],
    count: u8,
    /// The machines that are there or were.
    known: BTreeSet<usize>,
}

/// Where a machine is.
#[derive(Clone, Copy)]
struct Station {
    home: usize,
    v4: Option<Ipv4Addr>,
    v6: Option<Ipv6Addr>,
}

/// A datagram on its way.
pub(crate) struct Flight {
    from: SocketAddr,
    to: SocketAddr,
    /// Or in the open.
    lan: Option<usize>,
    pub(crate) takes: Duration,
}

/// Whom a datagram reaches.
pub(crate) enum Landing {
    /// A machine at one of its ports, and where it seems to come from.
    Host(usize, u16, SocketAddr),
    /// The STUN service of a relay.
    Stun(SocketAddr),
}

impl Net {
    pub(crate) fn new(dice: Dice) -> Self {
        let life = Duration::from_secs(60);
        let easy = Rules { keeps_port: false, ..Rules::of(Site::Easy).unwrap_or(Rules::hard()) };
        let shared = [
            Nat::new(easy, Ipv4Addr::new(192, 0, 0, 1), true, life),
            Nat::new(Rules::hard(), Ipv4Addr::new(192, 0, 1, 1), false, life),
        ];
        Self { homes: Vec::new(), shared, stations: Vec::new(), former: Vec::new(), dice }
    }

    /// Where the relays answer STUN; where machines are to know a hard NAT, on the next port too.
    pub(crate) fn stun_servers(relays: usize, twice: bool) -> Vec<SocketAddr> {
        let both = |relay: usize, port: u16| {
            let number = RELAYS + relay as u8;
            [
                SocketAddr::from(([203, 0, number, 1], port)),
                SocketAddr::from(([0x2001, 0xdb8, number.into(), 0, 0, 0, 0, 1], port)),
            ]
        };
        let ports = STUN..=STUN + u16::from(twice);
        ports.flat_map(|port| (0..relays).flat_map(move |relay| both(relay, port))).collect()
    }

    /// Puts a machine into a place, the first time or another.
    pub(crate) fn settle(&mut self, host: usize, place: Place) {
        let beside = (place.site == Site::SameLan && host > 0).then(|| self.stations[host - 1].home);
        let home = beside.unwrap_or_else(|| {
            self.homes.push(Home::new(self.homes.len() as u8, place));
            self.homes.len() - 1
        });
        self.enter(host, home);
    }

    /// Puts a machine into its home of before, if it had another, and gives it other addresses in any case.
    pub(crate) fn go_back(&mut self, host: usize) {
        self.enter(host, self.former[host]);
    }

    fn enter(&mut self, host: usize, home: usize) {
        let station = self.homes[home].welcome(host, home);
        match self.stations.get_mut(host) {
            Some(old) => {
                if old.home != home {
                    self.former[host] = old.home;
                }
                *old = station;
            }
            None => {
                self.stations.push(station);
                self.former.push(home);
            }
        }
    }

    /// The machine's router gets another address. False if the machine has that address itself, and moves.
    pub(crate) fn new_wan(&mut self, host: usize) -> bool {
        let home = &mut self.homes[self.stations[host].home];
        let [a, b, c, d] = home.wan.octets();
        home.wan = Ipv4Addr::new(a, b ^ 1, c, d);
        let Some(nat) = &mut home.nat else { return false };
        nat.ip = home.wan;
        nat.flush();
        true
    }

    pub(crate) fn flush(&mut self, host: usize) {
        let home = &mut self.homes[self.stations[host].home];
        home.nat.iter_mut().for_each(Nat::flush);
        home.firewall.flush();
        if let Some(shared) = home.shared {
            self.shared[shared].flush();
        }
    }

    pub(crate) fn place(&self, host: usize) -> Place {
        self.homes[self.stations[host].home].place
    }

    pub(crate) fn set_line(&mut self, host: usize, line: Line) {
        let old = &mut self.homes[self.stations[host].home].place.line;
        *old = Line { mtu: old.mtu, ..line };
    }

    pub(crate) fn set_mtu(&mut self, host: usize, mtu: u16) {
        self.homes[self.stations[host].home].place.line.mtu = mtu;
    }

    /// The addresses of a machine's interfaces.
    pub(crate) fn locals(&self, host: usize) -> Vec<LocalAddr> {
        let station = self.stations[host];
        let v4 = station.v4.map(|addr| LocalAddr { addr: addr.into(), prefix_len: 24 });
        let v6 = station.v6.map(|addr| LocalAddr { addr: addr.into(), prefix_len: 64 });
        v4.into_iter().chain(v6).collect()
    }

    /// An endpoint that a roster could name: of a machine that has a public address.
    pub(crate) fn fixed(&self, host: usize, port: u16) -> Option<SocketAddr> {
        let station = self.stations[host];
        let public = self.homes[station.home].nat.is_none();
        station.v4.filter(|_| public).map(|addr| SocketAddr::new(addr.into(), port))
    }

    /// Whether what is sent to where a machine is seen can be for nobody else.
    pub(crate) fn has_own_address(&self, host: usize) -> bool {
        let home = &self.homes[self.stations[host].home];
        home.known.len() == 1 && home.shared.is_none()
    }

    /// Machines that have the same home.
    pub(crate) fn together(&self, a: usize, b: usize) -> bool {
        self.stations[a].home == self.stations[b].home
    }

    /// Whether packets pass between two machines without their router.
    pub(crate) fn share_lan(&self, a: usize, b: usize) -> bool {
        let (a, b) = (self.stations[a], self.stations[b]);
        // (Where UDP is blocked, this router has no IPv6 for it either.)
        let v6 = a.v6.is_some() && b.v6.is_some() && self.homes[a.home].place.site != Site::Blocked;
        a.home == b.home && (v6 || (a.v4.is_some() && b.v4.is_some()))
    }

    /// How long a packet takes from a machine to the middle of the internet, this time.
    pub(crate) fn way_out(&mut self, host: usize) -> Duration {
        let home = self.stations[host].home;
        self.line_delay(home)
    }

    /// Whether a packet is lost on a machine's line, this time.
    pub(crate) fn lost(&mut self, host: usize) -> bool {
        let loss = self.place(host).line.loss;
        loss > 0 && self.dice.below(10_000) < loss.into()
    }

    /// A machine sends a datagram of so many bytes.
    pub(crate) fn send(
        &mut self,
        now: Duration,
        host: usize,
        port: u16,
        to: SocketAddr,
        len: usize,
    ) -> Option<Flight> {
        let station = self.stations[host];
        let home = &mut self.homes[station.home];
        let from = match to {
            SocketAddr::V4(to) => {
                let inner = SocketAddrV4::new(station.v4?, port);
                if to.ip().octets()[..3] == inner.ip().octets()[..3] {
                    let (from, to) = (inner.into(), to.into());
                    return Some(Flight { from, to, lan: Some(station.home), takes: LAN });
                }
                let mut seen = inner;
                if let Some(nat) = &mut home.nat {
                    seen = nat.out(now, inner, to, &mut self.dice)?;
                    if *to.ip() == nat.ip {
                        let back = nat.hairpin.then(|| nat.incoming(now, seen, to.port())).flatten()?;
                        let (from, to) = (seen.into(), back.into());
                        return Some(Flight { from, to, lan: Some(station.home), takes: LAN });
                    }
                }
                if let Some(shared) = home.shared {
                    let nat = &mut self.shared[shared];
                    seen = nat.out(now, seen, to, &mut self.dice)?;
                    if *to.ip() == nat.ip && !nat.hairpin {
                        return None;
                    }
                }
                SocketAddr::V4(seen)
            }
            SocketAddr::V6(to) => {
                if home.place.site == Site::Blocked {
                    return None;
                }
                let inner = SocketAddrV6::new(station.v6?, port, 0, 0);
                if to.ip().segments()[..4] == inner.ip().segments()[..4] {
                    let (from, to) = (inner.into(), to.into());
                    return Some(Flight { from, to, lan: Some(station.home), takes: LAN });
                }
                home.firewall.out(now, inner, to);
                inner.into()
            }
        };
        let there = self.far_end(to)?;
        let takes = self.line_delay(station.home) + there.map_or(TO_RELAY, |home| self.line_delay(home));
        let lost = self.lost_on(station.home) || there.is_some_and(|home| self.lost_on(home));
        let packet = len + if to.is_ipv4() { IPV4_UDP } else { IPV6_UDP };
        let fits = |home: usize| packet <= self.homes[home].place.line.mtu.into();
        let lost = lost || !fits(station.home) || !there.is_none_or(fits);
        (!lost).then_some(Flight { from, to, lan: None, takes })
    }

    /// Which relay a datagram to a STUN service is for.
    pub(crate) fn relay_of(&self, flight: &Flight) -> usize {
        let number = match flight.to.ip() {
            IpAddr::V4(ip) => ip.octets()[2],
            IpAddr::V6(ip) => ip.segments()[2] as u8,
        };
        usize::from(number.saturating_sub(RELAYS))
    }

    /// The answer of a STUN service to a request.
    pub(crate) fn answer(&mut self, request: &Flight, to: SocketAddr) -> Option<Flight> {
        let from = request.to;
        let home = self.far_end(to)??;
        let takes = TO_RELAY + self.line_delay(home);
        (!self.lost_on(home)).then_some(Flight { from, to, lan: None, takes })
    }

    /// A datagram is there; whom it reaches, if its router lets it in.
    pub(crate) fn arrive(&mut self, now: Duration, flight: &Flight) -> Option<Landing> {
        let Flight { from, to, .. } = *flight;
        if let Some(home) = flight.lan {
            return Some(Landing::Host(self.station(home, to)?, to.port(), from));
        }
        if self.far_end(to)?.is_none() {
            return Some(Landing::Stun(from));
        }
        let (home, inner) = match to {
            SocketAddr::V4(outer) => self.inward(now, v4(from)?, outer)?,
            SocketAddr::V6(inner) => {
                let home = usize::from(inner.ip().segments()[2]);
                let site = self.homes.get(home)?.place.site;
                if site == Site::Blocked || !self.homes[home].firewall.lets_in(now, v6(from)?, inner) {
                    return None;
                }
                (home, to)
            }
        };
        Some(Landing::Host(self.station(home, inner)?, inner.port(), from))
    }

    /// Through the routers at the other end.
    fn inward(
        &mut self,
        now: Duration,
        from: SocketAddrV4,
        outer: SocketAddrV4,
    ) -> Option<(usize, SocketAddr)> {
        let [first, _, third, _] = outer.ip().octets();
        let mut outer = outer;
        let mut home = usize::from(third);
        if first == 192 {
            let shared = &mut self.shared[usize::from(third)];
            outer = shared.incoming(now, from, outer.port())?;
            home = usize::from(outer.ip().octets()[2]);
        }
        let there = self.homes.get_mut(home)?;
        match &mut there.nat {
            Some(nat) if nat.ip == *outer.ip() => Some((home, nat.incoming(now, from, outer.port())?.into())),
            Some(_) => None,
            None => Some((home, outer.into())),
        }
    }

    /// The home behind an address; `None` inside for a relay, outside for nobody.
    fn far_end(&self, to: SocketAddr) -> Option<Option<usize>> {
        let number = match to.ip() {
            // A provider's router: its line is nobody's in particular.
            IpAddr::V4(ip) if ip.octets()[..2] == [192, 0] => {
                return (usize::from(ip.octets()[2]) < 2)
                    .then(|| self.homes.iter().position(|h| h.shared.is_some()));
            }
            IpAddr::V4(ip) if matches!(ip.octets()[0], 198 | 203) => ip.octets()[2],
            IpAddr::V6(ip) if ip.segments()[..2] == [0x2001, 0xdb8] => ip.segments()[2] as u8,
            _ => return None,
        };
        if number >= RELAYS {
            return Some(None);
        }
        (usize::from(number) < self.homes.len()).then_some(Some(number.into()))
    }

    fn station(&self, home: usize, at: SocketAddr) -> Option<usize> {
        let is = |station: &Station| {
            station.home == home
                && match at.ip() {
                    IpAddr::V4(ip) => station.v4 == Some(ip),
                    IpAddr::V6(ip) => station.v6 == Some(ip),
                }
        };
        self.stations.iter().position(is)
    }

    fn line_delay(&mut self, home: usize) -> Duration {
        let Line { delay, jitter, .. } = self.homes[home].place.line;
        delay + Duration::from_micros(self.dice.below(jitter.as_micros() as u64))
    }

    fn lost_on(&mut self, home: usize) -> bool {
        let loss = self.homes[home].place.line.loss;
        loss > 0 && self.dice.below(10_000) < loss.into()
    }
}

impl Flight {
    /// Whether it stays on one LAN.
    pub(crate) fn is_local(&self) -> bool {
        self.lan.is_some()
    }
}

impl Home {
    fn new(number: u8, place: Place) -> Self {
        let shared = match place.site {
            Site::Shared => Some(0),
            Site::SharedHard => Some(1),
            _ => None,
        };
        let wan = match (place.site, shared) {
            (Site::Public, _) => Ipv4Addr::new(203, 0, number, 1),
            (_, Some(_)) => Ipv4Addr::new(100, 64, number, 1),
            _ => Ipv4Addr::new(198, 51, number, 1),
        };
        let nat = Rules::of(place.site).map(|rules| Nat::new(rules, wan, place.hairpin, place.life));
        let lan = match nat {
            Some(_) => [192, 168, RANGES[usize::from(place.range)]],
            None => [203, 0, number],
        };
        Self {
            place,
            nat,
            shared,
            firewall: Firewall::new(place.life),
            wan,
            lan,
            count: 0,
            known: BTreeSet::new(),
        }
    }

    /// Addresses for a machine: nobody had them before.
    fn welcome(&mut self, host: usize, number: usize) -> Station {
        self.known.insert(host);
        self.count += 1;
        let last = 9 + self.count;
        let [a, b, c] = self.lan;
        let v4 = (self.place.site != Site::OnlyV6).then(|| Ipv4Addr::new(a, b, c, last));
        let v6 =
            self.place.v6.then(|| Ipv6Addr::from([0x2001, 0xdb8, number as u16, 0, 0, 0, 0, last.into()]));
        Station { home: number, v4, v6 }
    }
}
