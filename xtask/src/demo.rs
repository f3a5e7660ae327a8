//! `cargo xtask demo`: a private network from nothing, by the commands that a person types.
//!
//! Every line after a prompt is run as it is shown, on a host of the laboratory, where the programs stand under the
//! names and with the default folders of an installation.

use std::{
    io::{IsTerminal as _, Write as _},
    process::Stdio,
    sync::Arc,
    time::Instant,
};

use anyhow::{Context as _, Result, anyhow, bail};
use serde_json::Value;
use tests::{Host, Lab, node::PASSWORD, process::Process, servers::word_that_starts, wait};

use crate::{build, packages};

/// A server, a machine with a public address, and two behind home routers of their own.
const TOPOLOGY: &str = "cloud=none:v6=1,home=easy,flat=easy";
const MACHINES: [&str; 3] = ["cloud-1", "home-1", "flat-1"];

/// Shows it. True if every machine reached every other.
pub(crate) fn run(keep: bool) -> Result<bool> {
    packages::prepare_lab()?;
    build()?;
    let lab = Lab::up(TOPOLOGY)?;
    told(
        "a server (srv), a machine with a public address (cloud-1), and two behind home routers (home-1, flat-1):",
    );
    told("each has its own network, as if they stood in different places. Nothing leaves this computer.\n");
    let mut running = Vec::new();
    let shown = show(&lab, &mut running);
    if keep {
        for process in &mut running {
            process.leave();
        }
        lab.keep()?;
        told("\nIt goes on running. A shell on a machine, a changed condition, and its end:");
        println!("  cargo xtask lab shell home-1\n  cargo xtask lab nat cut home\n  cargo xtask lab down");
    }
    if let Err(error) = &shown {
        for process in &running {
            println!("{} printed:\n{}", process.name(), process.printed());
        }
        bail!("the demonstration failed: {error:#}");
    }
    shown
}

fn show(lab: &Arc<Lab>, running: &mut Vec<Process>) -> Result<bool> {
    let server = lab.host("srv");
    told("On the server: a coordinator, and a token for whoever may open an account.");
    let url = format!("https://{}", server.ipv4()?);
    let serve = format!("tacet-coordinator serve --public-url {url}");
    running.push(started(&server, &serve)?);
    let enrolled = typed(&server, "tacet-coordinator enrol")?;
    let enrol = word_that_starts(&enrolled, "tacet-enrol1")?;

    told("On every machine: the daemon.");
    let machines = MACHINES.map(|name| lab.host(name));
    for machine in &machines {
        running.push(started(machine, "vpnd")?);
    }

    told("On the first: an account, and a network.");
    let [first, others @ ..] = &machines;
    typed(first, &format!("echo '{PASSWORD}' | vpnctl account create ann --enrol {enrol} --password-stdin"))?;
    typed(first, "vpnctl network create home")?;

    for machine in others {
        told(&format!("An invite on {}, and {} is in.", first.name(), machine.name()));
        let invited = typed(first, "vpnctl invite")?;
        let token = word_that_starts(&invited, "tacet-invite1")?;
        let began = Instant::now();
        typed(machine, &format!("vpnctl join {token}"))?;
        let address = address_of(machine, first.name(), "-4")?;
        wait::until("the first ping is answered", wait::SOON, || {
            machine
                .output("ping", &["-n", "-c", "1", "-W", "1", &address])
                .is_ok_and(|said| said.status.success())
        })?;
        told(&format!("From `join` to the first answered ping: {:.1} s.", began.elapsed().as_secs_f32()));
    }

    told("Every machine to every other: ping, and a TCP transfer of a second.");
    let mut rows = Vec::new();
    for from in &machines {
        for to in machines.iter().filter(|to| to.name() != from.name()) {
            rows.push(pair(from, to)?);
        }
    }
    for machine in &machines {
        typed(machine, "vpnctl status")?;
    }
    told("And what the kernel says that these processes may do.");
    typed(&machines[0], "vpnctl privacy verify")?;
    println!("{:<10} {:<10} {:>8} {:>8} {:>12}  path", "from", "to", "ping 4", "ping 6", "TCP");
    for row in &rows {
        println!("{row}");
    }
    Ok(true)
}

/// Everything between two machines, as a row of the table.
fn pair(from: &Host, to: &Host) -> Result<String> {
    let mut times = Vec::new();
    for family in ["-4", "-6"] {
        let printed = typed(from, &format!("ping -n -c 3 -i 0.2 $(vpnctl ip {} {family})", to.name()))?;
        times.push(mean_of_ping(&printed)?);
    }
    // A log of its own: in one that has the words of the test before, this one would seem to listen already.
    let log = to.folder().join(format!("iperf3-{}.log", from.name()));
    let mut command = to.command("iperf3")?;
    let mut listening = Process::start("iperf3", command.args(["-s", "-1", "--forceflush"]), log)?;
    wait::until("iperf3 listens", wait::SOON, || listening.printed().contains("listening"))?;
    let line = format!("iperf3 -c $(vpnctl ip {} -4) -t 1 -J", to.name());
    prompt(from, &line);
    let transferred = from.run("sh", &["-c", &line])?;
    let report: Value = serde_json::from_str(&transferred).context("iperf3 printed no JSON")?;
    // Asked for JSON, iperf3 ends with 0 even where it could not connect.
    if let Some(why) = report["error"].as_str() {
        bail!("{}: `{line}`: {why}", from.name());
    }
    listening.ended(wait::SOON)?;
    let rate = report["end"]["sum_received"]["bits_per_second"]
        .as_f64()
        .filter(|rate| *rate > 0.0)
        .ok_or_else(|| anyhow!("nothing was transferred"))?;
    println!("{:.0} Mbit/s\n", rate / 1e6);
    let status: Value = serde_json::from_str(&from.run("vpnctl", &["--json", "status"])?)?;
    let peers = status["networks"][0]["peers"].as_array().into_iter().flatten();
    let path = peers
        .into_iter()
        .find(|peer| peer["name"] == to.name())
        .and_then(|peer| peer["path"].as_str())
        .unwrap_or("?");
    Ok(format!(
        "{:<10} {:<10} {:>5} ms {:>5} ms {:>6.0} Mbit/s  {path}",
        from.name(),
        to.name(),
        times[0],
        times[1],
        rate / 1e6
    ))
}

fn address_of(asked: &Host, name: &str, family: &str) -> Result<String> {
    Ok(asked.run("vpnctl", &["ip", name, family])?)
}

/// The mean of `rtt min/avg/max/mdev = 0.1/0.2/0.3/0.0 ms`.
fn mean_of_ping(printed: &str) -> Result<String> {
    printed
        .lines()
        .find_map(|line| line.strip_prefix("rtt ")?.split(" = ").nth(1)?.split('/').nth(1).map(str::to_owned))
        .ok_or_else(|| anyhow!("no ping came back"))
}

/// Starts a program that stays, as a person does who types `&` after it.
fn started(host: &Host, line: &str) -> Result<Process> {
    prompt(host, &format!("{line} &"));
    let mut words = line.split(' ');
    let program = words.next().context("a line has a first word")?;
    let mut command = host.command(program)?;
    command.args(words);
    let process = Process::start_ready(program, &mut command, host.folder().join(format!("{program}.log")))?;
    println!("{}\n", process.printed().trim_end());
    Ok(process)
}

/// Runs a line in a shell on a host, shows what it prints as it would look there, and returns it.
fn typed(host: &Host, line: &str) -> Result<String> {
    prompt(host, line);
    let mut command = host.command("sh")?;
    let output = command.args(["-c", &format!("exec 2>&1; {line}")]).stdin(Stdio::null()).output()?;
    let printed = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
    println!("{printed}\n");
    if !output.status.success() {
        bail!("{}: `{line}` ended with {}", host.name(), output.status);
    }
    Ok(printed)
}

fn prompt(host: &Host, line: &str) {
    if std::io::stdout().is_terminal() {
        println!("\x1b[32m{}#\x1b[0m \x1b[1m{line}\x1b[0m", host.name());
    } else {
        println!("{}# {line}", host.name());
    }
    let _ = std::io::stdout().flush();
}

fn told(sentence: &str) {
    if std::io::stdout().is_terminal() {
        println!("\x1b[36m{sentence}\x1b[0m");
    } else {
        println!("{sentence}");
    }
}
