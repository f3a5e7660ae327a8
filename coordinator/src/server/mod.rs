//! The requests of `proto::coordinator`, answered.
//!
//! A request is first placed (is there such a path, such a network, such a session), so that a stranger cannot make
//! the coordinator hold large bodies; then read, then proved, then done. A change and the push of it to the watchers
//! happen under one lock, so watchers see changes in the order of the database, and they are not cut short when the
//! asker hangs up in between.

mod account;
mod limits;
mod network;
mod request;
mod sessions;
mod watch;

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited, combinators::UnsyncBoxBody};
use hyper::{Method, Request, Response, StatusCode, body::Incoming, header::CONTENT_LENGTH};
use proto::{
    account::OpaqueServer,
    coordinator::{BODY_MAX, Info, Reason, Refusal, RelayOffer, path},
    identity::Pin,
    relay::CredentialIssuer,
    wire::{Wire, WireError},
};
use relay::Relay;
use tokio::{
    sync::{Mutex, Semaphore},
    time::timeout,
};

use crate::store::{Store, StoreError};
use limits::Limits;
use request::{Asked, Place};
use sessions::{Attempts, Sessions};
use watch::Hub;

/// Networks that an account may have.
pub const NETWORKS_PER_ACCOUNT: u32 = 16;

/// The largest state of a network, in bytes as it travels: above a thousand machines.
pub const STATE_MAX: usize = 4 << 20;

/// The largest body of a request that brings no roster.
const SMALL_BODY: usize = 16 << 10;

/// KiB of bodies that are held at once.
const BODIES_KIB: usize = 64 << 10;

/// How long a body may take to come in.
const BODY_WITHIN: Duration = Duration::from_secs(30);

/// What an answer is made of.
pub type AnswerBody = UnsyncBoxBody<Bytes, Infallible>;

type Answer = Result<AnswerBody, Refusal>;

/// A coordinator at work.
pub struct Coordinator {
    store: Store,
    opaque: OpaqueServer,
    issuer: CredentialIssuer,
    pins: Vec<Pin>,
    relay: Option<(RelayOffer, Arc<Relay>)>,
    sessions: Sessions,
    attempts: Attempts,
    limits: Limits,
    hub: Hub,
    changes: Mutex<()>,
    bodies: Semaphore,
}

impl Coordinator {
    /// A coordinator over this database. `pins` are empty if machines trust its certificate; `relay` runs in it.
    #[must_use]
    pub fn new(
        store: Store,
        opaque: OpaqueServer,
        issuer: CredentialIssuer,
        pins: Vec<Pin>,
        relay: Option<(RelayOffer, Arc<Relay>)>,
    ) -> Arc<Self> {
        Arc::new(Self {
            store,
            opaque,
            issuer,
            pins,
            relay,
            sessions: Sessions::sessions(),
            attempts: Attempts::attempts(),
            limits: Limits::default(),
            hub: Hub::default(),
            changes: Mutex::default(),
            bodies: Semaphore::new(BODIES_KIB),
        })
    }

    /// Answers a request that came through [`relay::listener`].
    pub async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<AnswerBody> {
        if let (path::RELAY, Some((_, relay))) = (request.uri().path(), &self.relay) {
            return relay.answer(request).map(BodyExt::boxed_unsync);
        }
        match self.reply(request).await {
            Ok(body) => Response::new(body),
            Err(refusal) => {
                let mut response = Response::new(whole(refusal.to_bytes()));
                *response.status_mut() = StatusCode::from_u16(refusal.reason.status())
                    .expect("every reason's status is an HTTP status");
                response
            }
        }
    }

    /// Has the relay leave ([`Relay::leave`]), and then ends every watch: their machines come back to whoever serves then.
    /// All else is answered until this returns.
    pub async fn stop(&self) {
        if let Some((_, relay)) = &self.relay {
            relay.leave().await;
        }
        self.hub.close();
    }

    async fn reply(self: &Arc<Self>, request: Request<Incoming>) -> Answer {
        let place = Place::of(request.method(), request.uri().path()).ok_or(Reason::NotFound)?;
        let (parts, body) = request.into_parts();
        let mut asked = Asked::new(&parts)?;
        self.admit(&place, &asked).await?;
        #[cfg(feature = "leaks")]
        if let Some(at) = parts.headers.get("x-seen-at").and_then(|at| at.to_str().ok()) {
            self.store.leak_address(at).await;
        }
        let limit = if place.brings_a_roster() { BODY_MAX } else { SMALL_BODY };
        let length = parts.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let expected = if parts.method == Method::GET { 0 } else { length.unwrap_or(limit) };
        if expected > limit {
            return Err(Reason::TooLarge.into());
        }
        let kib = u32::try_from(expected.div_ceil(1024)).unwrap_or(u32::MAX);
        let _room = self.bodies.try_acquire_many(kib).map_err(|_| Reason::TooMany)?;
        let body = timeout(BODY_WITHIN, Limited::new(body, expected).collect()).await;
        asked.body = body.ok().and_then(Result::ok).ok_or(Reason::BadRequest)?.to_bytes();
        self.act(place, asked).await
    }

    /// Refuses what a stranger cannot ask, before its body is read.
    async fn admit(&self, place: &Place, asked: &Asked) -> Result<(), Refusal> {
        if let Some(network) = place.network() {
            let known = self.store.network(network).await.map_err(storage)?;
            known.ok_or(Reason::NotFound)?;
        }
        if matches!(place, Place::CreateNetwork) && !self.sessions.seems_open(asked.proof.as_ref()) {
            return Err(Reason::LoginNeeded.into());
        }
        Ok(())
    }

    async fn act(self: &Arc<Self>, place: Place, asked: Asked) -> Answer {
        match place {
            Place::Info => self.info().await,
            Place::RegisterStart => self.register_start(&asked).await,
            Place::RegisterFinish => self.register_finish(&asked).await,
            Place::LoginStart => self.login_start(&asked).await,
            Place::LoginFinish => self.login_finish(&asked).await,
            Place::Logout => self.logout(&asked),
            Place::Networks => self.networks(&asked).await,
            Place::CreateNetwork => self.create_network(&asked).await,
            Place::Head(network) => self.head(&network).await,
            Place::Slot(network, slot) => self.slot(&network, &slot).await,
            Place::State(network) => self.state(&network, &asked).await,
            Place::Heal(network) => self.heal(network, asked).await,
            Place::Delta(network) => self.delta(network, asked).await,
            Place::Joins(network) => self.joins(&network, &asked).await,
            Place::AppendJoin(network) => self.append_join(network, asked).await,
            Place::Watch(network, silence) => self.watch(network, silence, &asked).await,
            Place::Credential(network, month) => self.credential(&network, month, &asked).await,
        }
    }

    async fn info(&self) -> Answer {
        let mut relays: Vec<RelayOffer> = self.relay.iter().map(|(offer, _)| offer.clone()).collect();
        relays.extend(self.store.relays().await.map_err(storage)?);
        Ok(whole(Info { relays, pins: self.pins.clone() }.to_bytes()))
    }
}

fn whole(bytes: Vec<u8>) -> AnswerBody {
    Full::new(Bytes::from(bytes)).boxed_unsync()
}

fn done() -> Answer {
    Ok(whole(Vec::new()))
}

fn storage(_: StoreError) -> Reason {
    Reason::Storage
}

fn format(error: WireError) -> Reason {
    match error {
        WireError::Newer { .. } => Reason::Older,
        _ => Reason::BadRequest,
    }
}
