//! The programs behind their own walls, as an operator starts them: what the kernel says of them, and what goes on
//! working.

use std::{
    fs,
    net::TcpStream,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};

use nix::{
    libc,
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rustls::{ClientConfig, ClientConnection, RootCertStore, Stream};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use sandbox::calls::{Calls, Violation};
use tempfile::TempDir;
use tests::{binaries, wait};

use crate::{house::directory, program::free_port, trust::certify};

/// Both programs, by the names that they are built under.
const SERVERS: [&str; 2] = ["coordinator", "relay"];

/// The account that every system has for nobody in particular.
const NOBODY: u32 = 65_534;

#[test]
fn a_server_is_locked_down_before_anybody_reaches_it() {
    for name in SERVERS {
        let home = Home::new();
        let server = home.start(name, &[]);
        for thread in fs::read_dir(server.proc("task")).unwrap() {
            let status = fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
            let says = |line: &str| status.lines().any(|found| found.replace('\t', " ") == line);
            assert!(says("NoNewPrivs: 1") && says("Seccomp: 2"), "{name}: {status}");
            for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
                assert!(says(&format!("{set}: 0000000000000000")), "{name}: {status}");
            }
        }
        let limits = fs::read_to_string(server.proc("limits")).unwrap();
        let cores = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        assert_eq!(cores.split_whitespace().filter(|word| *word == "0").count(), 2, "{name}: {cores}");
    }
}

#[test]
fn a_server_holds_no_file_but_its_own() {
    if !nix::unistd::geteuid().is_root() {
        println!("only root sees the descriptors of a process that cannot be dumped");
        return;
    }
    for name in SERVERS {
        let home = Home::new();
        let inherited = fs::File::create(home.path("inherited")).unwrap();
        nix::fcntl::fcntl(&inherited, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).unwrap();
        let server = home.start(name, &[]);
        let mut files = Vec::new();
        for descriptor in fs::read_dir(server.proc("fd")).unwrap() {
            let path = descriptor.unwrap().path();
            let number: u32 = path.file_name().unwrap().to_str().unwrap().parse().unwrap();
            // A connection may have ended meanwhile.
            let Ok(to) = fs::read_link(path) else { continue };
            let to = to.to_str().unwrap().to_owned();
            if to.starts_with('/') && to != "/dev/null" {
                files.push((number > 2, Path::new(&to).file_name().unwrap().to_str().unwrap().to_owned()));
            }
        }
        files.sort();
        let own: &[&str] =
            if name == "coordinator" { &["coordinator.db", "coordinator.db-keys", "lock"] } else { &[] };
        let (beyond, standard): (Vec<_>, Vec<_>) = files.into_iter().partition(|(beyond, _)| *beyond);
        assert_eq!(beyond.into_iter().map(|(_, file)| file).collect::<Vec<_>>(), own, "{name}");
        let said: &[&str] = if name == "coordinator" { &["stderr"] } else { &[] };
        assert_eq!(standard.into_iter().map(|(_, file)| file).collect::<Vec<_>>(), said, "{name}");
    }
}

#[test]
fn started_as_root_a_server_goes_on_as_somebody_else() {
    if !nix::unistd::geteuid().is_root() {
        println!("only root can become somebody else");
        return;
    }
    let home = Home::new();
    fs::set_permissions(home.0.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(home.path("data")).unwrap();
    chown(home.path("data"), Some(NOBODY), Some(NOBODY)).unwrap();
    for (name, options) in [("coordinator", &[][..]), ("relay", &["--user", "nobody"])] {
        let server = home.start(name, options);
        let status = fs::read_to_string(server.proc("status")).unwrap();
        let uids = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap();
        assert!(uids.split_whitespace().all(|uid| uid == NOBODY.to_string()), "{name}: {uids}");
    }
}

#[test]
fn a_renewed_certificate_is_shown_after_sighup_and_an_unusable_one_is_not() {
    for name in SERVERS {
        let home = Home::new();
        let file = |name: &str| home.path("tls").join(name);
        fs::create_dir(home.path("tls")).unwrap();
        let certify = || certify("localhost", &file("authority.pem"), &file("chain.pem"), &file("key.pem"));
        certify();
        let (chain, key) = (file("chain.pem"), file("key.pem"));
        let options = ["--tls-cert", chain.to_str().unwrap(), "--tls-key", key.to_str().unwrap()];
        let server = home.start(name, &options);
        assert!(server.shows(&file("authority.pem")), "{name} shows its certificate");

        let before = fs::read(file("authority.pem")).unwrap();
        certify();
        assert!(!server.shows(&file("authority.pem")), "{name} does not read by itself at once");
        server.signal(Signal::SIGHUP);
        wait::until("the renewed certificate is shown", wait::SOON, || server.shows(&file("authority.pem")))
            .unwrap();
        fs::write(file("old.pem"), before).unwrap();
        assert!(!server.shows(&file("old.pem")));

        fs::write(&chain, "no certificate").unwrap();
        server.signal(Signal::SIGHUP);
        if name == "coordinator" {
            let said = "coordinator: the certificate was read again and cannot be used, the one before stays";
            wait::until("it says so", wait::SOON, || home.said().contains(said)).unwrap();
        }
        thread::sleep(Duration::from_millis(100));
        assert!(server.shows(&file("authority.pem")), "{name} keeps the one before");
    }
}

#[test]
fn without_landlock_a_server_starts_only_if_it_is_told_to() {
    for name in SERVERS {
        let home = Home::new();
        let mut command = home.command(name, &[]);
        let refused = without_landlock(move || command.output().unwrap());
        let said = home.said();
        assert_eq!(refused.status.code(), Some(1), "{name}: {said}");
        assert!(said.contains("no Landlock") && said.contains("--allow-unsandboxed"), "{name}: {said}");
        assert!(!home.path("data/coordinator.db").exists(), "it made nothing");

        let mut command = home.command(name, &["--allow-unsandboxed"]);
        let child = without_landlock(move || command.spawn().unwrap());
        let server = home.reached(child);
        assert!(home.said().contains("this kernel lacks Landlock or seccomp"), "{name}: {}", home.said());
        let status = fs::read_to_string(server.proc("status")).unwrap();
        assert!(status.contains("Seccomp:\t2"), "the walls that there are stand: {status}");
    }
}

/// Does `work` where the kernel says that it has no Landlock, to it and to what it starts.
fn without_landlock<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let hidden = move || {
        let calls = Calls::new().any(&[libc::SYS_landlock_create_ruleset]);
        calls.forbid(Violation::Fail(libc::ENOSYS)).unwrap();
        work()
    };
    thread::spawn(hidden).join().unwrap()
}

/// A place of its own for a server, and its port.
struct Home(TempDir, u16);

/// A running one; dropping it stops it.
struct Server {
    child: Child,
    port: u16,
}

impl Home {
    fn new() -> Self {
        let home = Self(directory(), free_port());
        fs::write(home.path("relay.key"), relay_key()).unwrap();
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// What it said on standard error.
    fn said(&self) -> String {
        fs::read_to_string(self.path("stderr")).unwrap()
    }

    fn command(&self, name: &str, options: &[&str]) -> Command {
        let mut command = Command::new(binaries::folder().unwrap().join(name));
        let listen = format!("127.0.0.1:{}", self.1);
        command.args(["serve", "--listen", &listen, "--stun-listen", "127.0.0.1:0"]).args(options);
        match name {
            "coordinator" => command
                .arg("--data-dir")
                .arg(self.path("data"))
                .args(["--public-url", &format!("https://localhost:{}", self.1)]),
            _ => command.arg("--coordinator-key").arg(self.path("relay.key")),
        };
        let stderr = fs::File::create(self.path("stderr")).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
        command
    }

    fn start(&self, name: &str, options: &[&str]) -> Server {
        self.reached(self.command(name, options).spawn().unwrap())
    }

    /// Waits until it can be reached.
    fn reached(&self, child: Child) -> Server {
        let mut server = Server { child, port: self.1 };
        let reached = wait::until("the server is reached", wait::SOON, || {
            server.child.try_wait().unwrap().is_some() || TcpStream::connect(("127.0.0.1", self.1)).is_ok()
        });
        assert!(reached.is_ok() && server.child.try_wait().unwrap().is_none(), "{}", self.said());
        server
    }
}

impl Server {
    fn proc(&self, name: &str) -> PathBuf {
        Path::new("/proc").join(self.child.id().to_string()).join(name)
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    /// Whether a client that trusts this authority alone takes the certificate shown.
    fn shows(&self, authority: &Path) -> bool {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(authority).unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(relay::tls::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut connection =
            ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
        let mut socket = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let stream = Stream::new(&mut connection, &mut socket);
        while stream.conn.is_handshaking() {
            if stream.conn.complete_io(stream.sock).is_err() {
                return false;
            }
        }
        true
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn relay_key() -> String {
    let mut rng = rand_core::OsRng;
    let issuer = proto::relay::CredentialIssuer::generate(&mut rng);
    proto::relay::RelayKeyFile::generate(issuer.admission_key(), &mut rng).to_text().to_string()
}
