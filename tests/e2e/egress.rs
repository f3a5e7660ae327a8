//! Nothing speaks to anybody else: every packet that leaves a machine or a server, from before its first start on, goes to
//! another machine, the relay, the coordinator, the resolver that the host was given, the router before it, which is asked for a port,
//! or all hosts of the LAN, where a machine that nothing leads to is looked for.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket},
    time::Duration,
};

use tests::{
    Host, Lab,
    pcap::{Packet, Recorder},
};

use crate::life::{LOOK_UPS, Life, MACHINES, TOPOLOGY};

/// Nothing happens for so long: what a program would do by itself.
const IDLE: Duration = Duration::from_secs(60);

const TCP: u8 = 6;
const UDP: u8 = 17;
const TLS: u16 = 443;
/// And the next port, where STUN is answered too.
const STUN: [u16; 2] = [3_478, 3_479];
const DNS: u16 = 53;
/// PCP and NAT-PMP; the search for a router that speaks UPnP, and the group in which it listens.
const MAPPING: u16 = 5_351;
const SEARCH: u16 = 1_900;
const DEVICES: IpAddr = IpAddr::V4(Ipv4Addr::new(239, 255, 255, 250));

/// Beacons, and all hosts of a LAN.
const BEACON: u16 = 21_420;
const ALL_HOSTS: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(224, 0, 0, 1)), IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1))];

/// Whom Tacet may speak to.
#[derive(Default)]
struct Allowed {
    /// Every address of a machine or of the router before it.
    machines: BTreeSet<IpAddr>,
    servers: BTreeSet<IpAddr>,
    resolver: BTreeSet<IpAddr>,
    /// The inner addresses of the routers that translate.
    routers: BTreeSet<IpAddr>,
}

/// Who a packet is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum For {
    Peer,
    Coordinator,
    Relay,
    Resolver,
    Router,
    Lan,
    /// What the kernel does by itself to have a network at all.
    Kernel,
    Nobody,
}

impl Allowed {
    /// Takes in the addresses that the laboratory has now: machines move.
    fn learn(&mut self, lab: &Lab) {
        let listed: serde_json::Value =
            serde_json::from_str(&lab.natlab(&["list", "--json"]).unwrap()).unwrap();
        for host in listed["hosts"].as_array().unwrap() {
            let addresses =
                ["v4", "v6"].into_iter().flat_map(|family| host[family].as_array().unwrap().clone());
            let addresses = addresses.chain([host["wan"].clone()]);
            let addresses =
                addresses.filter_map(|address| address.as_str()?.parse::<IpAddr>().ok()).filter(underlay);
            if host["nat"] == "server" {
                self.servers.extend(addresses);
            } else {
                let addresses: Vec<IpAddr> = addresses.collect();
                self.routers.extend(addresses.iter().filter_map(router));
                self.machines.extend(addresses);
            }
        }
    }

    /// `srv` is the coordinator, `srv2` the relay; what they send is an answer.
    fn judge(&self, host: &str, packet: Packet) -> For {
        let Packet::Ip { to, protocol, ports: (from, port) } = packet else {
            // ARP; nothing else is spoken below IP.
            return if packet == Packet::Link(0x0806) { For::Kernel } else { For::Nobody };
        };
        let answers = (protocol, from) == (TCP, TLS) || (protocol == UDP && STUN.contains(&from));
        if host.starts_with("srv") && answers && self.machines.contains(&to) {
            return For::Peer;
        }
        match protocol {
            TCP if port == TLS && self.servers.contains(&to) => {
                if is_coordinator(to) {
                    For::Coordinator
                } else {
                    For::Relay
                }
            }
            UDP if STUN.contains(&port) && self.servers.contains(&to) => For::Relay,
            UDP | TCP if port == DNS && self.resolver.contains(&to) => For::Resolver,
            UDP if [MAPPING, SEARCH].contains(&port) && self.routers.contains(&to) => For::Router,
            UDP if port == SEARCH && to == DEVICES => For::Router,
            // Machines that look for each other.
            UDP if from == 51_820 && port == BEACON && ALL_HOSTS.contains(&to) => For::Lan,
            // WireGuard's own port, to whatever port a router gave the other.
            UDP if from == 51_820 && self.machines.contains(&to) => For::Peer,
            // "Nobody is at this port", "the packet is too large": answers to what came.
            1 if [3, 11].contains(&from) && self.known(to) => For::Kernel,
            58 if (1..=4).contains(&from) && self.known(to) => For::Kernel,
            // Neighbours, routers and multicast listeners of the own link (RFC 4861, RFC 3810, RFC 3376).
            58 if (133..=137).contains(&from) || from == 143 => For::Kernel,
            2 => For::Kernel,
            _ => For::Nobody,
        }
    }

    fn known(&self, address: IpAddr) -> bool {
        self.machines.contains(&address) || self.servers.contains(&address)
    }
}

/// The router of a home, which has the first address there.
fn router(address: &IpAddr) -> Option<IpAddr> {
    let IpAddr::V4(address) = address else { return None };
    let [a, b, c, _] = address.octets();
    address.is_private().then_some(Ipv4Addr::new(a, b, c, 1).into())
}

/// Of the laboratory, and not inside the tunnel.
fn underlay(address: &IpAddr) -> bool {
    let text = address.to_string();
    ["45.", "192.168.", "2a0f:"].iter().any(|start| text.starts_with(start))
}

fn is_coordinator(address: IpAddr) -> bool {
    let text = address.to_string();
    text.starts_with("45.255.1.") || text.starts_with("2a0f:ff:1::")
}

/// A resolver that is in the host's own configuration.
fn resolver(host: &Host) -> IpAddr {
    let text = host.run("cat", &["/etc/resolv.conf"]).unwrap();
    text.lines().find_map(|line| line.strip_prefix("nameserver ")).unwrap().parse().unwrap()
}

#[test]
fn every_packet_goes_to_a_machine_the_relay_the_coordinator_or_the_resolver() {
    let lab = Lab::up(TOPOLOGY).unwrap();
    let mut allowed = Allowed::default();
    allowed.learn(&lab);
    let hosts: Vec<Host> = MACHINES.iter().chain(&["srv", "srv2"]).map(|name| lab.host(name)).collect();
    allowed.resolver.insert(resolver(&hosts[0]));
    let machine = hosts[0].ipv4().unwrap();
    let recorders: Vec<Recorder> = hosts.iter().map(|host| Recorder::start(host, "eth0").unwrap()).collect();

    let mut life = Life::begin(lab.clone());
    life.talk();
    life.world.becomes_direct("home-1", "cloud-1", Duration::from_secs(20));
    for site in ["flat", "home"] {
        life.move_home_to(site);
        allowed.learn(&lab);
    }
    for node in &life.world.nodes {
        for arguments in LOOK_UPS.iter().filter(|arguments| arguments.get(1) != Some(&node.name())) {
            node.ask(arguments).unwrap();
        }
        node.ask(&["report"]).unwrap();
        node.ask(&["privacy", "inventory"]).unwrap();
    }
    life.lose_connections();
    let home = life.world.node_mut("home-1");
    home.stop().unwrap();
    home.start_again().unwrap();
    life.restart_servers();
    life.talk();
    // What must be noticed: a datagram to nobody, one to a resolver that the host was not given, one to a machine that is not
    // from WireGuard's port.
    let strange = |to: &str| {
        let socket = hosts[1].inside(|| UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap();
        socket.send_to(b"x", to).unwrap();
    };
    strange("198.51.100.7:443");
    strange("45.255.2.2:53");
    strange(&format!("{machine}:51820"));

    std::thread::sleep(IDLE);

    let mut counts: BTreeMap<(&str, For), usize> = BTreeMap::new();
    let mut nobody = Vec::new();
    for (host, recorder) in hosts.iter().zip(recorders) {
        for packet in recorder.end().unwrap() {
            let who = allowed.judge(host.name(), packet);
            *counts.entry((host.name(), who)).or_default() += 1;
            if who == For::Nobody {
                nobody.push((host.name(), packet));
            }
        }
    }
    println!("\npackets that left, by whom they were for");
    for ((host, who), count) in &counts {
        println!("  {host:<10}{who:<14?}{count:>8}");
    }
    for machine in MACHINES {
        for who in [For::Peer, For::Coordinator, For::Relay] {
            assert!(
                counts.contains_key(&(machine, who)),
                "{machine} speaks to its {who:?}: the record is whole"
            );
        }
    }
    let deliberate = nobody.clone();
    nobody.retain(|(host, packet)| {
        let Packet::Ip { to, ports, .. } = packet else { return true };
        let known = [("198.51.100.7", 443), ("45.255.2.2", 53)];
        let from_elsewhere = ports.1 == 51_820 && ports.0 != 51_820;
        !(*host == "home-1" && (known.contains(&(to.to_string().as_str(), ports.1)) || from_elsewhere))
    });
    assert_eq!(
        deliberate.len() - nobody.len(),
        3,
        "each of the three deliberate packets is noticed: {deliberate:?}"
    );
    assert!(nobody.is_empty(), "packets for nobody: {nobody:?}");
}
