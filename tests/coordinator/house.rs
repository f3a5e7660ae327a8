//! What the tests stand on: a coordinator in this process, an account, a network.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use coordinator::{
    server::Coordinator,
    store::{DataDir, Lock, Store},
};
use ed25519_dalek::SigningKey;
use proto::{
    account::AccountName,
    identity::{MachineKeys, NetworkId, Pin},
    metadata::InnerNet,
    roster::{Delta, Draft, EditError, NewNetwork, Roster},
    token::EnrolCode,
    wire::Wire,
};
use rand_core::{OsRng, RngCore};
use relay::{listener::Listener, tls::Authority};
use rustls::ServerConfig;
use tempfile::TempDir;
use tokio::{sync::oneshot, task::JoinHandle};
use vpnd::coordinator::{Client, Error, Session, Trust};
use zeroize::Zeroizing;

/// The password of every account here.
pub(crate) const PASSWORD: &str = "correct horse battery staple";

/// A running coordinator.
pub(crate) struct House {
    pub(crate) address: SocketAddr,
    pub(crate) pin: Pin,
    pub(crate) store: Store,
    _lock: Lock,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

/// A data directory.
pub(crate) fn directory() -> TempDir {
    tempfile::tempdir().unwrap()
}

impl House {
    /// Starts a coordinator on `directory`.
    pub(crate) async fn open(directory: &Path) -> Self {
        Self::open_with(directory, None).await
    }

    /// The same with a certificate of its own.
    pub(crate) async fn open_with(directory: &Path, tls: Option<Arc<ServerConfig>>) -> Self {
        let data = DataDir::new(directory, None);
        let lock = data.lock().unwrap();
        let store = data.create_or_open(&lock).await.unwrap();
        let secrets = store.secrets(&mut OsRng).await.unwrap();
        let authority = Authority::new(secrets.authority);
        let pin = Pin(authority.pin());
        let tls = tls.unwrap_or_else(|| authority.server_config(&["127.0.0.1".to_owned()]).unwrap());
        let listener = Listener::bind((Ipv4Addr::LOCALHOST, 0).into(), tls).unwrap();
        let address = listener.local_addr().unwrap();
        let coordinator = Coordinator::new(store.clone(), secrets.opaque, secrets.issuer, vec![pin], None);
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(async move {
            let stopping = Arc::clone(&coordinator);
            let stopped = async move {
                let _ = stopped.await;
                stopping.stop().await;
            };
            listener.serve(move |request| Arc::clone(&coordinator).answer(request), stopped).await;
        });
        Self { address, pin, store, _lock: lock, stop, serving }
    }

    /// Stops it as SIGTERM does.
    pub(crate) async fn close(self) {
        let _ = self.stop.send(());
        self.serving.await.unwrap();
        self.store.close().await;
    }

    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// A client that pins the coordinator's key.
    pub(crate) fn client(&self) -> Client {
        Client::new(&self.url(), &Trust::Pinned(vec![self.pin])).unwrap()
    }

    /// A code as `coordinator enrol` makes one.
    pub(crate) async fn enrol(&self) -> EnrolCode {
        let mut code = vec![0; 16];
        OsRng.fill_bytes(&mut code);
        let code = EnrolCode(code);
        self.store.add_enrolment(&code, today()).await.unwrap();
        code
    }

    /// A new account's session.
    pub(crate) async fn account(&self, account: &str) -> Session {
        let code = self.enrol().await;
        let client = self.client();
        client.register(&name(account), password(PASSWORD), &code).await.unwrap();
        client.login(&name(account), password(PASSWORD)).await.unwrap()
    }

    /// A network of one machine, put under a new account named after it.
    pub(crate) async fn network(&self, account: &str) -> Network {
        let session = self.account(account).await;
        let network = Network::new(&self.url());
        self.client().create_network(&session, network.roster.state().to_bytes()).await.unwrap();
        network
    }
}

/// A network and its first machine.
pub(crate) struct Network {
    pub(crate) keys: MachineKeys,
    pub(crate) roster: Roster,
}

impl Network {
    pub(crate) fn new(url: &str) -> Self {
        let keys = MachineKeys::generate(&mut OsRng);
        let new = NewNetwork {
            name: "home".to_owned(),
            machine_name: "first".to_owned(),
            keys: &keys,
            coordinator: url.to_owned(),
            pin: None,
            relays: Vec::new(),
            ipv4: InnerNet::new("10.77.0.0".parse().unwrap(), 24).unwrap(),
        };
        let Ok((roster, _paper)) = Roster::create(new, now(), &mut OsRng) else {
            panic!("a network is made");
        };
        Self { keys, roster }
    }

    pub(crate) fn id(&self) -> NetworkId {
        self.roster.network()
    }

    /// The key by which a member is known in the present epoch.
    pub(crate) fn member(&self) -> SigningKey {
        self.roster.epoch_key().member_key()
    }

    /// A change that is not published yet.
    pub(crate) fn edit<T>(
        &self,
        change: impl FnOnce(&mut Draft<'_>) -> Result<T, EditError>,
    ) -> (Roster, Delta, T) {
        self.edit_at(now(), change)
    }

    /// The same by a signer whose clock says `now`.
    pub(crate) fn edit_at<T>(
        &self,
        now: u64,
        change: impl FnOnce(&mut Draft<'_>) -> Result<T, EditError>,
    ) -> (Roster, Delta, T) {
        let edit =
            self.roster.edit(&self.keys, now, &mut OsRng, change).unwrap_or_else(|_| panic!("an edit"));
        (edit.roster, edit.delta, edit.outcome)
    }

    /// A change of the first machine's name.
    pub(crate) fn renamed(&self, to: &str) -> (Roster, Delta) {
        let (roster, delta, ()) = self.edit(|draft| {
            let id = draft.machines().next().unwrap().id;
            draft.rename_machine(&id, to)
        });
        (roster, delta)
    }

    /// Publishes a change and goes on from it.
    pub(crate) async fn publish<T>(
        &mut self,
        client: &Client,
        change: impl FnOnce(&mut Draft<'_>) -> Result<T, EditError>,
    ) -> T {
        let (roster, delta, outcome) = self.edit(change);
        client.push(&self.id(), &self.member(), delta.to_bytes(), Vec::new()).await.unwrap();
        self.roster = roster;
        outcome
    }
}

pub(crate) fn name(text: &str) -> AccountName {
    AccountName::parse(text).unwrap()
}

pub(crate) fn password(text: &str) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(text.as_bytes().to_vec())
}

pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

pub(crate) fn today() -> u32 {
    u32::try_from(now() / 86_400).unwrap()
}

/// The error of a request that must fail.
pub(crate) fn refused<T>(answer: Result<T, Error>) -> Error {
    match answer {
        Ok(_) => panic!("this must be refused"),
        Err(error) => error,
    }
}
