//! What was measured on, and what was measured: without it a figure says nothing.

use std::{fs, process::Command, thread};

use serde::Serialize;

use crate::root;

/// This computer, by what its figures depend on. Nothing in it names it.
#[derive(Serialize)]
pub(super) struct Machine {
    pub(super) cpu: String,
    pub(super) cores: usize,
    /// Whether it runs under a hypervisor.
    pub(super) is_virtual: bool,
    pub(super) memory_gib: u64,
    pub(super) kernel: String,
    pub(super) system: String,
}

impl Machine {
    /// This one.
    pub(super) fn here() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let cpu = read("/proc/cpuinfo");
        let field = |text: &str, name: &str, separator: char| {
            text.lines()
                .find_map(|line| line.split_once(separator).filter(|(key, _)| key.trim() == name))
                .map(|(_, value)| value.trim().trim_matches('"').to_owned())
        };
        let memory = field(&read("/proc/meminfo"), "MemTotal", ':').unwrap_or_default();
        let kibibytes: u64 = memory.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0);
        // The version alone: what a builder appended may say more than it should.
        let release = read("/proc/sys/kernel/osrelease");
        let kernel = release.trim().split('-').next().unwrap_or_default();
        Self {
            cpu: field(&cpu, "model name", ':').unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            cores: thread::available_parallelism().map_or(1, usize::from),
            is_virtual: field(&cpu, "flags", ':').is_some_and(|flags| flags.contains(" hypervisor")),
            memory_gib: kibibytes.div_ceil(1 << 20),
            kernel: format!("Linux {kernel}"),
            system: field(&read("/etc/os-release"), "PRETTY_NAME", '=').unwrap_or_default(),
        }
    }

    /// In one line.
    pub(super) fn line(&self) -> String {
        let Self { cpu, cores, memory_gib, kernel, system, .. } = self;
        let kind = if self.is_virtual { "virtual machine, " } else { "" };
        format!("{kind}{cpu}, {cores} cores, {memory_gib} GiB, {kernel}, {system}")
    }
}

/// The version that a program prints when it is asked, its first word that begins with a digit.
pub(super) fn version(program: &str, argument: &str) -> String {
    let printed = Command::new(program).arg(argument).output().map(|output| {
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    });
    let printed = printed.unwrap_or_default();
    let is_version =
        |word: &&str| word.trim_start_matches('v').starts_with(|first: char| first.is_ascii_digit());
    printed.split_whitespace().find(is_version).unwrap_or("?").trim_start_matches('v').to_owned()
}

/// Of what these sources are: version and commit, with a plus where something was changed since.
pub(super) fn own_version() -> String {
    let described = Command::new("git")
        .current_dir(root())
        .args(["describe", "--always", "--dirty=+", "--abbrev=10", "--exclude=*"])
        .output()
        .ok()
        .filter(|output| output.status.success())
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    match described {
        Some(commit) => format!("{} ({commit})", env!("CARGO_PKG_VERSION")),
        None => env!("CARGO_PKG_VERSION").to_owned(),
    }
}
