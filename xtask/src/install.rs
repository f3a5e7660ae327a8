//! `cargo xtask install` and `uninstall`: every role on this machine, and off it again, by the scripts of the tarballs.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use tests::binaries;

use crate::{
    build,
    roles::{ROLES, Role, programs},
};

/// Where to.
#[derive(Args)]
pub(crate) struct Install {
    /// Into a folder, for a package or a test; nothing is started or registered.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
}

/// From where, and what becomes of what the programs keep.
#[derive(Args)]
pub(crate) struct Uninstall {
    /// Leave every network first, and keep nothing of the machine.
    #[arg(long, conflicts_with_all = ["keep_state", "purge", "root"])]
    leave: bool,
    /// With --leave: also where this machine is a network's only signer.
    #[arg(long, requires = "leave")]
    force: bool,
    /// Do not ask: keys, rosters and the coordinator's data stay.
    #[arg(long, conflicts_with = "purge")]
    keep_state: bool,
    /// Overwrite and remove those too. A machine's keys and a coordinator's accounts cannot be made again.
    #[arg(long)]
    purge: bool,
    /// From a folder.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
}

/// Puts the release on the machine; builds it first, unless `TACET_BIN_DIR` says where it is.
///
/// # Errors
/// If the build fails, or a role cannot be installed.
pub(crate) fn install(options: &Install) -> Result<bool> {
    need_root(options.root.as_deref(), "installing")?;
    let built = programs(|| {
        build()?;
        Ok(binaries::folder()?)
    })?;
    for role in &ROLES {
        if !run(role, &built, "install.sh", &[], options.root.as_deref())? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Takes every role off again that is installed.
///
/// # Errors
/// If none is installed, or one cannot be removed.
pub(crate) fn uninstall(options: &Uninstall) -> Result<bool> {
    need_root(options.root.as_deref(), "uninstalling")?;
    let from = options.root.as_deref().unwrap_or(Path::new("/"));
    let installed: Vec<&Role> =
        ROLES.iter().filter(|role| options.purge || role.is_installed(from)).collect();
    if installed.is_empty() {
        bail!("Tacet is not installed in {}", from.display());
    }
    let built = binaries::folder()?;
    for role in installed {
        let mut flags = Vec::new();
        let machine = role.name == "machine";
        for (chosen, flag) in [
            (options.leave && machine, "--leave"),
            (options.force && machine, "--force"),
            (options.keep_state, "--keep-state"),
            (options.purge, "--purge"),
        ] {
            flags.extend(chosen.then_some(flag));
        }
        if !run(role, &built, "uninstall.sh", &flags, options.root.as_deref())? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn need_root(root: Option<&Path>, what: &str) -> Result<()> {
    if root.is_none() && !nix::unistd::geteuid().is_root() {
        bail!("{what} needs root: run this as root, or give --root DIR");
    }
    Ok(())
}

/// Runs a script of a role. False if it failed, which it said itself.
fn run(role: &Role, built: &Path, script: &str, flags: &[&str], root: Option<&Path>) -> Result<bool> {
    let staged = tempfile::tempdir()?;
    role.stage(built, staged.path())?;
    let mut command = Command::new("sh");
    command.arg(staged.path().join(script)).args(flags);
    if let Some(root) = root {
        command.arg("--root").arg(root);
    }
    Ok(command.status().with_context(|| format!("{script} did not start"))?.success())
}
