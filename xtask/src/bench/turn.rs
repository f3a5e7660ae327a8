//! coturn, for comparison: Debian's package, with the client that comes with it.
//!
//! Each of its clients sends to the next one's relayed address, so a datagram comes into the server from one client and
//! leaves it to another, as a frame does at our relay.

use std::{path::Path, process::Command, time::Duration};

use ::tests::{Host, process::Process, wait};
use anyhow::{Context as _, Result, anyhow, bail};

use super::load::Received;

/// Bytes of each datagram: what fits a tunnel whose packets have 1,280.
pub(super) const DATAGRAM: &str = "1232";

/// What our own machines send for comparison, in bits a second: about what those clients manage.
pub(super) const RATE: &str = "50M";

/// Clients that send at once, and the pause that each is told to make: one millisecond, of which it makes two.
const CLIENTS: u32 = 10;
const DATAGRAMS_EACH_SECOND: u32 = 500;

/// After the last datagram its client waits for stragglers.
const STRAGGLERS: Duration = Duration::from_secs(40);

const USER: &str = "bench";
const PASSWORD: &str = "sesame";

/// A running server.
pub(super) struct Turn {
    server: Process,
    address: String,
    client: Host,
}

impl Turn {
    /// Starts the server, to which `client` will connect; `None` where coturn is not installed.
    ///
    /// # Errors
    /// What it printed, if it does not come to listen.
    pub(super) fn start(server: &Host, client: &Host) -> Result<Option<Self>> {
        if !Path::new("/usr/bin/turnserver").is_file() || !Path::new("/usr/bin/turnutils_uclient").is_file() {
            return Ok(None);
        }
        let address = server.ipv4()?.to_string();
        let (key, certificate) = (server.folder().join("turn.key"), server.folder().join("turn.pem"));
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
            .args(["-subj", "/CN=turn", "-days", "2", "-keyout"])
            .arg(&key)
            .arg("-out")
            .arg(&certificate)
            .output()
            .context("openssl makes coturn's certificate")?;
        if !made.status.success() {
            bail!("no certificate for coturn: {}", String::from_utf8_lossy(&made.stderr));
        }
        let mut command = server.command("turnserver")?;
        command
            .args(["-n", "--no-cli", "--log-file=stdout", "--pidfile=/dev/null", "--userdb=/dev/null"])
            .args(["--lt-cred-mech", "--realm=bench", "--listening-port=5348", "--tls-listening-port=5349"])
            .args([format!("--user={USER}:{PASSWORD}"), format!("--listening-ip={address}")])
            .arg(format!("--relay-ip={address}"))
            .arg("--pkey")
            .arg(key)
            .arg("--cert")
            .arg(certificate);
        let server = Process::start("turnserver", &mut command, server.folder().join("turn.log"))?;
        let turn = Self { server, address, client: client.clone() };
        // It says many things before, and nothing at the end.
        wait::until("coturn answers", wait::SOON, || turn.send(1, &[]).is_ok())?;
        Ok(Some(turn))
    }

    /// The server's process.
    pub(super) fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// Sends for so many seconds, about, with these options of the client.
    ///
    /// # Errors
    /// What it printed, if nothing came through.
    pub(super) fn load(&self, seconds: u32, options: &[&str]) -> Result<Received> {
        self.send(seconds * DATAGRAMS_EACH_SECOND, options)
    }

    fn send(&self, each: u32, options: &[&str]) -> Result<Received> {
        let port = if options.contains(&"-S") { "5349" } else { "5348" };
        let (each, clients, within) =
            (each.to_string(), CLIENTS.to_string(), STRAGGLERS.as_secs().to_string());
        let arguments = [
            &[
                &within,
                "turnutils_uclient",
                "-y",
                "-c",
                "-u",
                USER,
                "-w",
                PASSWORD,
                "-p",
                port,
                "-l",
                DATAGRAM,
            ],
            &["-z", "1", "-n", &each, "-m", &clients][..],
            options,
            &[&self.address],
        ]
        .concat();
        let printed = self.client.run("timeout", &arguments)?;
        received(&printed).ok_or_else(|| anyhow!("coturn's client says nothing of what came:\n{printed}"))
    }
}

/// Reads out of what the client prints each second: `12: : start_mclient: ... tot_recv_bytes ~ 3450000`. The rate is
/// that from the first second in which something came to the last.
fn received(printed: &str) -> Option<Received> {
    let lines = printed.lines().filter_map(|line| {
        let second: f64 = line.split(':').next()?.trim().parse().ok()?;
        let bytes: f64 = line.split("tot_recv_bytes ~ ").nth(1)?.trim().parse().ok()?;
        Some((second, bytes))
    });
    let mut points: Vec<(f64, f64)> = lines.filter(|(_, bytes)| *bytes > 0.0).collect();
    // Waiting for stragglers is no sending.
    points.dedup_by(|later, earlier| later.1 <= earlier.1);
    let ((first, had), (last, bytes)) = (*points.first()?, *points.last()?);
    let rate = if last > first { (bytes - had) / (last - first) } else { bytes };
    Some(Received { bits_per_second: rate * 8.0, bytes })
}

#[cfg(test)]
mod tests {
    use super::received;

    #[test]
    fn what_came_is_read_out_of_what_the_client_prints() {
        let printed = "\
1: : IPv4. Connected\n\
1: : start_mclient: msz=2, tot_send_msgs=0, tot_recv_msgs=0, tot_send_bytes ~ 0, tot_recv_bytes ~ 0\n\
2: : start_mclient: msz=2, tot_send_msgs=9, tot_recv_msgs=5, tot_send_bytes ~ 9000, tot_recv_bytes ~ 5000\n\
4: : start_mclient: msz=2, tot_send_msgs=20, tot_recv_msgs=15, tot_send_bytes ~ 20000, tot_recv_bytes ~ 15000\n\
5: : start_mclient: tot_send_bytes ~ 20000, tot_recv_bytes ~ 15000\n\
5: : Total transmit time is 5\n";
        let received = received(printed).unwrap();
        assert!((received.bytes - 15_000.0).abs() < 1e-9);
        assert!((received.bits_per_second - 40_000.0).abs() < 1e-9);
    }
}
