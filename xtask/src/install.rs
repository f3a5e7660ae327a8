//! `cargo xtask install` and `uninstall`: the programs, units and accounts on this machine, and off it again.
//!
//! What is installed is written to a list first ([`LIST`]), every file and every folder that was not there before.
//! Uninstalling goes by that list backwards, so it leaves nothing behind and takes nothing else away. What the
//! programs keep (`/var/lib/tacet*`, `/etc/tacet`) stays unless it is purged.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use tests::binaries;

use crate::{build, root};

/// Where to.
pub(crate) struct Target {
    /// Another root than `/`: a folder that a package or a test looks into. Nothing is run for it.
    pub(crate) root: Option<PathBuf>,
}

/// Where the list of installed files is.
const LIST: &str = "usr/local/lib/tacet/installed";

/// Folders and files below `packaging/` and where they go.
const UNITS: &str = "usr/local/lib/systemd/system";
const CONFIGURATION: [(&str, &str); 3] = [
    ("sysusers.d/tacet.conf", "usr/local/lib/sysusers.d/tacet.conf"),
    ("tmpfiles.d/tacet.conf", "usr/local/lib/tmpfiles.d/tacet.conf"),
    ("sysctl.d/tacet.conf", "usr/local/lib/sysctl.d/tacet.conf"),
];
const SERVICES: [&str; 3] = ["vpnd.service", "tacet-coordinator.service", "tacet-relay.service"];

/// What the programs keep, and what is made for them.
const STATE: [&str; 4] = ["var/lib/tacet", "var/lib/tacet-coordinator", "etc/tacet", "run/tacet"];
const USERS: [&str; 3] = [GROUP, "tacet-coordinator", "tacet-relay"];
/// vpnd's own user and group; the group's members may use its local API.
const GROUP: &str = "tacet";

impl Target {
    fn path(&self, below: &str) -> PathBuf {
        self.root.as_deref().unwrap_or(Path::new("/")).join(below)
    }

    /// Whether this is the running system.
    fn live(&self) -> bool {
        self.root.is_none()
    }
}

/// Puts the release on the machine; builds it first, unless `TACET_BIN_DIR` says where it is.
///
/// # Errors
/// Without root, if the build fails, or if a file cannot be written.
pub(crate) fn install(target: &Target) -> Result<()> {
    if target.live() && !nix::unistd::geteuid().is_root() {
        bail!("installing needs root: run this as root, or give --root DIR");
    }
    if std::env::var_os(binaries::FOLDER).is_none() {
        build()?;
    }
    for (name, _) in binaries::PROGRAMS {
        if binaries::leaks(&binaries::folder()?.join(name))? {
            bail!("{name} leaks on purpose, for the canary audit: build it anew without the feature `leaks`");
        }
    }
    if target.path(LIST).exists() {
        remove_listed(target)?; // an older installation may have had other files
    }
    let files = files()?;
    let list = plan(target, &files);
    let folder = target.path(LIST);
    fs::create_dir_all(folder.parent().context("the list is in a folder")?)?;
    fs::write(&folder, list.join("\n") + "\n")?;
    for file in &files {
        put(file, &target.path(&file.to)).with_context(|| format!("/{} was not installed", file.to))?;
    }
    if target.live() {
        make_accounts();
        reload_units();
        forget_connections();
        println!(
            "installed: vpnd, vpnctl, tacet-coordinator, tacet-relay in /usr/local/bin, and their units"
        );
        println!("on a machine:  systemctl enable --now vpnd, then vpnctl --help");
        println!("on a server:   echo PUBLIC_URL=https://NAME-OR-ADDRESS > /etc/tacet/coordinator.env");
        println!("               systemctl enable --now tacet-coordinator");
        println!("               tacet-coordinator enrol");
    }
    Ok(())
}

/// Takes it off again. `purge`: what the programs keep too, and their accounts.
///
/// # Errors
/// Without root, if it is not installed, or if a file cannot be removed.
pub(crate) fn uninstall(target: &Target, purge: bool) -> Result<()> {
    if target.live() && !nix::unistd::geteuid().is_root() {
        bail!("uninstalling needs root: run this as root, or give --root DIR");
    }
    if target.live() && systemd_runs() {
        for service in SERVICES {
            quietly("systemctl", &["disable", "--now", service]);
        }
    }
    if target.path(LIST).exists() {
        remove_listed(target)?;
    } else if !purge {
        bail!("Tacet is not installed here ({} is missing)", target.path(LIST).display());
    }
    for kept in STATE {
        if purge {
            remove_all(&target.path(kept))?;
        } else {
            remove_empty(&target.path(kept))?;
        }
    }
    if target.live() {
        reload_units();
        // The accounts own what is kept; with nothing kept they go too.
        if !STATE.iter().any(|kept| target.path(kept).exists()) {
            for user in USERS {
                quietly("userdel", &[user]);
            }
            quietly("groupdel", &[GROUP]);
        }
    }
    Ok(())
}

/// One file: where it comes from, where it goes, its mode.
struct File {
    from: PathBuf,
    to: String,
    mode: u32,
}

fn files() -> Result<Vec<File>> {
    let built = binaries::folder()?;
    let packaging = root().join("packaging");
    let programs = binaries::PROGRAMS.iter().map(|(name, installed)| File {
        from: built.join(name),
        to: format!("usr/local/bin/{installed}"),
        mode: 0o755,
    });
    let units = SERVICES.iter().map(|service| File {
        from: packaging.join("systemd").join(service),
        to: format!("{UNITS}/{service}"),
        mode: 0o644,
    });
    let configuration = CONFIGURATION.iter().map(|(from, to)| File {
        from: packaging.join(from),
        to: (*to).to_owned(),
        mode: 0o644,
    });
    Ok(programs.chain(units).chain(configuration).collect())
}

/// Every file, and every folder on the way to one that is not there yet, in the order in which they are made.
fn plan(target: &Target, files: &[File]) -> Vec<String> {
    let mut list: Vec<String> = Vec::new();
    let ways = std::iter::once(LIST).chain(files.iter().map(|file| file.to.as_str()));
    for way in ways {
        for (end, _) in way.match_indices('/') {
            let folder = &way[..end];
            if !target.path(folder).exists() && !list.iter().any(|listed| listed == folder) {
                list.push(folder.to_owned());
            }
        }
        list.push(way.to_owned());
    }
    list
}

fn put(file: &File, to: &Path) -> io::Result<()> {
    let folder = to.parent().ok_or(io::ErrorKind::InvalidInput)?;
    fs::create_dir_all(folder)?;
    // Beside and then renamed: a program that runs is replaced, not written into.
    let beside = to.with_extension("new");
    fs::copy(&file.from, &beside)?;
    fs::set_permissions(&beside, fs::Permissions::from_mode(file.mode))?;
    fs::rename(beside, to)
}

fn remove_listed(target: &Target) -> Result<()> {
    let list = fs::read_to_string(target.path(LIST)).context("the list of installed files cannot be read")?;
    for entry in list.lines().rev().filter(|entry| *entry != LIST) {
        remove(&target.path(entry))?;
    }
    // The list goes last, with the folders that were made for it.
    remove(&target.path(LIST))?;
    for (end, _) in LIST.rmatch_indices('/') {
        if list.lines().any(|entry| entry == &LIST[..end]) {
            remove(&target.path(&LIST[..end]))?;
        }
    }
    Ok(())
}

/// Removes a file, or a folder if it is empty.
fn remove(path: &Path) -> Result<()> {
    let removed = if path.is_dir() { fs::remove_dir(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) => {
            Err(error).with_context(|| format!("{} cannot be removed", path.display()))
        }
        _ => Ok(()),
    }
}

/// Removes a folder with nothing in it; one that holds something stays.
fn remove_empty(path: &Path) -> Result<()> {
    if path.is_dir() { remove(path) } else { Ok(()) }
}

fn remove_all(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{} cannot be removed", path.display()))
        }
        _ => Ok(()),
    }
}

/// The accounts of sysusers.d and the folders of tmpfiles.d, without systemd too.
fn make_accounts() {
    let sysusers = format!("/{}", CONFIGURATION[0].1);
    if !quietly("systemd-sysusers", &[&sysusers]) {
        for user in USERS {
            let account = ["--system", "--no-create-home", "--shell", "/usr/sbin/nologin"];
            // An older installation left the group.
            if !quietly("useradd", &[&account[..], &["--user-group", user]].concat()) {
                quietly("useradd", &[&account[..], &["--gid", user, user]].concat());
            }
        }
    }
    let tmpfiles = format!("/{}", CONFIGURATION[1].1);
    if !quietly("systemd-tmpfiles", &["--create", &tmpfiles]) {
        println!("the folders of {tmpfiles} were not made: there is no systemd-tmpfiles here");
    }
}

/// The kernel remembers no more who spoke to whom over TCP; what it remembers by now, too.
fn forget_connections() {
    let settings = format!("/{}", CONFIGURATION[2].1);
    if !quietly("sysctl", &["--load", &settings]) {
        println!("{settings} takes effect at the next start of this machine");
    }
    quietly("ip", &["tcp_metrics", "flush", "all"]);
}

fn reload_units() {
    if systemd_runs() {
        quietly("systemctl", &["daemon-reload"]);
    }
}

fn systemd_runs() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// Runs a program whose failure is no failure of ours. True if it did what it was told.
fn quietly(program: &str, arguments: &[&str]) -> bool {
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
