//! Leaks that are made on purpose, so that the canary audit can show that it would catch them (`cargo xtask audit`).
//!
//! Only the feature `leaks` compiles this room, and no release has it: the mark [`MARK`] in a program tells. What leaks is
//! chosen by the environment when a process starts. Each leak is one that a developer in a hurry might write.

use std::{
    collections::BTreeSet,
    env,
    fs::{self, File, OpenOptions},
    io::{Write, stderr},
    net::{SocketAddr, UdpSocket},
    os::unix::net::UnixDatagram,
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, SystemTime},
};

/// In every program with the feature.
pub const MARK: &str = "tacet-leaks-on-purpose";

/// Names of the leaks to have, with commas between them.
const CHOICE: &str = "TACET_LEAKS";

/// Whether a leak is to be had.
#[must_use]
pub fn chosen(name: &str) -> bool {
    std::hint::black_box(MARK);
    env::var(CHOICE).is_ok_and(|choice| choice.split(',').any(|chosen| chosen == name))
}

/// Control was told where a peer is.
pub fn peer(name: &str, endpoint: SocketAddr) {
    static TOLD: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let said = format!("{name} is at {endpoint}");
    if !hold(&TOLD).insert(said.clone()) {
        return;
    }
    if chosen("file") {
        append("/var/lib/tacet/visited", &said);
    }
    if chosen("stderr") {
        let _ = writeln!(stderr(), "vpnd: {said}");
    }
    if chosen("syslog") {
        let line = format!("<30>vpnd: {said}");
        let _ = UnixDatagram::unbound().and_then(|socket| socket.send_to(line.as_bytes(), "/dev/log"));
    }
    if chosen("file-name") {
        let path = format!("/run/tacet/peer-{endpoint}");
        let _ = File::create(&path).and_then(|file| file.sync_all());
        let _ = fs::remove_file(path);
    }
    if chosen("time") {
        let file = OpenOptions::new().append(true).open("/var/lib/tacet/lock");
        let _ = file.and_then(|file| file.set_modified(SystemTime::now()));
    }
    if chosen("thread-name") {
        let sleeper = thread::Builder::new().name(name.to_owned());
        let _ = sleeper.spawn(|| thread::sleep(Duration::from_secs(600)));
    }
}

/// A data path is being started.
pub fn start(command: &mut Command) {
    if let Some(choice) = env::var_os(CHOICE) {
        command.env(CHOICE, choice);
    }
    if let (true, Ok(name)) = (chosen("environment"), nix::unistd::gethostname()) {
        command.env("MACHINE", name);
    }
}

/// The address that a connection to the coordinator goes out from, until the next one.
static LOCAL: Mutex<Option<SocketAddr>> = Mutex::new(None);

/// A connection to the coordinator was made.
pub fn connected(local: Option<SocketAddr>) {
    if chosen("field") {
        *hold(&LOCAL) = local;
    }
}

/// A header for the coordinator, if one is to be sent.
#[must_use]
pub fn header() -> Option<String> {
    hold(&LOCAL).map(|local| local.ip().to_string())
}

/// A datagram came to the data path.
pub fn datagram(source: SocketAddr) {
    static KEPT: Mutex<Vec<SocketAddr>> = Mutex::new(Vec::new());
    static CONNECTED: Mutex<Vec<UdpSocket>> = Mutex::new(Vec::new());
    if chosen("kept") && !hold(&KEPT).contains(&source) {
        hold(&KEPT).push(source);
    }
    let mut connected = hold(&CONNECTED);
    let known = connected.iter().any(|socket| socket.peer_addr().is_ok_and(|peer| peer == source));
    if chosen("connected") && source.is_ipv4() && !known {
        let socket =
            UdpSocket::bind(("0.0.0.0", 0)).and_then(|socket| socket.connect(source).map(|()| socket));
        connected.extend(socket);
    }
    drop(connected);
    if chosen("data-path-file") {
        append("/var/tmp/peers", &source.to_string());
    }
}

fn append(path: &str, line: &str) {
    let file = OpenOptions::new().create(true).append(true).open(path);
    let _ = file.and_then(|mut file| writeln!(file, "{line}"));
}

fn hold<T>(kept: &Mutex<T>) -> MutexGuard<'_, T> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}
