//! A network that is up: a coordinator on `srv`, and machines that joined.

use std::{fs, sync::Arc, time::Duration};

use tests::{Coordinator, Host, Lab, Node, wait};

/// One public machine, two behind home routers.
pub(crate) const THREE: &str = "cloud=none:v6=1,home=easy:2,flat=easy";
pub(crate) const THREE_HOSTS: [&str; 3] = ["cloud-1", "home-1", "flat-1"];

/// A first answer may have to wait for an initiation that was lost.
pub(crate) const FIRST_ANSWER: Duration = Duration::from_secs(15);

pub(crate) struct World {
    pub(crate) nodes: Vec<Node>,
    pub(crate) coordinator: Coordinator,
    pub(crate) lab: Arc<Lab>,
}

impl World {
    /// A network of the hosts named, the first of which made it.
    pub(crate) fn of(lab: Arc<Lab>, hosts: &[&str]) -> Self {
        let coordinator = Coordinator::start(&lab.host("srv")).unwrap();
        Self::with(lab, coordinator, hosts)
    }

    pub(crate) fn with(lab: Arc<Lab>, coordinator: Coordinator, hosts: &[&str]) -> Self {
        let nodes = hosts.iter().map(|host| Node::start(&lab.host(host)).unwrap()).collect();
        let world = Self { nodes, coordinator, lab };
        let [first, others @ ..] = world.nodes.as_slice() else { return world };
        first.create_account("ann", &world.coordinator.enrol().unwrap()).unwrap();
        first.create_network("home").unwrap();
        for other in others {
            other.join(&first.invite(&[]).unwrap()).unwrap();
        }
        world.settle();
        world
    }

    /// Waits until a signer took every machine in and every machine knows it.
    pub(crate) fn settle(&self) {
        for node in &self.nodes {
            wait::until(&format!("{} sees nobody provisional", node.name()), wait::SOON, || {
                node.ask(&["machines", "list"]).is_ok_and(|list| {
                    let machines = list["machines"].as_array().unwrap();
                    machines.len() == self.nodes.len()
                        && machines.iter().all(|machine| machine["provisional"] == false)
                })
            })
            .unwrap();
            for other in self.others(node) {
                wait::until(&format!("{} knows {}", node.name(), other.name()), wait::SOON, || {
                    node.peer(other.name()).is_ok_and(|peer| peer["ipv4"].is_string())
                })
                .unwrap();
            }
        }
    }

    pub(crate) fn node(&self, name: &str) -> &Node {
        self.nodes.iter().find(|node| node.name() == name).unwrap()
    }

    pub(crate) fn node_mut(&mut self, name: &str) -> &mut Node {
        self.nodes.iter_mut().find(|node| node.name() == name).unwrap()
    }

    pub(crate) fn others<'a>(&'a self, node: &'a Node) -> impl Iterator<Item = &'a Node> {
        self.nodes.iter().filter(|other| other.name() != node.name())
    }

    /// Every machine reaches every other, by both families.
    pub(crate) fn all_reach_all(&self, within: Duration) {
        for node in &self.nodes {
            for other in self.others(node) {
                for family in ["ipv4", "ipv6"] {
                    node.reaches(&other.address(family).unwrap(), within).unwrap();
                }
            }
        }
    }

    /// Waits until `from` sends to `to` on a direct path; pings, so that there is something to improve.
    pub(crate) fn becomes_direct(&self, from: &str, to: &str, within: Duration) -> Duration {
        let (from, to) = (self.node(from), self.node(to));
        let address = to.address("ipv4").unwrap();
        wait::until(&format!("{} reaches {} directly", from.name(), to.name()), within, || {
            from.pings(&address) && from.peer(to.name()).is_ok_and(|peer| peer["path"] == "direct")
        })
        .unwrap()
    }
}

/// A machine that was never used: vpnd runs on it, nothing is stored.
pub(crate) fn fresh(host: &Host) -> Node {
    let state = host.folder().join("var/lib/tacet");
    if let Ok(entries) = fs::read_dir(&state) {
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
        }
    }
    Node::start(host).unwrap()
}
