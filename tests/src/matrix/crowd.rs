//! One network with machines behind NATs, a coordinator and two relays apart from it.

use std::sync::Arc;

use crate::{Coordinator, Host, Lab, Node, RelayProcess, Result, Trouble, wait};

use super::nat::Nat;

/// Machines of one network, and what they need.
pub struct Crowd {
    /// In the order in which they were asked for.
    pub nodes: Vec<Node>,
    /// On `srv`.
    pub coordinator: Coordinator,
    /// On `srv2` and `srv3`.
    pub relays: Vec<RelayProcess>,
    /// Where all of this is.
    pub lab: Arc<Lab>,
}

impl Crowd {
    /// A network with a machine at each place; the first made it.
    ///
    /// # Errors
    /// If it does not come about.
    pub fn up(places: &[(String, Nat)]) -> Result<Self> {
        Self::up_with(places, &[])
    }

    /// The same with places where nobody is yet. (A machine stands there, that runs nothing.)
    ///
    /// # Errors
    /// As [`Crowd::up`].
    pub fn up_with(places: &[(String, Nat)], empty: &[(String, Nat)]) -> Result<Self> {
        // Alone: it is timed.
        Self::build(places, empty, Lab::alone)
    }

    /// The same beside other laboratories, for what takes no times.
    ///
    /// # Errors
    /// As [`Crowd::up`].
    pub fn beside_others(places: &[(String, Nat)]) -> Result<Self> {
        Self::build(places, &[], Lab::up)
    }

    fn build(
        places: &[(String, Nat)],
        empty: &[(String, Nat)],
        lab: impl FnOnce(&str) -> Result<Arc<Lab>>,
    ) -> Result<Self> {
        let sites: Vec<String> = places
            .iter()
            .chain(empty)
            .map(|(site, nat)| {
                let both = if *nat == Nat::None { ":v6=1" } else { "" };
                format!("{site}={nat}{both}")
            })
            .collect();
        let lab = lab(&format!("{},@servers=3", sites.join(",")))?;
        let nodes = places.iter().map(|(site, nat)| {
            let host = lab.host(&format!("{site}-1"));
            let proxy = (*nat == Nat::Blocked).then(|| host.proxy()).transpose()?;
            start(&host, &proxy.iter().flat_map(|proxy| ["--proxy", proxy]).collect::<Vec<_>>())
        });
        let nodes = nodes.collect::<Result<_>>()?;
        Self::settle(lab, nodes)
    }

    /// A network of the machines named, each with its UDP port, at natlab's sites.
    ///
    /// # Errors
    /// As [`Crowd::up`].
    pub fn of(
        sites: &[&str],
        hosts: &[(&str, u16)],
        lab: impl FnOnce(&str) -> Result<Arc<Lab>>,
    ) -> Result<Self> {
        let lab = lab(&format!("{},@servers=3", sites.join(",")))?;
        let nodes = hosts.iter().map(|(host, port)| start(&lab.host(host), &["--port", &port.to_string()]));
        let nodes = nodes.collect::<Result<_>>()?;
        Self::settle(lab, nodes)
    }

    /// The machines become one network.
    fn settle(lab: Arc<Lab>, nodes: Vec<Node>) -> Result<Self> {
        // By names, which a machine with IPv6 alone resolves too.
        let mut coordinator = Coordinator::start_called_with(&lab.host("srv"), "srv.lab", &["--no-relay"])?;
        let relays = ["srv2", "srv3"]
            .map(|host| coordinator.start_relay_called(&lab.host(host), &format!("{host}.lab")))
            .into_iter()
            .collect::<Result<Vec<_>>>()?;
        let crowd = Self { nodes, coordinator, relays, lab };
        let Some((first, others)) = crowd.nodes.split_first() else { return Ok(crowd) };
        first.create_account("ann", &crowd.coordinator.enrol()?)?;
        first.create_network("home")?;
        for other in others {
            other.join(&first.invite(&[])?)?;
        }
        crowd.settled()?;
        Ok(crowd)
    }

    /// The machine at a site.
    ///
    /// # Errors
    /// If there is none.
    pub fn at(&self, site: &str) -> Result<&Node> {
        let host = format!("{site}-1");
        let node = self.nodes.iter().find(|node| node.host().name() == host);
        node.ok_or_else(|| Trouble::new(format!("there is no machine at {site}")))
    }

    /// Waits until every machine knows every other for good.
    fn settled(&self) -> Result<()> {
        for node in &self.nodes {
            wait::until(&format!("{} knows all machines", node.name()), wait::SOON * 2, || {
                node.ask(&["machines", "list"]).is_ok_and(|list| {
                    let machines = list["machines"].as_array().into_iter().flatten();
                    machines.filter(|machine| machine["provisional"] == false).count() == self.nodes.len()
                })
            })?;
        }
        Ok(())
    }
}

/// Starts vpnd with these options.
fn start(host: &Host, options: &[&str]) -> Result<Node> {
    let mut node = Node::prepare(host);
    node.options(options);
    node.start_again()?;
    Ok(node)
}
