//! What a process that holds keys does first: no core dumps, files for itself alone, and a panic that says where it
//! happened and nothing more.

use std::{io, io::Write, process};

use nix::sys::stat::{Mode, umask};

/// Prepares the process; call it before anything else.
///
/// # Errors
/// If the kernel refuses to turn core dumps off.
#[expect(clippy::disallowed_methods, reason = "a fault in the program, not an event of traffic")]
pub fn process() -> io::Result<()> {
    std::panic::set_hook(Box::new(|panic| {
        // A panic's message may hold anything; its place in the source holds nothing of a user's.
        let mut stderr = io::stderr();
        let _ = match panic.location() {
            Some(at) => writeln!(stderr, "vpnd: internal error at {}:{}", at.file(), at.line()),
            None => writeln!(stderr, "vpnd: internal error"),
        };
        // A task that ended half-way would leave its network in an unknown state: the service manager starts anew.
        process::abort();
    }));
    umask(Mode::from_bits_truncate(0o077));
    sandbox::process::no_dumps()
}
