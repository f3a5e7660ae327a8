//! A service on boot: what installing puts on a machine, and that nothing of it stays.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use tempfile::TempDir;
use tests::{Lab, Node, binaries};

use crate::world::{FIRST_ANSWER, World};

const SERVICES: [&str; 3] = ["vpnd.service", "tacet-coordinator.service", "tacet-relay.service"];

fn xtask(arguments: &[&str], root: &Path) -> Output {
    let folder = binaries::folder().unwrap();
    let output = Command::new(folder.join("xtask"))
        .args(arguments)
        .arg("--root")
        .arg(root)
        .env(binaries::FOLDER, &folder)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    output
}

/// Every file and folder below `root` with its content and mode.
pub(crate) fn everything(root: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let mode = fs::symlink_metadata(&path).unwrap().permissions().mode();
            let content = if path.is_dir() { Vec::new() } else { fs::read(&path).unwrap() };
            if path.is_dir() {
                folders.push(path.clone());
            }
            found.insert(path, (mode, content));
        }
    }
    found
}

/// A root with what a machine has anyway.
pub(crate) fn machine() -> TempDir {
    let root = TempDir::new().unwrap();
    fs::create_dir_all(root.path().join("usr/local/lib/systemd")).unwrap();
    fs::create_dir_all(root.path().join("usr/local/bin")).unwrap();
    fs::write(root.path().join("usr/local/bin/theirs"), "a program of somebody else").unwrap();
    // The units have it send a signal.
    fs::create_dir(root.path().join("bin")).unwrap();
    fs::write(root.path().join("bin/kill"), "#!/bin/sh").unwrap();
    fs::set_permissions(root.path().join("bin/kill"), fs::Permissions::from_mode(0o755)).unwrap();
    root
}

#[test]
fn installing_and_uninstalling_leaves_no_trace() {
    let root = machine();
    let before = everything(root.path());
    xtask(&["install"], root.path());
    for program in ["vpnd", "vpnctl", "tacet-coordinator", "tacet-relay"] {
        let path = root.path().join("usr/local/bin").join(program);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o755, "{program}");
    }
    xtask(&["install"], root.path()); // an upgrade
    xtask(&["uninstall"], root.path());
    assert!(everything(root.path()) == before, "something of it stayed");
}

#[test]
fn uninstalling_keeps_what_cannot_be_made_again_and_purging_does_not() {
    let root = machine();
    let before = everything(root.path());
    xtask(&["install"], root.path());
    let key = root.path().join("var/lib/tacet/keys");
    fs::create_dir_all(key.parent().unwrap()).unwrap();
    fs::write(&key, "a key").unwrap();
    xtask(&["uninstall"], root.path());
    assert!(key.exists());
    xtask(&["install"], root.path());
    xtask(&["uninstall", "--purge"], root.path());
    fs::remove_dir(root.path().join("var/lib")).unwrap();
    fs::remove_dir(root.path().join("var")).unwrap();
    assert!(everything(root.path()) == before, "something of it stayed");
}

#[test]
fn systemd_finds_nothing_to_complain_about_in_the_units() {
    let there =
        Command::new("systemd-analyze").arg("--version").output().is_ok_and(|said| said.status.success());
    if !there {
        println!("there is no systemd-analyze here: the units were not verified");
        return;
    }
    let root = machine();
    xtask(&["install"], root.path());
    // The targets that the units refer to are the machine's own.
    fs::create_dir_all(root.path().join("usr/lib/systemd")).unwrap();
    let copied = Command::new("cp")
        .args(["-rL", "/usr/lib/systemd/system"])
        .arg(root.path().join("usr/lib/systemd/"))
        .output()
        .unwrap();
    assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
    let verify = || {
        let said = Command::new("systemd-analyze")
            .args(["verify", "--man=no", "--recursive-errors=no"])
            .arg(format!("--root={}", root.path().display()))
            .args(SERVICES)
            .output()
            .unwrap();
        (said.status.success(), String::from_utf8_lossy(&said.stderr).into_owned())
    };
    let (clean, said) = verify();
    assert!(clean && said.is_empty(), "{said}");
    // It does look: a unit with a mistake is not clean.
    let unit = root.path().join("usr/local/lib/systemd/system/vpnd.service");
    let text = fs::read_to_string(&unit).unwrap();
    fs::write(&unit, text.replace("NoNewPrivileges=yes", "NoNewPrivilege=yes")).unwrap();
    assert!(verify().1.contains("NoNewPrivilege"));
}

/// Tenths of systemd's measure of exposure, from 0 to 100.
const MOST_EXPOSED: &str = "20";

#[test]
fn systemd_finds_the_daemon_little_exposed() {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/systemd/vpnd.service");
    let analyze = |path: &Path| {
        let mut command = Command::new("systemd-analyze");
        command.args(["security", "--offline=yes", "--no-pager", "--threshold", MOST_EXPOSED]).arg(path);
        command.output()
    };
    let Ok(output) = analyze(&unit) else {
        println!("there is no systemd-analyze here: the unit was not measured");
        return;
    };
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{}", said.lines().last().unwrap_or_default());
    assert!(output.status.success(), "{said}");
    // It does measure: a unit that gives nothing up is above the limit.
    let root = TempDir::new().unwrap();
    let open = root.path().join("open.service");
    fs::write(&open, "[Service]\nExecStart=/usr/local/bin/vpnd\n").unwrap();
    assert!(!analyze(&open).unwrap().status.success());
}

/// As the unit starts it: an ordinary user with one power, on a device that everybody may open.
const AS_ITS_UNIT: &str = r#"
    cp "$(command -v vpnd)" /run/vpnd
    mknod -m 666 /run/tun c 10 200
    mount --bind /run/tun /dev/net/tun
    touch /run/notify
    mount --bind "$NOTIFY_SOCKET" /run/notify
    chmod 666 /run/notify
    export NOTIFY_SOCKET=/run/notify
    chown -R 64321:64321 /run/tacet /var/lib/tacet
    shift 6
    exec setpriv --reuid=64321 --regid=64321 --clear-groups --inh-caps=-all,+net_admin --ambient-caps=-all,+net_admin \
        --bounding-set=-all,+net_admin --no-new-privs /run/vpnd "$@""#;

#[test]
fn an_ordinary_user_with_one_power_over_the_network_is_enough() {
    let mut world = World::of(Lab::up("cloud=none:v6=1,home=easy").unwrap(), &["cloud-1"]);
    let mut node = Node::prepare(&world.lab.host("home-1"));
    node.before(AS_ITS_UNIT);
    node.start_again().unwrap();
    node.join(&world.node("cloud-1").invite(&[]).unwrap()).unwrap();
    node.reaches(&world.node("cloud-1").address("ipv4").unwrap(), FIRST_ANSWER).unwrap();
    let said = node.vpnctl(&["privacy", "verify"]).unwrap();
    let findings = said.json["findings"].as_array().unwrap();
    let control = findings.iter().find(|one| one["of"] == "control").unwrap()["pid"].as_u64().unwrap();
    // Other programs of Tacet may run on this computer, and are looked at too.
    let is_its = |pid: u64| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        pid == control || status.lines().any(|line| line == format!("PPid:\t{control}"))
    };
    let of = |process: &str| {
        let memory = findings.iter().filter(|one| one["of"] == process && one["point"] == "memory");
        let own = memory.filter(|one| one["pid"].as_u64().is_some_and(is_its));
        own.map(|one| one["standing"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    // Of root's processes the kernel does not tell.
    assert_eq!(
        (of("control"), of("data path")),
        (vec!["holds".to_owned()], vec!["holds".to_owned()]),
        "{}",
        said.text
    );
    world.nodes.push(node);
}
