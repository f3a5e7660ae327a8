//! What the kernel holds of a life: connection tracking, TCP metrics, `/proc/net`, core files.

use std::{fs, io::Read as _, os::unix::process::ExitStatusExt as _, path::Path, process::Command};

use tests::{Host, Result};

use crate::search::{Hit, Searcher};

/// A table of the kernel with canaries in it.
pub(crate) struct Table {
    pub(crate) name: String,
    pub(crate) hits: Vec<Hit>,
}

/// Canaries in `/proc/net` of a host, and in its tables of connections and of TCP metrics.
///
/// # Errors
/// If the host's network cannot be entered.
pub(crate) fn tables(host: &Host, searcher: &Searcher) -> Result<Vec<Table>> {
    // What belongs to another thread's network is another's.
    let mut texts: Vec<(String, Vec<u8>)> = host.inside(|| {
        let mut texts = Vec::new();
        for entry in fs::read_dir("/proc/thread-self/net").into_iter().flatten().flatten() {
            let mut text = Vec::new();
            let read = fs::File::open(entry.path()).and_then(|mut file| file.read_to_end(&mut text));
            if read.is_ok() {
                texts.push((format!("/proc/net/{}", entry.file_name().to_string_lossy()), text));
            }
        }
        texts
    })?;
    for (name, program, arguments) in
        [("conntrack", "conntrack", ["-L"].as_slice()), ("tcp_metrics", "ip", &["tcp_metrics", "show"])]
    {
        let output = Command::new("ip")
            .args(["netns", "exec", &host.namespace(), program])
            .args(arguments)
            .output()?;
        texts.push((name.to_owned(), output.stdout));
    }
    Ok(texts
        .into_iter()
        .map(|(name, text)| Table { name, hits: searcher.bytes(&text) })
        .filter(|table| !table.hits.is_empty())
        .collect())
}

/// Whether a crashed process leaves a core file in its folder here. A core that goes elsewhere is not looked for, and
/// the report says so.
///
/// # Errors
/// If no process can be started.
pub(crate) fn cores_stay_in_the_folder(folder: &Path) -> Result<bool> {
    fs::create_dir_all(folder)?;
    let status =
        Command::new("sh").args(["-c", "ulimit -c unlimited; kill -SEGV $$"]).current_dir(folder).status()?;
    let there = cores(folder).len() == 1;
    fs::remove_dir_all(folder)?;
    Ok(there && status.signal().is_some())
}

/// Core files below a folder.
pub(crate) fn cores(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() && !path.is_symlink() {
            found.extend(cores(&path));
        } else if entry.file_name().to_string_lossy().starts_with("core") && is_core(&path) {
            found.push(path.display().to_string());
        }
    }
    found
}

/// An ELF file of the type `ET_CORE`.
fn is_core(path: &Path) -> bool {
    let mut head = [0; 18];
    let read = fs::File::open(path).and_then(|mut file| file.read_exact(&mut head));
    read.is_ok() && head.starts_with(b"\x7fELF") && u16::from_le_bytes([head[16], head[17]]) == 4
}
