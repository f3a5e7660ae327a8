//! The life of a network: coordinator and relay apart, three machines of which one speaks by relay alone, and all that
//! happens to them on an ordinary day.

use std::{net::IpAddr, sync::Arc, time::Duration};

use tests::{Coordinator, Lab, RelayProcess};

use crate::{
    reach::{tcp_echo, udp_echo},
    world::{FIRST_ANSWER, World},
};

/// A public machine, one behind a home router that can move behind another, one that reaches nothing but the relay.
pub(crate) const TOPOLOGY: &str = "cloud=none:v6=1,home=easy,flat=easy,office=udpblocked,@servers=2";
pub(crate) const MACHINES: [&str; 3] = ["cloud-1", "home-1", "office-1"];

/// Looking up names and states: what a person asks of a network without changing it.
pub(crate) const LOOK_UPS: [&[&str]; 5] = [
    &["status"],
    &["ip"],
    &["machines", "list"],
    &["ping", "cloud-1", "-c", "1"],
    &["ping", "office-1", "-c", "1"],
];

pub(crate) struct Life {
    pub(crate) world: World,
    pub(crate) relay: RelayProcess,
}

impl Life {
    /// Servers and machines are started, a network is made, all have joined.
    pub(crate) fn begin(lab: Arc<Lab>) -> Self {
        Self::begin_with(lab, &MACHINES)
    }

    /// The same with these machines.
    pub(crate) fn begin_with(lab: Arc<Lab>, machines: &[&str]) -> Self {
        let mut coordinator = Coordinator::start_with(&lab.host("srv"), &["--no-relay"]).unwrap();
        let relay = coordinator.start_relay(&lab.host("srv2")).unwrap();
        Self { world: World::with(lab, coordinator, machines), relay }
    }

    /// Every process of Tacet's, with the host it is on.
    pub(crate) fn processes(&mut self) -> Vec<(String, u32)> {
        let mut processes = vec![
            ("srv".to_owned(), self.world.coordinator.process().unwrap().pid()),
            ("srv2".to_owned(), self.relay.process().unwrap().pid()),
        ];
        for node in &mut self.world.nodes {
            processes.push((node.name().to_owned(), node.process().unwrap().pid()));
            // Before it joins it has none.
            processes.extend(node.data_path().ok().map(|process| (node.name().to_owned(), process)));
        }
        processes
    }

    /// Traffic between all, of each kind, over both families, there and back.
    pub(crate) fn talk(&self) {
        self.world.all_reach_all(FIRST_ANSWER);
        for from in &self.world.nodes {
            for to in self.world.others(from) {
                for family in ["ipv4", "ipv6"] {
                    let address: IpAddr = to.address(family).unwrap().parse().unwrap();
                    tcp_echo(from, to, address);
                    udp_echo(from, to, address);
                }
            }
        }
    }

    /// A machine moves behind another router and back.
    pub(crate) fn roam(&self) {
        self.move_home_to("flat");
        self.move_home_to("home");
    }

    /// A machine moves behind the router of `site`.
    pub(crate) fn move_home_to(&self, site: &str) {
        let address = self.world.node("cloud-1").address("ipv4").unwrap();
        self.world.lab.natlab(&["roam", "home-1", site]).unwrap();
        self.world.node("home-1").reaches(&address, Duration::from_secs(30)).unwrap();
    }

    /// A machine's uplink is gone for a while.
    pub(crate) fn lose_a_peer(&self) {
        let address = self.world.node("home-1").address("ipv4").unwrap();
        self.world.lab.natlab(&["cut", "home"]).unwrap();
        assert!(!self.world.node("cloud-1").pings(&address), "home is cut off");
        self.world.lab.natlab(&["heal", "home"]).unwrap();
        self.world.node("cloud-1").reaches(&address, Duration::from_secs(30)).unwrap();
    }

    /// All connections to coordinator and relay break, and are made anew.
    pub(crate) fn lose_connections(&self) {
        for host in [self.world.coordinator.host(), self.relay.host()] {
            let connections = || host.run("ss", &["-tnH", "state", "established"]).unwrap().lines().count();
            assert!(connections() > 0, "somebody is connected to {}", host.name());
            host.run("ss", &["-tKn", "state", "established"]).unwrap();
        }
        let address = self.world.node("office-1").address("ipv4").unwrap();
        self.world.node("home-1").reaches(&address, Duration::from_secs(30)).unwrap();
    }

    /// Both servers end with `kill -9` and are started again.
    pub(crate) fn restart_servers(&mut self) {
        self.world.coordinator.kill();
        self.relay.kill();
        self.world.coordinator.start_again().unwrap();
        self.relay.start_again().unwrap();
        let address = self.world.node("office-1").address("ipv4").unwrap();
        self.world.node("home-1").reaches(&address, Duration::from_secs(60)).unwrap();
    }
}
