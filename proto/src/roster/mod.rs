//! The roster: a network's whole present state, signed, sealed, and without a past.
//!
//! | part | what is in it |
//! |---|---|
//! | [`Entry`] | machines, invites, relays, settings, policy, DNS, as members see them |
//! | [`Header`], [`Chain`], [`Head`] | what signers sign, and how they descend from the root |
//! | [`PublicState`], [`Delta`] | what leaves a machine: head, sealed entries, sealed epoch keys |
//! | [`Roster`] | the state opened with the epoch key |
//! | [`Draft`], [`Edit`] | a change in the making, and made |
//! | [`JoinRecord`] | how a machine becomes a member with no signer online |
//!
//! The coordinator keeps the [`PublicState`] and checks all that it can without a key: that the present generation
//! signed the header, that the chain leads from the network's name to that generation, and that every ciphertext is
//! the one that was signed. States have an [`Order`] that never goes backwards. A member opens the state to a
//! [`Roster`], which is only ever whole; a signer turns it into the next one and a delta ([`Roster::edit`]).

mod address;
mod draft;
mod entry;
mod error;
mod generation;
mod header;
mod invite;
mod join;
mod membership;
mod merkle;
mod opened;
mod order;
mod publish;
mod state;

pub use draft::{Draft, EditError, NewInvite};
pub use entry::{
    Entry, EntryId, InviteEntry, MAX_DOCUMENT, MAX_ENDPOINTS, MAX_ENTRIES, MAX_ENTRY, MAX_GROUPS,
    MAX_INVITES, MAX_MACHINES, MAX_NAME, MAX_PINS, MAX_RELAYS, MAX_ROUTES, MAX_USES, MachineEntry,
    RelayEntry, Settings, valid_name,
};
pub use error::{MembershipError, RosterError};
pub use generation::{Chain, Generation, MAX_GENERATIONS, MAX_SIGNERS, SignedGeneration};
pub use header::{
    Ancestor, FRESH, Head, Header, HeaderInvite, MAX_WRAPPED, Relation, SignedHeader, WrappedKey,
    fresh_until, renewal_is_due,
};
pub use invite::InviteSecret;
pub use join::{Join, JoinRecord, MAX_SEALED_JOIN};
pub(crate) use membership::admit;
pub use merkle::MerkleProof;
pub(crate) use opened::ProvenInvite;
pub use opened::Roster;
pub use order::{Floor, Order};
pub use publish::{Edit, NewNetwork};
pub use state::{Delta, MAX_SLOTS, PublicState, SealedEntry, SealedKey};
