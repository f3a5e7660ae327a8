//! vpnd's local API: what `vpnctl` and vpnd say to each other over a unix socket.
//!
//! One connection carries one command. The client sends one line, a [`Request`]; vpnd answers with any number of
//! progress and event lines and then exactly one last line, an answer or an error ([`Reply`]). A line is one JSON
//! document and a newline ([`mod@line`]). Closing the connection early ends the command: that is how `ping` is stopped.
//!
//! ```text
//! > {"v":1,"network":null,"cmd":{"join":{"token":"tacet-invite1…","machine":null}}}
//! < {"progress":"contacting"}
//! < {"ok":{"joined":{"network":"home","machine":"laptop","ipv4":null,"ipv6":"fd12::1","provisional":true}}}
//! ```
//!
//! Unknown fields are ignored, so both sides may add optional ones. [`Request::v`] rises only when an old peer would
//! misunderstand; vpnd refuses a version it does not know in plain words ([`Request::parse`]).
//!
//! The socket lies in a directory that only root and the group `tacet` enter, and vpnd asks the kernel who calls.
//! Passwords and tokens therefore travel in the clear here, but every buffer that held them is wiped. What says who is
//! where ([`Peer`]) is made for an answer, written to the caller and dropped; none of these types has `Debug`.

mod error;
pub mod line;
mod netcheck;
mod reply;
mod request;
mod secret;

pub use error::{ApiError, ErrorCode};
pub use netcheck::{
    Addresses, Checked, Clock, Family, Mapping, MappingProtocol, MappingState, Nat, NatKind, Netcheck,
    PortMapping, Portal, Server, ServerState, Udp, leads_out,
};
pub use reply::{
    Account, Answer, Damage, Event, Invite, InviteCreated, Joined, Left, Machine, MachineRemoved,
    NetworkCreated, NetworkState, NetworkStatus, NetworkSummary, Own, Path, Peer, Progress, RecoverFrom,
    Recovered, Recovery, RecoveryRoster, Relay, Reply, Revoked, Status, Warning, is_called,
};
pub use request::{Command, Request, RequestError, VERSION};
pub use secret::{Password, Secret};

#[cfg(test)]
mod tests;
