//! What the process gives up before its first packet.

use std::{io, os::fd::RawFd};

use netio::confine;

/// Gives up everything but the descriptors `keep`: all other descriptors (standard input, output and error too), every
/// capability, and the ways to regain one; and makes sure that nothing dumps its memory.
///
/// # Errors
/// If a power could not be given up: the process must not go on.
pub(super) fn lockdown(keep: &[RawFd]) -> io::Result<()> {
    silence_panics();
    confine::close_all_but(keep)?;
    confine::no_new_privileges()?;
    confine::drop_capabilities()?;
    // Last: a change of credentials may switch dumps on again.
    confine::no_dumps()
}

/// A panic ends the process at once, without a word: what it would print could hold metadata, and a process that is in
/// a state nobody thought of handles no more packets.
fn silence_panics() {
    std::panic::set_hook(Box::new(|_| {
        #[allow(clippy::exit)]
        std::process::exit(101)
    }));
}
