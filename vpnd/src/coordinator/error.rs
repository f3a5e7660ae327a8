//! What can go wrong with a coordinator, by what the caller can do about it.

use proto::{
    coordinator::{Reason, Refusal},
    wire::{Wire, WireError},
};

use crate::dial::{Fault, ProxyFault};

/// A request that did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No answer: try again later.
    #[error("the coordinator cannot be reached: {0}")]
    Unreachable(Cause),
    /// The server's key is not the one that was pinned.
    #[error("this is not the coordinator that the token or the roster names: its key is another one")]
    WrongPin,
    /// Nothing is pinned and the system's roots do not vouch for the server's certificate.
    #[error("the coordinator's certificate is not trusted by this system, and no key of it is pinned")]
    Untrusted,
    /// The proof of membership, or of an invite, does not give this right (any more).
    #[error("the coordinator did not accept this machine's proof of membership")]
    NotPermitted,
    /// The coordinator does not know this network, or not this slot in it.
    #[error("the coordinator does not know this network")]
    NotFound,
    /// Another change came first. Holds the present head (roster's `Head`), unverified.
    #[error("another change of the network came first")]
    Conflict(UnverifiedHead),
    /// There is no session, or it has ended.
    #[error("not logged in at the coordinator, or the login has expired")]
    LoginNeeded,
    /// Any other refusal.
    #[error("{0}")]
    Refused(Reason),
    /// The answer is in a format from a later version.
    #[error("the coordinator runs a newer version of Tacet than this machine: update this machine")]
    Newer,
    /// What answered is not a coordinator, or a broken one.
    #[error("what answers at this address is not a Tacet coordinator")]
    NotACoordinator,
}

/// A roster's head as the coordinator sent it. It names the network, so it is not part of any text.
pub struct UnverifiedHead(pub Vec<u8>);

impl std::fmt::Debug for UnverifiedHead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("UnverifiedHead")
    }
}

/// Why a coordinator cannot be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// Its name could not be resolved.
    #[error("its name could not be resolved")]
    Name,
    /// No connection came about.
    #[error("no connection could be made")]
    Connect,
    /// TLS failed for another reason than the server's key.
    #[error("it does not speak TLS 1.3 as expected")]
    Tls,
    /// Nothing came in time.
    #[error("it did not answer in time")]
    Timeout,
    /// The connection broke.
    #[error("the connection was lost")]
    Lost,
    /// The proxy on the way makes no connection.
    #[error(transparent)]
    Proxy(ProxyFault),
}

impl Error {
    /// What a refusing answer's body says.
    pub(super) fn from_refusal(body: &[u8]) -> Self {
        let refusal = match Refusal::from_bytes(body) {
            Ok(refusal) => refusal,
            Err(WireError::Newer { .. }) => return Self::Newer,
            Err(_) => return Self::NotACoordinator,
        };
        match refusal.reason {
            Reason::NotPermitted => Self::NotPermitted,
            Reason::NotFound => Self::NotFound,
            Reason::LoginNeeded => Self::LoginNeeded,
            Reason::Conflict => Self::Conflict(UnverifiedHead(refusal.head.unwrap_or_default())),
            reason => Self::Refused(reason),
        }
    }
}

impl From<Fault> for Cause {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Name | Fault::Resolver => Self::Name,
            Fault::Connect(_) => Self::Connect,
            Fault::Proxy(fault) => Self::Proxy(fault),
        }
    }
}

impl From<WireError> for Error {
    fn from(error: WireError) -> Self {
        match error {
            WireError::Newer { .. } => Self::Newer,
            _ => Self::NotACoordinator,
        }
    }
}
