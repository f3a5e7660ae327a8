//! The interface itself: who asks it, what it is, and the data path that carries its packets.

use std::{
    collections::HashMap,
    io,
    time::{Duration, Instant},
};

use netio::{
    netlink::{self, Change, Netlink, NetlinkError},
    tun::Tun,
    udp::UdpError,
};
use nix::libc;
use proto::{
    pipe::{PlainState, ToData, ToPlain},
    uapi::{self, Errno, Request, Set, Shown, ShownPeer},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use zeroize::Zeroizing;

use super::{
    DeviceError,
    config::{Changes, Config},
    detach::Readiness,
    ports::{PortError, Ports, Used},
    socket::Listener,
};
use crate::{
    child::{Child, Descriptors, Event, Link, Manner, Pool},
    message::Message,
};

/// Inner packets of this size fit a 1,500-byte link with WireGuard's and IPv6's headers around them: what every
/// implementation begins with.
const MTU: u16 = 1_420;

/// Segments that the kernel hands over as one packet: what one batched UDP send takes.
const MAX_SEGMENTS: u32 = 45;

/// How long a data path may take to come up, or to say what it counted.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often an interface in another network namespace is looked for.
const MOVED_LOOK: Duration = Duration::from_secs(2);

/// How often a port that another program has is tried again.
const PORT_LOOK: Duration = Duration::from_secs(3);

/// So often, with this pause, is a port asked for that our own data path may be about to give up.
const PORT_TRIES: usize = 10;
const PORT_PAUSE: Duration = Duration::from_millis(20);

/// Callers that wait for their turn.
const CALLS: usize = 16;

/// The kernel's answer to a time that differs less than this from what was told is the same time, measured again.
const SAME: Duration = Duration::from_millis(500);

pub(super) struct Interface {
    index: u32,
    /// Its queues, one for each worker.
    tuns: Vec<Tun>,
    netlink: Netlink,
    manner: Manner,
    config: Config,
    /// What was asked for; 0: any.
    port: u16,
    /// What was found last where any would do: it is kept when the interface is switched off and on.
    found: u16,
    mark: u32,
    ports: Ports,
    used: Option<Used>,
    up: bool,
    mtu: u16,
    /// Whether the interface is in another network namespace, of which we are told nothing.
    moved: bool,
    child: Option<Child>,
    events: mpsc::Receiver<Event>,
    link: Option<Link>,
    /// Tells questions apart.
    token: u64,
    /// What a data path that was replaced had counted, and what is known of the present one.
    earlier: HashMap<u32, Counted>,
    /// The handshakes that callers were told of: by peer, since 1970.
    told: HashMap<u32, Duration>,
}

/// What was counted of a peer.
#[derive(Clone, Copy, Default)]
struct Counted {
    rx_bytes: u64,
    tx_bytes: u64,
    handshake: Option<Instant>,
}

/// How serving ended.
enum End {
    Asked,
    Gone,
}

impl Interface {
    /// Makes the interface ready for callers, off and without peers.
    pub(super) async fn open(
        name: &str,
        tuns: Vec<Tun>,
        ports: Ports,
        manner: Manner,
    ) -> Result<Self, DeviceError> {
        let netlink = Netlink::connect()?;
        let index = netlink.index(name).await?;
        netlink.set_mtu(index, u32::from(MTU), Some(MAX_SEGMENTS)).await?;
        let (_, events) = mpsc::channel(1);
        let mut interface = Self {
            index,
            tuns,
            netlink,
            manner,
            config: Config::default(),
            port: 0,
            found: 0,
            mark: 0,
            ports,
            used: None,
            up: false,
            mtu: MTU,
            moved: false,
            child: None,
            events,
            link: None,
            token: 0,
            earlier: HashMap::new(),
            told: HashMap::new(),
        };
        interface.start().await?;
        Ok(interface)
    }

    /// Serves callers until the interface or the socket is gone, or a signal comes.
    pub(super) async fn serve(mut self, listener: Listener, ready: Readiness) -> Result<(), DeviceError> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let mut changes = netlink::changes()?;
        let (calls, mut called) = mpsc::channel(CALLS);
        let mut again = interval(PORT_LOOK);
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // It may have been switched on before changes were told.
        self.look().await;
        if !ready.awaited() {
            Message::Ready.print();
        }
        ready.tell()?;
        let end = {
            let (removed, served) = (listener.removed(), listener.serve(calls));
            tokio::pin!(removed, served);
            loop {
                tokio::select! {
                    served = &mut served => return Ok(served?),
                    _ = &mut removed => break End::Gone,
                    _ = terminate.recv() => break End::Asked,
                    _ = interrupt.recv() => break End::Asked,
                    _ = hangup.recv() => break End::Asked,
                    Some(call) = called.recv() => {
                        let text = self.answer(call.request).await;
                        // Who asked may be gone.
                        let _ = call.answer.send(text);
                    }
                    Some(event) = self.events.recv() => {
                        self.heed(event);
                        if !self.exists() {
                            break End::Gone;
                        }
                    }
                    _ = again.tick(), if self.up && self.used.is_none() => {
                        if self.ports.is_free(self.wanted()) {
                            let _ = self.take_port().await;
                        }
                    }
                    () = sleep(MOVED_LOOK), if self.moved => {
                        if !self.exists() {
                            break End::Gone;
                        }
                    }
                    Some(change) = changes.recv() => {
                        let ours = [Change::Link(self.index), Change::Down(self.index)].contains(&change);
                        if ours || change == Change::Lost {
                            self.look().await;
                        }
                        if ours && !self.exists() {
                            break End::Gone;
                        }
                    }
                }
            }
        };
        if matches!(end, End::Asked) {
            Message::Stopping.print();
        }
        drop(listener);
        if let Some(child) = self.child.take() {
            child.stop().await;
        }
        Ok(())
    }

    fn exists(&self) -> bool {
        self.tuns.first().is_some_and(Tun::exists)
    }

    /// Starts a data path, and waits until it is up and has been told everything.
    async fn start(&mut self) -> Result<(), DeviceError> {
        let ports = self.ports.clone();
        let pool = Pool::Plain(Box::new(move || ports.copies()));
        let tun = self.tuns.iter().map(Tun::try_clone_fd).collect::<io::Result<_>>()?;
        let descriptors = Descriptors { tun, udp: Vec::new(), pool };
        let (child, events) = Child::start(descriptors, self.manner)?;
        (self.child, self.events, self.link) = (Some(child), events, None);
        let up = async {
            while self.link.is_none() {
                let Some(event) = self.events.recv().await else { return };
                self.heed(event);
            }
        };
        // A data path that cannot start is tried again for ever: at the beginning that is no use.
        let _ = timeout(PATIENCE, up).await;
        if self.link.is_some() { Ok(()) } else { Err(DeviceError::NoDataPath) }
    }

    /// Ends the data path and starts another, with sockets that were never bound. What was counted is kept.
    async fn start_over(&mut self) -> Result<(), DeviceError> {
        let states = self.states().await;
        self.earlier = self.counted(&states);
        if let Some(used) = self.used.take() {
            self.ports.close(used);
        }
        if let Some(child) = self.child.take() {
            child.stop().await;
        }
        self.start().await
    }

    fn heed(&mut self, event: Event) {
        if let Event::Up(link) = event {
            if self.link.is_some() {
                Message::DataPathRestarted.print();
            }
            self.link = Some(link);
            self.brief();
        }
    }

    /// Tells a new data path everything.
    fn brief(&mut self) {
        if self.used.is_some_and(|used| !self.ports.has(used)) {
            self.unbind();
        }
        self.tell(ToPlain::Key(self.config.private_key().cloned()));
        self.tell_sockets();
        let peers: Vec<u32> = self.config.peers().map(|(id, _)| id).collect();
        for id in peers {
            self.tell_peer(id, true);
        }
        self.tell(ToPlain::Link { up: self.up, mtu: self.mtu });
        self.send(&ToData::Begin);
        if self.up && self.used.is_none() && self.bind(self.wanted()).is_err() {
            Message::DevicePortTaken.print();
        }
    }

    /// Reads the interface's state anew.
    async fn look(&mut self) {
        let (up, mtu) = match self.netlink.state(self.index).await {
            Ok((up, mtu)) => (up, u16::try_from(mtu).unwrap_or(u16::MAX)),
            // It was moved to another network namespace, where nothing tells us: it is taken to be on.
            Err(NetlinkError::NoLink) if self.exists() => {
                self.moved = true;
                (true, self.mtu)
            }
            Err(_) => return,
        };
        if (up, mtu) == (self.up, self.mtu) {
            return;
        }
        let switched = up != self.up;
        (self.up, self.mtu) = (up, mtu);
        if switched && up && self.used.is_none() {
            for _ in 0..PORT_TRIES {
                let port = if self.port == 0 { self.found } else { self.port };
                if self.ports.is_free(port) {
                    break;
                }
                sleep(PORT_PAUSE).await;
            }
            if self.take_port().await.is_err() {
                Message::DevicePortTaken.print();
            }
        }
        self.tell(ToPlain::Link { up, mtu });
        if switched && !up {
            self.unbind();
        }
    }

    async fn answer(&mut self, request: Request) -> Zeroizing<String> {
        match request {
            Request::Get => self.show().await,
            Request::Set(set) => {
                let done = self.set(*set).await;
                Zeroizing::new(uapi::done(done))
            }
        }
    }

    async fn set(&mut self, set: Set) -> Result<(), Errno> {
        self.config.has_room(&set)?;
        // What another program may be in the way of comes first.
        if let Some(port) = set.listen_port {
            self.set_port(port).await?;
        }
        if let Some(mark) = set.fwmark
            && mark != self.mark
        {
            if let Some(used) = self.used {
                self.ports.mark(used, mark).map_err(|e| Errno(e.raw_os_error().unwrap_or(libc::EIO)))?;
            }
            self.mark = mark;
        }
        let changes = self.config.apply(set)?;
        self.spread(changes);
        Ok(())
    }

    /// The port to be had now: what was asked for, or, of any, what was found before if nobody has it by now.
    fn wanted(&self) -> u16 {
        if self.port == 0 && self.ports.is_free(self.found) { self.found } else { self.port }
    }

    /// Has a port where there is none, by another data path where this one has no socket left: nothing is under way that this
    /// would end.
    async fn take_port(&mut self) -> Result<(), PortError> {
        match self.bind(self.wanted()) {
            Err(PortError::Exhausted) => self.start_over().await.map_err(|_| PortError::Exhausted),
            bound => bound,
        }
    }

    /// Another port, or another one of any.
    async fn set_port(&mut self, port: u16) -> Result<(), Errno> {
        let has = self.used.is_some_and(|used| used.port == port || port == 0 && self.port == 0);
        if self.up && !has {
            let bound = match self.bind(port) {
                Err(PortError::Exhausted) => {
                    self.start_over().await.map_err(|_| Errno(libc::EIO))?;
                    // The new data path was told the port that was asked for before.
                    if self.used.is_some_and(|used| used.port == port) { Ok(()) } else { self.bind(port) }
                }
                bound => bound,
            };
            bound.map_err(|error| Errno(number(&error)))?;
        }
        self.port = port;
        if !self.up {
            self.found = 0;
        }
        Ok(())
    }

    /// Goes by another port from now on. That before is free then.
    fn bind(&mut self, port: u16) -> Result<(), PortError> {
        let bound = self.ports.bind(port, self.mark)?;
        self.unbind();
        (self.used, self.found) = (Some(bound), bound.port);
        self.tell_sockets();
        Ok(())
    }

    fn unbind(&mut self) {
        if let Some(used) = self.used.take() {
            self.tell_sockets();
            self.ports.close(used);
        }
    }

    fn spread(&mut self, changes: Changes) {
        for id in changes.removed {
            self.send(&ToData::RemovePeer(id));
            self.earlier.remove(&id);
            self.told.remove(&id);
        }
        // Before the peers: their handshakes are made with it.
        if changes.key {
            self.tell(ToPlain::Key(self.config.private_key().cloned()));
        }
        for (id, placed) in changes.changed {
            self.tell_peer(id, placed);
        }
    }

    fn tell_peer(&self, id: u32, placed: bool) {
        if let Some(peer) = self.config.frame(id, placed) {
            self.tell(ToPlain::Peer(peer));
        }
    }

    fn tell_sockets(&self) {
        let Used { v4, v6, .. } = self.used.unwrap_or_default();
        self.tell(ToPlain::Sockets { v4, v6 });
    }

    fn tell(&self, what: ToPlain) {
        self.send(&ToData::Plain(what));
    }

    /// A data path that is gone is told everything when another comes.
    fn send(&self, frame: &ToData<'_>) {
        if let Some(link) = &self.link {
            link.send(frame);
        }
    }

    /// What the data path knows of the peers; nothing if it does not answer.
    async fn states(&mut self) -> HashMap<u32, PlainState> {
        let ask = async {
            self.token += 1;
            let token = self.token;
            self.send(&ToData::StatusRequest { token });
            let mut states = HashMap::new();
            while let Some(event) = self.events.recv().await {
                let Event::PlainStatus(status) = event else {
                    let again = matches!(event, Event::Up(_));
                    self.heed(event);
                    if again {
                        states.clear();
                        self.send(&ToData::StatusRequest { token });
                    }
                    continue;
                };
                if status.token == token {
                    states.extend(status.peers.into_iter().map(|state| (state.peer, state)));
                    if !status.more {
                        break;
                    }
                }
            }
            states
        };
        timeout(PATIENCE, ask).await.unwrap_or_default()
    }

    /// All that was ever counted.
    fn counted(&self, states: &HashMap<u32, PlainState>) -> HashMap<u32, Counted> {
        let now = Instant::now();
        let sum = |id: u32| {
            let earlier = self.earlier.get(&id).copied().unwrap_or_default();
            let Some(state) = states.get(&id) else { return earlier };
            let handshake = state.since_handshake.and_then(|since| now.checked_sub(since));
            Counted {
                rx_bytes: earlier.rx_bytes + state.rx_bytes,
                tx_bytes: earlier.tx_bytes + state.tx_bytes,
                handshake: handshake.or(earlier.handshake),
            }
        };
        self.config.peers().map(|(id, _)| (id, sum(id))).collect()
    }

    /// The port that it has, or, while it is off, that it would have; 0 while it is on and has none.
    fn shown_port(&self) -> u16 {
        match self.used {
            Some(used) => used.port,
            None if self.up => 0,
            None if self.port == 0 => self.found,
            None => self.port,
        }
    }

    async fn show(&mut self) -> Zeroizing<String> {
        let states = self.states().await;
        let counted = self.counted(&states);
        let now = since_1970();
        for (id, counted) in &counted {
            let Some(handshake) = counted.handshake else { continue };
            let at = now.saturating_sub(handshake.elapsed());
            let told = self.told.entry(*id).or_insert(at);
            if told.abs_diff(at) > SAME {
                *told = at;
            }
        }
        let peers = self.config.peers().map(|(id, peer)| {
            let counted = counted.get(&id).copied().unwrap_or_default();
            let handshake = self.told.get(&id).copied().unwrap_or_default();
            ShownPeer {
                public_key: &peer.public_key,
                preshared_key: &peer.preshared_key,
                endpoint: states.get(&id).and_then(|state| state.endpoint).or(peer.endpoint),
                last_handshake: (handshake.as_secs(), handshake.subsec_nanos()),
                tx_bytes: counted.tx_bytes,
                rx_bytes: counted.rx_bytes,
                keepalive: peer.keepalive,
                allowed: peer.allowed.iter().copied().collect(),
            }
        });
        let shown = Shown {
            private_key: self.config.private_key(),
            listen_port: self.shown_port(),
            fwmark: self.mark,
            peers: peers.collect(),
        };
        shown.text()
    }
}

/// What a caller is told of a port that cannot be had.
fn number(error: &PortError) -> i32 {
    match error {
        PortError::Udp(UdpError::PortTaken(_)) => libc::EADDRINUSE,
        PortError::Udp(UdpError::NotPermitted(_)) => libc::EACCES,
        PortError::Udp(UdpError::NoFamily) => libc::EAFNOSUPPORT,
        PortError::Exhausted | PortError::Udp(_) => libc::EIO,
    }
}

/// The wall clock, which the protocol tells handshakes by.
#[expect(
    clippy::disallowed_types,
    reason = "the protocol's times are of this clock; it is read when somebody asks"
)]
fn since_1970() -> Duration {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default()
}
