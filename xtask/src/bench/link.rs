//! Two hosts of a laboratory with a tunnel of ours between them, as a mesh or as a plain WireGuard interface.

use std::{fs, sync::Arc};

use anyhow::{Result, bail};
use tests::{Coordinator, Host, Lab, Node, process::Process, wait};

/// The plain interface, and its addresses on the two.
const INTERFACE: &str = "wg0";
const ADDRESSES: [[&str; 2]; 2] = [["10.90.0.1", "fd90::1"], ["10.90.0.2", "fd90::2"]];
const PORT: &str = "51820";

/// A tunnel between the hosts a-1 and b-1.
pub(super) enum Link {
    /// Two machines of a network.
    Mesh(Box<[Node; 2]>, #[expect(dead_code, reason = "it ends with this value")] Coordinator),
    /// Two plain interfaces, which `wg` configured.
    Device([Host; 2], #[expect(dead_code, reason = "they end with this value")] [Process; 2]),
}

impl Link {
    /// Machines that reach each other directly.
    pub(super) fn mesh(lab: &Arc<Lab>) -> Result<Self> {
        let coordinator = Coordinator::start(&lab.host("srv"))?;
        let nodes = [Node::start(&lab.host("a-1"))?, Node::start(&lab.host("b-1"))?];
        nodes[0].create_account("ann", &coordinator.enrol()?)?;
        nodes[0].create_network("home")?;
        nodes[1].join(&nodes[0].invite(&[])?)?;
        direct(&nodes[0], &nodes[1])?;
        Ok(Self::Mesh(Box::new(nodes), coordinator))
    }

    /// Plain interfaces with a session.
    pub(super) fn device(lab: &Arc<Lab>) -> Result<Self> {
        let hosts = [lab.host("a-1"), lab.host("b-1")];
        let mut keys = Vec::new();
        let mut start = |host: &Host| -> Result<Process> {
            let mut command = host.command("vpnd")?;
            let log = host.folder().join("device.log");
            let process =
                Process::start("vpnd device", command.args(["device", "--foreground", INTERFACE]), log)?;
            wait::until("the interface answers wg", wait::SOON, || {
                host.run("wg", &["show", INTERFACE]).is_ok()
            })?;
            let private = host.run("wg", &["genkey"])?;
            let file = host.folder().join("key");
            fs::write(&file, &private)?;
            host.run("wg", &["set", INTERFACE, "listen-port", PORT, "private-key", &file.to_string_lossy()])?;
            keys.push(host.run("wg", &["show", INTERFACE, "public-key"])?);
            Ok(process)
        };
        let processes = [start(&hosts[0])?, start(&hosts[1])?];
        for side in [0, 1] {
            let (host, other) = (&hosts[side], 1 - side);
            let endpoint = format!("{}:{PORT}", hosts[other].ipv4()?);
            let allowed = ADDRESSES[other].join(",");
            host.run(
                "wg",
                &["set", INTERFACE, "peer", &keys[other], "endpoint", &endpoint, "allowed-ips", &allowed],
            )?;
            for (address, len) in ADDRESSES[side].iter().zip(["24", "64"]) {
                host.run("ip", &["address", "add", &format!("{address}/{len}"), "dev", INTERFACE, "nodad"])
                    .or_else(|_| {
                    host.run("ip", &["address", "add", &format!("{address}/{len}"), "dev", INTERFACE])
                })?;
            }
            host.run("ip", &["link", "set", INTERFACE, "mtu", "1420", "up"])?;
        }
        let reached = || {
            hosts[0]
                .output("ping", &["-n", "-c", "1", "-W", "1", ADDRESSES[1][0]])
                .is_ok_and(|o| o.status.success())
        };
        wait::until("the plain interfaces reach each other", wait::SOON, reached)?;
        Ok(Self::Device(hosts, processes))
    }

    /// One of the two hosts.
    pub(super) fn host(&self, side: usize) -> &Host {
        match self {
            Self::Mesh(nodes, _) => nodes[side].host(),
            Self::Device(hosts, _) => &hosts[side],
        }
    }

    /// Its address in the tunnel.
    pub(super) fn address(&self, side: usize, ipv6: bool) -> Result<String> {
        Ok(match self {
            Self::Mesh(nodes, _) => nodes[side].address(if ipv6 { "ipv6" } else { "ipv4" })?,
            Self::Device(..) => ADDRESSES[side][usize::from(ipv6)].to_owned(),
        })
    }
}

/// Waits until a machine reaches another without a relay between them.
pub(super) fn direct(from: &Node, to: &Node) -> Result<()> {
    let address = to.address("ipv4")?;
    wait::until("a path is direct", wait::SOON, || {
        from.pings(&address) && from.peer(to.name()).is_ok_and(|peer| peer["path"] == "direct")
    })?;
    if !from.pings(&address) {
        bail!("a machine is not reached");
    }
    Ok(())
}
