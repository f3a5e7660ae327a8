//! What the host does that Tacet cannot prevent.

use std::process::{Command, Stdio};

use super::{Finding, Standing, kernel::Kernel};

/// Where the kernel shows that it can filter packets.
const FIREWALLS: [&str; 3] =
    ["/proc/net/netfilter", "/proc/net/ip_tables_names", "/proc/net/ip6_tables_names"];

/// What only other programs can tell.
pub(crate) struct Commands {
    /// The firewall's rules, from each tool that is there and may be asked.
    pub(crate) firewall: Vec<String>,
}

impl Commands {
    /// Asks them.
    pub(crate) fn ask() -> Self {
        let tools: [&[&str]; 3] = [&["nft", "list", "ruleset"], &["iptables-save"], &["ip6tables-save"]];
        Self { firewall: tools.into_iter().filter_map(output).collect() }
    }
}

fn output(line: &[&str]) -> Option<String> {
    let (program, arguments) = line.split_first()?;
    let run = Command::new(program).args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).output();
    run.ok().filter(|run| run.status.success()).map(|run| String::from_utf8_lossy(&run.stdout).into_owned())
}

/// Every point of the host.
pub(super) fn findings(kernel: &Kernel, commands: &Commands) -> Vec<Finding> {
    vec![
        swap(kernel),
        hibernation(kernel),
        core_pattern(kernel),
        tcp_metrics(kernel),
        conntrack(kernel),
        firewall(kernel, commands),
        journal(kernel),
        resolver(kernel),
    ]
}

fn holds(point: &'static str, seen: impl Into<String>) -> Finding {
    Finding { of: "host", pid: None, point, standing: Standing::Holds, seen: seen.into(), next: None }
}

fn warns(point: &'static str, seen: impl Into<String>, next: &'static str) -> Finding {
    Finding { of: "host", pid: None, point, standing: Standing::Warns, seen: seen.into(), next: Some(next) }
}

/// Where memory is swapped to.
fn swaps(table: &str) -> Vec<&str> {
    table.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect()
}

/// zram lives in memory and is gone with it.
fn stays_in_memory(device: &str) -> bool {
    device.starts_with("/dev/zram")
}

fn swap(kernel: &Kernel) -> Finding {
    const POINT: &str = "swap";
    let Some(table) = kernel.text("/proc/swaps") else { return holds(POINT, "this kernel has none") };
    let devices = swaps(&table);
    if devices.is_empty() {
        return holds(POINT, "none");
    }
    if devices.iter().all(|device| stays_in_memory(device)) {
        return holds(POINT, "compressed memory only");
    }
    warns(
        POINT,
        devices.join(", "),
        "memory may be written there: swapoff -a, or encrypt it with a key made at boot",
    )
}

/// Locked memory is written to the disk too when the whole machine is.
fn hibernation(kernel: &Kernel) -> Finding {
    const POINT: &str = "hibernation";
    let can =
        kernel.text("/sys/power/state").is_some_and(|states| states.split_whitespace().any(|s| s == "disk"))
            && kernel.text("/sys/power/disk").is_none_or(|modes| modes != "[disabled]");
    let table = kernel.text("/proc/swaps").unwrap_or_default();
    if !can || swaps(&table).into_iter().all(stays_in_memory) {
        return holds(POINT, "not possible here");
    }
    warns(
        POINT,
        "all memory, keys too, is written to the swap device when this machine hibernates",
        "encrypt that device, or turn it off: systemctl mask hibernate.target hybrid-sleep.target suspend-then-hibernate.target",
    )
}

fn core_pattern(kernel: &Kernel) -> Finding {
    const POINT: &str = "core pattern";
    match kernel.text("/proc/sys/kernel/core_pattern") {
        // `@`: a socket, since Linux 6.16.
        Some(pattern) if pattern.starts_with(['|', '@']) => warns(
            POINT,
            "a program is given every core dump, whatever a process's limit",
            "Tacet's processes are not dumpable, so it is not given theirs; for the others: sysctl kernel.core_pattern=core",
        ),
        Some(_) => holds(POINT, "a file, which the limit of each process prevents"),
        None => warns(POINT, "cannot be read", "run the command outside of a container"),
    }
}

fn tcp_metrics(kernel: &Kernel) -> Finding {
    const POINT: &str = "TCP metrics";
    if kernel.text("/proc/sys/net/ipv4/tcp_no_metrics_save").as_deref() == Some("1") {
        return holds(POINT, "not kept");
    }
    warns(
        POINT,
        "the kernel remembers the addresses of ended TCP connections for up to an hour, in memory",
        "sysctl -w net.ipv4.tcp_no_metrics_save=1, and the same in /etc/sysctl.d; forget: ip tcp_metrics flush all",
    )
}

fn conntrack(kernel: &Kernel) -> Finding {
    const POINT: &str = "connection tracking";
    match kernel
        .text("/proc/sys/net/netfilter/nf_conntrack_count")
        .and_then(|count| count.parse::<u64>().ok())
    {
        None | Some(0) => holds(POINT, "off, or nothing is tracked"),
        Some(count) => warns(
            POINT,
            format!("the firewall tracks {count} flows by their addresses, in memory"),
            "unless the firewall lets answers in by their flow, vpnd's port can go untracked: nft 'table inet untracked { \
             chain in { type filter hook prerouting priority raw; udp dport 51820 notrack; }; \
             chain out { type filter hook output priority raw; udp sport 51820 notrack; }; }'",
        ),
    }
}

fn firewall(kernel: &Kernel, commands: &Commands) -> Finding {
    const POINT: &str = "firewall";
    if commands.firewall.is_empty() {
        // What no tool shows may be there all the same.
        return if FIREWALLS.iter().any(|table| kernel.exists(table)) {
            warns(
                POINT,
                "neither nft nor iptables could be asked for the rules",
                "install nftables, and verify again",
            )
        } else {
            holds(POINT, "this kernel has none")
        };
    }
    let rules = commands.firewall.iter().flat_map(|text| text.lines()).filter(|line| logs(line)).count();
    if rules == 0 {
        return holds(POINT, "no rule logs packets");
    }
    warns(
        POINT,
        if rules == 1 {
            "a rule logs packets with their addresses".to_owned()
        } else {
            format!("{rules} rules log packets with their addresses")
        },
        "take the log statements out: nft list ruleset, or iptables-save, shows them",
    )
}

/// Whether a line of nft's or iptables' is a rule that writes to a log.
fn logs(line: &str) -> bool {
    let mut words = line.split_whitespace();
    if line.trim_start().starts_with('-') {
        return words.any(|word| matches!(word, "LOG" | "NFLOG" | "ULOG" | "TRACE"));
    }
    // A quoted comment may hold the word.
    line.split('"').step_by(2).flat_map(str::split_whitespace).any(|word| matches!(word, "log" | "nftrace"))
}

fn journal(kernel: &Kernel) -> Finding {
    const POINT: &str = "journal";
    if !kernel.exists("/run/systemd/journal/socket") {
        return holds(POINT, "systemd's is not running");
    }
    let mut files = vec!["/etc/systemd/journald.conf".to_owned()];
    let mut parts = kernel.names("/etc/systemd/journald.conf.d");
    parts.sort();
    files.extend(parts.into_iter().map(|name| format!("/etc/systemd/journald.conf.d/{name}")));
    let lines = files.iter().filter_map(|file| kernel.text(file)).collect::<Vec<_>>().join("\n");
    let storage = lines.lines().rev().find_map(|line| line.trim().strip_prefix("Storage="));
    let on_disk = match storage.map(str::trim) {
        Some("none" | "volatile") => false,
        Some("persistent") => true,
        _ => kernel.exists("/var/log/journal"),
    };
    if !on_disk {
        return holds(POINT, "not on disk");
    }
    warns(
        POINT,
        "on disk: it keeps when vpnd started and stopped, and the fixed sentences of docs/messages.md",
        "to keep none of it: Storage=volatile in /etc/systemd/journald.conf",
    )
}

fn resolver(kernel: &Kernel) -> Finding {
    const POINT: &str = "resolver cache";
    let caches = [
        ("/run/systemd/resolve/io.systemd.Resolve", "systemd-resolved"),
        ("/run/nscd/socket", "nscd"),
        ("/var/run/nscd/socket", "nscd"),
        ("/run/dnsmasq", "dnsmasq"),
        ("/run/unbound.ctl", "unbound"),
    ];
    match caches.iter().find(|(socket, _)| kernel.exists(socket)) {
        None => holds(POINT, "none is known to run"),
        Some((_, name)) => warns(
            POINT,
            format!("{name} keeps names that were looked up, in memory"),
            "forget them: resolvectl flush-caches (or restart it); to keep none: Cache=no in /etc/systemd/resolved.conf",
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn host(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        root
    }

    fn warned(files: &[(&str, &str)], firewall: &[&str]) -> Vec<&'static str> {
        let root = host(files);
        let commands = Commands { firewall: firewall.iter().map(|text| (*text).to_owned()).collect() };
        let findings = findings(&Kernel::at(root.path()), &commands);
        findings.iter().filter(|f| f.standing == Standing::Warns).map(|f| f.point).collect()
    }

    const QUIET: &[(&str, &str)] = &[
        ("proc/swaps", "Filename Type\n"),
        ("proc/sys/kernel/core_pattern", "core\n"),
        ("proc/sys/net/ipv4/tcp_no_metrics_save", "1\n"),
    ];

    #[test]
    fn a_quiet_host_warns_of_nothing() {
        assert_eq!(
            warned(QUIET, &["table inet filter {\n  udp dport 51820 accept comment \"no log here\"\n}"]),
            [""; 0]
        );
    }

    #[test]
    fn each_thing_that_remembers_is_told() {
        for (file, content, point) in [
            ("proc/swaps", "Filename Type\n/dev/sda2 partition\n", "swap"),
            ("proc/sys/kernel/core_pattern", "|/usr/lib/systemd/systemd-coredump %P\n", "core pattern"),
            ("proc/sys/net/ipv4/tcp_no_metrics_save", "0\n", "TCP metrics"),
            ("proc/sys/net/netfilter/nf_conntrack_count", "12\n", "connection tracking"),
            ("run/nscd/socket", "", "resolver cache"),
            ("proc/swaps", "Filename Type\n/var/zram.swap file\n", "swap"),
            ("proc/sys/kernel/core_pattern", "@/run/coredump.socket\n", "core pattern"),
            ("proc/net/netfilter/nf_log", "", "firewall"),
        ] {
            let files: Vec<_> = QUIET.iter().copied().chain([(file, content)]).collect();
            assert_eq!(warned(&files, &[]), [point]);
        }
        let laptop = [
            ("proc/swaps", "Filename Type\n/dev/dm-1 partition\n"),
            ("sys/power/state", "freeze mem disk\n"),
            ("sys/power/disk", "[platform] shutdown reboot suspend test_resume\n"),
        ];
        let files = |more: &[(&'static str, &'static str)]| [QUIET, &laptop, more].concat();
        assert_eq!(warned(&files(&[]), &[]), ["swap", "hibernation"]);
        assert_eq!(warned(&files(&[("sys/power/disk", "[disabled]\n")]), &[]), ["swap"]);
        assert_eq!(warned(&files(&[("sys/power/state", "freeze mem\n")]), &[]), ["swap"]);
        assert_eq!(warned(&files(&[("proc/swaps", "Filename Type\n/dev/zram0 partition\n")]), &[]), [""; 0]);
        assert_eq!(
            warned(QUIET, &["chain input {\n tcp dport 22 log prefix \"in\" accept\n}"]),
            ["firewall"]
        );
        assert_eq!(warned(QUIET, &["chain input {\n udp dport 5 meta nftrace set 1\n}"]), ["firewall"]);
        assert_eq!(warned(QUIET, &["-A INPUT -p udp -j LOG --log-prefix x"]), ["firewall"]);
    }

    #[test]
    fn the_journal_is_told_where_it_is_on_disk() {
        let with = |extra: &[(&'static str, &'static str)]| {
            let running = [("run/systemd/journal/socket", "")];
            let files: Vec<_> = QUIET.iter().copied().chain(running).chain(extra.iter().copied()).collect();
            warned(&files, &[])
        };
        assert_eq!(with(&[]), [""; 0]);
        assert_eq!(with(&[("var/log/journal/x", "")]), ["journal"]);
        assert_eq!(with(&[("etc/systemd/journald.conf", "[Journal]\nStorage=persistent\n")]), ["journal"]);
        let volatile = ("etc/systemd/journald.conf.d/a.conf", "Storage=volatile\n");
        assert_eq!(with(&[("var/log/journal/x", ""), volatile]), [""; 0]);
    }
}
