//! Where the programs under test are: `TACET_BIN_DIR`, else the folder of the running build.

use std::{
    env,
    path::{Path, PathBuf},
};

use crate::{Result, Trouble};

/// Environment variable that names another folder of programs, such as a `dist` build's.
pub const FOLDER: &str = "TACET_BIN_DIR";

/// Programs as they are built, and as they are installed.
pub const PROGRAMS: [(&str, &str); 4] =
    [("vpnd", "vpnd"), ("vpnctl", "vpnctl"), ("coordinator", "tacet-coordinator"), ("relay", "tacet-relay")];

/// Stands in every program that leaks on purpose (feature `leaks`), and in no release.
pub const LEAKS: &str = "tacet-leaks-on-purpose";

/// Whether a program leaks on purpose.
///
/// # Errors
/// If it cannot be read.
pub fn leaks(program: &Path) -> Result<bool> {
    Ok(std::fs::read(program)?.windows(LEAKS.len()).any(|bytes| bytes == LEAKS.as_bytes()))
}

/// The folder of the programs under test.
///
/// # Errors
/// If one is not there: nothing was built.
pub fn folder() -> Result<PathBuf> {
    let folder = match env::var_os(FOLDER) {
        Some(folder) => PathBuf::from(folder),
        None => built().ok_or_else(|| Trouble::new("this program does not run from a build folder"))?,
    };
    for (name, _) in PROGRAMS {
        if !folder.join(name).is_file() {
            return Err(Trouble::new(format!(
                "{} is not built: cargo build --release --workspace",
                folder.join(name).display()
            )));
        }
    }
    Ok(folder)
}

/// A test runs from `target/release/deps/`, xtask from `target/release/`.
fn built() -> Option<PathBuf> {
    let own = env::current_exe().ok()?;
    let folder = own.parent()?;
    Some(if folder.ends_with("deps") { folder.parent()? } else { folder }.to_owned())
}

/// A file of the laboratory, such as `natlab.sh`.
#[must_use]
pub fn lab_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("lab").join(name)
}
