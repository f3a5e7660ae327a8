//! `cargo xtask dist`: one tarball per role, which needs nothing but Debian where it is unpacked.
//!
//! The same commit gives the same bytes: files are sorted, belong to root, and carry the commit's time, and no path of
//! the building machine stands in what was compiled.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use tests::binaries;

use crate::{
    build, cargo,
    roles::{ROLES, programs},
    root,
};

/// What to make, and where.
#[derive(Args)]
pub(crate) struct Options {
    /// Where to [default: target/dist].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// How the programs are built.
    #[arg(long, value_enum, default_value_t = Profile::Dist)]
    profile: Profile,
}

#[derive(Clone, Copy, ValueEnum)]
enum Profile {
    /// As they are shipped: optimised as a whole, which takes many minutes.
    Dist,
    /// As they are tested: minutes at the first time, then seconds.
    Release,
}

/// Makes the tarballs and `SHA256SUMS`.
///
/// # Errors
/// If the build, a copy or a tool fails.
pub(crate) fn run(options: &Options) -> Result<()> {
    let built = programs(|| match options.profile {
        Profile::Dist => build_shipped(),
        Profile::Release => {
            build()?;
            Ok(binaries::folder()?)
        }
    })?;
    let out = match &options.out {
        Some(out) => out.clone(),
        None => built.parent().context("the build folder is in the target folder")?.join("dist"),
    };
    fs::create_dir_all(&out).with_context(|| format!("{} cannot be made", out.display()))?;
    let time = time()?;
    let mut tarballs = Vec::new();
    for role in &ROLES {
        let name = format!("tacet-{}-{}-{}", role.name, env!("CARGO_PKG_VERSION"), std::env::consts::ARCH);
        let staged = tempfile::tempdir()?;
        role.stage(&built, &staged.path().join(&name))?;
        let tarball = format!("{name}.tar.gz");
        pack(staged.path(), &name, time, &out.join(&tarball))?;
        tarballs.push(tarball);
    }
    let sums = Command::new("sha256sum").args(&tarballs).current_dir(&out).output()?;
    if !sums.status.success() {
        bail!("sha256sum could not read the tarballs in {}", out.display());
    }
    fs::write(out.join("SHA256SUMS"), &sums.stdout)?;
    for tarball in &tarballs {
        let bytes = fs::metadata(out.join(tarball))?.len();
        println!("{} ({:.1} MB)", out.join(tarball).display(), bytes as f64 / 1e6);
    }
    println!("{}", out.join("SHA256SUMS").display());
    Ok(())
}

/// Builds what is shipped, and returns the folder of its programs.
///
/// # Errors
/// If the build fails.
pub(crate) fn build_shipped() -> Result<PathBuf> {
    let home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(std::env::home_dir()?.join(".cargo")))
        .context("there is no home directory, and CARGO_HOME is not set")?;
    // Whose machine it was built on is nobody's business, and would make the same commit other bytes elsewhere.
    let places = [(home, "/cargo"), (root(), "/tacet")];
    let flags: Vec<String> =
        places.iter().map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display())).collect();
    let of_c: Vec<String> =
        places.iter().map(|(from, to)| format!("-ffile-prefix-map={}={to}", from.display())).collect();
    let built = cargo()
        .args(["build", "--profile", "dist", "--locked", "--workspace", "--bins"])
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
        .env("CFLAGS", of_c.join(" "))
        .status()?;
    if !built.success() {
        bail!("the build of what is shipped failed");
    }
    let release = binaries::folder()?;
    Ok(release.parent().context("the build folder is in the target folder")?.join("dist"))
}

/// The time that every file gets, in seconds: what the caller says, or the commit's.
fn time() -> Result<u64> {
    if let Ok(given) = std::env::var("SOURCE_DATE_EPOCH") {
        return given.parse().context("SOURCE_DATE_EPOCH is a number of seconds");
    }
    let said = Command::new("git").args(["log", "-1", "--format=%ct"]).current_dir(root()).output();
    let said = said.ok().filter(|said| said.status.success()).map(|said| said.stdout).unwrap_or_default();
    // Sources without a history have no time of their own.
    Ok(String::from_utf8_lossy(&said).trim().parse().unwrap_or(0))
}

/// Packs the folder `name` of `staged`.
fn pack(staged: &Path, name: &str, time: u64, tarball: &Path) -> Result<()> {
    let unfinished = tarball.with_extension("new");
    let mut tar = Command::new("tar")
        .args(["--sort=name", "--format=ustar", "--owner=root:0", "--group=root:0", "--mode=go+rX-w,u+rw"])
        .arg(format!("--mtime=@{time}"))
        .args(["--create", "--file=-", "--directory"])
        .arg(staged)
        .arg(name)
        .env("LC_ALL", "C")
        .stdout(Stdio::piped())
        .spawn()
        .context("tar did not start")?;
    let packed = tar.stdout.take().context("tar's output is a pipe")?;
    let zipped = Command::new("gzip")
        .args(["--no-name"])
        .stdin(packed)
        .stdout(fs::File::create(&unfinished)?)
        .status()
        .context("gzip did not start")?;
    if !tar.wait()?.success() || !zipped.success() {
        bail!("{} could not be packed", tarball.display());
    }
    Ok(fs::rename(unfinished, tarball)?)
}
