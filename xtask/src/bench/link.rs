//! Two hosts of a laboratory with a tunnel of ours between them, as a mesh or as a plain WireGuard interface.

use std::{fs, process::Stdio, sync::Arc};

use anyhow::{Result, bail};
use tests::{Coordinator, Host, Lab, Node, process::Process, wait};

/// The plain interface, and its addresses on the two.
const INTERFACE: &str = "wg0";
const ADDRESSES: [[&str; 2]; 2] = [["10.90.0.1", "fd90::1"], ["10.90.0.2", "fd90::2"]];
const PORT: &str = "51820";

/// Where `wg` and the interface meet, the same folder for every program on a host.
const MEET: &str = "mkdir -p wireguard /run/wireguard; mount --bind wireguard /run/wireguard";

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
        // Before there are more addresses than these.
        let outer = [hosts[0].ipv4()?, hosts[1].ipv4()?];
        let processes = [interface(&hosts[0])?, interface(&hosts[1])?];
        for side in [0, 1] {
            let (host, other) = (&hosts[side], 1 - side);
            let key = wg(&hosts[other], &["show", INTERFACE, "public-key"])?;
            let (endpoint, allowed) = (format!("{}:{PORT}", outer[other]), ADDRESSES[other].join(","));
            wg(host, &["set", INTERFACE, "peer", &key, "endpoint", &endpoint, "allowed-ips", &allowed])?;
            for (address, len) in ADDRESSES[side].iter().zip([24, 64]) {
                let address = format!("{address}/{len}");
                host.run("ip", &["address", "add", &address, "dev", INTERFACE, "nodad"])?;
            }
            host.run("ip", &["link", "set", INTERFACE, "mtu", "1420", "up"])?;
        }
        wait::until("the plain interfaces reach each other", wait::SOON, || {
            hosts[0]
                .output("ping", &["-n", "-c", "1", "-W", "1", ADDRESSES[1][0]])
                .is_ok_and(|output| output.status.success())
        })?;
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

/// Starts a plain interface, with a key of its own and the port.
fn interface(host: &Host) -> Result<Process> {
    let mut command = host.command_after(MEET, "vpnd")?;
    command.args(["device", "--foreground", INTERFACE]);
    let mut process = Process::start("vpnd device", &mut command, host.folder().join("device.log"))?;
    wait::until("the interface answers wg", wait::SOON, || {
        !process.runs() || wg(host, &["show", INTERFACE]).is_ok()
    })?;
    if !process.runs() {
        bail!("vpnd device ended: {}", process.printed());
    }
    fs::write(host.folder().join("key"), host.run("wg", &["genkey"])?)?;
    wg(host, &["set", INTERFACE, "listen-port", PORT, "private-key", "key"])?;
    Ok(process)
}

/// What `wg` says where it finds the interface.
fn wg(host: &Host, arguments: &[&str]) -> Result<String> {
    let output = host.command_after(MEET, "wg")?.args(arguments).stdin(Stdio::null()).output()?;
    if !output.status.success() {
        bail!("wg {} failed: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
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
