//! How a machine comes to the newest roster that its coordinator has.
//!
//! Nothing the coordinator says is believed: the head must descend from the network's name, the epoch key must be the
//! one that the signed header commits to, and the entries must be those that were signed.

use std::sync::Arc;

use proto::{
    coordinator::Auth,
    epoch::{EpochKey, EpochKeys, EpochName, slot},
    identity::{MachineKeys, NetworkId},
    pipe::EpochTag,
    roster::{Delta, Head, Header, InviteSecret, PublicState, Relation, Roster, RosterError},
    seal::SealingSecret,
    wire::Wire,
};

use super::upstream::Upstream;
use crate::{
    apply::Pairing,
    coordinator::{Error, UnverifiedHead},
    message::Message,
};

/// A roster that this machine opened, and the epoch keys it holds.
pub(crate) struct Present {
    pub(crate) roster: Roster,
    pub(crate) epochs: EpochKeys,
}

impl Present {
    /// What this machine holds once it takes `roster`, `None` if that does not come after the one it has.
    pub(crate) fn followed_by(&self, roster: Roster, now: u64) -> Option<Self> {
        if roster.head().relation(self.roster.head()) != Relation::Newer {
            return None;
        }
        let mut epochs = self.epochs.clone();
        epochs.advance(roster.epoch_key().clone(), self.roster.epoch_number(), now);
        epochs.prune(now);
        Some(Self { roster, epochs })
    }

    /// The epochs that sessions may be of: the present one, and the one before it if its key is kept.
    pub(crate) fn pairings(&self) -> Vec<Pairing<'_>> {
        let number = self.roster.epoch_number();
        let present = Pairing { number, key: self.epochs.present() };
        // Tags repeat after four epochs: an older one cannot be told apart.
        let former = self.epochs.ended().iter().filter_map(|ended| {
            let at = ended.number.filter(|at| *at < number && number - at < EpochTag::COUNT)?;
            Some(Pairing { number: at, key: &ended.key })
        });
        std::iter::once(present).chain(former.take(1)).collect()
    }

    /// The key of an epoch that ended so long ago that sessions are of it no more.
    pub(crate) fn bygone(&self, name: &EpochName) -> Option<&EpochKey> {
        let pairings = self.pairings();
        let key = self.epochs.find(name)?;
        (key != self.epochs.present() && !pairings.iter().any(|pairing| pairing.key == key)).then_some(key)
    }

    /// The key of the newest epoch with this tag.
    pub(crate) fn key_of(&self, tag: EpochTag) -> Option<&EpochKey> {
        if EpochTag::of(self.roster.epoch_number()) == tag {
            return Some(self.epochs.present());
        }
        let ended = self.epochs.ended().iter();
        ended.filter(|ended| ended.number.map(EpochTag::of) == Some(tag)).map(|ended| &ended.key).next()
    }
}

/// As whom this machine asks.
#[derive(Clone)]
pub(crate) struct Asker {
    pub(crate) network: NetworkId,
    pub(crate) keys: Arc<MachineKeys>,
    /// While provisional: epoch keys are sealed to the invite, not yet to the machine.
    pub(crate) invite: Option<InviteSecret>,
}

/// Why there is no newer roster.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CatchUpError {
    /// The coordinator did not answer as hoped.
    #[error(transparent)]
    Coordinator(#[from] Error),
    /// What it sent is not what the network's signers signed.
    #[error(transparent)]
    Roster(#[from] RosterError),
    /// The present epoch's key is not sealed to this machine: it was removed.
    #[error("this machine is not a member of the network any more")]
    Removed,
}

/// Compares with the coordinator, and returns the newer roster if it has one. A coordinator that is behind (it was
/// restored from a backup) is given this machine's state.
///
/// # Errors
/// [`CatchUpError`].
pub(crate) async fn catch_up(
    client: &impl Upstream,
    asker: &Asker,
    present: &Present,
) -> Result<Option<Roster>, CatchUpError> {
    let head = client.head(&asker.network).await?;
    follow(client, asker, present, &head).await
}

/// As [`catch_up`], with the head that the coordinator has already told.
///
/// # Errors
/// [`CatchUpError`].
pub(crate) async fn follow(
    client: &impl Upstream,
    asker: &Asker,
    present: &Present,
    head: &[u8],
) -> Result<Option<Roster>, CatchUpError> {
    let head = Head::from_bytes(head).map_err(RosterError::Format)?;
    head.verify(&asker.network)?;
    let own = present.roster.state();
    match head.relation(&own.head) {
        Relation::Same => Ok(None),
        Relation::Forked => Err(RosterError::Forked.into()),
        Relation::Older => {
            let member = present.epochs.present().member_key();
            match client.heal(&asker.network, &member, own.to_bytes()).await {
                Ok(()) => {
                    Message::Healed.print();
                    Ok(None)
                }
                // Somebody else healed it first, or further; or it insists on what it showed.
                Err(Error::Conflict(UnverifiedHead(shown))) => match Head::from_bytes(&shown) {
                    Ok(shown) if shown.relation(&own.head) == Relation::Older => {
                        Err(RosterError::Stale.into())
                    }
                    _ => Ok(None),
                },
                Err(e) => Err(e.into()),
            }
        }
        Relation::Newer => {
            let key = match present.epochs.find(&head.header().epoch) {
                Some(key) => key.clone(),
                None => fetch_key(client, asker, head.header()).await?,
            };
            fetch(client, asker, key, &head).await.map(Some)
        }
    }
}

/// The roster of `head` or a later one of its epoch, opened with the epoch's key.
///
/// # Errors
/// [`CatchUpError`].
pub(crate) async fn fetch(
    client: &impl Upstream,
    asker: &Asker,
    key: EpochKey,
    head: &Head,
) -> Result<Roster, CatchUpError> {
    let state = client.state(&asker.network, &Auth::Member(&key.member_key())).await?;
    let state = PublicState::from_bytes(&state).map_err(RosterError::Format)?;
    if !matches!(state.head.relation(head), Relation::Same | Relation::Newer) {
        return Err(RosterError::Stale.into());
    }
    Ok(Roster::open(state, key, &asker.network)?)
}

/// The key of the header's epoch from the slot that is this machine's.
///
/// # Errors
/// [`CatchUpError::Removed`] if there is none.
async fn fetch_key(client: &impl Upstream, asker: &Asker, header: &Header) -> Result<EpochKey, CatchUpError> {
    for secret in asker.sealing() {
        match client.slot(&asker.network, &slot(&secret.public(), &header.epoch)).await {
            Ok(sealed) => {
                let key = EpochKey::open(&secret, &asker.network, &header.epoch, &sealed);
                return key.ok_or(CatchUpError::Roster(RosterError::WrongKey));
            }
            Err(Error::NotFound) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Err(CatchUpError::Removed)
}

/// The roster after a delta that was pushed, `None` if it is here already. A delta that does not follow our roster says
/// that we missed something, or that the coordinator shows others another roster: its head tells.
///
/// # Errors
/// [`CatchUpError`].
pub(crate) async fn heed(
    client: &impl Upstream,
    asker: &Asker,
    present: &Present,
    delta: &[u8],
) -> Result<Option<Roster>, CatchUpError> {
    let delta = Delta::from_bytes(delta).map_err(RosterError::Format)?;
    if delta.header() == present.roster.header() {
        // Our own change, which the signer has handed over.
        return Ok(None);
    }
    match advance(asker, present, &delta) {
        Ok(roster) => Ok(Some(roster)),
        Err(CatchUpError::Roster(RosterError::Stale | RosterError::Detached)) => {
            catch_up(client, asker, present).await
        }
        Err(e) => Err(e),
    }
}

fn advance(asker: &Asker, present: &Present, delta: &Delta) -> Result<Roster, CatchUpError> {
    if delta.header().epoch == present.roster.header().epoch {
        return Ok(present.roster.apply(delta, None)?);
    }
    match asker.sealing().iter().find_map(|secret| delta.open_key(secret)) {
        Some(key) => Ok(present.roster.apply(delta, Some(key))?),
        None => {
            // Only signers remove anybody: what they did not sign says nothing.
            present.roster.state().apply(delta)?;
            Err(CatchUpError::Removed)
        }
    }
}

impl Asker {
    /// What epoch keys may be sealed to for this machine, its own key first.
    pub(crate) fn sealing(&self) -> Vec<SealingSecret> {
        let own = SealingSecret::from_seed(*self.keys.sealing().seed());
        let invite = self.invite.as_ref().map(InviteSecret::sealing);
        std::iter::once(own).chain(invite).collect()
    }
}

#[cfg(test)]
mod tests {
    use proto::epoch::KEEP_EPOCHS;
    use rand_core::OsRng;

    use super::*;
    use crate::network::sample::network;

    #[test]
    fn sessions_are_of_two_epochs_and_the_others_that_are_kept_are_bygone() {
        let (roster, keys, _) = network(1);
        let epochs = EpochKeys::new(roster.epoch_key().clone());
        let mut present = Present { roster, epochs };
        let mut names = Vec::new();
        for _ in 0..=KEEP_EPOCHS {
            names.insert(0, present.roster.header().epoch);
            let edit = present.roster.edit(&keys, 1, &mut OsRng, |draft| {
                draft.new_epoch();
                Ok(())
            });
            present = present.followed_by(edit.unwrap().roster, 1).unwrap();
        }
        let bygone = |name| present.bygone(name).is_some_and(|key| key.name() == *name);
        assert!(!bygone(&present.roster.header().epoch) && !bygone(&names[0]));
        assert!(names[1..KEEP_EPOCHS].iter().all(bygone));
        assert!(present.bygone(&names[KEEP_EPOCHS]).is_none(), "it is kept no more");
    }
}
