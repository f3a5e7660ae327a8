//! What a process must be like.

use super::{
    Finding, Standing,
    kernel::{Descriptor, Kernel, Kind, Status},
    mounts,
};

/// `CAP_NET_BIND_SERVICE` and `CAP_NET_ADMIN`, by their numbers in `linux/capability.h`.
const BIND: u64 = 1 << 10;
const ADMIN: u64 = 1 << 12;

/// A process that is looked at.
struct Subject<'a> {
    kernel: &'a Kernel,
    of: &'static str,
    pid: u32,
    threads: Vec<Status>,
}

/// The data path: no power at all.
pub(super) fn data_path(kernel: &Kernel, pid: u32) -> Vec<Finding> {
    let Some(subject) = Subject::new(kernel, "data path", pid) else { return gone("data path", pid) };
    let broken = Some(subject.how_to_confine());
    vec![
        subject.seccomp(Standing::Broken, broken),
        subject.no_new_privileges(Standing::Broken, broken),
        subject.capabilities(0, Standing::Broken, broken),
        subject.descriptors_of_data_path(),
        subject.no_new_files(),
        subject.dumpable(),
        subject.core_limit(),
        subject.traced(),
        subject.swapped(),
        subject.landlock(),
    ]
}

/// Control: it needs the power over the network, and nothing else of root's.
pub(super) fn control(kernel: &Kernel, pid: u32) -> Vec<Finding> {
    let Some(subject) = Subject::new(kernel, "control", pid) else { return gone("control", pid) };
    let broken = Some(subject.how_to_confine());
    let mut findings = vec![
        subject.program("vpnd"),
        subject.seccomp(Standing::Broken, broken),
        subject.no_new_privileges(Standing::Broken, broken),
        subject.capabilities(ADMIN, Standing::Broken, broken),
        subject.written_files(&["lock"]),
        subject.dumpable(),
        subject.core_limit(),
        subject.traced(),
        subject.swapped(),
        subject.landlock(),
    ];
    findings.extend(mounts::of_files(kernel, "control", pid));
    findings
}

/// The process of a plain interface that is asked: it needs the power over the network and over low ports, and has no file.
pub(super) fn device(kernel: &Kernel, pid: u32) -> Vec<Finding> {
    let Some(subject) = Subject::new(kernel, "device", pid) else { return gone("device", pid) };
    let broken = Some(subject.how_to_confine());
    vec![
        subject.seccomp(Standing::Broken, broken),
        subject.no_new_privileges(Standing::Broken, broken),
        subject.capabilities(ADMIN | BIND, Standing::Broken, broken),
        subject.written_files(&[]),
        subject.dumpable(),
        subject.core_limit(),
        subject.traced(),
        subject.swapped(),
        subject.landlock(),
    ]
}

/// A coordinator or a relay: no power at all, and no file but the coordinator's own.
pub(super) fn server(kernel: &Kernel, of: &'static str, pid: u32) -> Vec<Finding> {
    let Some(subject) = Subject::new(kernel, of, pid) else { return gone(of, pid) };
    let broken = Some(subject.how_to_confine());
    let files = if of == "coordinator" {
        let database = kernel.database(pid);
        let journal = format!("{database}-journal");
        let keys = format!("{database}-keys");
        subject.written_files(&["lock", &database, &journal, &keys])
    } else {
        subject.no_files()
    };
    let mut findings = vec![
        subject.user(),
        subject.seccomp(Standing::Broken, broken),
        subject.no_new_privileges(Standing::Broken, broken),
        subject.capabilities(0, Standing::Broken, broken),
        files,
        subject.dumpable(),
        subject.core_limit(),
        subject.traced(),
        subject.swapped(),
        subject.landlock(),
    ];
    if of == "coordinator" {
        findings.extend(mounts::of_files(kernel, of, pid));
    }
    findings
}

/// It ended while it was looked at.
fn gone(of: &'static str, pid: u32) -> Vec<Finding> {
    let seen = "the process ended while it was looked at, or belongs to another pid namespace".to_owned();
    let next = Some("run the command again, where vpnd runs");
    vec![Finding { of, pid: Some(pid), point: "running", standing: Standing::Broken, seen, next }]
}

impl<'a> Subject<'a> {
    fn new(kernel: &'a Kernel, of: &'static str, pid: u32) -> Option<Self> {
        let threads = kernel.threads(pid);
        (!threads.is_empty()).then_some(Self { kernel, of, pid, threads })
    }

    fn finding(
        &self,
        point: &'static str,
        standing: Standing,
        seen: impl Into<String>,
        next: Option<&'static str>,
    ) -> Finding {
        let next = next.filter(|_| standing != Standing::Holds);
        Finding { of: self.of, pid: Some(self.pid), point, standing, seen: seen.into(), next }
    }

    /// What to do where a wall of Tacet's own processes is missing.
    fn how_to_confine(&self) -> &'static str {
        let open = self.kernel.words(self.pid).iter().any(|word| word == "--allow-unsandboxed");
        match (self.of, open) {
            ("coordinator" | "relay", true) => {
                "start it without --allow-unsandboxed, on a kernel that has Landlock and seccomp"
            }
            ("coordinator" | "relay", false) => {
                "restart it; if it stays, it is not what it should be: install it anew"
            }
            ("device", true) => {
                "make the interface anew without --allow-unsandboxed, on a kernel that has Landlock and seccomp"
            }
            ("device", false) => {
                "delete the interface and make it anew; if it stays, this vpnd is not what it should be: install it anew"
            }
            (_, true) => "start vpnd without --allow-unsandboxed, on a kernel that has Landlock and seccomp",
            (_, false) => "restart vpnd; if it stays, this vpnd is not what it should be: install it anew",
        }
    }

    /// Root's user, without root's powers, still owns root's files: Landlock keeps them from it.
    fn user(&self) -> Finding {
        const POINT: &str = "user";
        let next = Some(
            "run it by its unit, or as root on a data directory of the account that it is to run as (relay: --user)",
        );
        match self.threads.iter().map(|thread| thread.number("Uid")).min().flatten() {
            None => self.finding(POINT, Standing::Warns, "the kernel does not tell", None),
            Some(0) => self.finding(POINT, Standing::Warns, "root's, though without its powers", next),
            Some(uid) => self.finding(POINT, Standing::Holds, format!("an ordinary one, {uid}"), None),
        }
    }

    /// A relay has no file open, for reading or writing.
    fn no_files(&self) -> Finding {
        const POINT: &str = "files";
        let Some(all) = self.kernel.descriptors(self.pid) else {
            return self.finding(POINT, Standing::Warns, "cannot be seen", None);
        };
        let nowhere = |kind: &Kind| matches!(kind, Kind::Device(path) if path == "/dev/null");
        let open = |d: &&Descriptor| matches!(d.kind, Kind::File { .. } | Kind::Device(_) | Kind::Pipe);
        let strange: Vec<String> =
            all.iter().filter(open).filter(|d| !nowhere(&d.kind)).map(describe).collect();
        if strange.is_empty() {
            return self.finding(POINT, Standing::Holds, "none open; its output leads nowhere", None);
        }
        let seen = format!("it holds {}", strange.join(", "));
        self.finding(POINT, Standing::Broken, seen, Some("report it as a fault of Tacet"))
    }

    /// What holds for every thread.
    fn all(&self, holds: impl Fn(&Status) -> bool) -> bool {
        self.threads.iter().all(holds)
    }

    fn program(&self, name: &str) -> Finding {
        let link = self.kernel.link(&format!("proc/{}/exe", self.pid)).unwrap_or_default();
        let (standing, seen) = if self.kernel.program(self.pid).as_deref() != Some(name) {
            (Standing::Broken, format!("whoever listens on the socket is not {name}"))
        } else if link.ends_with(" (deleted)") {
            (Standing::Warns, "an older one runs than the one installed".to_owned())
        } else {
            (Standing::Holds, link)
        };
        self.finding("program", standing, seen, Some("restart it: systemctl restart vpnd"))
    }

    fn seccomp(&self, without: Standing, next: Option<&'static str>) -> Finding {
        // 2: SECCOMP_MODE_FILTER.
        let filtered = self.threads.iter().filter(|t| t.number("Seccomp") == Some(2)).count();
        let all = self.threads.len();
        if filtered == all {
            let filters = self.threads.iter().filter_map(|t| t.number("Seccomp_filters")).min().unwrap_or(0);
            return self.finding(
                "system calls",
                Standing::Holds,
                format!("filtered ({filters} filters, every thread)"),
                None,
            );
        }
        let seen = format!("no filter on {} of {all} threads", all - filtered);
        self.finding("system calls", without, seen, next)
    }

    fn no_new_privileges(&self, without: Standing, next: Option<&'static str>) -> Finding {
        if self.all(|thread| thread.number("NoNewPrivs") == Some(1)) {
            return self.finding("new privileges", Standing::Holds, "none can be gained", None);
        }
        self.finding("new privileges", without, "a program that it starts could gain some", next)
    }

    fn capabilities(&self, allowed: u64, more: Standing, next: Option<&'static str>) -> Finding {
        let sets = ["CapEff", "CapPrm", "CapInh", "CapAmb"];
        let held = self.threads.iter().flat_map(|thread| sets.map(|set| thread.capabilities(set)));
        let Some(held) = held.reduce(|a, b| Some(a? | b?)).flatten() else {
            return self.finding("capabilities", Standing::Warns, "the kernel does not tell", None);
        };
        let standing = if held & !allowed == 0 { Standing::Holds } else { more };
        self.finding("capabilities", standing, capability_names(held), next)
    }

    fn descriptors_of_data_path(&self) -> Finding {
        const POINT: &str = "descriptors";
        let next = Some("restart vpnd; if it stays, report it as a fault of Tacet");
        let Some(all) = self.kernel.descriptors(self.pid) else {
            return self.finding(POINT, Standing::Warns, "cannot be seen", next);
        };
        let anonymous = ["eventpoll", "timerfd", "eventfd", "secretmem"];
        let allowed = |d: &&Descriptor| match &d.kind {
            Kind::Tun | Kind::Udp => true,
            // Standard input, output and error are neither.
            Kind::Pipe => d.number > 2,
            Kind::Anonymous(name) => anonymous.contains(&name.as_str()),
            _ => false,
        };
        let strange: Vec<String> = all.iter().filter(|d| !allowed(d)).map(describe).collect();
        let pipes = all.iter().filter(|d| d.kind == Kind::Pipe).count();
        if !strange.is_empty() {
            return self.finding(POINT, Standing::Broken, format!("it holds {}", strange.join(", ")), next);
        }
        if pipes > 2 {
            return self.finding(POINT, Standing::Broken, format!("it holds {pipes} pipes, not two"), next);
        }
        let count = |kind: &Kind| all.iter().filter(|d| d.kind == *kind).count();
        let (tun, udp) = (count(&Kind::Tun), count(&Kind::Udp));
        let other = all.len() - tun - udp - pipes;
        self.finding(
            POINT,
            Standing::Holds,
            format!("{tun} TUN, {udp} UDP, {pipes} pipes, {other} epoll and timers; no file"),
            None,
        )
    }

    /// No file is open for writing but those named.
    fn written_files(&self, own: &[&str]) -> Finding {
        const POINT: &str = "files";
        let Some(all) = self.kernel.descriptors(self.pid) else {
            return self.finding(POINT, Standing::Warns, "cannot be seen", None);
        };
        let written = all.iter().filter_map(|d| match &d.kind {
            Kind::File { path, writable: true } => Some((d.number, path)),
            _ => None,
        });
        let (output, others): (Vec<_>, Vec<_>) = written.partition(|(number, _)| *number <= 2);
        let own = |path: &str| own.iter().any(|name| path.rsplit('/').next() == Some(*name));
        let strange: Vec<&str> =
            others.into_iter().filter(|(_, path)| !own(path)).map(|(_, path)| path.as_str()).collect();
        if !strange.is_empty() {
            let next = Some("report it as a fault of Tacet");
            return self.finding(
                POINT,
                Standing::Broken,
                format!("open for writing: {}", strange.join(", ")),
                next,
            );
        }
        let piped = all.iter().any(|d| matches!(d.number, 1 | 2) && d.kind == Kind::Pipe);
        let to = output.first().map(|(_, path)| path.as_str()).or(piped.then_some("another program"));
        if let Some(path) = to {
            let next =
                Some("only the fixed sentences of docs/messages.md go there; to keep none: 2>/dev/null");
            return self.finding(POINT, Standing::Warns, format!("its output goes to {path}"), next);
        }
        self.finding(POINT, Standing::Holds, "none open for writing but its own", None)
    }

    fn dumpable(&self) -> Finding {
        const POINT: &str = "memory";
        let user = self.threads.first().and_then(|thread| thread.number("Uid"));
        let next = Some("restart it; if it stays, report it as a fault of Tacet");
        match (user, self.kernel.owner(self.pid).map(u64::from)) {
            // What belongs to root's processes is root's either way.
            (Some(0) | None, _) | (_, None) => {
                let seen = "the kernel does not tell of root's processes whether they can be dumped";
                self.finding(
                    POINT,
                    Standing::Warns,
                    seen,
                    Some("the limit on core files below is what can be seen"),
                )
            }
            (Some(_), Some(0)) => {
                self.finding(POINT, Standing::Holds, "cannot be dumped or read by its own user", None)
            }
            (Some(_), Some(_)) => {
                self.finding(POINT, Standing::Broken, "can be dumped and read by its own user", next)
            }
        }
    }

    /// Whether a limit is 0 and cannot be raised.
    fn limit_is_zero(&self, name: &str) -> bool {
        let limits = self.kernel.text(&format!("proc/{}/limits", self.pid)).unwrap_or_default();
        let line = limits.lines().find_map(|line| line.strip_prefix(name));
        let mut values = line.unwrap_or_default().split_whitespace();
        (values.next(), values.next()) == (Some("0"), Some("0"))
    }

    /// No descriptor can be opened and no file can grow, whatever else lets it.
    fn no_new_files(&self) -> Finding {
        if self.limit_is_zero("Max open files") && self.limit_is_zero("Max file size") {
            return self.finding(
                "new files",
                Standing::Holds,
                "none can be opened or written: both limits are 0 for good",
                None,
            );
        }
        let next = Some("a kernel with Landlock and a vpnd without --allow-unsandboxed set both limits to 0");
        self.finding("new files", Standing::Broken, "files could be opened or written", next)
    }

    fn core_limit(&self) -> Finding {
        if self.limit_is_zero("Max core file size") {
            return self.finding("core files", Standing::Holds, "none: the limit is 0 for good", None);
        }
        self.finding(
            "core files",
            Standing::Broken,
            "a crash may write its memory to a file",
            Some("restart it; if it stays, report it as a fault of Tacet"),
        )
    }

    fn traced(&self) -> Finding {
        let tracer = self.threads.iter().filter_map(|t| t.number("TracerPid")).find(|pid| *pid != 0);
        match tracer {
            None => self.finding("debugger", Standing::Holds, "none is attached", None),
            Some(pid) => {
                let seen = format!("process {pid} is attached, and sees all that passes");
                self.finding(
                    "debugger",
                    Standing::Broken,
                    seen,
                    Some("end that process, if you did not start it"),
                )
            }
        }
    }

    fn swapped(&self) -> Finding {
        const POINT: &str = "swap";
        let status = self.kernel.status(self.pid);
        let kib = |name| status.as_ref().and_then(|status| status.number(name));
        let locked = kib("VmLck").unwrap_or(0);
        match kib("VmSwap") {
            None => self.finding(POINT, Standing::Warns, "the kernel does not tell", None),
            Some(0) if locked > 0 => {
                let seen = format!("nothing of it is swapped out; {locked} KiB are locked in memory");
                self.finding(POINT, Standing::Holds, seen, None)
            }
            Some(0) if !self.kernel.swaps() => {
                let seen = "nothing is locked in memory, and this host swaps nothing out";
                self.finding(POINT, Standing::Holds, seen, None)
            }
            Some(0) => {
                let next =
                    Some("run it by its unit, which lifts the limit on locked memory, or turn swap off");
                let seen = "nothing of it is swapped out yet, and nothing is locked in memory";
                self.finding(POINT, Standing::Warns, seen, next)
            }
            Some(kib) => {
                let next = Some("keys may be among it: turn swap off (swapoff -a), or encrypt it");
                self.finding(POINT, Standing::Warns, format!("{kib} KiB of it are on the swap device"), next)
            }
        }
    }

    /// Linux shows nobody which rules of Landlock a process is under, only whether there can be any.
    fn landlock(&self) -> Finding {
        const POINT: &str = "Landlock";
        let features = self.kernel.landlock();
        if features.is_empty() {
            let next = Some("use a kernel with landlock in CONFIG_LSM or lsm=");
            return self.finding(POINT, Standing::Broken, "this kernel has none: paths are open to it", next);
        }
        let seen = format!(
            "this kernel can forbid {}; whether it does, it shows to nobody outside of the process",
            features.join(", ")
        );
        let next = Some("cargo xtask test tries to escape from the same program's walls");
        self.finding(POINT, Standing::Warns, seen, next)
    }
}

fn describe(descriptor: &Descriptor) -> String {
    let what = match &descriptor.kind {
        Kind::Tun => "TUN",
        Kind::Udp => "UDP socket",
        Kind::Tcp => "TCP socket",
        Kind::Unix => "unix socket",
        Kind::OtherSocket => "socket of another family",
        Kind::Pipe => "pipe",
        Kind::Anonymous(name) => name,
        Kind::Device(path) | Kind::File { path, .. } => path,
    };
    format!("{}: {what}", descriptor.number)
}

fn capability_names(held: u64) -> String {
    let known = [(BIND, "ports below 1024"), (ADMIN, "network administration")];
    let mut names: Vec<String> =
        known.iter().filter(|(bit, _)| held & bit != 0).map(|(_, name)| (*name).to_owned()).collect();
    let others = (held & !(BIND | ADMIN)).count_ones();
    if others > 0 {
        names.push(format!("{others} more of root's"));
    }
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests;
