//! The daemon as a whole: its start and end, its networks, its logins.

mod accounts;
mod commands;
mod create;
mod damaged;
pub(crate) mod hostname;
pub(crate) mod join;
mod local_name;
mod recover;
pub(crate) mod refusal;
mod relays;

pub(crate) use accounts::client;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use netio::netlink::{Netlink, NetlinkError};
use proto::{
    api::{ApiError, ErrorCode},
    identity::NetworkId,
};
use sandbox::SandboxError;
use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinSet,
};

use crate::{
    api::{Access, Listener, ListenerError},
    child::Manner,
    cli,
    coordinator::Client,
    dial::{Proxy, ProxyError, Way},
    message::Message,
    network::{self, Handle, Interface, Query, Wanted},
    state::{Contents, Coordinator, DamagedNetwork, NetworkFolder, StateDir, StateError, Unfinished},
    walls::{self, Places},
    workers,
};

/// Why the daemon cannot run.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The state directory cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The local API cannot be served.
    #[error(transparent)]
    Api(#[from] ListenerError),
    /// The kernel's network cannot be spoken to.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// The proxy that is set cannot be used.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    /// The kernel cannot confine what faces the network.
    #[error("{0}; without it vpnd would not be locked down: update the kernel, or pass --allow-unsandboxed")]
    Unsandboxed(SandboxError),
    /// A wall could not be put up.
    #[error("vpnd could not be locked down: {0}")]
    Walls(SandboxError),
    /// The operating system refused something basic.
    #[error("the operating system refused what vpnd needs to start ({0})")]
    System(#[from] std::io::Error),
}

/// What all commands share.
pub(crate) struct Daemon {
    state: Mutex<StateDir>,
    accounts: Mutex<accounts::Accounts>,
    networks: Mutex<Vec<Handle>>,
    /// Those that cannot be read, as found at the start.
    damaged: Mutex<Vec<DamagedNetwork>>,
    /// Held while a network is made or joined: one at a time.
    adding: tokio::sync::Mutex<()>,
    /// Held while `netcheck` measures.
    measuring: tokio::sync::Mutex<()>,
    netlink: Netlink,
    options: cli::Daemon,
    way: Way,
}

/// Runs the daemon until it is told to stop: behind its walls before it reads what it stored or meets anybody.
///
/// # Errors
/// [`DaemonError`].
pub fn run(options: cli::Daemon) -> Result<(), DaemonError> {
    if let Err(missing) = sandbox::available() {
        if !options.allow_unsandboxed {
            return Err(DaemonError::Unsandboxed(missing));
        }
        Message::Unsandboxed.print();
    }
    // Its credentials may lie where nothing is read any more behind the walls.
    let proxy = Proxy::configured(options.proxy.as_deref(), options.proxy_credentials.as_deref())?;
    let way = proxy.map(Way::through).unwrap_or_default();
    // What is made durable is made so by its folder, which a bare name does not tell.
    let state_dir = std::path::absolute(&options.state_dir).unwrap_or_else(|_| options.state_dir.clone());
    let socket = std::path::absolute(&options.socket).unwrap_or_else(|_| options.socket.clone());
    let state = StateDir::open(&state_dir)?;
    let listener = Listener::bind(&socket, Access::of_this_host())?;
    let places = Places { state: &state_dir, socket: &socket };
    walls::put_up(&places, options.missing()).map_err(DaemonError::Walls)?;

    // Control waits most of the time: one thread does, and keeps it small.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(options, way, state, listener))
}

async fn serve(
    options: cli::Daemon,
    way: Way,
    state: StateDir,
    listener: Listener,
) -> Result<(), DaemonError> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stored = state.networks()?;
    let daemon = Arc::new(Daemon {
        state: Mutex::new(state),
        accounts: Mutex::default(),
        networks: Mutex::default(),
        damaged: Mutex::new(stored.damaged),
        adding: tokio::sync::Mutex::default(),
        measuring: tokio::sync::Mutex::default(),
        netlink: Netlink::connect()?,
        options,
        way,
    });
    for (folder, contents) in stored.networks {
        let path = folder.path().to_owned();
        // A network that cannot be opened any more must not keep the others down.
        if let Err(error) = daemon.start(folder, contents, None) {
            lock(&daemon.damaged).push(DamagedNetwork::new(&path, error));
        }
    }
    if !lock(&daemon.damaged).is_empty() {
        Message::NetworkDamaged.print();
    }
    // Each has tried to come up before it answers.
    for network in daemon.networks() {
        let _ = network.ask(Query::Summary).await;
    }
    Message::Ready.print();
    // Without systemd there is nobody to tell.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);

    tokio::select! {
        served = listener.serve(daemon.clone()) => served?,
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Message::Stopping.print();
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    drop(listener);
    daemon.stop().await;
    Ok(())
}

impl Daemon {
    /// Starts the actor of a network that is kept in `folder`.
    ///
    /// # Errors
    /// [`StateError`] if what is kept does not open.
    fn start(
        &self,
        folder: NetworkFolder,
        contents: Contents,
        client: Option<Client>,
    ) -> Result<Handle, StateError> {
        let wanted = self.wanted_interface();
        let unsaved = !lock(&self.state).writable();
        let handle = network::start(
            folder,
            contents,
            self.netlink.clone(),
            wanted,
            client,
            self.way.clone(),
            unsaved,
        )?;
        let mut networks = lock(&self.networks);
        networks.push(handle.clone());
        networks.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(handle)
    }

    /// The interface of the next network. Name and port given on the command line are for the first one; the others
    /// take the next free ones.
    fn wanted_interface(&self) -> Wanted {
        let first = lock(&self.networks).is_empty();
        Wanted {
            name: self.options.interface.clone().filter(|_| first),
            port: self.options.port.filter(|_| first),
            first,
            manner: Manner { missing: self.options.missing(), show_dscp: self.options.show_dscp },
            workers: self.options.workers.unwrap_or_else(workers::of_this_machine),
            map_port: !self.options.no_port_mapping,
            discover: !self.options.no_lan_discovery,
        }
    }

    /// Refuses where no interface can be made.
    async fn need_interface(&self, what: &str) -> Result<(), ApiError> {
        Interface::probe(&self.netlink, &self.wanted_interface()).await.map_err(|e| e.refusal(what))
    }

    /// Writes what is to be kept of a new network.
    ///
    /// # Errors
    /// What the caller is to be told.
    fn prepare(&self, what: &str, contents: &Contents) -> Result<Unfinished, ApiError> {
        lock(&self.state).prepare(contents).map_err(|e| refusal::state(what, &e))
    }

    /// Keeps a new network and starts its actor, which goes on with the connections that `client` has.
    ///
    /// # Errors
    /// What the caller is to be told.
    fn adopt(
        &self,
        what: &str,
        unfinished: Unfinished,
        contents: Contents,
        client: Client,
    ) -> Result<Handle, ApiError> {
        let folder = unfinished.commit().map(NetworkFolder::new).map_err(|e| refusal::state(what, &e))?;
        if !contents.credentials.is_empty() {
            // They came while the folder was on its way. Whatever is not kept is fetched anew after the next start.
            let _ = folder.save_credentials(&contents.credentials);
        }
        self.start(folder, contents, Some(client)).map_err(|e| refusal::state(what, &e))
    }

    /// All networks, by name.
    fn networks(&self) -> Vec<Handle> {
        lock(&self.networks).clone()
    }

    /// Networks that cannot be read.
    fn damaged(&self) -> Vec<DamagedNetwork> {
        lock(&self.damaged).clone()
    }

    /// Refuses a network that this machine is in, even if what it stored of it is damaged.
    fn need_foreign(&self, what: &str, id: &NetworkId) -> Result<(), ApiError> {
        if self.networks().iter().any(|network| network.id == *id) {
            return Err(ApiError::new(
                ErrorCode::AlreadyJoined,
                what,
                "it is a member of this network already",
                "bring the network up: vpnctl up; or, if a signer removed it: vpnctl leave, then join again",
            ));
        }
        let folder = lock(&self.state).network(id);
        match self.damaged().iter().find(|network| network.folder() == folder) {
            Some(network) => Err(damaged::refusal(what, network)),
            None => Ok(()),
        }
    }

    /// Refuses a name that one of this machine's networks has. `again` is what the person typed, short of the name by
    /// which this machine is to know the network.
    fn need_free_name(&self, what: &str, name: &str, again: &str) -> Result<(), ApiError> {
        let damaged = self.damaged().into_iter().map(|network| network.name().to_owned());
        let taken: Vec<String> =
            self.networks().into_iter().map(|network| network.name).chain(damaged).collect();
        local_name::need_free(what, name, &taken, again)
    }

    fn logged_in(&self, login: accounts::Login) {
        // Only convenience is lost if this cannot be kept: the next login names the coordinator.
        let _ = lock(&self.state).set_account(&login.coordinator);
        lock(&self.accounts).insert(login);
    }

    fn find_login(&self, what: &str, url: Option<&str>) -> Result<accounts::Login, ApiError> {
        lock(&self.accounts).find(what, url).cloned()
    }

    fn forget_login(&self, url: &str) {
        lock(&self.accounts).remove(url);
    }

    /// The coordinators that this machine has to do with, each once.
    fn known_coordinators(&self, what: &str) -> Result<Vec<Coordinator>, ApiError> {
        let account = lock(&self.state).account().map_err(|e| refusal::state(what, &e))?;
        let mut known: Vec<Coordinator> = account.into_iter().collect();
        for network in self.networks() {
            if !known.iter().any(|c| c.is_at(&network.coordinator.url)) {
                known.push(network.coordinator);
            }
        }
        Ok(known)
    }

    async fn stop(&self) {
        let mut stopping = JoinSet::new();
        for network in self.networks() {
            stopping.spawn(async move { network.ask(Query::Stop).await });
        }
        stopping.join_all().await;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
