//! The relay as its callers hold it.

use std::sync::Arc;

use bytes::Bytes;
use ed25519_dalek::SigningKey;
use http_body_util::Empty;
use hyper::{
    Request, Response, StatusCode,
    header::{CONNECTION, HeaderValue, UPGRADE as UPGRADE_HEADER},
    upgrade::{self, OnUpgrade},
};
use proto::relay::{Credential, RelayKeyFile, UPGRADE};
use tokio::{sync::watch, time::sleep};

use crate::{
    connection,
    limits::{LEAVE_AFTER, LEAVE_LOOKS},
    link::{self, Arrival},
    listener::{Exporter, Slot},
    switchboard::Switchboard,
};

/// What a relay does; later ones follow earlier ones.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// It serves.
    Serving,
    /// It serves whom it has, who should go elsewhere.
    Leaving,
    /// It ends every connection.
    Stopped,
}

/// A relay: its keys, its clock, and all that is connected to it.
pub struct Relay {
    keys: RelayKeyFile,
    today: Box<dyn Fn() -> u32 + Send + Sync>,
    board: Arc<Switchboard>,
    stage: watch::Sender<Stage>,
}

impl Relay {
    /// A relay with these keys. `today` tells the unix day: all that a relay knows of the time.
    #[must_use]
    pub fn new(keys: RelayKeyFile, today: impl Fn() -> u32 + Send + Sync + 'static) -> Arc<Self> {
        let board = Arc::default();
        Arc::new(Self { keys, today: Box::new(today), board, stage: watch::Sender::new(Stage::Serving) })
    }

    /// The relay's Ed25519 public key: its name in rosters.
    #[must_use]
    pub fn public_key(&self) -> [u8; 32] {
        self.keys.relay.verifying_key().to_bytes()
    }

    /// Answers a request to [`proto::relay::PATH`] that came through [`crate::listener`], and serves the connection
    /// that it becomes. A request without the right Upgrade is answered 426; while the relay leaves, any is 503.
    #[must_use]
    pub fn answer<B>(self: &Arc<Self>, mut request: Request<B>) -> Response<Empty<Bytes>> {
        if *self.stage.borrow() != Stage::Serving {
            return status(StatusCode::SERVICE_UNAVAILABLE);
        }
        if !asks_for_upgrade(&request) {
            return switching(StatusCode::UPGRADE_REQUIRED);
        }
        let extensions = request.extensions_mut();
        let (Some(Exporter(exporter)), Some(slot), true) = (
            extensions.remove::<Exporter>(),
            extensions.remove::<Slot>(),
            extensions.get::<OnUpgrade>().is_some(),
        ) else {
            return status(StatusCode::BAD_REQUEST);
        };
        let upgrading = upgrade::on(&mut request);
        let relay = Arc::clone(self);
        tokio::spawn(async move {
            if let Ok(upgraded) = upgrading.await
                && let Some((io, received)) = link::beneath(upgraded)
            {
                let arrival = Arrival { exporter, received };
                connection::serve(&relay, io, arrival, relay.stage()).await;
            }
            drop(slot);
        });
        switching(StatusCode::SWITCHING_PROTOCOLS)
    }

    /// Tells every machine that the relay is about to stop, forwards for as long as they need to go elsewhere, and then
    /// ends every connection: nothing is lost of what has another relay. Takes no time where nobody is connected,
    /// [`LEAVE_AFTER`] where nothing is forwarded any more, and at most [`LEAVE_LOOKS`] times that. Nobody is let in
    /// meanwhile.
    pub async fn leave(&self) {
        self.stage.send_replace(Stage::Leaving);
        for _ in 0..LEAVE_LOOKS {
            if self.board.is_deserted() {
                break;
            }
            // What was used until now were ways that machines did not know to end.
            self.board.was_used();
            sleep(LEAVE_AFTER).await;
            if !self.board.was_used() {
                break;
            }
        }
        self.stop();
    }

    /// Ends every connection, telling each machine that the relay stops.
    pub fn stop(&self) {
        self.stage.send_replace(Stage::Stopped);
    }

    pub(crate) fn stage(&self) -> watch::Receiver<Stage> {
        self.stage.subscribe()
    }

    pub(crate) fn key(&self) -> &SigningKey {
        &self.keys.relay
    }

    pub(crate) fn today(&self) -> u32 {
        (self.today)()
    }

    pub(crate) fn board(&self) -> &Arc<Switchboard> {
        &self.board
    }

    pub(crate) fn accepts(&self, credential: &Credential) -> bool {
        credential.is_current(self.today()) && self.keys.admission.verify(credential)
    }
}

fn asks_for_upgrade<B>(request: &Request<B>) -> bool {
    let protocol = request.headers().get(UPGRADE_HEADER);
    protocol.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(UPGRADE.as_bytes()))
}

fn switching(code: StatusCode) -> Response<Empty<Bytes>> {
    let mut response = status(code);
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    response.headers_mut().insert(UPGRADE_HEADER, HeaderValue::from_static(UPGRADE));
    response
}

fn status(code: StatusCode) -> Response<Empty<Bytes>> {
    let mut response = Response::new(Empty::new());
    *response.status_mut() = code;
    response
}
