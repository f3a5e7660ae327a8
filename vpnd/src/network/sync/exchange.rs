//! One exchange with one peer, over any stream.
//!
//! Both ends compare, and whoever is older takes what it lacks (see [`proto::sync`]). What comes is checked exactly as
//! what a coordinator says: the head must descend from the network's name, and be newer, before anything bulky is asked
//! for; the entries and sealed keys must be those that were signed; the epoch key must be the one that the header
//! commits to. An exchange that fails at any point has changed nothing.

use std::time::Duration;

use proto::{
    roster::{Floor, Head, PublicState, Relation, Roster, RosterError},
    sync::{Digest, Kind, LENGTH, Message, Update},
    wire::{Wire, WireError},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};

use crate::network::catch_up::{Asker, Present};

/// A peer that sends or takes nothing for so long is gone: a relay in between was replaced by then, if any is left.
const SILENCE: Duration = Duration::from_secs(10);

/// For a whole exchange: the largest update at half a megabit per second.
const WHOLE: Duration = Duration::from_secs(180);

/// Read at once: memory grows with what came, not with what was announced.
const CHUNK: usize = 16 << 10;

/// What became of an exchange.
pub(in crate::network) enum Outcome {
    /// Both have the same roster.
    Same,
    /// The peer was behind, and was given what it lacks.
    Gave,
    /// The peer is ahead: its roster, checked and opened.
    Took(Box<Roster>),
    /// The peer's signers signed what contradicts ours: its head, verified.
    Forked(Box<Head>),
    /// A newer roster, signed, of which no key is ours.
    Removed,
}

/// Why an exchange came to nothing.
#[derive(Debug, thiserror::Error)]
pub(in crate::network) enum ExchangeError {
    /// The stream ended, or nothing came in time.
    #[error("the peer did not answer")]
    Silent,
    /// What came is no message, or not the one that is due.
    #[error(transparent)]
    Format(#[from] WireError),
    /// What came is not what the network's signers signed.
    #[error(transparent)]
    Roster(#[from] RosterError),
    /// The peer said that it has something else, and then showed an older or the same.
    #[error("the peer does not have what it said")]
    Refused,
}

/// Asks a peer.
///
/// # Errors
/// [`ExchangeError`].
pub(in crate::network) async fn ask<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    asker: &Asker,
    present: &Present,
) -> Result<Outcome, ExchangeError> {
    in_time(async {
        let own = present.roster.head();
        send(stream, &Message::Floor(own.floor())).await?;
        let theirs = match receive(stream, &[Kind::Floor, Kind::Head]).await? {
            Message::Floor(floor) if floor == own.floor() => return Ok(Outcome::Same),
            Message::Head(head) => head,
            _ => return Err(ExchangeError::Refused),
        };
        theirs.verify(&asker.network)?;
        match theirs.relation(own) {
            Relation::Same => Err(ExchangeError::Refused),
            Relation::Newer => take(stream, asker, present, *theirs).await,
            Relation::Older => {
                send(stream, &Message::Head(Box::new(own.clone()))).await?;
                let Message::Want(have) = receive(stream, &[Kind::Want]).await? else {
                    return Err(ExchangeError::Refused);
                };
                give(stream, present, &have).await
            }
            Relation::Forked => {
                // So that the peer knows too.
                send(stream, &Message::Head(Box::new(own.clone()))).await?;
                Ok(Outcome::Forked(theirs))
            }
        }
    })
    .await
}

/// Answers a peer that asks.
///
/// # Errors
/// [`ExchangeError`].
pub(in crate::network) async fn answer<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    asker: &Asker,
    present: &Present,
) -> Result<Outcome, ExchangeError> {
    in_time(async {
        let own = present.roster.head();
        let Message::Floor(floor) = receive(stream, &[Kind::Floor]).await? else {
            return Err(ExchangeError::Refused);
        };
        if floor == own.floor() {
            send(stream, &Message::Floor(floor)).await?;
            return Ok(Outcome::Same);
        }
        send(stream, &Message::Head(Box::new(own.clone()))).await?;
        match receive(stream, &[Kind::Want, Kind::Head]).await? {
            Message::Want(have) => give(stream, present, &have).await,
            Message::Head(theirs) => {
                theirs.verify(&asker.network)?;
                match theirs.relation(own) {
                    Relation::Newer => take(stream, asker, present, *theirs).await,
                    Relation::Forked => Ok(Outcome::Forked(theirs)),
                    Relation::Same | Relation::Older => Err(ExchangeError::Refused),
                }
            }
            _ => Err(ExchangeError::Refused),
        }
    })
    .await
}

/// Whether a peer with this floor, which it only says, has something that is not here.
pub(in crate::network) fn is_news(theirs: &Floor, own: &Floor) -> bool {
    theirs.order > own.order || theirs.order == own.order && theirs.header != own.header
}

async fn give<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    present: &Present,
    have: &[Digest],
) -> Result<Outcome, ExchangeError> {
    send(stream, &Message::Update(Update::of(present.roster.state(), have))).await?;
    // The other end closes once it has all: closing first would throw away what is still on its way.
    let mut end = [0; 1];
    let _ = timeout(SILENCE, stream.read(&mut end)).await;
    Ok(Outcome::Gave)
}

/// Asks for the state of `head`, which is verified and newer than ours, and opens it.
async fn take<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    asker: &Asker,
    present: &Present,
    head: Head,
) -> Result<Outcome, ExchangeError> {
    let own = present.roster.state();
    send(stream, &Message::want(own, &head)).await?;
    let Message::Update(update) = receive(stream, &[Kind::Update]).await? else {
        return Err(ExchangeError::Refused);
    };
    let state = update.onto(own, head).ok_or(RosterError::Damaged)?;
    open(asker, present, state)
}

/// Opens a state whose head was verified: with the key of an epoch that is known, or with the one that is sealed in it
/// to this machine.
fn open(asker: &Asker, present: &Present, state: PublicState) -> Result<Outcome, ExchangeError> {
    state.verify(&asker.network)?;
    let key = match present.epochs.find(&state.header().epoch) {
        Some(key) => Some(key.clone()),
        None => asker.sealing().iter().find_map(|secret| state.open_key(secret)),
    };
    let Some(key) = key else { return Ok(Outcome::Removed) };
    Ok(Outcome::Took(Box::new(Roster::open(state, key, &asker.network)?)))
}

async fn in_time(
    exchange: impl Future<Output = Result<Outcome, ExchangeError>>,
) -> Result<Outcome, ExchangeError> {
    timeout(WHOLE, exchange).await.unwrap_or(Err(ExchangeError::Silent))
}

async fn send<S: AsyncWrite + Unpin>(stream: &mut S, message: &Message) -> Result<(), ExchangeError> {
    for chunk in message.to_frame().chunks(CHUNK) {
        let sent = timeout(SILENCE, stream.write_all(chunk)).await;
        sent.map_err(|_| ExchangeError::Silent)?.map_err(|_| ExchangeError::Silent)?;
    }
    timeout(SILENCE, stream.flush())
        .await
        .map_or(Err(ExchangeError::Silent), |flushed| flushed.map_err(|_| ExchangeError::Silent))
}

/// The next message, which must be one of `due`. A longer one than those can be is refused before it is read.
async fn receive<S: AsyncRead + Unpin>(stream: &mut S, due: &[Kind]) -> Result<Message, ExchangeError> {
    let mut length = Vec::new();
    read(stream, LENGTH, &mut length).await?;
    let length: [u8; LENGTH] = length.try_into().map_err(|_| WireError::Truncated)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > due.iter().map(|kind| kind.max()).max().unwrap_or_default() {
        return Err(WireError::TooLong.into());
    }
    let mut bytes = Vec::new();
    read(stream, length, &mut bytes).await?;
    let message = Message::from_bytes(&bytes)?;
    let fits = due.contains(&message.kind()) && length <= message.kind().max();
    if fits { Ok(message) } else { Err(ExchangeError::Refused) }
}

async fn read<S: AsyncRead + Unpin>(
    stream: &mut S,
    length: usize,
    into: &mut Vec<u8>,
) -> Result<(), ExchangeError> {
    let mut chunk = vec![0; length.min(CHUNK)];
    while into.len() < length {
        let room = (length - into.len()).min(chunk.len());
        let came = timeout(SILENCE, stream.read(&mut chunk[..room])).await;
        match came.map_err(|_| ExchangeError::Silent)? {
            Ok(0) | Err(_) => return Err(ExchangeError::Silent),
            Ok(n) => into.extend_from_slice(&chunk[..n]),
        }
    }
    Ok(())
}
