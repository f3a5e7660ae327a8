//! What the servers' units take from them: enough, and nothing that they need.

use std::{
    collections::BTreeSet,
    fs,
    net::TcpStream,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tests::{binaries, wait};

/// What `systemd-analyze security` may find at most, of 10: what it calls well protected ends at 2.
const EXPOSURE: f64 = 2.0;

const UNITS: [&str; 2] = ["tacet-coordinator.service", "tacet-relay.service"];

/// What systemd lets every service call: it starts the program.
const STARTS: [&str; 1] = ["execve"];

/// What SQLite does where root runs it; the unit does not run it as root.
const ROOT_ALONE: [&str; 1] = ["fchown"];

fn there(program: &str) -> bool {
    let there = Command::new(program).arg("--version").output().is_ok_and(|said| said.status.success());
    if !there {
        println!("there is no {program} here");
    }
    there
}

fn unit(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/systemd").join(name)
}

fn analyze(arguments: &[&str]) -> String {
    let output = Command::new("systemd-analyze").args(arguments).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn the_units_of_the_servers_are_hardly_exposed() {
    if !there("systemd-analyze") {
        return;
    }
    for name in UNITS {
        let said = analyze(&["security", "--offline=yes", "--no-pager", unit(name).to_str().unwrap()]);
        let score = said.lines().find_map(|line| line.split_once("Overall exposure level for")).unwrap().1;
        let score: f64 = score.split_whitespace().find_map(|word| word.parse().ok()).unwrap();
        println!("{name}: exposure {score}");
        assert!(score <= EXPOSURE, "{said}");
    }
}

#[test]
fn a_server_calls_only_what_its_unit_lets_it_call() {
    if !there("systemd-analyze") || !there("strace") {
        return;
    }
    for name in UNITS {
        let allowed = allowed(&fs::read_to_string(unit(name)).unwrap());
        assert!(allowed.contains("accept4") && !allowed.contains("ptrace"), "{allowed:?}");
        let called = called(name);
        assert!(["seccomp", "landlock_restrict_self", "capset"].iter().all(|call| called.contains(*call)));
        let missing = called.difference(&allowed).filter(|call| !ROOT_ALONE.contains(&call.as_str()));
        let missing: Vec<_> = missing.collect();
        assert!(missing.is_empty(), "{name} calls, and its unit does not let it call: {missing:?}");
    }
}

/// The calls that the lines of a unit come to, read in their order as systemd does.
fn allowed(unit: &str) -> BTreeSet<String> {
    let mut allowed: BTreeSet<String> = group("@default");
    allowed.extend(STARTS.map(str::to_owned));
    for line in unit.lines().filter_map(|line| line.strip_prefix("SystemCallFilter=")) {
        let (taken, words) = line.strip_prefix('~').map_or((false, line), |words| (true, words));
        for call in words.split_whitespace().flat_map(group) {
            if taken {
                allowed.remove(&call)
            } else {
                allowed.insert(call)
            };
        }
    }
    allowed
}

/// The calls of a group, and of the groups in it; a call is a group of one.
fn group(name: &str) -> BTreeSet<String> {
    if !name.starts_with('@') {
        return [name.to_owned()].into();
    }
    let listed = analyze(&["syscall-filter", "--no-pager", name]);
    let words =
        listed.lines().skip(1).map(str::trim).filter(|word| !word.is_empty() && !word.starts_with('#'));
    words.flat_map(group).collect()
}

/// The calls that the unit's program makes from its start over a few connections to its end.
fn called(unit: &str) -> BTreeSet<String> {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let (trace, key) = (folder.path().join("trace"), folder.path().join("relay.key"));
    let data = folder.path().join("data").to_str().unwrap().to_owned();
    let built = binaries::folder().unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let listen = format!("127.0.0.1:{port}");
    let program = if unit.contains("relay") { "relay" } else { "coordinator" };
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", trace.to_str().unwrap()]).arg(built.join(program));
    command.args(["serve", "--listen", &listen, "--stun-listen", "127.0.0.1:0"]);
    if program == "relay" {
        fs::write(&key, relay_key()).unwrap();
        command.arg("--coordinator-key").arg(&key);
    } else {
        command.args(["--data-dir", &data, "--public-url", &format!("https://{listen}")]);
    }
    let mut traced = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait::until("it is reached", wait::SOON, || TcpStream::connect(&listen).is_ok()).unwrap();
    if program == "coordinator" {
        for _ in 0..3 {
            let enrol = Command::new(built.join("coordinator")).args(["enrol", "--data-dir", &data]).output();
            assert!(enrol.unwrap().status.success());
        }
    }
    let _ = Command::new("openssl")
        .args(["s_client", "-connect", &listen])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    std::thread::sleep(Duration::from_millis(200));
    let children = format!("/proc/{0}/task/{0}/children", traced.id());
    for pid in fs::read_to_string(children).unwrap().split_whitespace() {
        kill(Pid::from_raw(pid.parse().unwrap()), Signal::SIGTERM).unwrap();
    }
    assert!(traced.wait().unwrap().success(), "{program} did not end well");
    let trace = fs::read_to_string(trace).unwrap();
    let calls = trace.lines().filter_map(|line| line.split_whitespace().nth(1)?.split_once('('));
    let names = calls.map(|(name, _)| name).filter(|name| name.starts_with(char::is_alphabetic));
    names.map(str::to_owned).collect()
}

fn relay_key() -> String {
    let mut rng = rand_core::OsRng;
    let issuer = proto::relay::CredentialIssuer::generate(&mut rng);
    proto::relay::RelayKeyFile::generate(issuer.admission_key(), &mut rng).to_text().to_string()
}
