//! A coordinator, a relay and three machines, each on a disk of its own, each watched.
//!
//! A program sees as its own: `/var/lib`, `/run`, `/tmp`, `/var/tmp`, `/var/log`, `/dev/shm` and its working folder, all of
//! them on its disk, and a `/dev/log` where somebody listens. It runs under strace, may dump core, and its output goes to
//! a file. All of that is done by a script that stands under the program's name.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::{fs::PermissionsExt as _, net::UnixDatagram},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, SystemTime},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tests::{Coordinator, Host, Lab, Node, RelayProcess, Result, Trouble, binaries, wait};

use crate::{
    disk::{Disk, Snapshot},
    plan::MACHINES,
    writes::{self, CALLS, Call, Own},
};

/// Who stores and runs, and where in the laboratory: coordinator, relay, machines.
pub(crate) const COMPONENTS: [(&str, &str); 5] = [
    ("coordinator", "srv"),
    ("relay", "srv2"),
    ("machine 1", MACHINES[0]),
    ("machine 2", MACHINES[1]),
    ("machine 3", MACHINES[2]),
];

pub(crate) const COORDINATOR: usize = 0;
pub(crate) const RELAY: usize = 1;
/// The first machine.
pub(crate) const FIRST: usize = 2;

/// Longest time for what should happen at once, on a busy computer whose processes are all traced.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

/// Files of the relay's key, as the relay sees it.
const RELAY_KEY: &str = "/run/tacet/relay.key";

/// Folders of a disk.
const FOLDERS: [(&str, u32); 9] = [
    ("run/tacet", 0o750),
    ("var/lib/tacet", 0o700),
    ("var/lib/tacet-coordinator", 0o700),
    ("tmp", 0o1777),
    ("var/tmp", 0o1777),
    ("var/log", 0o755),
    ("shm", 0o1777),
    ("home", 0o755),
    ("run/audit", 0o755),
];

/// Stands in for a program: makes the program's surroundings, then becomes it.
const SCRIPT: &str = r#"#!/bin/sh
set -e
leaks=$(cat "FOLDER/leaks" 2>/dev/null || true)
cd "FOLDER/disk/home"
mkdir -p /run/audit/bin /run/audit/out /run/audit/dev
mount --bind "BINARIES" /run/audit/bin
mount --bind "FOLDER/out" /run/audit/out
mount -t tmpfs -o mode=755 audit /run/audit/dev
cd /run/audit/dev
mkdir net shm
for device in null zero full random urandom tty net/tun; do
    cp -a "/dev/$device" "$device"
done
: >log
mount --bind "FOLDER/log.socket" log
mount --bind "FOLDER/disk/shm" shm
cd "FOLDER/disk/home"
if [ -n "$NOTIFY_SOCKET" ]; then
    : >/run/audit/notify
    mount --bind "$NOTIFY_SOCKET" /run/audit/notify
    export NOTIFY_SOCKET=/run/audit/notify
fi
mount --bind "FOLDER/disk/var/tmp" /var/tmp
mount --bind "FOLDER/disk/var/log" /var/log
mount --rbind /run/audit/dev /dev
# Last: the laboratory may be in there.
mount --bind "FOLDER/disk/tmp" /tmp
ulimit -c unlimited
[ -z "$leaks" ] || export TACET_LEAKS="$leaks"
exec strace -D -ff -ttt -yy -s 160 -o "/run/audit/out/PROGRAM.$$" -e trace="CALLS" "/run/audit/bin/PROGRAM" "$@"
"#;

/// What a life is to be lived with.
pub(crate) struct Outfit<'a> {
    /// The folder of the programs.
    pub(crate) programs: &'a Path,
    /// Names of the machines.
    pub(crate) names: &'a [String; 3],
    /// For each component the leaks that it is to have; empty for a release.
    pub(crate) leaks: &'a BTreeMap<usize, String>,
}

/// A house that is lived in.
pub(crate) struct House {
    pub(crate) nodes: Vec<Node>,
    pub(crate) relay: RelayProcess,
    pub(crate) coordinator: Coordinator,
    pub(crate) hosts: Vec<Host>,
    logs: Vec<Arc<Mutex<Vec<u8>>>>,
    pub(crate) lab: Arc<Lab>,
}

impl House {
    /// Mounts the disks and starts servers and machines.
    ///
    /// # Errors
    /// What went wrong, with what the programs printed.
    pub(crate) fn open(topology: &Path, disks: &[Disk], outfit: &Outfit<'_>) -> Result<Self> {
        let lab = Lab::up(&topology.display().to_string())?;
        let mut hosts = Vec::new();
        let mut logs = Vec::new();
        for (number, (_, name)) in COMPONENTS.iter().enumerate() {
            let host = lab.host(name);
            let called = number.checked_sub(FIRST).map(|machine| outfit.names[machine].as_str());
            let host = called.map_or(host.clone(), |called| host.called(called));
            furnish(host.folder(), &disks[number], outfit, number)?;
            logs.push(listen(&host.folder().join("log.socket"))?);
            hosts.push(host);
        }
        let coordinator = Coordinator::start_with(&hosts[COORDINATOR], &["--no-relay"])?;
        let relay = start_relay(&hosts)?;
        let nodes = hosts[FIRST..].iter().map(Node::start).collect::<Result<Vec<Node>>>()?;
        Ok(Self { nodes, relay, coordinator, hosts, logs, lab })
    }

    /// A component's processes by what they are: `control` and `data path`, or the server itself.
    ///
    /// # Errors
    /// If one does not run.
    pub(crate) fn processes(&mut self, component: usize) -> Result<Vec<(&'static str, u32)>> {
        Ok(match component {
            COORDINATOR => vec![("coordinator", self.coordinator.process()?.pid())],
            RELAY => vec![("relay", self.relay.process()?.pid())],
            machine => {
                let node = &mut self.nodes[machine - FIRST];
                vec![("control", node.process()?.pid()), ("data path", node.data_path()?)]
            }
        })
    }

    /// What a component's disk holds now, below its root.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(crate) fn snapshot(&self, component: usize) -> Result<Snapshot> {
        Ok(Snapshot::of(&self.hosts[component].folder().join("disk"))?)
    }

    /// What a component's programs printed.
    pub(crate) fn printed(&self, component: usize) -> Vec<u8> {
        let mut printed = Vec::new();
        for entry in fs::read_dir(self.hosts[component].folder()).into_iter().flatten().flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "log") {
                printed.extend(fs::read(entry.path()).unwrap_or_default());
            }
        }
        printed
    }

    /// What a component told the journal.
    pub(crate) fn journal(&self, component: usize) -> Vec<u8> {
        self.logs[component].lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What a component's programs did, call by call.
    ///
    /// # Errors
    /// If there is no record.
    pub(crate) fn calls(&self, component: usize) -> Result<Vec<Call>> {
        let own = Own {
            state: match component {
                COORDINATOR => &["/var/lib/tacet-coordinator", "/run/tacet"],
                RELAY => &[],
                _ => &["/var/lib/tacet", "/run/tacet"],
            },
            output: ".log",
        };
        let mut calls = Vec::new();
        for entry in fs::read_dir(self.hosts[component].folder().join("out"))? {
            let trace = fs::read(entry?.path())?;
            calls.extend(writes::read(&String::from_utf8_lossy(&trace), &own));
        }
        if calls.is_empty() {
            return Err(Trouble::new("strace recorded nothing: is it allowed to trace here?"));
        }
        Ok(calls)
    }

    /// Starts a machine's vpnd anew, with these leaks.
    ///
    /// # Errors
    /// If it does not come up.
    pub(crate) fn leak(&mut self, machine: usize, leaks: &str) -> Result<()> {
        let node = &mut self.nodes[machine];
        node.kill();
        fs::write(node.host().folder().join("leaks"), leaks)?;
        node.start_again()
    }

    /// Processes that the kernel ended because of a call that they may not make.
    ///
    /// # Errors
    /// If there is no record.
    pub(crate) fn ended_by_the_kernel(&self, component: usize) -> Result<Vec<String>> {
        let mut ended = Vec::new();
        for entry in fs::read_dir(self.hosts[component].folder().join("out"))? {
            let trace = fs::read(entry?.path())?;
            let trace = String::from_utf8_lossy(&trace);
            if trace.contains("+++ killed by SIGSYS") {
                let last = trace.lines().rev().find_map(|line| line.split_once(' ')?.1.split_once('('));
                ended.push(format!("ended by SIGSYS at {}", last.map_or("a call", |(call, _)| call)));
            }
        }
        Ok(ended)
    }

    /// Sends a signal to all processes of every machine, which end by it.
    ///
    /// # Errors
    /// If one outlives it.
    pub(crate) fn end_machines(&mut self, by: Signal) -> Result<()> {
        for component in FIRST..COMPONENTS.len() {
            let pids: Vec<u32> =
                self.processes(component).into_iter().flatten().map(|(_, pid)| pid).collect();
            end(&pids, by)?;
            self.nodes[component - FIRST].kill();
        }
        Ok(())
    }

    /// The same to the servers.
    ///
    /// # Errors
    /// If one outlives it.
    pub(crate) fn end_servers(&mut self, by: Signal) -> Result<()> {
        for component in [COORDINATOR, RELAY] {
            let pids: Vec<u32> =
                self.processes(component).into_iter().flatten().map(|(_, pid)| pid).collect();
            end(&pids, by)?;
        }
        self.coordinator.kill();
        self.relay.kill();
        Ok(())
    }

    /// Unmounts the disks, so that all is in their files, and takes the laboratory down.
    ///
    /// # Errors
    /// If something still uses a disk.
    pub(crate) fn close(mut self) -> Result<()> {
        self.end_machines(Signal::SIGKILL)?;
        self.end_servers(Signal::SIGKILL)?;
        for host in &self.hosts {
            let at = host.folder().join("disk");
            let mut last = Ok(());
            // The tracers close their files a moment after their processes.
            let unmounted = wait::until("the disk is free", PATIENCE, || {
                last = Disk::unmount(&at);
                last.is_ok()
            });
            unmounted.map_err(|_| last.err().unwrap_or_else(|| Trouble::new("a disk stays in use")))?;
        }
        Ok(())
    }
}

fn furnish(folder: &Path, disk: &Disk, outfit: &Outfit<'_>, component: usize) -> Result<()> {
    let mounted = folder.join("disk");
    disk.mount(&mounted)?;
    for (below, mode) in FOLDERS {
        let below = mounted.join(below);
        if !below.exists() {
            fs::create_dir_all(&below)?;
            fs::set_permissions(below, fs::Permissions::from_mode(mode))?;
        }
    }
    for link in ["run", "var"] {
        std::os::unix::fs::symlink(mounted.join(link), folder.join(link))?;
    }
    fs::create_dir_all(folder.join("out"))?;
    if let Some(leaks) = outfit.leaks.get(&component) {
        fs::write(folder.join("leaks"), leaks)?;
    }
    let bin = folder.join("bin");
    fs::create_dir_all(&bin)?;
    for (name, installed) in binaries::PROGRAMS {
        let at = bin.join(installed);
        if name == "vpnctl" {
            std::os::unix::fs::symlink(outfit.programs.join(name), at)?;
            continue;
        }
        let script = SCRIPT
            .replace("FOLDER", &folder.display().to_string())
            .replace("BINARIES", &outfit.programs.display().to_string())
            .replace("CALLS", CALLS)
            .replace("PROGRAM", name);
        fs::write(&at, script)?;
        fs::set_permissions(at, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// With the key that its operator copied from the coordinator, once.
fn start_relay(hosts: &[Host]) -> Result<RelayProcess> {
    let key: PathBuf = hosts[RELAY].folder().join("disk").join(RELAY_KEY.trim_start_matches('/'));
    if !key.exists() {
        let url = format!("https://{}", hosts[RELAY].ipv4()?);
        let arguments = ["relay-key", "--data-dir", "/var/lib/tacet-coordinator", "--url", &url];
        fs::write(&key, hosts[COORDINATOR].run("tacet-coordinator", &arguments)?)?;
    }
    RelayProcess::start(&hosts[RELAY], Path::new(RELAY_KEY))
}

/// Signals processes, the data path first: it would end with its control, and not by the signal.
fn end(pids: &[u32], by: Signal) -> Result<()> {
    for pid in pids.iter().rev() {
        let _ = kill(Pid::from_raw(pid.cast_signed()), by);
    }
    for pid in pids {
        // A zombie, which waits for us, has no program.
        let gone = || fs::read_link(format!("/proc/{pid}/exe")).is_err();
        wait::until("a process ends by a signal", PATIENCE, gone)?;
    }
    Ok(())
}

/// Records what is said to a socket, for as long as we live.
fn listen(socket: &Path) -> Result<Arc<Mutex<Vec<u8>>>> {
    let listening = UnixDatagram::bind(socket)?;
    fs::set_permissions(socket, fs::Permissions::from_mode(0o666))?;
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hearing = Arc::clone(&heard);
    thread::spawn(move || {
        let mut message = [0; 8_192];
        while let Ok(length) = listening.recv(&mut message) {
            let mut heard = hearing.lock().unwrap_or_else(PoisonError::into_inner);
            heard.extend_from_slice(&message[..length]);
            heard.push(b'\n');
        }
    });
    Ok(heard)
}

/// Seconds of the unix time, as strace notes them.
pub(crate) fn now() -> f64 {
    SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs_f64()
}
