//! A host with a plain WireGuard interface of some implementation.

use std::{
    fs,
    net::{Ipv4Addr, Ipv6Addr, UdpSocket},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use tests::{Host, Lab, process::Process, wait};

/// Where WireGuard's tools and its implementations meet, the same folder for every program on a host.
const MEET: &str = "mkdir -p wireguard /run/wireguard; mount --bind wireguard /run/wireguard";

/// Names another boringtun-cli than the one in `PATH`.
const BORINGTUN: &str = "TACET_BORINGTUN";

/// The interface, on every host.
pub(super) const IF: &str = "wg0";

/// The port of whoever is called.
pub(super) const PORT: u16 = 51_820;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Tacet,
    WireguardGo,
    Boringtun,
}

/// One side: a host, the interface on it, its inner addresses 172.29.77.N and fd77::N.
pub(super) struct Side {
    pub(super) host: Host,
    pub(super) kind: Kind,
    number: u8,
    private: String,
    pub(super) public: String,
    process: Option<Process>,
    /// Of ours, if it is said how many.
    pub(super) workers: Option<u8>,
}

/// What one side is told of the other.
#[derive(Clone, Copy, Default)]
pub(super) struct Terms<'a> {
    pub(super) psk: Option<&'a str>,
    pub(super) endpoint: Option<&'a str>,
    pub(super) keepalive: u16,
}

impl Kind {
    /// Its command line without the interface's name; nothing where it is not installed.
    fn program(self) -> Option<(PathBuf, &'static [&'static str])> {
        let find = |name: &str| {
            let path = std::env::var_os("PATH").unwrap_or_default();
            std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
        };
        match self {
            Self::Tacet => Some(("vpnd".into(), &["device", "--foreground"])),
            Self::WireguardGo => Some((find("wireguard-go")?, &["-f"])),
            Self::Boringtun => {
                let named = std::env::var_os(BORINGTUN).map(PathBuf::from).filter(|file| file.is_file());
                Some((named.or_else(|| find("boringtun-cli"))?, &["-f", "--disable-drop-privileges"]))
            }
        }
    }

    pub(super) fn is_here(self) -> bool {
        self.program().is_some()
    }
}

impl Side {
    pub(super) fn new(lab: &Arc<Lab>, host: &str, number: u8, kind: Kind) -> Self {
        Self::of(lab, host, number, kind, None)
    }

    /// Ours, with so many workers.
    pub(super) fn sharing(lab: &Arc<Lab>, host: &str, number: u8, workers: u8) -> Self {
        Self::of(lab, host, number, Kind::Tacet, Some(workers))
    }

    fn of(lab: &Arc<Lab>, host: &str, number: u8, kind: Kind, workers: Option<u8>) -> Self {
        let host = lab.host(host);
        let private = said(Command::new("wg").arg("genkey"));
        let public = piped("wg pubkey", &private);
        let mut side = Self { host, kind, number, private, public, process: None, workers };
        side.start();
        side
    }

    /// Starts the implementation, and gives the interface its key, port and addresses.
    pub(super) fn start(&mut self) {
        let (program, options) = self.kind.program().unwrap();
        let mut command = self.command(&program.to_string_lossy());
        command.args(options);
        command.args(self.workers.map(|workers| format!("--workers={workers}"))).arg(IF);
        let log = self.host.folder().join(format!("{:?}.log", self.kind));
        self.process = Some(Process::start("interface", &mut command, log).unwrap());
        let process = self.process.as_mut().unwrap();
        let mut runs = true;
        let mut shows = false;
        let up = wait::until("the interface can be configured", wait::SOON, || {
            shows = meet(&self.host, "wg").args(["show", IF]).output().unwrap().status.success();
            runs = process.runs();
            shows || !runs
        });
        assert!(up.is_ok() && runs && shows, "{:?}: {}", self.kind, process.printed());
        fs::write(self.host.folder().join("private"), &self.private).unwrap();
        self.wg(&["set", IF, "private-key", "private", "listen-port", &PORT.to_string()]);
        for address in [format!("{}/24", self.inner_v4()), format!("{}/64", self.inner_v6())] {
            self.ip(&["address", "add", &address, "dev", IF, "nodad"]);
        }
        self.ip(&["link", "set", IF, "up"]);
    }

    pub(super) fn stop(&mut self) {
        drop(self.process.take());
        wait::until("the interface is gone", wait::SOON, || {
            !self.host.output("ip", &["link", "show", IF]).unwrap().status.success()
        })
        .unwrap();
        // It was killed, and its socket is there still. Whoever asks there next takes it away: better now than when the next process
        // has just made its own, which ends without it.
        let _ = meet(&self.host, "wg").args(["show", IF]).output();
    }

    pub(super) fn process(&mut self) -> &mut Process {
        self.process.as_mut().unwrap()
    }

    /// Tells this side of another as of somebody never heard of.
    pub(super) fn meets(&self, other: &Self, terms: &Terms<'_>) {
        self.forgets(other);
        let ranges = format!("{}/32,{}/128", other.inner_v4(), other.inner_v6());
        let mut arguments = vec!["set", IF, "peer", other.public.as_str(), "allowed-ips", ranges.as_str()];
        if let Some(psk) = terms.psk {
            fs::write(self.host.folder().join("psk"), psk).unwrap();
            arguments.extend(["preshared-key", "psk"]);
        }
        if let Some(endpoint) = terms.endpoint {
            arguments.extend(["endpoint", endpoint]);
        }
        let keepalive = terms.keepalive.to_string();
        arguments.extend(["persistent-keepalive", keepalive.as_str()]);
        self.wg(&arguments);
    }

    pub(super) fn forgets(&self, other: &Self) {
        self.wg(&["set", IF, "peer", &other.public, "remove"]);
    }

    pub(super) fn inner_v4(&self) -> Ipv4Addr {
        Ipv4Addr::new(172, 29, 77, self.number)
    }

    pub(super) fn inner_v6(&self) -> Ipv6Addr {
        Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, self.number.into())
    }

    /// Where it is called.
    pub(super) fn at(&self, v6: bool) -> String {
        // The laboratory would tell the tunnel's address, too.
        let family = if v6 { "-6" } else { "-4" };
        let shown =
            self.host.run("ip", &[family, "-br", "address", "show", "dev", "eth0", "scope", "global"]);
        let shown = shown.unwrap();
        let address = shown.split_whitespace().nth(2).unwrap_or_else(|| panic!("no address: {shown}"));
        let address = address.split('/').next().unwrap_or_default();
        if v6 { format!("[{address}]:{PORT}") } else { format!("{address}:{PORT}") }
    }

    /// Whether one packet reaches the other side and comes back, over the tunnel.
    pub(super) fn pings(&self, address: &str, within: Duration) -> bool {
        let wait = within.as_secs_f32().to_string();
        self.host.output("ping", &["-n", "-c1", "-W", &wait, address]).unwrap().status.success()
    }

    /// Both families, with as many tries as a handshake that was under way takes.
    #[track_caller]
    pub(super) fn reaches(&self, other: &Self, within: Duration) {
        for address in [other.inner_v4().to_string(), other.inner_v6().to_string()] {
            let reached = wait::until(&format!("{:?} reaches {:?}", self.kind, other.kind), within, || {
                self.pings(&address, Duration::from_millis(500))
            });
            assert!(
                reached.is_ok(),
                "{:?} does not reach {:?} at {address}:\n{}\n{}",
                self.kind,
                other.kind,
                self.wg(&["show", IF]),
                other.wg(&["show", IF])
            );
        }
    }

    /// What `wg show wg0 WHAT` says of the other side.
    pub(super) fn shows(&self, what: &str, other: &Self) -> String {
        let all = self.wg(&["show", IF, what]);
        let line = all.lines().find(|line| line.starts_with(&other.public));
        let line = line.unwrap_or_else(|| panic!("no peer in {all}"));
        line.split_once('\t').unwrap().1.to_owned()
    }

    /// Bytes received from and sent to the other.
    pub(super) fn transfer(&self, other: &Self) -> (u64, u64) {
        let line = self.shows("transfer", other);
        let (rx, tx) = line.split_once('\t').unwrap();
        (rx.parse().unwrap(), tx.parse().unwrap())
    }

    /// `wg`, which must succeed.
    pub(super) fn wg(&self, arguments: &[&str]) -> String {
        let output = self.try_wg(arguments);
        assert!(
            output.status.success(),
            "{:?}: wg {arguments:?}: {}",
            self.kind,
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    pub(super) fn try_wg(&self, arguments: &[&str]) -> Output {
        self.command("wg").args(arguments).output().unwrap()
    }

    pub(super) fn ip(&self, arguments: &[&str]) {
        self.host.run("ip", arguments).unwrap();
    }

    pub(super) fn command(&self, program: &str) -> Command {
        meet(&self.host, program)
    }
}

/// A program on a host that finds the interfaces there.
pub(super) fn meet(host: &Host, program: &str) -> Command {
    let mut command = host.command_after(MEET, program).unwrap();
    // The wrapper is found as it is where it is installed.
    let wrapper = host.folder().join("bin/vpnd-device");
    if !wrapper.exists() {
        let packaged = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/bin/vpnd-device");
        symlink(fs::canonicalize(packaged).unwrap(), wrapper).unwrap();
    }
    command.env_remove("WG_PROCESS_FOREGROUND");
    command
}

pub(super) fn said(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// What a shell line says to a text.
pub(super) fn piped(line: &str, text: &str) -> String {
    said(Command::new("sh").args(["-c", &format!("printf %s \"$1\" | {line}"), "sh", text]))
}

/// Somebody between two sides who passes on what they send each other, and keeps it.
pub(super) struct Middle {
    ends: Arc<AtomicBool>,
    kept: Arc<Mutex<Vec<Vec<u8>>>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Middle {
    /// On `host`, at the port of an interface: what comes from one goes to the other.
    pub(super) fn between(host: &Host, one: &str, other: &str) -> Self {
        let socket = host.inside(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT)).unwrap()).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let (ends, kept) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (one, other): (std::net::SocketAddr, std::net::SocketAddr) =
            (one.parse().unwrap(), other.parse().unwrap());
        let (stop, keep) = (ends.clone(), kept.clone());
        let work = move || {
            let mut bytes = [0; 2_048];
            while !stop.load(Ordering::Relaxed) {
                let Ok((len, from)) = socket.recv_from(&mut bytes) else { continue };
                let to = if from == one { other } else { one };
                keep.lock().unwrap().push(bytes[..len].to_vec());
                let _ = socket.send_to(&bytes[..len], to);
            }
        };
        Self { ends, kept, thread: Some(thread::spawn(work)) }
    }

    /// Ends it; all that passed.
    pub(super) fn end(mut self) -> Vec<Vec<u8>> {
        self.ends.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
        std::mem::take(&mut self.kept.lock().unwrap())
    }
}
