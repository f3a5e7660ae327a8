//! Why a command was not done.

use serde::{Deserialize, Serialize};

/// Why a command was not done, for a person: what failed, why, and what to do next.
///
/// Each text is a clause without a capital letter or a full stop; vpnctl puts them together.
#[derive(Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct ApiError {
    /// For programs.
    pub code: ErrorCode,
    /// What failed.
    pub what: String,
    /// Why.
    pub why: String,
    /// What to do next.
    pub next: String,
}

/// The kinds of failure that a program may want to tell apart.
#[derive(Clone, Copy, Serialize, Deserialize, PartialEq, Eq, Debug)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The command line, or a value in it, is wrong.
    Usage,
    /// A name breaks the rules for names.
    InvalidName,
    /// Not a token, a token of another kind, or one that was mistyped.
    InvalidToken,
    /// The machine is in several networks: name one.
    NetworkNeeded,
    /// vpnd does not run. Only vpnctl says this.
    NotRunning,
    /// An account must log in first.
    LoginNeeded,
    /// The account has a second factor, which was not given.
    SecondFactorNeeded,
    /// The account does not exist or the password is not its own; which of the two is not told.
    WrongPassword,
    /// The caller may not do this, or this machine is not a signer.
    NotPermitted,
    /// The machine is in no network.
    NoNetwork,
    /// The command names a network, machine, invite or relay that there is not.
    NotFound,
    /// The name is taken.
    NameTaken,
    /// The token's time is over.
    TokenExpired,
    /// The token was used as often as it may be.
    TokenUsedUp,
    /// This machine is in that network already.
    AlreadyJoined,
    /// The coordinator cannot be reached.
    Unreachable,
    /// The coordinator does not hold the pinned key, or its certificate is not valid.
    WrongPin,
    /// What the coordinator sent is not signed as it must be, or is older than what is known.
    Untrusted,
    /// Somebody else changed the network at the same time.
    Conflict,
    /// The other side speaks a version that this build does not know.
    Newer,
    /// The network interface cannot be made: no TUN, or its name is taken.
    Interface,
    /// The state directory cannot be read or written.
    Storage,
    /// It took too long.
    Timeout,
    /// Anything else, and what a newer vpnd may say.
    #[serde(other)]
    Failed,
}

impl ApiError {
    /// An error of its three clauses.
    #[must_use]
    pub fn new(
        code: ErrorCode,
        what: impl Into<String>,
        why: impl Into<String>,
        next: impl Into<String>,
    ) -> Self {
        Self { code, what: what.into(), why: why.into(), next: next.into() }
    }
}

impl ErrorCode {
    /// The exit code of a `vpnctl` that ends with this error.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Usage | Self::InvalidName | Self::InvalidToken | Self::NetworkNeeded | Self::NotFound => 2,
            Self::NotRunning => 3,
            Self::LoginNeeded | Self::SecondFactorNeeded | Self::WrongPassword => 4,
            Self::NotPermitted => 5,
            Self::NoNetwork
            | Self::NameTaken
            | Self::TokenExpired
            | Self::TokenUsedUp
            | Self::AlreadyJoined
            | Self::Unreachable
            | Self::WrongPin
            | Self::Untrusted
            | Self::Conflict
            | Self::Newer
            | Self::Interface
            | Self::Storage
            | Self::Timeout
            | Self::Failed => 1,
        }
    }
}
