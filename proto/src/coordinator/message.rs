//! Bodies of requests and answers, and the events of a watch. Rosters, deltas and join records travel as the bytes
//! that were signed or sealed; who receives them checks them.

use super::{BODY_MAX, JOIN_MAX, JOINS_MAX};
use crate::{
    account::{AccountName, MESSAGE_MAX, NAME_MAX},
    identity::{NetworkId, Pin},
    roster::EntryId,
    token::EnrolCode,
    wire::{Reader, Wire, WireError, Writer},
};

/// The most relays that a coordinator offers; a network uses at most four.
const RELAYS_MAX: usize = 16;
/// The present pin and the next.
const PINS_MAX: usize = 4;
/// Bytes of the longest enrolment code, as in its token.
const CODE_MAX: usize = 64;
const URL_MAX: usize = 256;
const NETWORKS_MAX: usize = 1024;

/// A sealed join record's name: SHA-256 of its bytes under a domain.
pub type JoinId = [u8; 32];

/// What a coordinator says of itself to anyone.
#[derive(Clone, PartialEq, Eq)]
pub struct Info {
    /// Relays that the operator offers; a signer signs them into a roster.
    pub relays: Vec<RelayOffer>,
    /// SHA-256 of the `SubjectPublicKeyInfo` of the long-lived keys, the present one first; empty with WebPKI.
    pub pins: Vec<Pin>,
}

/// A relay that an operator offers.
#[derive(Clone, PartialEq, Eq)]
pub struct RelayOffer {
    /// `https://host[:port]`.
    pub url: String,
    /// Its Ed25519 key.
    pub key: [u8; 32],
    /// Its STUN server's UDP port, if it has one.
    pub stun_port: Option<u16>,
}

/// First step of a registration.
pub struct RegisterStart {
    /// The account's name.
    pub name: AccountName,
    /// The enrolment code, not used up by this step.
    pub code: EnrolCode,
    /// OPAQUE's request.
    pub request: Vec<u8>,
}

/// Second step of a registration; it uses up the code.
pub struct RegisterFinish {
    /// The account's name.
    pub name: AccountName,
    /// The enrolment code.
    pub code: EnrolCode,
    /// OPAQUE's record.
    pub upload: Vec<u8>,
}

/// First step of a login.
pub struct LoginStart {
    /// The account's name.
    pub name: AccountName,
    /// OPAQUE's request.
    pub request: Vec<u8>,
}

/// The coordinator's answer to [`LoginStart`].
pub struct LoginChallenge {
    /// Names this attempt in the next step.
    pub attempt: [u8; 16],
    /// OPAQUE's answer.
    pub response: Vec<u8>,
}

/// Second step of a login.
pub struct LoginFinish {
    /// From [`LoginChallenge`].
    pub attempt: [u8; 16],
    /// OPAQUE's proof.
    pub proof: Vec<u8>,
}

/// A session has begun; its key was never sent.
pub struct LoginDone {
    /// The session's id.
    pub session: [u8; 16],
}

/// An account's networks.
pub struct Networks(pub Vec<NetworkId>);

/// A change of a roster, and the join records that it folds or drops.
#[derive(Clone, PartialEq, Eq)]
pub struct DeltaUpload {
    /// Roster's `Delta`.
    pub delta: Vec<u8>,
    /// Records that leave the join list in the same step.
    pub settled: Vec<JoinId>,
}

/// A record of the join list.
#[derive(Clone, PartialEq, Eq)]
pub struct Join {
    /// The opaque id of the invite that it uses.
    pub invite: EntryId,
    /// The sealed record.
    pub record: Vec<u8>,
}

impl Join {
    /// The record's name in [`DeltaUpload::settled`].
    #[must_use]
    pub fn id(&self) -> JoinId {
        use sha2::{Digest, Sha256};
        Sha256::new().chain_update(b"tacet join v1\0").chain_update(&self.record).finalize().into()
    }
}

/// The join list, in the order in which the records came.
pub struct Joins(pub Vec<Join>);

/// What a watch brings. A watch begins with [`WatchEvent::Head`]; events after it leave no gap, so whoever fetches
/// state and joins after that first event misses nothing. It ends when the epoch does: the last event is the delta
/// that ended it, and the new epoch's member key opens the next watch.
#[derive(Clone, PartialEq, Eq)]
pub enum WatchEvent {
    /// Roster's `Head`: the present one at the beginning, and after the whole state was replaced.
    Head(Vec<u8>),
    /// Roster's `Delta` on the state that was the present one before it.
    Delta(Vec<u8>),
    /// A record was appended to the join list.
    Join(Join),
    /// Nothing happened; the connection lives.
    Alive,
}

impl WatchEvent {
    /// The event with its length in front, as a watch's stream carries it.
    #[must_use]
    pub fn to_frame(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.bytes(&self.to_bytes());
        w.finish()
    }

    /// Takes one event off the front of a stream's bytes: the event and how many bytes it took, or `None` if it is
    /// not all there yet.
    ///
    /// # Errors
    /// [`WireError`] if the bytes cannot become an event.
    pub fn from_frame(bytes: &[u8]) -> Result<Option<(Self, usize)>, WireError> {
        let mut r = Reader::new(bytes);
        let event = match r.bytes(FRAME_MAX) {
            Err(WireError::Truncated) => return Ok(None),
            other => other?,
        };
        Ok(Some((Self::from_bytes(event)?, bytes.len() - r.rest().len())))
    }
}

const FRAME_MAX: usize = BODY_MAX + 64;

/// Version, relays (URL, key, STUN port or 0), pins.
impl Wire for Info {
    fn encode(&self, w: &mut Writer) {
        w.version(1);
        w.list(&self.relays, |w, relay| {
            w.text(&relay.url);
            w.raw(&relay.key);
            w.u16(relay.stun_port.unwrap_or(0));
        });
        w.list(&self.pins, |w, pin| w.raw(&pin.0));
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        r.version(1)?;
        let relays = r.list(RELAYS_MAX, |r| {
            let url = r.text(URL_MAX)?.to_owned();
            Ok(RelayOffer { url, key: r.array()?, stun_port: Some(r.u16()?).filter(|&port| port != 0) })
        })?;
        let pins = r.list(PINS_MAX, |r| r.array().map(Pin))?;
        skip_optional(r)?;
        Ok(Self { relays, pins })
    }
}

/// Version, name, code, OPAQUE's request.
impl Wire for RegisterStart {
    fn encode(&self, w: &mut Writer) {
        w.version(1);
        w.text(self.name.as_str());
        w.bytes(&self.code.0);
        w.bytes(&self.request);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        r.version(1)?;
        let (name, code) = (name(r)?, code(r)?);
        let request = opaque(r)?;
        skip_optional(r)?;
        Ok(Self { name, code, request })
    }
}

/// Version, name, code, OPAQUE's record.
impl Wire for RegisterFinish {
    fn encode(&self, w: &mut Writer) {
        w.version(1);
        w.text(self.name.as_str());
        w.bytes(&self.code.0);
        w.bytes(&self.upload);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        r.version(1)?;
        let (name, code) = (name(r)?, code(r)?);
        let upload = opaque(r)?;
        skip_optional(r)?;
        Ok(Self { name, code, upload })
    }
}

/// Version, name, OPAQUE's request.
impl Wire for LoginStart {
    fn encode(&self, w: &mut Writer) {
        w.version(1);
        w.text(self.name.as_str());
        w.bytes(&self.request);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        r.version(1)?;
        let (name, request) = (name(r)?, opaque(r)?);
        skip_optional(r)?;
        Ok(Self { name, request })
    }
}

/// Version, attempt, OPAQUE's answer.
impl Wire for LoginChallenge {
    fn encode(&self, w: &mut Writer) {
        w.version(1);
        w.raw(&self.attempt);
        w.bytes(&self.response);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        r.version(1)?;
        let (attempt, response) = (r.array()?, opaque(r)?);
        skip_optional(r)?;
        Ok(Self { attempt, response })
    }
}

/// Version, attempt, OPAQUE's proof.
impl Wire for LoginFinish {
    fn encode(&self, w: &mut Writer) {
        w.version(1);
        w.raw(&self.attempt);
        w.bytes(&self.proof);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        r.version(1)?;
        let (attempt, proof) = (r.array()?, opaque(r)?);
        skip_optional(r)?;
        Ok(Self { attempt, proof })
    }
}

/// Version, session id.
impl Wire for LoginDone {
    fn encode(&self, w: &mut Writer) {
        w.version(1);
        w.raw(&self.session);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        r.version(1)?;
        let session = r.array()?;
        skip_optional(r)?;
        Ok(Self { session })
    }
}

/// Version, network ids.
impl Wire for Networks {
    fn encode(&self, w: &mut Writer) {
        w.version(1);
        w.list(&self.0, |w, id| id.encode(w));
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        r.version(1)?;
        let networks = r.list(NETWORKS_MAX, NetworkId::decode)?;
        skip_optional(r)?;
        Ok(Self(networks))
    }
}

/// Version, delta, ids of settled join records.
impl Wire for DeltaUpload {
    fn encode(&self, w: &mut Writer) {
        w.version(1);
        w.bytes(&self.delta);
        w.list(&self.settled, |w, id| w.raw(id));
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        r.version(1)?;
        let delta = r.bytes(BODY_MAX)?.to_vec();
        let settled = r.list(JOINS_MAX, Reader::array)?;
        skip_optional(r)?;
        Ok(Self { delta, settled })
    }
}

/// Version, invite id, sealed record.
impl Wire for Join {
    fn encode(&self, w: &mut Writer) {
        w.version(1);
        w.raw(&self.invite.0);
        w.bytes(&self.record);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        r.version(1)?;
        Ok(Self { invite: EntryId(r.array()?), record: r.bytes(JOIN_MAX)?.to_vec() })
    }
}

/// Version, [`Join`]s.
impl Wire for Joins {
    fn encode(&self, w: &mut Writer) {
        w.version(1);
        w.list(&self.0, |w, join| join.encode(w));
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        r.version(1)?;
        let joins = r.list(JOINS_MAX, Join::decode)?;
        skip_optional(r)?;
        Ok(Self(joins))
    }
}

/// Kind (1 head, 2 delta, 3 join, 4 alive), then its bytes up to the end. A kind from a later version reads as
/// alive: whoever does not know it can do nothing about it.
impl Wire for WatchEvent {
    fn encode(&self, w: &mut Writer) {
        match self {
            Self::Head(head) => {
                w.u8(1);
                w.raw(head);
            }
            Self::Delta(delta) => {
                w.u8(2);
                w.raw(delta);
            }
            Self::Join(join) => {
                w.u8(3);
                join.encode(w);
            }
            Self::Alive => w.u8(4),
        }
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        let rest = |r: &mut Reader<'_>| r.raw(r.rest().len()).map(<[u8]>::to_vec);
        Ok(match r.u8()? {
            1 => Self::Head(rest(r)?),
            2 => Self::Delta(rest(r)?),
            3 => Self::Join(Join::decode(r)?),
            _ => {
                r.raw(r.rest().len())?;
                Self::Alive
            }
        })
    }
}

fn name(r: &mut Reader<'_>) -> Result<AccountName, WireError> {
    AccountName::parse(r.text(NAME_MAX)?).map_err(|_| WireError::Invalid("account name"))
}

fn code(r: &mut Reader<'_>) -> Result<EnrolCode, WireError> {
    r.bytes(CODE_MAX).map(|code| EnrolCode(code.to_vec()))
}

fn opaque(r: &mut Reader<'_>) -> Result<Vec<u8>, WireError> {
    r.bytes(MESSAGE_MAX).map(<[u8]>::to_vec)
}

/// A later version may add fields; this one knows none.
fn skip_optional(r: &mut Reader<'_>) -> Result<(), WireError> {
    while r.optional()?.is_some() {}
    Ok(())
}
