//! Traffic between two machines, and what processes use of the processors meanwhile.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, anyhow, bail};
use serde_json::Value;
use tests::{Node, process::Process, wait};

/// Ticks of the processor clock in a second, as /proc counts.
const TICKS: f64 = 100.0;

/// What arrived.
#[derive(Clone, Copy)]
pub(super) struct Received {
    pub(super) bits_per_second: f64,
    pub(super) bytes: f64,
}

/// Serves iperf3 on a machine.
///
/// # Errors
/// If it does not come to listen.
pub(super) fn serve(node: &Node) -> Result<Process> {
    let mut command = node.host().command("iperf3")?;
    let log = node.host().folder().join("iperf3.log");
    let server = Process::start("iperf3", command.args(["-s", "--forceflush"]), log)?;
    wait::until("iperf3 listens", wait::SOON, || server.printed().contains("listening"))?;
    Ok(server)
}

/// Sends to a machine that serves iperf3, with further options of its client.
///
/// # Errors
/// What iperf3 says, if nothing came through.
pub(super) fn iperf(from: &Node, to: &Node, seconds: u32, options: &[&str]) -> Result<Received> {
    let (address, seconds) = (to.address("ipv4")?, seconds.to_string());
    let arguments = [&["-c", &address, "-t", &seconds, "-J"], options].concat();
    let printed = from.host().run("iperf3", &arguments)?;
    let report: Value = serde_json::from_str(&printed).context("iperf3 printed no JSON")?;
    // Asked for JSON, iperf3 ends with 0 even where it could not connect.
    if let Some(why) = report["error"].as_str() {
        bail!("iperf3 from {} to {}: {why}", from.name(), to.name());
    }
    // What a receiver of datagrams counted stands in `sum` alone, with what was lost among it.
    let of = |field: &str| {
        let received = &report["end"]["sum_received"];
        received[field].as_f64().filter(|amount| *amount > 0.0).ok_or_else(|| anyhow!("nothing was received"))
    };
    Ok(Received { bits_per_second: of("bits_per_second")?, bytes: of("bytes")? })
}

/// What processes used of the processors until now, in user space and in the kernel.
///
/// # Errors
/// If one has ended.
pub(super) fn cpu_seconds(processes: &[u32]) -> Result<f64> {
    let mut ticks = 0.0;
    for process in processes {
        let stat = fs::read_to_string(Path::new("/proc").join(process.to_string()).join("stat"))?;
        // After the name, which may hold anything: state is the third field, utime the 14th, stime the 15th (proc(5)).
        let (_, fields) = stat.rsplit_once(')').context("/proc/PID/stat has a name in parentheses")?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        for field in [11, 12] {
            ticks += fields.get(field).and_then(|text| text.parse::<f64>().ok()).context("no such field")?;
        }
    }
    Ok(ticks / TICKS)
}
