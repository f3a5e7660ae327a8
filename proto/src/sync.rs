//! Sync: what two machines say to each other when they compare rosters inside the tunnel.
//!
//! Machines tell each other the roster that they have in their announcements ([`crate::probe::Message::Candidates`]). Who
//! has an older one fetches the newer one from a peer, over TCP between the two machines' tunnel IPv6 addresses: cryptokey
//! routing says who is speaking.
//!
//! The one that asks says its place, the other answers with its own place if that is the same, and else with its chain
//! and header. Whoever turns out to be the older names the entries and sealed keys that it has by their digests and is
//! told the others:
//!
//! ```text
//! asks                 answers
//! Floor           ->
//!                 <-   Floor                   the same: that is all
//!                 <-   Head                    or not
//! Want            ->                           the answering one is newer
//!                 <-   Update
//! Head            ->                           or the asking one is, or they exclude each other
//!                 <-   Want
//! Update          ->
//! ```
//!
//! Each message has its length in front ([`Message::to_frame`]). Nothing of it is believed: heads are verified, the
//! state that an update leads to is the one that its signed header binds, byte by byte, or none. The epoch's key is
//! among the sealed keys of the state, for every machine that the state's signers held a member.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    roster::{Floor, Head, MAX_ENTRIES, MAX_SLOTS, PublicState, SealedEntry, SealedKey},
    seal::hash,
    wire::{Reader, Wire, WireError, Writer},
};

/// The TCP port where a member's control listens, on its tunnel IPv6 address. The data path lets nothing else pass
/// between this machine and a guest ([`crate::pipe::ToData::Guest`]).
pub const PORT: u16 = 41_112;

/// Bytes of a length in front of a message.
pub const LENGTH: usize = 4;

/// Bytes of a chain and header at most: more than the longest chain of signers takes.
pub const MAX_HEAD: usize = 2 << 20;

/// Bytes of an update at most: what a coordinator takes as a whole state, and a byte for each of its parts.
pub const MAX_UPDATE: usize = crate::coordinator::BODY_MAX + MAX_ENTRIES + MAX_SLOTS;

const VERSION: u8 = 1;

/// Names an entry or a key by its sealed bytes, to somebody who has it or not. Whoever finds two of one name gains a
/// damaged update and nothing else.
pub type Digest = [u8; 16];

/// What is said.
#[derive(Clone, PartialEq, Eq)]
pub enum Message {
    /// The place of the roster that the sender has.
    Floor(Floor),
    /// Its chain and header.
    Head(Box<Head>),
    /// What the sender has of the state that the other's head is of.
    Want(Vec<Digest>),
    /// What it lacks.
    Update(Update),
}

/// Which of them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// [`Message::Floor`].
    Floor,
    /// [`Message::Head`].
    Head,
    /// [`Message::Want`].
    Want,
    /// [`Message::Update`].
    Update,
}

/// The entries and sealed keys of a state, without those that the receiver has.
#[derive(Clone, PartialEq, Eq)]
pub struct Update {
    entries: Vec<Part<SealedEntry>>,
    slots: Vec<Part<SealedKey>>,
}

#[derive(Clone, PartialEq, Eq)]
enum Part<T> {
    Known(Digest),
    New(T),
}

impl Kind {
    /// Bytes that such a message has at most, the length in front not counted.
    #[must_use]
    pub fn max(self) -> usize {
        const HEADER: usize = 2;
        HEADER
            + match self {
                Self::Floor => 56,
                Self::Head => MAX_HEAD,
                Self::Want => 4 + (MAX_ENTRIES + MAX_SLOTS) * size_of::<Digest>(),
                Self::Update => MAX_UPDATE,
            }
    }
}

impl Message {
    /// Which it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Floor(_) => Kind::Floor,
            Self::Head(_) => Kind::Head,
            Self::Want(_) => Kind::Want,
            Self::Update(_) => Kind::Update,
        }
    }

    /// The message with its length in front.
    #[must_use]
    pub fn to_frame(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.bytes(&self.to_bytes());
        w.finish()
    }

    /// What a machine with the state `own` says it has of the state of `head`.
    #[must_use]
    pub fn want(own: &PublicState, head: &Head) -> Self {
        let entries = own.entries().iter().map(digest);
        // Keys of another epoch are of no use.
        let same_epoch = own.header().epoch == head.header().epoch;
        let slots = own.slots().iter().filter(|_| same_epoch).map(digest);
        Self::Want(entries.chain(slots).collect())
    }
}

impl Update {
    /// What leads to `state` for somebody who has `have`.
    #[must_use]
    pub fn of(state: &PublicState, have: &[Digest]) -> Self {
        let have: BTreeSet<_> = have.iter().collect();
        Self { entries: parts(state.entries(), &have), slots: parts(state.slots(), &have) }
    }

    /// The state that it leads to from `own`. It proves nothing until [`PublicState::verify`]; `None` if `own` lacks
    /// what it is said to have.
    #[must_use]
    pub fn onto(self, own: &PublicState, head: Head) -> Option<PublicState> {
        let entries = whole(self.entries, own.entries())?;
        Some(PublicState::new(head, entries, whole(self.slots, own.slots())?))
    }
}

fn parts<T: Wire + Clone>(items: &[T], have: &BTreeSet<&Digest>) -> Vec<Part<T>> {
    let part = |item: &T| {
        let digest = digest(item);
        if have.contains(&digest) { Part::Known(digest) } else { Part::New(item.clone()) }
    };
    items.iter().map(part).collect()
}

fn whole<T: Wire + Clone>(parts: Vec<Part<T>>, own: &[T]) -> Option<Vec<T>> {
    let own: BTreeMap<_, _> = own.iter().map(|item| (digest(item), item)).collect();
    let item = |part| match part {
        Part::Known(digest) => own.get(&digest).map(|item| (*item).clone()),
        Part::New(item) => Some(item),
    };
    parts.into_iter().map(item).collect()
}

fn digest<T: Wire>(item: &T) -> Digest {
    let mut digest = Digest::default();
    let half = digest.len();
    digest.copy_from_slice(&hash("sync item", &[&item.to_bytes()])[..half]);
    digest
}

/// Version, kind (1 floor, 2 head, 3 want, 4 update), then: the floor; the head; a list of digests; two lists of parts,
/// entries and sealed keys, each part 0 and a digest, or 1 and the whole. Then optional fields.
impl Wire for Message {
    fn encode(&self, w: &mut Writer) {
        w.version(VERSION);
        match self {
            Self::Floor(floor) => {
                w.u8(1);
                floor.encode(w);
            }
            Self::Head(head) => {
                w.u8(2);
                head.encode(w);
            }
            Self::Want(have) => {
                w.u8(3);
                w.list(have, |w, digest| w.raw(digest));
            }
            Self::Update(update) => {
                w.u8(4);
                w.list(&update.entries, |w, part| part.encode(w));
                w.list(&update.slots, |w, part| part.encode(w));
            }
        }
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        r.version(VERSION)?;
        let message = match r.u8()? {
            1 => Self::Floor(Floor::decode(r)?),
            2 => Self::Head(Box::new(Head::decode(r)?)),
            3 => Self::Want(r.list(MAX_ENTRIES + MAX_SLOTS, Reader::array)?),
            4 => Self::Update(Update {
                entries: r.list(MAX_ENTRIES, Part::decode)?,
                slots: r.list(MAX_SLOTS, Part::decode)?,
            }),
            _ => return Err(WireError::Invalid("kind of message")),
        };
        while r.optional()?.is_some() {}
        Ok(message)
    }
}

impl<T: Wire> Wire for Part<T> {
    fn encode(&self, w: &mut Writer) {
        match self {
            Self::Known(digest) => {
                w.u8(0);
                w.raw(digest);
            }
            Self::New(item) => {
                w.u8(1);
                item.encode(w);
            }
        }
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        match r.u8()? {
            0 => Ok(Self::Known(r.array()?)),
            1 => Ok(Self::New(T::decode(r)?)),
            _ => Err(WireError::Invalid("part of an update")),
        }
    }
}
