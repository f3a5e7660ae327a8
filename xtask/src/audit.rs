//! `cargo xtask audit`: the canary audit of `tests/audit/`, with all that it takes.
//!
//! It needs a build that leaks on purpose beside the release. Both share everything but our own crates, so the second one
//! takes seconds; its programs are moved aside at once, and the release is put back in its place.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use tests::binaries;

use crate::{build, cargo, dist, packages};

/// What is audited, and how it is told.
#[derive(Clone, Copy, Default)]
pub(crate) struct Options {
    /// One life of the release only.
    pub(crate) quick: bool,
    /// A JSON document in place of the report.
    pub(crate) json: bool,
    /// Leave disks and records.
    pub(crate) keep: bool,
    /// Audit what is shipped (profile `dist`) in place of the release.
    pub(crate) dist: bool,
}

/// Features of the build that leaks.
const FEATURES: &str = "vpnd/leaks,coordinator/leaks,relay/leaks";

/// Runs it. True if nothing was found in the release, and every leak of the other build was.
pub(crate) fn run(options: Options) -> Result<bool> {
    packages::prepare_lab()?;
    let leaking = leaking_build()?;
    let folder = built()?;
    let mut command = Command::new(folder.join("audit"));
    command.arg("--leaking").arg(&leaking);
    for (chosen, flag) in [(options.quick, "--quick"), (options.json, "--json"), (options.keep, "--keep")] {
        command.args(chosen.then_some(flag));
    }
    if options.dist {
        command.env(binaries::FOLDER, dist::build_shipped()?);
    }
    Ok(command.stdin(Stdio::null()).status().context("the audit did not start")?.success())
}

/// Makes the release and the build that leaks on purpose, and returns the folder of the latter's programs.
pub(crate) fn leaking_build() -> Result<PathBuf> {
    build()?;
    let folder = built()?;
    let leaking = folder.join("leaking");
    let made = make_leaking(&folder, &leaking);
    build()?;
    made.map(|()| leaking)
}

/// The folder of the release: where this program is.
fn built() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    Ok(own.parent().context("a program is in a folder")?.to_owned())
}

fn make_leaking(folder: &Path, leaking: &Path) -> Result<()> {
    let arguments = ["build", "--release", "--locked", "--workspace", "--bins", "--features", FEATURES];
    if !cargo().args(arguments).status()?.success() {
        bail!("the build that leaks on purpose failed");
    }
    fs::create_dir_all(leaking)?;
    for (name, _) in binaries::PROGRAMS {
        let aside = leaking.join(name);
        let _ = fs::remove_file(&aside);
        fs::copy(folder.join(name), aside).with_context(|| format!("{name} could not be moved aside"))?;
    }
    Ok(())
}
