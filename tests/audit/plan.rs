//! Where the machines of one life stand, and what they do there: everything that a record of it would hold.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
};

use serde_json::json;

use crate::{
    canary::{Canary, Dice, Kind},
    search::Searcher,
};

/// The machines, by their hosts in the laboratory. The first made the network; the last is removed from it.
pub(crate) const MACHINES: [&str; 3] = ["cloud-1", "home-1", "flat-1"];

/// One with a public address, one that stays at home, one that moves.
pub(crate) const CLOUD: usize = 0;
pub(crate) const HOME: usize = 1;
pub(crate) const FLAT: usize = 2;

/// The one network outlives a life; where its machines are and what they do is of that life alone.
pub(crate) struct Plan {
    cloud: Site,
    home: Site,
    flat: Site,
    cafe: Site,
    /// What travels on direct paths.
    pub(crate) direct: Flow,
    /// What travels over the relay.
    pub(crate) relayed: Flow,
    /// What travels after the machines have moved.
    pub(crate) roamed: Flow,
    /// A name that a machine looks up, with a name server on another one.
    pub(crate) lookup: String,
    /// A second one, that no name server knows.
    pub(crate) unknown: String,
}

/// A place with a router.
struct Site {
    /// Its router's public address.
    wan: Ipv4Addr,
    /// The first three octets of its LAN.
    lan: [u8; 3],
    /// The number of its first computer.
    first: u8,
    net6: [u16; 4],
}

/// Bytes on their way.
#[derive(Clone)]
pub(crate) struct Flow {
    /// What to look for: unlike anything else.
    pub(crate) bytes: [u8; 24],
    /// How often they are sent one after the other.
    pub(crate) times: usize,
    pub(crate) from_port: u16,
    pub(crate) to_port: u16,
}

impl Plan {
    /// A fresh one, none of whose canaries is in one of `files` by chance.
    pub(crate) fn draw(dice: &mut Dice, files: &[&Path]) -> io::Result<Self> {
        loop {
            let plan = Self::draw_once(dice);
            if nowhere(&plan.canaries(&[]), files)? {
                return Ok(plan);
            }
        }
    }

    fn draw_once(dice: &mut Dice) -> Self {
        Self {
            cloud: Site::public(dice),
            home: Site::private(dice),
            flat: Site::private(dice),
            cafe: Site::private(dice),
            direct: Flow::draw(dice),
            relayed: Flow::draw(dice),
            roamed: Flow::draw(dice),
            lookup: format!("{}.{}.example", dice.word(), dice.word()),
            unknown: format!("{}.example", dice.word()),
        }
    }

    /// For natlab.
    pub(crate) fn topology(&self) -> String {
        let site = |name: &str, nat: &str, hosts: u8, v6: u8, site: &Site| {
            let [a, b, c] = site.lan;
            let net6 = site.net6.map(|group| format!("{group:x}")).join(":");
            json!({"name": name, "nat": nat, "hosts": hosts, "v6": v6, "wan": site.wan.to_string(),
                   "lan": format!("{a}.{b}.{c}"), "first": site.first, "net6": net6})
        };
        json!({"servers": 2, "sites": [
            site("cloud", "none", 1, 1, &self.cloud),
            site("home", "remap", 1, 1, &self.home),
            site("flat", "easy", 1, 0, &self.flat),
            site("cafe", "easy", 0, 0, &self.cafe),
        ]})
        .to_string()
    }

    /// Everything that must not be kept, with the addresses inside the network and the names of its machines.
    pub(crate) fn canaries(&self, members: &[Member]) -> Vec<Canary> {
        let ports = [self.direct.ports(), self.relayed.ports(), self.roamed.ports()];
        let mut canaries = vec![
            Canary::ipv4(Kind::Public, Some(CLOUD), self.cloud.host(), &[VPND]),
            Canary::household(CLOUD, self.cloud.host6()),
            Canary::ipv4(Kind::Public, Some(HOME), self.home.wan, &[]),
            Canary::household(HOME, self.home.host6()),
            Canary::ipv4(Kind::Lan, Some(HOME), self.home.host(), &[VPND]),
            Canary::ipv4(Kind::Public, Some(FLAT), self.flat.wan, &[VPND]),
            Canary::ipv4(Kind::Public, Some(FLAT), self.flat.wan_after_a_reconnect(), &[VPND]),
            Canary::ipv4(Kind::Lan, Some(FLAT), self.flat.host(), &[VPND]),
            Canary::ipv4(Kind::Public, Some(FLAT), self.cafe.wan, &[VPND]),
            Canary::ipv4(Kind::Lan, Some(FLAT), self.cafe.host(), &[VPND]),
            Canary::name(Kind::Lookup, None, &self.lookup),
            Canary::name(Kind::Lookup, None, &self.unknown),
            Canary::payload("sent on direct paths", &self.direct.bytes),
            Canary::payload("sent over the relay", &self.relayed.bytes),
            Canary::payload("sent after a change of address", &self.roamed.bytes),
        ];
        canaries.extend(ports.map(|(from, to)| Canary::ports(from, to)));
        for (number, member) in members.iter().enumerate() {
            canaries.push(Canary::name(Kind::Name, Some(number), &member.name));
            canaries.extend(member.addresses.iter().map(|address| Canary::inner(number, *address)));
        }
        canaries
    }
}

/// The port that vpnd listens on by default.
const VPND: u16 = 51_820;

/// What the roster says of a machine.
#[derive(Clone)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) addresses: Vec<IpAddr>,
}

/// Names for the machines, which are in no file by chance.
pub(crate) fn names(dice: &mut Dice, files: &[&Path]) -> io::Result<[String; 3]> {
    loop {
        let names = [dice.word(), dice.word(), dice.word()];
        let canaries = names.each_ref().map(|name| Canary::name(Kind::Name, None, name));
        if nowhere(&canaries, files)? {
            return Ok(names);
        }
    }
}

fn nowhere(canaries: &[Canary], files: &[&Path]) -> io::Result<bool> {
    let searcher = Searcher::new(canaries);
    for file in files {
        if !searcher.reader(fs::File::open(file)?)?.is_empty() {
            return Ok(false);
        }
    }
    Ok(true)
}

impl Site {
    fn private(dice: &mut Dice) -> Self {
        let [a, b, c] = dice.public_net();
        let wan = Ipv4Addr::new(a, b, c, dice.byte(11, 190));
        Self { wan, lan: dice.home_net(), first: dice.byte(21, 240), net6: dice.net6() }
    }

    fn public(dice: &mut Dice) -> Self {
        Self { lan: dice.public_net(), ..Self::private(dice) }
    }

    /// Its first computer.
    fn host(&self) -> Ipv4Addr {
        let [a, b, c] = self.lan;
        Ipv4Addr::new(a, b, c, self.first)
    }

    /// As natlab numbers it: the number in decimal digits, read as hexadecimal.
    fn host6(&self) -> Ipv6Addr {
        let [a, b, c, d] = self.net6;
        let host = u16::from_str_radix(&self.first.to_string(), 16).unwrap_or_default();
        Ipv6Addr::new(a, b, c, d, 0, 0, 0, host)
    }

    /// As `natlab.sh wan-ip` counts.
    fn wan_after_a_reconnect(&self) -> Ipv4Addr {
        let [a, b, c, d] = self.wan.octets();
        Ipv4Addr::new(a, b, c, d % 200 + 1)
    }
}

impl Flow {
    fn draw(dice: &mut Dice) -> Self {
        let (from_port, to_port) = dice.ports();
        Self { bytes: dice.bytes(), times: dice.between(200, 4_000) as usize, from_port, to_port }
    }

    fn ports(&self) -> (u16, u16) {
        (self.from_port, self.to_port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_lives_have_nothing_in_common() {
        let mut dice = Dice::new().unwrap();
        let (one, other) = (Plan::draw(&mut dice, &[]).unwrap(), Plan::draw(&mut dice, &[]).unwrap());
        let other = Searcher::new(&other.canaries(&[]));
        for canary in one.canaries(&[]) {
            // Short forms may agree by chance.
            assert!(other.bytes(canary.value.as_bytes()).iter().all(|hit| hit.weight.chance()));
        }
        assert!(!other.bytes(one.topology().as_bytes()).iter().any(|hit| !hit.weight.chance()));
    }

    #[test]
    fn the_topology_has_the_addresses_that_are_searched_for() {
        let plan = Plan::draw(&mut Dice::new().unwrap(), &[]).unwrap();
        let canaries = plan.canaries(&[]);
        let seen: Vec<usize> =
            Searcher::new(&canaries).bytes(plan.topology().as_bytes()).iter().map(|hit| hit.canary).collect();
        for public in [plan.home.wan, plan.flat.wan, plan.cafe.wan] {
            let number = canaries.iter().position(|canary| canary.value == public.to_string()).unwrap();
            assert!(seen.contains(&number), "{public}");
        }
    }
}
