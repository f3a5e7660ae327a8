//! What the process of a plain interface gives up before it serves anybody: the same walls as the daemon's control
//! ([`crate::walls`]), with less left inside. It connects to nobody: it binds UDP ports, starts data paths, speaks to the
//! kernel's routing, answers on a socket that is open already and removes it. Of the file system it keeps its own program
//! and the socket's folder, where it may remove, and of root's powers those over interfaces and low ports.

use std::path::Path;

use sandbox::{
    Missing, SandboxError,
    capabilities::{self, Capability},
    memory, process,
};

/// Puts up every wall. What is open already stays open.
///
/// # Errors
/// If one could not be put up: the process must not go on.
pub fn put_up(socket_folder: &Path, missing: Missing) -> Result<(), SandboxError> {
    give_up_powers()?;
    missing.tolerate(close_paths(socket_folder))?;
    missing.tolerate(close_calls())
}

/// Gives up every capability but those over the network and over low ports, and the ways to regain one; locks the memory, and
/// makes sure that nothing dumps it.
///
/// # Errors
/// As [`put_up`].
pub fn give_up_powers() -> Result<(), SandboxError> {
    process::single_threaded()?;
    // Under a limit that cannot be raised, secrets may be swapped out.
    let _ = memory::lock();
    process::no_new_privileges()?;
    capabilities::keep(&[Capability::NetAdmin, Capability::NetBindService])?;
    // Last: a change of credentials may switch dumps on again.
    Ok(process::no_dumps()?)
}

/// Landlock.
///
/// # Errors
/// As [`put_up`].
pub fn close_paths(socket_folder: &Path) -> Result<(), SandboxError> {
    crate::walls::close_paths_of_device(socket_folder)
}

/// Seccomp.
///
/// # Errors
/// As [`put_up`].
pub fn close_calls() -> Result<(), SandboxError> {
    crate::walls::close_calls_of_device()
}
