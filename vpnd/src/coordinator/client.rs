//! The requests, one function each.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use ed25519_dalek::SigningKey;
use http_body_util::{BodyExt, Limited};
use hyper::{Method, Response, body::Incoming};
use proto::{
    account::{AccountName, LoginStart, OpaqueError, RegistrationStart, SessionKey},
    coordinator::{
        self as wire, Auth, BODY_MAX, DeltaUpload, Info, Join, JoinId, Joins, LoginChallenge, LoginDone,
        LoginFinish, Networks, Reason, RegisterFinish, RegisterStart, path,
    },
    epoch::Slot,
    identity::NetworkId,
    relay::Credential,
    token::EnrolCode,
    wire::Wire,
};
use rand_core::OsRng;
use rustls_pki_types::ServerName;
use tokio::{net::TcpStream, task::spawn_blocking, time::timeout};
use url::{Host, Url};
use zeroize::Zeroizing;

use super::{
    Trust, Watch,
    connection::{Call, Connection, SendError, Target},
    error::{Cause, Error},
};
use crate::dial::Way;

/// For a request and the head of its answer, and once more for the rest of it.
const ANSWER: Duration = Duration::from_secs(30);

/// How long a connection is kept for a next request; the coordinator closes idle ones later than that.
const KEEP: Duration = Duration::from_secs(10);

/// Not a URL of a coordinator.
#[derive(Debug, thiserror::Error)]
#[error("a coordinator's URL is https:// and a host, maybe with :port, and nothing after it")]
pub struct BadUrl;

/// A login. It lives in RAM here and at the coordinator, and ends with either process.
#[derive(Clone)]
pub struct Session {
    id: [u8; 16],
    key: SessionKey,
}

/// Idle connections that are kept: two requests may be under way at once while a machine joins.
const IDLE: usize = 2;

/// Speaks to one coordinator. Cheap to clone; clones share the idle connections.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    target: Target,
    idle: Mutex<Vec<(Connection, Instant)>>,
}

impl Client {
    /// A client for the coordinator at `url`. Connects to nothing yet.
    ///
    /// # Errors
    /// [`BadUrl`].
    pub fn new(url: &str, trust: &Trust) -> Result<Self, BadUrl> {
        Self::by(&Way::default(), url, trust)
    }

    /// The same by another way than directly.
    ///
    /// # Errors
    /// [`BadUrl`].
    pub fn by(way: &Way, url: &str, trust: &Trust) -> Result<Self, BadUrl> {
        let url = Url::parse(url).map_err(|_| BadUrl)?;
        let plain = url.scheme() == "https"
            && url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none();
        if !plain {
            return Err(BadUrl);
        }
        let host = match url.host().ok_or(BadUrl)? {
            Host::Domain(name) => name.to_owned(),
            Host::Ipv4(addr) => addr.to_string(),
            Host::Ipv6(addr) => addr.to_string(),
        };
        let authority = match url.port() {
            Some(port) => format!("{}:{port}", url.host_str().ok_or(BadUrl)?),
            None => url.host_str().ok_or(BadUrl)?.to_owned(),
        };
        let target = Target {
            name: ServerName::try_from(host.clone()).map_err(|_| BadUrl)?,
            host,
            port: url.port_or_known_default().ok_or(BadUrl)?,
            authority,
            tls: trust.client_config().map(Arc::new),
            way: way.clone(),
        };
        Ok(Self(Arc::new(Inner { target, idle: Mutex::default() })))
    }

    /// Opens one more connection, to have it at hand when two requests are to be under way at once.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn prepare(&self) -> Result<(), Error> {
        self.keep(Connection::open(&self.0.target).await?);
        Ok(())
    }

    /// The same over a TCP connection that leads to the coordinator, or to whoever answers in its place.
    ///
    /// # Errors
    /// [`Error`].
    pub(crate) async fn prepare_over(&self, tcp: TcpStream) -> Result<(), Error> {
        self.keep(Connection::over(&self.0.target, tcp).await?);
        Ok(())
    }

    /// What the coordinator says of itself: relays, pins.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn info(&self) -> Result<Info, Error> {
        Ok(Info::from_bytes(&self.get(path::INFO, None).await?)?)
    }

    /// Makes an account with an enrolment code. A failure does not use up the code.
    ///
    /// # Errors
    /// [`Error::Refused`] with [`Reason::BadCode`], [`Reason::NameTaken`], [`Reason::TooMany`]; [`Error`].
    pub async fn register(
        &self,
        name: &AccountName,
        password: Zeroizing<Vec<u8>>,
        code: &EnrolCode,
    ) -> Result<(), Error> {
        let start =
            RegistrationStart::new(&password, &mut OsRng).map_err(|_| Error::Refused(Reason::BadRequest))?;
        let code = code.clone();
        let body = RegisterStart { name: name.clone(), code: code.clone(), request: start.request.clone() };
        let response = self.post(path::REGISTER_START, body.to_bytes(), None).await?;
        let account = name.clone();
        let upload =
            spawn_blocking(move || start.finish(&account, &password, &response, &mut OsRng).map_err(opaque))
                .await
                .map_err(|_| Error::NotACoordinator)??;
        let body = RegisterFinish { name: name.clone(), code, upload };
        self.post(path::REGISTER_FINISH, body.to_bytes(), None).await?;
        Ok(())
    }

    /// Logs in to an account. The password stays here.
    ///
    /// # Errors
    /// [`Error::Refused`] with [`Reason::WrongPassword`] (also for an account that does not exist) or
    /// [`Reason::TooMany`]; [`Error`].
    pub async fn login(&self, name: &AccountName, password: Zeroizing<Vec<u8>>) -> Result<Session, Error> {
        let start =
            LoginStart::new(&password, &mut OsRng).map_err(|_| Error::Refused(Reason::WrongPassword))?;
        // Both steps belong to one connection: its exporter goes into the key exchange.
        let mut connection = Connection::open(&self.0.target).await?;
        let exporter = *connection.exporter();
        let body = wire::LoginStart { name: name.clone(), request: start.request.clone() }.to_bytes();
        let answer = self.step(&mut connection, path::LOGIN_START, body).await?;
        let LoginChallenge { attempt, response } = LoginChallenge::from_bytes(&answer)?;
        let account = name.clone();
        let (proof, key) = spawn_blocking(move || {
            start.finish(&account, &password, &exporter, &response, &mut OsRng).map_err(opaque)
        })
        .await
        .map_err(|_| Error::NotACoordinator)??;
        let body = LoginFinish { attempt, proof }.to_bytes();
        let answer = self.step(&mut connection, path::LOGIN_FINISH, body).await?;
        let LoginDone { session } = LoginDone::from_bytes(&answer)?;
        self.keep(connection);
        Ok(Session { id: session, key })
    }

    /// Ends a session.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn logout(&self, session: &Session) -> Result<(), Error> {
        self.post(path::LOGOUT, Vec::new(), Some(&session.auth())).await?;
        Ok(())
    }

    /// The ids of the account's networks.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn networks(&self, session: &Session) -> Result<Vec<NetworkId>, Error> {
        Ok(Networks::from_bytes(&self.get(path::NETWORKS, Some(&session.auth())).await?)?.0)
    }

    /// Puts a new network (roster's `PublicState`) under the account.
    ///
    /// # Errors
    /// [`Error::Refused`] with [`Reason::TooManyNetworks`], [`Reason::NetworkExists`], [`Reason::TooLarge`],
    /// [`Reason::BadRoster`]; [`Error`].
    pub async fn create_network(&self, session: &Session, state: Vec<u8>) -> Result<(), Error> {
        self.post(path::NETWORKS, state, Some(&session.auth())).await?;
        Ok(())
    }

    /// The present chain and header (roster's `Head`), unverified.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn head(&self, network: &NetworkId) -> Result<Vec<u8>, Error> {
        self.get(&path::network(network, "head"), None).await
    }

    /// The present epoch's key, sealed to whoever's slot this is.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the present epoch has no such slot; [`Error`].
    pub async fn slot(&self, network: &NetworkId, slot: &Slot) -> Result<Vec<u8>, Error> {
        self.get(&path::slot(network, slot), None).await
    }

    /// The whole present state (roster's `PublicState`), unverified. For members and invites.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn state(&self, network: &NetworkId, auth: &Auth<'_>) -> Result<Vec<u8>, Error> {
        self.get(&path::network(network, "state"), Some(auth)).await
    }

    /// Publishes a change. `member` is the key of the epoch before it; `settled` are the join records that it folds
    /// or drops.
    ///
    /// # Errors
    /// [`Error::Conflict`] if another change came first; [`Error`].
    pub async fn push(
        &self,
        network: &NetworkId,
        member: &SigningKey,
        delta: Vec<u8>,
        settled: Vec<JoinId>,
    ) -> Result<(), Error> {
        let body = DeltaUpload { delta, settled }.to_bytes();
        self.post(&path::network(network, "delta"), body, Some(&Auth::Member(member))).await?;
        Ok(())
    }

    /// Replaces the coordinator's state by a later one. `member` is the key of that state's own epoch.
    ///
    /// # Errors
    /// [`Error::Conflict`] if the coordinator has one at least as late; [`Error`].
    pub async fn heal(&self, network: &NetworkId, member: &SigningKey, state: Vec<u8>) -> Result<(), Error> {
        let auth = Auth::Member(member);
        self.call(Method::PUT, &path::network(network, "state"), state, Some(&auth)).await?;
        Ok(())
    }

    /// The join list.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn joins(&self, network: &NetworkId, auth: &Auth<'_>) -> Result<Vec<Join>, Error> {
        Ok(Joins::from_bytes(&self.get(&path::network(network, "joins"), Some(auth)).await?)?.0)
    }

    /// Appends to the join list. The same record again changes nothing, so a lost answer is no harm.
    ///
    /// # Errors
    /// [`Error::Refused`] with [`Reason::InviteUnknown`], [`Reason::InviteExpired`], [`Reason::InviteUsedUp`];
    /// [`Error`].
    pub async fn append_join(&self, network: &NetworkId, auth: &Auth<'_>, join: &Join) -> Result<(), Error> {
        self.post(&path::network(network, "joins"), join.to_bytes(), Some(auth)).await?;
        Ok(())
    }

    /// The network's admission credential for relays in a month, as `proto::relay::month_of` counts.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn credential(
        &self,
        network: &NetworkId,
        member: &SigningKey,
        month: u32,
    ) -> Result<Credential, Error> {
        let answer = self.get(&path::credential(network, month), Some(&Auth::Member(member))).await?;
        Ok(Credential::from_bytes(&answer)?)
    }

    /// Opens a watch on a connection of its own, on which something comes in every `silence` seconds.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn watch(
        &self,
        network: &NetworkId,
        member: &SigningKey,
        silence: u16,
    ) -> Result<Watch, Error> {
        let path = path::watch(network, silence);
        let auth = Auth::Member(member);
        let call = Call { method: Method::GET, path: &path, body: Bytes::new(), auth: Some(&auth) };
        let (connection, response) = self.answered(&call).await?;
        if !response.status().is_success() {
            return Err(in_time(body(response)).await.err().unwrap_or(Error::NotACoordinator));
        }
        Ok(Watch::new(connection, response.into_body(), Duration::from_secs(silence.into())))
    }

    /// The head of an answer, over an idle connection if there is one that still holds: the coordinator may have closed
    /// it meanwhile, and what was not sent is sent on a new one.
    async fn answered(&self, call: &Call<'_>) -> Result<(Connection, Response<Incoming>), Error> {
        let target = &self.0.target;
        if let Some(mut connection) = self.take_idle() {
            let sent = in_time(async {
                match connection.send(target, call).await {
                    Ok(response) => Ok(Some(response)),
                    Err(SendError::Unsent) => Ok(None),
                    Err(lost_on_the_way @ SendError::Lost) => Err(lost(lost_on_the_way)),
                }
            });
            if let Some(response) = sent.await? {
                return Ok((connection, response));
            }
        }
        let mut connection = Connection::open(target).await?;
        let response = in_time(async { connection.send(target, call).await.map_err(lost) }).await?;
        Ok((connection, response))
    }

    async fn get(&self, path: &str, auth: Option<&Auth<'_>>) -> Result<Vec<u8>, Error> {
        self.call(Method::GET, path, Vec::new(), auth).await
    }

    async fn post(&self, path: &str, body: Vec<u8>, auth: Option<&Auth<'_>>) -> Result<Vec<u8>, Error> {
        self.call(Method::POST, path, body, auth).await
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
        auth: Option<&Auth<'_>>,
    ) -> Result<Vec<u8>, Error> {
        let call = Call { method, path, body: body.into(), auth };
        let (connection, response) = self.answered(&call).await?;
        let answer = in_time(whole(response)).await?;
        self.keep(connection);
        answer
    }

    /// One step of a login, on the login's own connection.
    async fn step(&self, connection: &mut Connection, path: &str, body: Vec<u8>) -> Result<Vec<u8>, Error> {
        let call = Call { method: Method::POST, path, body: body.into(), auth: None };
        let sent = in_time(async { connection.send(&self.0.target, &call).await.map_err(lost) });
        in_time(whole(sent.await?)).await?
    }

    /// The network around us has changed: connections of the old one are not used again.
    pub fn leave_behind(&self) {
        let mut idle = self.0.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|(connection, _)| !connection.is_left_behind());
    }

    fn take_idle(&self) -> Option<Connection> {
        let mut idle = self.0.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|(_, since)| since.elapsed() < KEEP);
        idle.pop().map(|(connection, _)| connection)
    }

    fn keep(&self, connection: Connection) {
        let mut idle = self.0.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE {
            idle.push((connection, Instant::now()));
        }
    }
}

impl Session {
    fn auth(&self) -> Auth<'_> {
        Auth::Session { id: self.id, key: &self.key }
    }
}

/// What was answered. Outer error: the connection is of no more use.
async fn whole(response: Response<Incoming>) -> Result<Result<Vec<u8>, Error>, Error> {
    match body(response).await {
        Err(error @ Error::Unreachable(_)) => Err(error),
        answer => Ok(answer),
    }
}

/// The whole body of a success, or what the refusal says.
async fn body(response: Response<Incoming>) -> Result<Vec<u8>, Error> {
    let success = response.status().is_success();
    let limited = Limited::new(response.into_body(), BODY_MAX);
    let body = limited.collect().await.map_err(|_| Error::Unreachable(Cause::Lost))?.to_bytes();
    if success { Ok(body.into()) } else { Err(Error::from_refusal(&body)) }
}

async fn in_time<T>(answer: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    timeout(ANSWER, answer).await.unwrap_or(Err(Error::Unreachable(Cause::Timeout)))
}

fn lost(_: SendError) -> Error {
    Error::Unreachable(Cause::Lost)
}

fn opaque(error: OpaqueError) -> Error {
    match error {
        OpaqueError::Wrong => Error::Refused(Reason::WrongPassword),
        OpaqueError::Malformed => Error::NotACoordinator,
    }
}
