//! What a machine sends and receives while nobody uses its network.

use std::{thread, time::Duration};

use crate::{Host, Result, Trouble};

use super::{crowd::Crowd, nat::Nat};

/// Peers of the machine that is watched.
pub const PEERS: usize = 10;

/// Paths are looked after for three minutes after the last packet, relays for as long after that.
const ASLEEP: Duration = Duration::from_secs(400);

/// What went through the interface of a machine in a time.
#[derive(Clone, Copy, Debug)]
pub struct Idle {
    /// How long was measured.
    pub time: Duration,
    /// Packets, both ways.
    pub packets: u64,
    /// Bytes with all headers, both ways.
    pub bytes: u64,
}

impl Idle {
    /// Packets in an hour.
    #[must_use]
    pub fn packets_per_hour(&self) -> f64 {
        self.packets as f64 * 3_600.0 / self.time.as_secs_f64()
    }

    /// Bytes in a day.
    #[must_use]
    pub fn bytes_per_day(&self) -> f64 {
        self.bytes as f64 * 86_400.0 / self.time.as_secs_f64()
    }
}

/// Lets a network of eleven machines be quiet, and watches one of them for that time.
///
/// # Errors
/// If the network does not come about.
pub fn measure(time: Duration) -> Result<Idle> {
    let places: Vec<_> = (0..=PEERS).map(|at| (format!("s{at}"), Nat::Easy)).collect();
    let crowd = Crowd::beside_others(&places)?;
    // Each has spoken to the one that is watched, so that there is something to fall asleep.
    let watched = crowd.at("s0")?;
    let address = watched.address("ipv4")?;
    for node in &crowd.nodes[1..] {
        node.reaches(&address, crate::wait::SOON)?;
    }
    thread::sleep(ASLEEP);
    let before = counted(watched.host())?;
    thread::sleep(time);
    let after = counted(watched.host())?;
    Ok(Idle { time, packets: after.0 - before.0, bytes: after.1 - before.1 })
}

/// Packets and bytes that went through a host's interface.
fn counted(host: &Host) -> Result<(u64, u64)> {
    let count = |name: &str| -> Result<u64> {
        let text = host.run("cat", &[&format!("/sys/class/net/eth0/statistics/{name}")])?;
        text.trim().parse().map_err(|_| Trouble::new(format!("{name} is no number: {text}")))
    };
    Ok((count("rx_packets")? + count("tx_packets")?, count("rx_bytes")? + count("tx_bytes")?))
}
