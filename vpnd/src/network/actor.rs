//! The loop: what comes, one thing after the other; up and down; what a roster asks of interface and data path.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use netio::netlink::{Change, Netlink, NetlinkError};
use proto::{
    api::{ApiError, ErrorCode},
    identity::MachineKeys,
    metadata::Endpoint,
    pipe::{Config, ToData},
    relay::Credential,
    roster::{Head, InviteSecret, JoinRecord, MachineEntry, Roster},
    wire::Wire,
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{MissedTickBehavior, interval_at},
};
use zeroize::Zeroizing;

use super::{
    catch_up::{Asker, Present},
    clock,
    guests::Knocks,
    handle::{Handle, Query},
    interface::{Interface, InterfaceError, Lack, MTU, Wanted},
    joiners::{Gate, Joiners},
    keys,
    link::{LinkEvent, Trouble},
    mailboxes::Mailboxes,
    running::{Ears, Running},
    signers::renewal_patience,
    sync::SyncEvent,
};
use crate::{
    apply::{self, Peers},
    backoff::Backoff,
    child,
    coordinator::Client,
    dial::Way,
    lan::LanEvent,
    relay::RelayEvent,
    state::{Contents, Intent, NetworkFolder, Settings, StateError},
};

/// Between two looks at what time alone changes: a network that could not be brought up, a state that could not be
/// written, an invite that ended.
const TICK: Duration = Duration::from_secs(5);

/// Between two looks whether the names of STUN servers lead elsewhere.
const RESOLVE_EVERY: Duration = Duration::from_secs(3_600);

/// One network of this machine.
pub(super) struct Actor {
    pub(super) folder: NetworkFolder,
    pub(super) keys: Arc<MachineKeys>,
    pub(super) settings: Settings,
    /// While no signer has folded this machine in.
    pub(super) membership: Option<(InviteSecret, JoinRecord)>,
    pub(super) present: watch::Sender<Arc<Present>>,
    pub(super) credentials: Vec<Credential>,
    pub(super) netlink: Netlink,
    wanted: Wanted,
    /// One that has connections already, for the first time that the network comes up.
    client: Option<Client>,
    way: Way,

    pub(super) running: Option<Running>,
    pub(super) peers: Peers,
    /// All other machines that count as members, by WireGuard key.
    pub(super) members: BTreeMap<apply::Key, MachineEntry>,
    pub(super) joiners: Joiners,
    pub(super) gate: Gate,
    pub(super) knocks: Knocks,
    pub(super) mailboxes: Mailboxes,

    pub(super) health: Health,
    /// Answers of the data path that are waited for.
    pub(super) waiting: Waiting,
    /// What interface and data path were last configured as.
    configured: Option<MachineEntry>,
    pub(super) folding: bool,
    pub(super) renewing: bool,
    /// How long this machine leaves a renewal to other signers, in seconds.
    pub(super) patience: u64,
    /// Changes in a row that the coordinator refused.
    pub(super) refusals: Backoff,
    pub(super) unsaved: bool,
    /// Addresses changed, and are read anew in a moment.
    pub(super) settling: bool,
    pub(super) resolved: Option<Instant>,
    /// No STUN server was found when their names were last looked up.
    pub(super) unresolved: bool,
    jumps: clock::Jumps,
    pub(super) notes: mpsc::Sender<Note>,
}

/// What is not as it should be.
#[derive(Default)]
pub(super) struct Health {
    pub(super) trouble: Option<Trouble>,
    /// What a peer has that contradicts our roster, signed all the same.
    pub(super) contradiction: Option<Box<Head>>,
    /// Why there is no interface.
    pub(super) lack: Option<Lack>,
    /// Somebody switched the interface off.
    pub(super) interface_down: bool,
    pub(super) removed: bool,
    pub(super) overused: bool,
    pub(super) clock_wrong: bool,
    pub(super) not_saved: bool,
    /// The coordinator refused what this signer wanted to change; until then nothing of that kind is tried.
    pub(super) refused: Option<Instant>,
    /// A signer gave this machine another name than it was to get.
    pub(super) renamed: bool,
}

impl Health {
    /// Whether no change can be made, or none may: in a network that went separate ways the recovery key decides.
    pub(super) fn hinders_changes(&self) -> bool {
        self.trouble.is_some() || self.contradiction.is_some()
    }
}

/// Answers of the data path that are waited for, by token.
#[derive(Default)]
pub(super) struct Waiting {
    next: u64,
    pub(super) statuses: HashMap<u64, oneshot::Sender<proto::pipe::Status>>,
    pub(super) pings: HashMap<u64, oneshot::Sender<proto::pipe::Pong>>,
}

impl Waiting {
    /// A token that no answer is waited for under.
    pub(super) fn token(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

/// What the actor's own short tasks tell it.
pub(super) enum Note {
    /// Addresses changed a moment ago.
    Settled,
    /// Where the STUN servers are.
    Stun(Vec<Endpoint>),
    /// Somebody took the interface away.
    InterfaceGone,
    /// The fold that was asked for is done, or not.
    Folded { refused: bool },
    /// So is the renewal.
    Renewed { refused: bool },
}

/// What can come.
enum Occurrence {
    Query(Query),
    Note(Note),
    Tick,
    Data(child::Event),
    Link(LinkEvent),
    Roster(Box<Roster>),
    Sync(SyncEvent),
    Relay(RelayEvent),
    Change(Change),
    /// A port of the router leads here from now on, or none.
    Mapped(Option<Endpoint>),
    Lan(LanEvent),
    /// The daemon is gone.
    End,
}

/// Opens what is kept of a network and starts its actor. It comes up by itself if it is to be up. `unsaved` says that it
/// is kept where nothing can be written now.
///
/// # Errors
/// [`StateError::Damaged`] if what is kept does not open.
pub(crate) fn start(
    folder: NetworkFolder,
    contents: Contents,
    netlink: Netlink,
    wanted: Wanted,
    client: Option<Client>,
    way: Way,
    unsaved: bool,
) -> Result<Handle, StateError> {
    let Contents { keys, roster, epochs, settings, membership, credentials } = contents;
    let opened = Roster::open(roster, epochs.present().clone(), &settings.network);
    let roster = opened.map_err(|e| folder.unopened(&e))?;
    if !keys::fit(&keys.public(), &roster) {
        return Err(folder.mixed_keys());
    }
    let membership = membership
        .map(|m| JoinRecord::from_bytes(&m.record).map(|record| (m.secret.clone(), record)))
        .transpose()
        .map_err(|e| folder.unreadable_record(&e))?;
    let name = settings.alias.clone().unwrap_or_else(|| roster.name().to_owned());
    let (handle, queries) = Handle::new(settings.network, name, settings.coordinator.clone());
    let (notes, notes_receiver) = mpsc::channel(16);
    let actor = Actor {
        folder,
        keys: Arc::new(keys),
        mailboxes: Mailboxes::new(clock::day()),
        settings,
        membership,
        present: watch::Sender::new(Arc::new(Present { roster, epochs })),
        credentials,
        netlink,
        wanted,
        client,
        way,
        running: None,
        peers: Peers::default(),
        members: BTreeMap::new(),
        joiners: Joiners::default(),
        gate: Gate::new(Instant::now()),
        knocks: Knocks::new(Instant::now()),
        health: Health::default(),
        waiting: Waiting::default(),
        configured: None,
        folding: false,
        renewing: false,
        patience: renewal_patience(),
        refusals: Backoff::default(),
        unsaved,
        settling: false,
        resolved: None,
        unresolved: false,
        jumps: clock::Jumps::from(Instant::now(), clock::now()),
        notes,
    };
    tokio::spawn(actor.run(queries, notes_receiver));
    Ok(handle)
}

impl Actor {
    async fn run(mut self, mut queries: mpsc::Receiver<Query>, mut notes: mpsc::Receiver<Note>) {
        let mut ears = None;
        // Before any question: who waits for the daemon to be ready finds the interface there.
        self.tick(&mut ears).await;
        let mut ticks = interval_at(tokio::time::Instant::now() + TICK, TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let occurrence = tokio::select! {
                query = queries.recv() => query.map_or(Occurrence::End, Occurrence::Query),
                Some(note) = notes.recv() => Occurrence::Note(note),
                occurrence = listen(&mut ears) => occurrence,
                _ = ticks.tick() => Occurrence::Tick,
            };
            match occurrence {
                Occurrence::Query(Query::Stop(reply)) => {
                    self.take_down(&mut ears).await;
                    let _ = reply.send(Ok(()));
                    return;
                }
                Occurrence::End => return self.take_down(&mut ears).await,
                Occurrence::Query(Query::Up(reply)) => {
                    let done = self.up(&mut ears).await.map(|()| self.summary());
                    let _ = reply.send(done);
                }
                Occurrence::Query(Query::Down(reply)) => {
                    let done = self.down(&mut ears).await.map(|()| self.summary());
                    let _ = reply.send(done);
                }
                Occurrence::Query(Query::Adopt(roster, reply)) => {
                    self.adopt(*roster).await;
                    let _ = reply.send(Ok(()));
                }
                Occurrence::Query(Query::Leave(force, reply)) => match self.leave(force, &mut ears).await {
                    Ok(left) => {
                        let _ = reply.send(left);
                        return;
                    }
                    Err(refused) => drop(reply.send(Err(refused))),
                },
                Occurrence::Query(query) => self.answer(query),
                Occurrence::Note(Note::InterfaceGone) => {
                    // The next tick makes another.
                    self.take_down(&mut ears).await;
                    self.health.lack = Some(Lack::Other);
                }
                Occurrence::Note(note) => self.heed_note(note).await,
                Occurrence::Tick => self.tick(&mut ears).await,
                Occurrence::Data(event) => self.heed_data(event).await,
                Occurrence::Link(event) => self.heed_link(event).await,
                Occurrence::Roster(roster) => self.adopt(*roster).await,
                Occurrence::Sync(event) => self.heed_sync(event).await,
                Occurrence::Relay(event) => self.heed_relays(event, &mut ears),
                Occurrence::Change(change) => self.heed_change(change).await,
                Occurrence::Mapped(mapping) => self.heed_mapping(mapping),
                Occurrence::Lan(event) => self.heed_lan(&event),
            }
        }
    }

    /// Sets the intent and brings the network up.
    async fn up(&mut self, ears: &mut Option<Ears>) -> Result<(), ApiError> {
        self.intend("the network was not brought up", Intent::Up)?;
        self.bring_up(ears).await
    }

    async fn down(&mut self, ears: &mut Option<Ears>) -> Result<(), ApiError> {
        // Whoever says down means now, whatever can be stored of it.
        self.take_down(ears).await;
        let stored = self
            .intend("the network is down, but would be up again with the next start of vpnd", Intent::Down);
        if stored.is_err() {
            self.settings.intent = Intent::Down;
            self.unsaved = true;
        }
        stored
    }

    fn intend(&mut self, what: &str, intent: Intent) -> Result<(), ApiError> {
        if self.settings.intent == intent {
            return Ok(());
        }
        let settings = Settings { intent, ..self.settings.clone() };
        self.folder.save_settings(&settings).map_err(|e| crate::daemon::refusal::state(what, &e))?;
        self.settings = settings;
        Ok(())
    }

    async fn bring_up(&mut self, ears: &mut Option<Ears>) -> Result<(), ApiError> {
        const WHAT: &str = "the network was not brought up";
        if self.running.is_some() {
            return Ok(());
        }
        let Some(own) = self.own() else {
            self.health.removed = true;
            return Err(ApiError::new(
                ErrorCode::NotPermitted,
                WHAT,
                "this machine is not a member any more",
                "ask for a new invite, then: vpnctl leave, vpnctl join TOKEN",
            ));
        };
        let started = self.open_interface(&own).await;
        self.health.lack = started.as_ref().err().map(InterfaceError::lack);
        let interface = started.map_err(|e| e.refusal(WHAT))?;
        let client = match self.client.take() {
            Some(client) => client,
            None => crate::daemon::client(WHAT, &self.settings.coordinator, &self.way)?,
        };
        let begun = Running::start(
            interface,
            client,
            self.asker(),
            &self.present,
            self.credentials.clone(),
            self.way.clone(),
            &self.wanted,
        );
        let (running, new_ears) = begun.map_err(|e| {
            ApiError::new(
                ErrorCode::Failed,
                WHAT,
                e.to_string(),
                "check this machine's memory and limits, then: vpnctl up",
            )
        })?;
        running.relays.listen(&self.keys, &self.present.borrow().epochs);
        self.running = Some(running);
        *ears = Some(new_ears);
        self.apply().await;
        Ok(())
    }

    async fn open_interface(&self, own: &MachineEntry) -> Result<Interface, InterfaceError> {
        let interface = Interface::open(&self.netlink, &self.wanted).await?;
        self.set_addresses(&interface, own).await?;
        Ok(interface)
    }

    pub(super) async fn take_down(&mut self, ears: &mut Option<Ears>) {
        *ears = None;
        if let Some(running) = self.running.take() {
            running.stop().await;
        }
        self.peers = Peers::default();
        self.waiting = Waiting::default();
        self.configured = None;
        self.health = Health {
            removed: self.health.removed,
            not_saved: self.health.not_saved,
            renamed: self.health.renamed,
            ..Health::default()
        };
        (self.folding, self.renewing) = (false, false);
    }

    async fn tick(&mut self, ears: &mut Option<Ears>) {
        if self.settings.intent == Intent::Up && self.running.is_none() && !self.health.removed {
            // Whoever asks for the status is told; this is tried again at the next tick.
            let before = self.health.lack;
            if self.bring_up(ears).await.is_err() && !self.health.removed {
                let lack = *self.health.lack.get_or_insert(Lack::Other);
                if before != Some(lack) {
                    lack.message().print();
                }
            }
        }
        self.forget_old_epochs();
        if self.unsaved {
            self.save();
        }
        if self.jumps.since(Instant::now(), clock::now())
            && let Some(running) = &self.running
        {
            running.retry();
        }
        if self.resolved.is_some_and(|at| at.elapsed() >= RESOLVE_EVERY) {
            self.resolve();
        }
        self.fold();
        self.renew();
    }

    async fn heed_note(&mut self, note: Note) {
        match note {
            Note::InterfaceGone => {}
            Note::Settled => {
                self.settling = false;
                self.tell_addresses().await;
                if let Some(running) = &self.running {
                    running.retry();
                }
            }
            Note::Stun(servers) => {
                let relays = self.present.borrow().roster.relays().to_vec();
                self.unresolved = servers.is_empty() && relays.iter().any(|relay| relay.stun_port.is_some());
                if let Some(running) = &self.running {
                    running.tell(&ToData::StunServers(servers));
                }
            }
            Note::Folded { refused } => {
                // What was not folded is tried again at the next tick.
                self.folding = false;
                self.heed_refusal(refused);
            }
            Note::Renewed { refused } => {
                self.renewing = false;
                self.heed_refusal(refused);
            }
        }
    }

    async fn heed_link(&mut self, event: LinkEvent) {
        let well = match &event {
            LinkEvent::Online => Some(true),
            LinkEvent::Offline(_) | LinkEvent::Removed => Some(false),
            _ => None,
        };
        if let (Some(well), Some(running)) = (well, &self.running) {
            running.sync.coordinator(well);
        }
        match event {
            LinkEvent::Online => self.health.trouble = None,
            LinkEvent::Offline(trouble) => {
                // Not printed: a log would tell for ever when this machine was away. `status` shows it while it is so.
                self.health.trouble = Some(trouble);
            }
            LinkEvent::Removed => {
                // The coordinator said so: it is there.
                self.health.trouble = None;
                self.health.removed = true;
                self.apply().await;
            }
            LinkEvent::Roster(roster) => self.adopt(*roster).await,
            LinkEvent::Joins(joins) => {
                self.joiners.unlist();
                for join in &joins {
                    self.learn(join);
                }
                self.apply().await;
            }
            LinkEvent::Join(join) => {
                self.learn(&join);
                self.apply().await;
            }
            LinkEvent::Credentials(credentials) => {
                self.credentials = credentials.clone();
                self.unsaved |= self.folder.save_credentials(&credentials).is_err();
                self.health.not_saved = self.unsaved;
                if let Some(running) = &self.running {
                    running.relays.admit(credentials);
                }
            }
        }
        self.fold();
    }

    /// Brings data path, interface and relays to what the roster and the joiners ask.
    pub(super) async fn apply(&mut self) {
        let present = self.present.borrow().clone();
        let own_identity = self.keys.identity_public();
        let accepted = self.joiners.accepted(&present.roster);
        self.health.overused = accepted.overused;
        let own = self.own();
        self.members = match own {
            None => BTreeMap::new(),
            Some(_) => present
                .roster
                .machines()
                .cloned()
                .chain(accepted.machines)
                .filter(|machine| machine.identity.identity != own_identity)
                .map(|machine| (machine.identity.wireguard, machine))
                .collect(),
        };
        let Some(running) = &mut self.running else { return };
        running.sync.set_members(self.members.iter().map(|(key, machine)| (*key, machine.ipv6)).collect());
        let other_relays = self.follow_relays(present.roster.relays());
        let wanted = self.members.iter().map(|(key, machine)| (*key, self.peer(machine))).collect();
        for frame in self.peers.update(&wanted) {
            self.tell(&frame);
        }
        if let Some(own) = own.filter(|own| self.configured.as_ref() != Some(own)) {
            self.configure(own).await;
        }
        if self.resolved.is_none() || other_relays {
            self.resolve();
        }
    }

    /// Gives interface and data path this machine's own addresses.
    async fn configure(&mut self, own: MachineEntry) {
        let Some(running) = &self.running else { return };
        let done = self.set_addresses(&running.interface, &own).await;
        self.health.lack = done.is_err().then_some(Lack::Other);
        running.sync.set_address(own.ipv6);
        self.tell(&ToData::Config(self.config(&own)));
        self.configured = done.is_ok().then_some(own);
    }

    pub(super) fn config(&self, own: &MachineEntry) -> Config {
        Config {
            secret: Zeroizing::new(self.keys.wireguard().to_bytes()),
            own: apply::addresses(own).chain(own.routes.iter().copied()).collect(),
            mtu: MTU,
        }
    }

    async fn set_addresses(&self, interface: &Interface, own: &MachineEntry) -> Result<(), NetlinkError> {
        let routes = apply::interface_routes(own, self.present.borrow().roster.settings());
        interface.configure(&apply::interface_addresses(own), &routes).await
    }

    /// What a machine is to the data path.
    pub(super) fn peer(&self, machine: &MachineEntry) -> apply::Wanted {
        let present = self.present.borrow();
        let own = self.keys.wireguard_public();
        let relays = self.running.as_ref().map_or(0, |running| running.relays.bits());
        apply::Wanted::of(machine, &own, &present.pairings(), relays)
    }

    /// This machine: as the roster has it, or as its own invite bears it.
    pub(super) fn own(&self) -> Option<MachineEntry> {
        let present = self.present.borrow();
        if let Some(own) = present.roster.machine_by_identity(&self.keys.identity_public()) {
            return Some(own.clone());
        }
        let (_, record) = self.membership.as_ref()?;
        present.roster.provisional(record).ok()
    }

    pub(super) fn tell(&self, frame: &ToData<'_>) -> bool {
        self.running.as_ref().is_some_and(|running| running.tell(frame))
    }

    fn asker(&self) -> Asker {
        Asker {
            network: self.settings.network,
            keys: self.keys.clone(),
            invite: self.membership.as_ref().map(|(secret, _)| secret.clone()),
        }
    }
}

/// What comes next from a running network; nothing from one that is down.
async fn listen(ears: &mut Option<Ears>) -> Occurrence {
    let Some(ears) = ears else { return std::future::pending().await };
    tokio::select! {
        Some(event) = ears.data.recv() => Occurrence::Data(event),
        Some(event) = ears.link.recv() => Occurrence::Link(event),
        Some(roster) = ears.rosters.recv() => Occurrence::Roster(roster),
        Some(event) = ears.sync.recv() => Occurrence::Sync(event),
        Some(event) = ears.relays.recv() => Occurrence::Relay(event),
        Some(change) = ears.changes.recv() => Occurrence::Change(change),
        Some(mapping) = ears.mappings.recv() => Occurrence::Mapped(mapping),
        Some(event) = ears.lan.recv() => Occurrence::Lan(event),
        else => std::future::pending().await,
    }
}
