//! Head, slots, state, changes, join list, watch, credentials.

use std::{sync::Arc, time::Duration};

use proto::{
    coordinator::{DeltaUpload, JOIN_MAX, Join, Joins, Proof, Reason, Refusal, WatchEvent},
    epoch::Slot,
    identity::NetworkId,
    relay::month_of,
    roster::{Delta, Head, Header, HeaderInvite, PublicState, Relation, RosterError},
    wire::Wire,
};

use super::{Answer, Coordinator, STATE_MAX, done, format, request::Asked, storage, whole};
use crate::{
    clock::{now, today},
    store::{Appended, Published, StoredNetwork},
};

/// Months ahead for which credentials are issued: a machine that was off for a month comes back by its relays alone.
const MONTHS_AHEAD: u32 = 2;

impl Coordinator {
    pub(super) async fn head(&self, network: &NetworkId) -> Answer {
        Ok(whole(self.known(network).await?.head.to_bytes()))
    }

    pub(super) async fn slot(&self, network: &NetworkId, slot: &Slot) -> Answer {
        let sealed = self.store.slot(network, slot).await.map_err(storage)?;
        Ok(whole(sealed.ok_or(Reason::NotFound)?))
    }

    pub(super) async fn state(&self, network: &NetworkId, asked: &Asked) -> Answer {
        member_or_invite(asked, self.known(network).await?.head.header())?;
        let state = self.store.state(network).await.map_err(storage)?;
        Ok(whole(state.ok_or(Reason::NotFound)?.to_bytes()))
    }

    pub(super) async fn heal(self: &Arc<Self>, network: NetworkId, asked: Asked) -> Answer {
        if asked.body.len() > STATE_MAX {
            return Err(Reason::TooLarge.into());
        }
        let state = PublicState::from_bytes(&asked.body).map_err(format)?;
        state.verify(&network).map_err(|_| Reason::BadRoster)?;
        if !asked.is_member(&state.header().member) {
            return Err(Reason::NotPermitted.into());
        }
        let event = WatchEvent::Head(state.head.to_bytes());
        self.change(network, Vec::new(), event, move |present| match state.head.relation(&present.head) {
            Relation::Newer => Ok(state),
            _ => Err(conflict(&present.head)),
        })
        .await
    }

    pub(super) async fn delta(self: &Arc<Self>, network: NetworkId, asked: Asked) -> Answer {
        let upload = DeltaUpload::from_bytes(&asked.body).map_err(format)?;
        let delta = Delta::from_bytes(&upload.delta).map_err(format)?;
        let event = WatchEvent::Delta(upload.delta);
        self.change(network, upload.settled, event, move |present| {
            let next = present.apply(&delta).map_err(|error| match error {
                RosterError::Stale | RosterError::Detached | RosterError::Forked => conflict(&present.head),
                _ => Reason::BadRoster.into(),
            })?;
            // After the conflict: whoever lost an answer learns that the present head is its own, although that
            // may have ended the epoch whose key it signs with. Heads are no secret from who names the network.
            if !asked.is_member(&present.header().member) {
                return Err(Reason::NotPermitted.into());
            }
            if next.to_bytes().len() > STATE_MAX {
                return Err(Reason::TooLarge.into());
            }
            Ok(next)
        })
        .await
    }

    pub(super) async fn joins(&self, network: &NetworkId, asked: &Asked) -> Answer {
        let found = self.known(network).await?;
        member_or_invite(asked, found.head.header())?;
        Ok(whole(Joins(self.store.joins(&found).await.map_err(storage)?).to_bytes()))
    }

    pub(super) async fn append_join(self: &Arc<Self>, network: NetworkId, asked: Asked) -> Answer {
        let join = Join::from_bytes(&asked.body).map_err(format)?;
        if join.record.len() > JOIN_MAX {
            return Err(Reason::TooLarge.into());
        }
        let this = Arc::clone(self);
        uncut(async move {
            let _order = this.changes.lock().await;
            let appended = this.store.append_join(&network, &join, |header| {
                if member_or_invite(&asked, header)?.is_some_and(|invite| invite.id != join.invite) {
                    return Err(Reason::NotPermitted);
                }
                let invite = header.invites.iter().find(|invite| invite.id == join.invite);
                Ok(live(invite)?.uses)
            });
            match appended.await.map_err(storage)? {
                Appended::Added => {
                    this.hub.tell(network, &WatchEvent::Join(join), false);
                    done()
                }
                Appended::Present => done(),
                Appended::Unknown => Err(Reason::NotFound.into()),
                Appended::UsedUp => Err(Reason::InviteUsedUp.into()),
                Appended::Full => Err(Reason::TooMany.into()),
                Appended::Refused(reason) => Err(reason.into()),
            }
        })
        .await
    }

    pub(super) async fn watch(&self, network: NetworkId, silence: u16, asked: &Asked) -> Answer {
        // The head and the events after it leave no gap while nothing can change.
        let _order = self.changes.lock().await;
        let head = self.known(&network).await?.head;
        if !asked.is_member(&head.header().member) {
            return Err(Reason::NotPermitted.into());
        }
        Ok(self.hub.watch(network)?.into_body(head.to_bytes(), Duration::from_secs(silence.into())))
    }

    pub(super) async fn credential(&self, network: &NetworkId, month: u32, asked: &Asked) -> Answer {
        let head = self.known(network).await?.head;
        if !asked.is_member(&head.header().member) {
            return Err(Reason::NotPermitted.into());
        }
        let present = month_of(today());
        if !(present..=present + MONTHS_AHEAD).contains(&month) {
            return Err(Reason::NotFound.into());
        }
        Ok(whole(self.issuer.issue(&network.0, month).to_bytes()))
    }

    async fn known(&self, network: &NetworkId) -> Result<StoredNetwork, Reason> {
        self.store.network(network).await.map_err(storage)?.ok_or(Reason::NotFound)
    }

    /// Swaps a network's state and tells its watchers. If the epoch ends, so do their watches: they hold the key
    /// of the old one, and maybe not of the new.
    async fn change(
        self: &Arc<Self>,
        network: NetworkId,
        settled: Vec<[u8; 32]>,
        event: WatchEvent,
        next: impl FnOnce(&PublicState) -> Result<PublicState, Refusal> + Send + 'static,
    ) -> Answer {
        let this = Arc::clone(self);
        uncut(async move {
            let _order = this.changes.lock().await;
            match this.store.publish(&network, &settled, next).await.map_err(storage)? {
                Published::Done(change) => {
                    let ended = change.before.header().member != change.after.header().member;
                    this.hub.tell(network, &event, ended);
                    done()
                }
                Published::Unknown => Err(Reason::NotFound.into()),
                Published::Refused(refusal) => Err(refusal),
            }
        })
        .await
    }
}

/// Runs to its end even if the asker hangs up.
async fn uncut(work: impl Future<Output = Answer> + Send + 'static) -> Answer {
    tokio::spawn(work).await.unwrap_or(Err(Reason::Storage.into()))
}

fn conflict(present: &Head) -> Refusal {
    Refusal { reason: Reason::Conflict, head: Some(present.to_bytes()) }
}

/// Checks that a member asks, or a live invite: that is returned then.
fn member_or_invite<'a>(asked: &Asked, header: &'a Header) -> Result<Option<&'a HeaderInvite>, Reason> {
    match &asked.proof {
        Some(Proof::Member { .. }) if asked.is_member(&header.member) => Ok(None),
        Some(proof @ Proof::Invite { id, .. }) => {
            let invite = live(header.invites.iter().find(|invite| invite.id == *id))?;
            if proof.signed_by(&invite.key, &asked.parts()) {
                Ok(Some(invite))
            } else {
                Err(Reason::NotPermitted)
            }
        }
        _ => Err(Reason::NotPermitted),
    }
}

fn live(invite: Option<&HeaderInvite>) -> Result<&HeaderInvite, Reason> {
    let invite = invite.ok_or(Reason::InviteUnknown)?;
    if invite.expires <= now() { Err(Reason::InviteExpired) } else { Ok(invite) }
}
