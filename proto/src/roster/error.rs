//! Why a roster, a change of it or a membership is not accepted.

use crate::wire::WireError;

/// Why a roster or a change of it is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RosterError {
    /// The bytes are no roster, or a newer version of Tacet wrote them.
    #[error(transparent)]
    Format(#[from] WireError),
    /// The root keys are not those that the network is named by.
    #[error("the roster belongs to another network")]
    OtherNetwork,
    /// A generation or a header lacks the signatures it needs.
    #[error("the roster is not signed by the network's signers")]
    Unsigned,
    /// The state is not newer than the one at hand, or older than an invite says it must be.
    #[error("the roster is older than one that was already seen: the coordinator may have been rolled back")]
    Stale,
    /// The change is one of another state than the one at hand.
    #[error("the change does not follow the roster at hand: the newest roster is needed first")]
    Detached,
    /// Signers signed two states that exclude one another.
    #[error(
        "the network's signers signed two contradicting rosters: recover the network with its recovery key"
    )]
    Forked,
    /// The epoch key is missing, or is not the one that the header commits to.
    #[error("the epoch key is not the one that this roster is sealed under")]
    WrongKey,
    /// What is sealed is not what the signers signed.
    #[error("the roster is damaged: its entries are not what the network's signers signed")]
    Damaged,
}

/// Why a join record is not, or not yet, a membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MembershipError {
    /// The bytes are no join record, or a newer version of Tacet wrote them.
    #[error(transparent)]
    Format(#[from] WireError),
    /// The record cannot be opened: it was sealed in another epoch, or for another network.
    #[error("the join record cannot be opened with the keys at hand")]
    Sealed,
    /// The record is not signed by its invite and its machine.
    #[error("the join record is not signed by its invite and its machine")]
    Unsigned,
    /// The invite is not in the roster: revoked, used up, or not known here yet.
    #[error("the invite is not in the roster: it was used up, revoked or has expired")]
    NoInvite,
    /// The invite has ended.
    #[error("the invite has expired")]
    Expired,
    /// More machines joined by the invite than it allows; none of them is accepted.
    #[error("more machines joined by this invite than it allows: revoke it")]
    Overused,
    /// A key, an address or an entry of the record is another machine's already.
    #[error("the joining machine claims what belongs to another machine")]
    Taken,
    /// The machine is in the roster already.
    #[error("the machine is a member already")]
    Member,
    /// The roster that the introduction shows is refused.
    #[error(transparent)]
    Roster(RosterError),
}
