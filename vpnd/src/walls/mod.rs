//! What control gives up before it serves anybody, and what it keeps.
//!
//! Control speaks to servers and reads what they and the data path say, so it is to be of little use to whoever takes
//! it over. It puts these walls up itself, whoever starts it, while it has one thread and after it did what takes more
//! power (making the state directory, giving the socket to its group):
//!
//! | what | what is left |
//! |---|---|
//! | capabilities | `CAP_NET_ADMIN`: interface, addresses, routes |
//! | [`paths`] (Landlock) | its state, the TUN device, its own program, what name resolution and certificates need |
//! | [`calls`] (seccomp) | the calls that control and a starting data path make; sockets of IP, unix and routing alone |
//! | memory | locked against swap, never dumped, closed to debuggers |
//!
//! Its children have the same walls, and the data path puts up narrower ones inside of them
//! ([`crate::data_path::lockdown`]).

mod calls;
mod paths;

use std::path::Path;

use sandbox::{
    Missing, SandboxError,
    capabilities::{self, Capability},
    memory, process,
};

pub use self::paths::Places;

/// Puts up every wall. What is open already stays open.
///
/// # Errors
/// If one could not be put up: the process must not go on.
pub fn put_up(places: &Places<'_>, missing: Missing) -> Result<(), SandboxError> {
    #[cfg(feature = "leaks")]
    if crate::leaks::chosen("no-walls") {
        return Ok(());
    }
    give_up_powers()?;
    missing.tolerate(close_paths(places))?;
    missing.tolerate(close_calls())
}

/// Gives up every capability but the one over the network, and the ways to regain one; locks the memory, and makes sure
/// that nothing dumps it.
///
/// # Errors
/// As [`put_up`].
pub fn give_up_powers() -> Result<(), SandboxError> {
    process::single_threaded()?;
    // Where it may not, `vpnctl privacy verify` says so. The limit that it raises is the data path's too.
    let _ = memory::lock();
    process::no_new_privileges()?;
    capabilities::keep(&[Capability::NetAdmin])?;
    // Last: a change of credentials may switch dumps on again.
    Ok(process::no_dumps()?)
}

/// Landlock.
///
/// # Errors
/// As [`put_up`].
pub fn close_paths(places: &Places<'_>) -> Result<(), SandboxError> {
    paths::close(places)
}

/// Seccomp.
///
/// # Errors
/// As [`put_up`].
pub fn close_calls() -> Result<(), SandboxError> {
    calls::close(&calls::OF_CONTROL)
}

/// Landlock for the process of a plain interface, whose socket is in `socket_folder`.
///
/// # Errors
/// As [`put_up`].
pub(crate) fn close_paths_of_device(socket_folder: &Path) -> Result<(), SandboxError> {
    paths::close_all_but_program(socket_folder)
}

/// Seccomp for the process of a plain interface.
///
/// # Errors
/// As [`put_up`].
pub(crate) fn close_calls_of_device() -> Result<(), SandboxError> {
    calls::close(&calls::OF_DEVICE)
}
