//! The tarballs: made twice they are the same, and a bare Debian is all that installing one takes.
//!
//! The bare Debian is a root of its own: the host's `/usr` read-only, without its `/usr/local`; its own `/etc`, `/var` and
//! `/run`; a network with a loopback and nothing else; and no cargo anywhere. It goes with the shell that runs in it, and
//! all processes with it.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use tempfile::TempDir;
use tests::{binaries, turn::Turn};

use crate::service::{everything, machine};

/// Makes the tarballs in `out`.
fn dist(out: &Path, mask: &str) {
    let folder = binaries::folder().unwrap();
    let made = Command::new("sh")
        .args(["-c", "umask $1; shift; exec \"$@\"", "sh", mask])
        .arg(folder.join("xtask"))
        .args(["dist", "--profile", "release", "--out"])
        .arg(out)
        .env(binaries::FOLDER, &folder)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", said(&made));
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// The tarball of a role, whatever its version.
fn tarball(out: &Path, role: &str) -> PathBuf {
    let entries = fs::read_dir(out).unwrap().map(|entry| entry.unwrap().path());
    let prefix = format!("tacet-{role}-");
    let mut found = entries.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with(&prefix));
    found.next().unwrap()
}

/// Unpacks a role, and returns the folder with install.sh.
fn unpack(out: &Path, role: &str, to: &Path) -> PathBuf {
    let tarball = tarball(out, role);
    fs::create_dir_all(to).unwrap();
    let unpacked = Command::new("tar").arg("xzf").arg(&tarball).arg("-C").arg(to).output().unwrap();
    assert!(unpacked.status.success(), "{}", said(&unpacked));
    to.join(tarball.file_name().unwrap().to_str().unwrap().strip_suffix(".tar.gz").unwrap())
}

#[test]
fn a_tarball_made_twice_is_the_same_and_its_sum_is_beside_it() {
    let out = TempDir::new().unwrap();
    let (one, two) = (out.path().join("one"), out.path().join("two"));
    dist(&one, "022");
    dist(&two, "077");
    let bytes = |out: &Path| everything(out).into_values().map(|(_, bytes)| bytes).collect::<Vec<_>>();
    assert!(bytes(&one) == bytes(&two), "they differ");
    let checked = Command::new("sha256sum").args(["-c", "SHA256SUMS"]).current_dir(&one).output().unwrap();
    assert!(checked.status.success(), "{}", said(&checked));
    assert_eq!(said(&checked).matches(": OK").count(), 3);
    let name = tarball(&one, "machine");
    let name = name.file_name().unwrap().to_str().unwrap();
    assert_eq!(
        name,
        format!("tacet-machine-{}-{}.tar.gz", env!("CARGO_PKG_VERSION"), std::env::consts::ARCH)
    );
}

/// A bare Debian, with the unpacked tarballs in `/root`.
struct Bare {
    root: TempDir,
    _turn: Turn,
}

/// Runs as root in namespaces of its own. Arguments: the root, and what to run in it.
const ENTER: &str = r#"
    set -e
    mount --make-rprivate /
    mount --rbind /usr "$1/usr"
    mount -o remount,ro,bind "$1/usr"
    mount --bind "$1/local" "$1/usr/local"
    mount --rbind /dev "$1/dev"
    mount -t proc proc "$1/proc"
    ip link set lo up
    exec chroot "$1" /usr/bin/env -i PATH=/fake:/usr/local/bin:/usr/sbin:/usr/bin HOME=/root sh -ec "$2""#;

impl Bare {
    fn new(roles: &[&str]) -> Self {
        let turn = Turn::shared().unwrap();
        let root = TempDir::new().unwrap();
        // The coordinator goes on as the owner of its folder, who has to reach it.
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let at = |place: &str| root.path().join(place);
        for place in ["usr", "local/bin", "dev", "proc", "root", "fake", "etc", "run", "var/lib", "tmp"] {
            fs::create_dir_all(at(place)).unwrap();
        }
        for place in ["bin", "sbin", "lib", "lib64"] {
            symlink(format!("usr/{place}"), at(place)).unwrap();
        }
        let copied = Command::new("cp")
            .args(["-a", "/etc/alternatives", "/etc/ld.so.cache", "/etc/login.defs"])
            .arg(at("etc"))
            .output()
            .unwrap();
        assert!(copied.status.success(), "{}", said(&copied));
        fs::write(at("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").unwrap();
        fs::write(at("etc/group"), "root:x:0:\n").unwrap();
        let out = at("root/dist");
        dist(&out, "022");
        for role in roles {
            let folder = unpack(&out, role, &at("root"));
            fs::rename(folder, at("root").join(role)).unwrap();
        }
        fs::remove_dir_all(out).unwrap();
        Self { root, _turn: turn }
    }

    fn at(&self, place: &str) -> PathBuf {
        self.root.path().join(place)
    }

    /// Runs lines of a shell in it, and returns the exit code and what was printed.
    fn run(&self, lines: &str) -> (Option<i32>, String) {
        let output = Command::new("unshare")
            .args(["--mount", "--net", "--pid", "--uts", "--fork", "--kill-child", "sh", "-c", ENTER, "sh"])
            .arg(self.root.path())
            .arg(format!("exec 2>&1\n{lines}"))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        (output.status.code(), said(&output))
    }

    /// The same, of lines that must succeed.
    fn done(&self, lines: &str) -> String {
        let (code, said) = self.run(lines);
        assert_eq!(code, Some(0), "{said}");
        said
    }

    /// Puts a program before those of the system.
    fn fake(&self, name: &str, lines: &str) {
        let path = self.at("fake").join(name);
        fs::write(&path, format!("#!/bin/sh\n{lines}\n")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// All that installing could touch.
    fn content(&self) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
        let mut found: BTreeMap<_, _> =
            ["local", "var", "run"].map(|place| everything(&self.at(place))).into_iter().flatten().collect();
        for file in ["passwd", "group", "tacet", "systemd"] {
            let path = self.at("etc").join(file);
            if path.exists() {
                found.insert(path.clone(), (0, fs::read(path).unwrap_or_default()));
            }
        }
        found
    }
}

/// A coordinator, an account and a network on it, all on the loopback.
const A_NETWORK: &str = r#"
    wait_for() { n=0; until "$@" >/dev/null 2>&1; do n=$((n+1)); [ $n -lt 200 ] || { echo "in vain: $*"; exit 9; }; sleep 0.1; done; }
    coordinate() {
        mkdir -p /var/lib/tacet-coordinator; chown tacet-coordinator: /var/lib/tacet-coordinator
        tacet-coordinator serve --public-url https://127.0.0.1 >/tmp/coordinator.log 2>&1 &
        wait_for tacet-coordinator --json enrol
    }
    daemon() { vpnd >>/tmp/vpnd.log 2>&1 & wait_for vpnctl --json network list; }
    found() {
        token=$(tacet-coordinator --json enrol | grep -o 'tacet-enrol1[^"]*' | head -n 1)
        echo 'correct horse battery staple' | vpnctl account create ann --enrol "$token" --password-stdin
        vpnctl network create home >/dev/null
    }
"#;

#[test]
fn a_bare_debian_becomes_a_machine_of_a_network_and_leaves_it_again() {
    let bare = Bare::new(&["machine", "coordinator"]);
    let before = bare.content();
    let said = bare.done(&format!(
        r#"{A_NETWORK}
        if command -v cargo || command -v rustc || ls /root/.cargo; then exit 8; fi
        sh /root/coordinator/install.sh; sh /root/machine/install.sh; sh /root/machine/install.sh
        id tacet; vpnctl --version
        [ "$(cat /proc/sys/net/ipv4/tcp_no_metrics_save)" = 1 ]
        coordinate; daemon; found
        vpnctl --json status
        echo "=== without a terminal"
        sh /usr/local/lib/tacet/machine/uninstall.sh </dev/null
        [ ! -e /usr/local/bin/vpnd ] && [ -s /var/lib/tacet/networks/*/keys ]
        sh /root/machine/install.sh; daemon; wait_for sh -c 'vpnctl --json status | grep -q "\"state\":\"up\""'
        echo "=== on a terminal, cancelled"
        echo c | script -qec "sh /usr/local/lib/tacet/machine/uninstall.sh" /dev/null
        vpnctl --json status
        echo "=== on a terminal, left, as the only signer"
        if (echo l; sleep 1) | script -qec "sh /usr/local/lib/tacet/machine/uninstall.sh" /dev/null; then exit 8; fi
        vpnctl --json status
        exec 8</var/lib/tacet/account 9<"$(ls /var/lib/tacet/networks/*/keys)"
        [ "$(tr -d '\0' <&9 | wc -c)" -gt 32 ]
        exec 9<"$(ls /var/lib/tacet/networks/*/keys)"
        echo "=== left"
        sh /usr/local/lib/tacet/machine/uninstall.sh --leave --force
        echo "left over: $(tr -d '\0' <&8 | wc -c) $(tr -d '\0' <&9 | wc -c)"
        if [ -e /var/lib/tacet ] || id tacet; then exit 8; fi
        echo "=== the coordinator"
        exec 7</var/lib/tacet-coordinator/coordinator.db-keys
        sh /root/coordinator/uninstall.sh
        [ -e /var/lib/tacet-coordinator/coordinator.db ]
        sh /root/coordinator/uninstall.sh --purge
        echo "left over: $(tr -d '\0' <&7 | wc -c)""#
    ));
    let part = |title: &str| {
        let part = said.split("=== ").find(|part| part.starts_with(title)).unwrap();
        part.to_owned()
    };
    assert!(said.contains("installed: Tacet's coordinator"), "{said}");
    assert!(
        said.contains("upgraded: Tacet's machine") && said.contains("systemd does not run here"),
        "{said}"
    );
    let kept = part("without a terminal");
    assert!(kept.contains("is in a network (home)") && kept.contains("kept: /var/lib/tacet"), "{kept}");
    assert!(kept.contains("uninstall.sh --purge"), "{kept}");
    let cancelled = part("on a terminal, cancelled");
    assert!(cancelled.contains("[l/k/C]") && cancelled.contains("Nothing was changed"), "{cancelled}");
    assert!(cancelled.contains(r#""name":"home""#), "{cancelled}");
    let refused = part("on a terminal, left");
    assert!(refused.contains("--leave --force") && refused.contains(r#""name":"home""#), "{refused}");
    let left = part("left\n");
    assert!(left.contains("Left home") && left.contains("left over: 0 0"), "{left}");
    assert!(part("the coordinator").contains("left over: 0"), "{said}");
    let after = bare.content();
    let different: Vec<_> = after.iter().filter(|(path, was)| before.get(*path) != Some(was)).collect();
    assert!(
        different.is_empty() && before.len() == after.len(),
        "{:?}",
        different.iter().map(|(p, _)| p).collect::<Vec<_>>()
    );
}

#[test]
fn what_cannot_be_installed_is_refused_in_plain_words_and_changes_nothing() {
    let bare = Bare::new(&["machine", "relay"]);
    let before = bare.content();
    let refused = |lines: &str, code: i32, why: &str| {
        let (ended, said) = bare.run(lines);
        assert!(ended == Some(code) && said.contains(why), "{lines}: {ended:?} {said}");
        assert!(bare.content() == before, "{lines} changed something");
    };
    let install = "sh /root/machine/install.sh";
    refused(&format!("chmod 755 /root; setpriv --reuid=4242 {install}"), 1, "needs root");
    refused(&format!("{install} --fast"), 2, "there is no option --fast (see --help)");
    refused(&format!("{install} --root"), 2, "--root needs a folder");
    for empty in ["--root ''", "--root="] {
        refused(&format!("{install} {empty}"), 2, "--root needs a folder");
        refused(&format!("sh /root/machine/uninstall.sh --purge {empty}"), 2, "--root needs a folder");
    }
    refused(&format!("{install} --root /nowhere"), 1, "there is no folder /nowhere");
    refused(
        "sh /root/relay/install.sh --enable",
        1,
        "cannot be started before there is /etc/tacet/relay.key",
    );
    refused("sh /root/machine/uninstall.sh", 1, "is not installed here");
    refused("sh /root/machine/uninstall.sh --leave --purge", 2, "exclude one another");
    refused("sh /root/relay/uninstall.sh --leave", 2, "only a machine can leave");
    refused(
        "cp /root/machine/install.sh /tmp; sh /tmp/install.sh",
        1,
        "not the folder of an unpacked tarball",
    );
    bare.fake("uname", "[ $1 = -m ] && echo riscv64 || echo Linux");
    refused(install, 1, "take the tarball for riscv64");
    fs::remove_file(bare.at("fake/uname")).unwrap();
    let program = bare.at("root/machine/root/usr/local/bin/vpnd");
    fs::write(&program, "#!/bin/sh\nexit 1\n").unwrap();
    refused(install, 1, "vpnd does not run on this system");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o644)).unwrap();
    refused(install, 1, "unpack the tarball in another folder");
    for script in ["machine/install.sh", "machine/uninstall.sh", "relay/uninstall.sh"] {
        assert!(bare.done(&format!("sh /root/{script} --help")).contains("Usage:"), "{script}");
    }
}

#[test]
fn an_upgrade_keeps_what_was_kept_takes_away_what_is_no_more_and_restarts_what_runs() {
    let bare = Bare::new(&["machine"]);
    bare.done("sh /root/machine/install.sh");
    fs::create_dir_all(bare.at("var/lib/tacet")).unwrap();
    fs::write(bare.at("var/lib/tacet/account"), "kept").unwrap();
    let old = bare.at("root/machine/root/usr/local/lib/older/file");
    fs::create_dir_all(old.parent().unwrap()).unwrap();
    fs::write(&old, "of the older version").unwrap();
    bare.done("sh /root/machine/install.sh");
    assert!(bare.at("local/lib/older/file").exists());
    fs::remove_dir_all(old.parent().unwrap()).unwrap();
    // A machine on which systemd runs, as far as a script can see.
    fs::create_dir_all(bare.at("run/systemd/system")).unwrap();
    bare.fake("systemctl", r#"echo "$*" >>/tmp/called; case "$*" in *is-enabled*) exit 1;; esac"#);

    let said = bare.done("sh /root/machine/install.sh");

    assert!(said.contains("upgraded") && said.contains("vpnd.service was restarted"), "{said}");
    let called = fs::read_to_string(bare.at("tmp/called")).unwrap();
    let reload = called.find("daemon-reload").unwrap();
    assert!(reload < called.find("restart vpnd.service").unwrap(), "{called}");
    assert!(!bare.at("local/lib/older").exists());
    assert_eq!(fs::read(bare.at("var/lib/tacet/account")).unwrap(), b"kept");
    bare.done("sh /root/machine/uninstall.sh");
    assert!(fs::read_to_string(bare.at("tmp/called")).unwrap().contains("disable --now vpnd.service"));
}

#[test]
fn an_installation_that_was_cut_off_is_undone_or_finished() {
    let bare = Bare::new(&["machine"]);
    let before = bare.content();
    // The disk is full at one file after the other.
    for files in [0, 1, 5, 30] {
        bare.fake(
            "cp",
            &format!("echo x >>/tmp/copied; [ $(wc -l </tmp/copied) -le {files} ] && exec /bin/cp \"$@\""),
        );
        let _ = fs::remove_file(bare.at("tmp/copied"));
        let (code, said) = bare.run("sh /root/machine/install.sh");
        assert_eq!(code, Some(1), "{said}");
        assert!(bare.content() != before);
        bare.done("sh /root/machine/uninstall.sh");
        assert!(bare.content() == before, "after {files} files");
    }
    fs::remove_file(bare.at("fake/cp")).unwrap();
    bare.done("sh /root/machine/install.sh --root / && vpnctl --version");
}

#[test]
fn an_image_is_filled_without_root_and_emptied_again() {
    let out = TempDir::new().unwrap();
    dist(out.path(), "022");
    let root = machine();
    let before = everything(root.path());
    let _ = Command::new("chown").args(["-R", "4242"]).arg(root.path()).output().unwrap();
    fs::set_permissions(out.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let run = |role: &str, script: &str, flags: &[&str]| {
        let folder = unpack(out.path(), role, &out.path().join(role));
        let output = Command::new("setpriv")
            .args(["--reuid=4242", "--regid=4242", "--clear-groups", "sh"])
            .arg(folder.join(script))
            .args(flags)
            .arg(format!("--root={}", root.path().display()))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", said(&output));
    };
    for role in ["machine", "coordinator", "relay"] {
        run(role, "install.sh", &["--enable"]);
    }
    assert!(root.path().join("etc/systemd/system/multi-user.target.wants/vpnd.service").is_symlink());
    // In another order than they came.
    for role in ["machine", "coordinator", "relay"] {
        run(role, "uninstall.sh", &["--purge"]);
    }
    fs::remove_dir_all(root.path().join("etc")).unwrap();
    assert!(everything(root.path()) == before, "something of it stayed");
}
