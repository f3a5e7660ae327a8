//! The laboratory and the processes in it, for the end-to-end tests and the demonstration.
//!
//! ```text
//! let lab = Lab::up("cloud=none,home=easy")?;          // namespaces, NATs, a server `srv`
//! let coordinator = Coordinator::start(&lab.host("srv"))?;
//! let first = Node::start(&lab.host("cloud-1"))?;      // a machine with its own vpnd
//! first.create_network(&coordinator)?;
//! ```
//!
//! | file | what is in it |
//! |---|---|
//! | [`lab`] | a laboratory: up, conditions, down whatever happens to us |
//! | [`turn`] | tests that measure time run alone, the others a few at a time |
//! | [`host`] | one computer in it: own network, `/run/tacet`, `/var/lib/tacet`, host name |
//! | [`process`] | a program that runs on a host, what it printed, its end |
//! | [`node`] | a machine: vpnd, and vpnctl to talk to it |
//! | [`servers`] | coordinator and relay |
//! | [`clock`] | a machine whose clock is wrong |
//! | [`matrix`] | every kind of NAT against every other, and bad days, with what was measured |
//! | [`inodes`] | what became of every file beneath some folders |
//! | [`pcap`] | the packets that leave a host |
//! | [`strace`] | what running processes do to files, call by call |
//! | [`wait`] | wait until something holds, with a deadline |
//! | [`binaries`] | where the programs under test are |

pub mod binaries;
pub mod clock;
pub mod host;
pub mod inodes;
pub mod lab;
pub mod matrix;
pub mod node;
pub mod pcap;
pub mod process;
pub mod servers;
pub mod strace;
pub mod turn;
pub mod wait;

pub use clock::Clock;
pub use host::Host;
pub use lab::Lab;
pub use node::Node;
pub use servers::{Coordinator, RelayProcess};

/// Environment variable of a long run: tests that take samples take all of them.
pub const LONG: &str = "TACET_LONG";

/// Whether this is a long run.
#[must_use]
pub fn long() -> bool {
    std::env::var_os(LONG).is_some()
}

/// What went wrong, in words for whoever reads the test's output.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Trouble(String);

impl Trouble {
    /// An error that says `what`.
    pub fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Self {
        Self(error.to_string())
    }
}

/// The result of all that is done in a laboratory.
pub type Result<T> = std::result::Result<T, Trouble>;
