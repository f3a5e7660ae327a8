//! `report`: what a person who helps may see, put together from a list of what is allowed.
//!
//! Nothing is taken from an answer but what stands in [`Report`]: versions, the kernel, features, counts and states.
//! Networks and machines get names made up for this one report, so that two reports cannot be laid side by side. It is
//! shown before it is written, and sent nowhere.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    process::{Command as Program, Stdio},
};

use proto::api::{Answer, Command, ErrorCode, NetworkState, NetworkStatus, Path as Way, Warning};
use serde::Serialize;

use super::Context;
use crate::{cli, client::not_understood, failure::Failure, verify};

/// All that a report may hold.
#[derive(Serialize)]
struct Report {
    vpnctl: &'static str,
    vpnd: Option<String>,
    running: bool,
    system: Option<String>,
    kernel: Option<String>,
    architecture: &'static str,
    processors: usize,
    features: Vec<Feature>,
    networks: Vec<Network>,
}

#[derive(Serialize)]
struct Feature {
    name: &'static str,
    there: bool,
}

#[derive(Serialize)]
struct Network {
    /// Made up.
    name: String,
    state: NetworkState,
    generation: u64,
    signer: bool,
    ipv4: bool,
    warnings: Vec<Warning>,
    machines: Vec<Machine>,
}

#[derive(Serialize)]
struct Machine {
    /// Made up.
    name: String,
    path: Way,
    ipv4: bool,
    mtu: u16,
}

pub(super) fn run(context: &Context<'_>, args: cli::Report) -> Result<(), Failure> {
    let networks = match context.ask(Command::Status {}) {
        Ok(Answer::Status(status)) => Some(status.networks),
        Ok(_) => return Err(not_understood()),
        Err(Failure::Told(error)) if error.code == ErrorCode::NotRunning => None,
        Err(failure) => return Err(failure),
    };
    let report = Report::of(networks.as_deref()).map_err(|error| {
        Failure::new(ErrorCode::Failed, "no report was made", error.to_string(), "try again")
    })?;
    context.show(&report, || report.text())?;
    let Some(file) = args.output else { return Ok(()) };
    let question = format!("\nWrite this to {}?", file.display());
    if !args.yes && !context.agreed("the report was not written", &question)? {
        context.ui.progress("Nothing was written.");
        return Ok(());
    }
    let bytes = if context.ui.json() {
        serde_json::to_string(&report).map_err(io::Error::from)? + "\n"
    } else {
        report.text()
    };
    let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file);
    written.and_then(|mut file| file.write_all(bytes.as_bytes())).map_err(|error| {
        let why = error.to_string();
        Failure::new(
            ErrorCode::Failed,
            "the report was not written",
            why,
            "choose a new file in a directory of yours",
        )
    })?;
    context.ui.progress(&format!("Written to {}. It was sent nowhere.", file.display()));
    Ok(())
}

impl Report {
    fn of(networks: Option<&[NetworkStatus]>) -> io::Result<Self> {
        let mut names = Names::new()?;
        let there = |path: &str| Path::new(path).exists();
        let listed = |path: &str, word: &str| {
            let text = fs::read_to_string(path).unwrap_or_default();
            text.split([',', ' ', '\n']).any(|part| part == word)
        };
        let features = [
            ("tun", there("/dev/net/tun")),
            ("landlock", !verify::Kernel::of_this_host().landlock().is_empty()),
            ("seccomp", listed("/proc/sys/kernel/seccomp/actions_avail", "kill_process")),
            ("ipv6", there("/proc/net/if_inet6")),
            ("nftables", there("/usr/sbin/nft")),
            ("systemd", there("/run/systemd/system")),
            ("wireguard_module", there("/sys/module/wireguard")),
        ];
        let mut told = Vec::new();
        for network in networks.unwrap_or_default() {
            told.push(Network::of(network, &mut names)?);
        }
        told.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Self {
            vpnctl: env!("CARGO_PKG_VERSION"),
            vpnd: version_of_vpnd(),
            running: networks.is_some(),
            system: system(),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").ok().map(|text| kernel_version(&text)),
            architecture: std::env::consts::ARCH,
            processors: std::thread::available_parallelism().map_or(0, usize::from),
            features: features.into_iter().map(|(name, there)| Feature { name, there }).collect(),
            networks: told,
        })
    }

    fn text(&self) -> String {
        let unknown = || "unknown".to_owned();
        let mut text = format!(
            "Tacet report. Names of networks and machines are made up, and others in the next report.\n\n\
             vpnctl      {}\nvpnd        {}, {}\nsystem      {}\nkernel      {}, {}, {} processors\n",
            self.vpnctl,
            self.vpnd.clone().unwrap_or_else(unknown),
            if self.running { "running" } else { "not running" },
            self.system.clone().unwrap_or_else(unknown),
            self.kernel.clone().unwrap_or_else(unknown),
            self.architecture,
            self.processors,
        );
        for Feature { name, there } in &self.features {
            text += &format!("  {name:<18}{}\n", if *there { "yes" } else { "no" });
        }
        for network in &self.networks {
            text += &format!(
                "\n{}  {}  generation {}{}{}\n",
                network.name,
                word(&network.state),
                network.generation,
                if network.signer { ", signer" } else { "" },
                if network.ipv4 { "" } else { ", no IPv4 yet" },
            );
            for warning in &network.warnings {
                text += &format!("  warning: {}\n", word(warning));
            }
            for machine in &network.machines {
                let ipv4 = if machine.ipv4 { "" } else { ", no IPv4 yet" };
                text += &format!("  {}  {}, MTU {}{ipv4}\n", machine.name, word(&machine.path), machine.mtu);
            }
        }
        text
    }
}

impl Network {
    fn of(network: &NetworkStatus, names: &mut Names) -> io::Result<Self> {
        let mut machines = Vec::new();
        for peer in &network.peers {
            let name = names.next("machine")?;
            machines.push(Machine { name, path: peer.path, ipv4: peer.ipv4.is_some(), mtu: peer.mtu });
        }
        // vpnd orders machines by their names, which must not show.
        machines.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Self {
            name: names.next("network")?,
            state: network.state,
            generation: network.generation,
            signer: network.machine.signer,
            ipv4: network.machine.ipv4.is_some(),
            warnings: network.warnings.clone(),
            machines,
        })
    }
}

/// Names that mean nothing: random, kept nowhere.
struct Names(File);

impl Names {
    fn new() -> io::Result<Self> {
        File::open("/dev/urandom").map(Self)
    }

    fn next(&mut self, kind: &str) -> io::Result<String> {
        let mut bytes = [0; 4];
        self.0.read_exact(&mut bytes)?;
        Ok(format!("{kind}-{:08x}", u32::from_be_bytes(bytes)))
    }
}

/// A state's own word, as in the JSON documents.
fn word(state: &impl Serialize) -> String {
    serde_json::to_value(state).ok().and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default()
}

/// The version of the vpnd that is installed, if it names itself as it should.
fn version_of_vpnd() -> Option<String> {
    let run =
        Program::new("vpnd").arg("--version").stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8(run.stdout).ok()?;
    let version = text.trim().strip_prefix("vpnd ")?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+');
    (version.len() < 40 && version.chars().all(plain)).then(|| version.to_owned())
}

/// A kernel's release without what its builder may have put into it, such as the machine's name: numbers, and flavours that
/// distributions use.
fn kernel_version(release: &str) -> String {
    const FLAVOURS: [&str; 16] = [
        "amd64",
        "arm64",
        "armmp",
        "aws",
        "azure",
        "cloud",
        "gcp",
        "generic",
        "hardened",
        "lts",
        "microsoft",
        "raspi",
        "rpi",
        "rt",
        "standard",
        "zen",
    ];
    let plain = |part: &str, also: &[char]| {
        part.len() < 12 && part.chars().all(|c| c.is_ascii_digit() || also.contains(&c))
    };
    let parts: Vec<&str> = release.trim().split('-').collect();
    let known = |(at, part): &(usize, &str)| {
        if *at == 0 { plain(part, &['.', '+']) } else { plain(part, &[]) || FLAVOURS.contains(part) }
    };
    let told: Vec<&str> = parts.iter().copied().enumerate().filter(known).map(|(_, part)| part).collect();
    let more = if told.len() < parts.len() { " (and a name of its own)" } else { "" };
    told.join("-") + more
}

/// The distribution's name and version.
fn system() -> Option<String> {
    let text = fs::read_to_string("/etc/os-release").ok()?;
    let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(name.trim_matches('"').chars().filter(|c| !c.is_control()).take(60).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_is_named_after_its_machine_does_not_tell_the_name() {
        assert_eq!(kernel_version("6.1.0-26-amd64\n"), "6.1.0-26-amd64");
        assert_eq!(kernel_version("6.18.44-generic"), "6.18.44-generic");
        assert_eq!(kernel_version("6.18.44-anns-laptop"), "6.18.44 (and a name of its own)");
        assert_eq!(kernel_version("6.18.44-198.51.100.7"), "6.18.44 (and a name of its own)");
    }
}
