//! What control can do and a data path cannot: what it lives from, and what harms nobody outside of it.

use crate::{attempts::Attempt, walls::Who};

/// What becomes of an attempt within control's walls.
pub(crate) enum May {
    /// It works: control needs it.
    Always,
    /// Its outcome says nothing: it is allowed, and may fail for another reason.
    Sometimes,
    /// It is stopped.
    Never,
}

/// What works, because control needs it.
const LIVES_FROM: &[&str] = &[
    // Its state, its socket, its devices, and what the host tells every program.
    "write a file of the state directory",
    "replace a file of the state directory",
    "remove the socket",
    "open /dev/null to write",
    "open /dev/net/tun",
    "open the password file",
    "ask for the system's name",
    // Landlock hides no names: what is there can be asked about, and not opened.
    "stat",
    "statx",
    "statfs",
    "access",
    "readlink",
    "chdir",
    "getcwd",
    // Sockets: the coordinator, relays, routes, and the host's resolvers over unix sockets.
    "a socket of family 1",
    "a socket of family 2",
    "a socket of family 16",
    "a TCP socket",
    "a pair of sockets",
    "connect to a log's socket",
    "send to a log's socket",
    "pass a descriptor to another process",
    "take what another process passes",
    "listen for others",
    "answer its peers",
    "connect its own socket",
    "mark its own socket's packets",
    "bind its own socket to a device",
    "ask its own socket",
    "its own socket's name",
    // Data paths: starting them with their program's code, with their own walls, and ending them.
    "clone",
    "map an inherited file to write",
    "map an inherited file to read",
    "map memory to execute",
    "map memory to share",
    "have its memory dumped",
    "move its thread's base",
    "change its name",
    "set a limit",
    "mask new files",
    "handle a signal",
    "block a signal",
    "signal itself",
    "signal a thread",
    "hold its parent",
    "filter its own calls anew",
    "make a set of paths",
];

/// Allowed, and up to the host whether it works. A signal to everybody is answered well where nobody got it.
const UP_TO_THE_HOST: &[&str] = &["a socket of family 10", "connect to /dev/log", "signal everybody"];

/// What Linux keeps from a confined process since 6.12 only (Landlock's sixth version).
const NEWER: &[&str] = &["signal its parent", "signal a task", "queue a signal"];

/// Of that, what a plain interface has no need of: it keeps no state, reads nothing of the host, and speaks to nobody who
/// does not speak to it first.
const OF_A_NETWORK: &[&str] = &[
    "write a file of the state directory",
    "replace a file of the state directory",
    "open /dev/net/tun",
    "open the password file",
    "a TCP socket",
    "a socket of family 1",
    "connect to a log's socket",
    "answer its peers",
    "connect its own socket",
];

/// What Landlock forbids only since it knows the paths of unix sockets (its ninth version), by a socket that is open already.
const BY_AN_OPEN_SOCKET: &str = "send to a log's socket";

pub(crate) fn may(who: Who, attempt: &Attempt) -> May {
    if who == Who::PlainControl && OF_A_NETWORK.contains(&attempt.name.as_str()) {
        return May::Never;
    }
    if who == Who::PlainControl && attempt.name == BY_AN_OPEN_SOCKET {
        return May::Sometimes;
    }
    if LIVES_FROM.contains(&attempt.name.as_str()) {
        May::Always
    } else if attempt.kind == "descriptors"
        || UP_TO_THE_HOST.contains(&attempt.name.as_str())
        || NEWER.contains(&attempt.name.as_str()) && !scoped()
    {
        // What is open already is its own.
        May::Sometimes
    } else {
        May::Never
    }
}

/// Whether this kernel confines signals.
fn scoped() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers =
        release.split(|c: char| !c.is_ascii_digit()).map_while(|number| number.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(6), Some(12))
}
