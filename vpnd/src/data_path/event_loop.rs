//! The loop: wait, read a bounded amount, let the core work, write everything, wait again.
//!
//! Packets are read once control has told everything ([`ToData::Begin`]): what comes before that, while a data path
//! that died is replaced for instance, waits in the kernel, for it would be dropped here for want of a peer.
//!
//! Level-triggered: what a turn leaves unread shows up in the next. Each source has its share of a turn, so that
//! neither a flood from one side nor a busy control starves the others.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Instant,
};

use mesh::To;
use netio::{
    epoll::{Epoll, Interest, Ready},
    pipe::PipeError,
    tun::{self, Coalescer, Frame, Tun},
    udp::{Batch, Family, SendError, Socket},
};
use proto::{
    beacon,
    pipe::{FromData, ToData, ToPlain},
};

use super::{
    DataPathError,
    control::{Inlet, Outlet},
    engine::Engine,
    lull::Lull,
    post::{Letter, Letters, Post},
};

/// Reads from the device in one turn.
const TUN_READS: usize = 64;
/// Bytes read from the device in one turn.
const TUN_BYTES: usize = 256 << 10;
/// Receive calls to one socket in one turn: of small datagrams, each brings 32.
const SOCKET_READS: usize = 4;
/// Bytes received from one socket after which a turn asks it no further; one call may bring more.
const SOCKET_BYTES: usize = 128 << 10;
/// Bytes taken into the core before what they became is sent: what stays in the cache, and what one send takes.
const FLUSH_BYTES: usize = 64 << 10;
/// Bytes received before what they became is written to the device: the more there are, the more of one flow are joined, and
/// the fewer writes and acknowledgements they cost.
const WRITE_BYTES: usize = 128 << 10;
/// Reads from control's pipe in one turn.
const CONTROL_READS: usize = 4;

const TUN: u64 = 0;
const RX: u64 = 1;
const TX: u64 = 2;
const BELL: u64 = 3;
/// The first socket; the others follow.
const SOCKETS: u64 = 4;

/// Sockets at most, in words of a set.
const WORDS: usize = (u8::MAX as usize + 1) / u64::BITS as usize;

/// What was dropped outside the core, in packets.
#[derive(Clone, Copy, Default)]
pub(super) struct Dropped {
    pub(super) malformed: u64,
    pub(super) unsent: u64,
    pub(super) undelivered: u64,
    pub(super) unrelayed: u64,
}

pub(super) struct EventLoop<E> {
    epoll: Epoll,
    frame: Frame,
    batch: Batch,
    core: Core<E>,
    /// Where frames come from, on the worker that control speaks with.
    inlet: Option<Inlet>,
    /// Where there are other workers.
    desk: Option<Desk>,
    /// The sockets that a plain interface goes by.
    used: [Option<u8>; 2],
    /// Whether the pipe to control is full, and its becoming writable is waited for.
    waiting: bool,
    lull: Lull,
}

/// The core and all that it writes to.
struct Core<E> {
    engine: E,
    tun: Tun,
    /// The two of the machine, and the pool's. One that was closed leaves its place empty.
    sockets: Vec<Option<Socket>>,
    outlet: Outlet,
    /// How a later worker reaches the first, which has sockets that no other has.
    first: Option<Arc<Post>>,
    coalescer: Coalescer,
    dropped: Dropped,
}

/// What a loop has to do with besides packets.
pub(super) struct Ends {
    pub(super) inlet: Option<Inlet>,
    pub(super) outlet: Outlet,
    pub(super) desk: Option<Desk>,
}

/// A worker's place among several.
pub(super) struct Desk {
    post: Arc<Post>,
    me: u8,
    /// What was taken from its box last.
    taken: Letters,
}

impl Desk {
    pub(super) fn new(post: Arc<Post>, me: u8) -> Self {
        Self { post, me, taken: Letters::default() }
    }
}

/// What control said that concerns the loop.
#[derive(Default)]
struct Heard {
    /// A peer was removed.
    removed: bool,
    /// Everything was told.
    begin: bool,
}

/// Why a turn ended the loop: control or the interface is gone, which is the ordinary end, or something failed.
enum End {
    Closed,
    Failed(DataPathError),
}

impl<E: Into<DataPathError>> From<E> for End {
    fn from(e: E) -> Self {
        Self::Failed(e.into())
    }
}

fn piped(e: PipeError) -> End {
    match e {
        PipeError::Closed => End::Closed,
        PipeError::Io(e) => e.into(),
    }
}

impl<E: Engine> EventLoop<E> {
    /// The sockets are numbered as they come; there are 255 at most.
    pub(super) fn new(
        epoll: Epoll,
        tun: Tun,
        mut sockets: Vec<Socket>,
        engine: E,
        ends: Ends,
    ) -> Result<Self, DataPathError> {
        epoll.add(&tun, TUN, Interest::None)?;
        let Ends { inlet, outlet, desk } = ends;
        if let Some(inlet) = &inlet {
            epoll.add(&inlet.rx, RX, Interest::Read)?;
        }
        if let Outlet::Pipe(tx, _) = &outlet {
            epoll.add(tx, TX, Interest::None)?;
        }
        if let Some(desk) = &desk {
            epoll.add(desk.post.bell(desk.me), BELL, Interest::Read)?;
        }
        sockets.truncate(u8::MAX.into());
        for (token, socket) in (SOCKETS..).zip(&sockets) {
            epoll.add(socket, token, Interest::None)?;
        }
        let sockets = sockets.into_iter().map(Some).collect();
        let (coalescer, dropped) = (Coalescer::new(), Dropped::default());
        let first = desk.as_ref().filter(|desk| desk.me > 0).map(|desk| Arc::clone(&desk.post));
        let core = Core { engine, tun, sockets, outlet, first, coalescer, dropped };
        let (frame, batch, lull) = (Frame::new(), Batch::new(), Lull::new());
        Ok(Self { epoll, frame, batch, core, inlet, desk, used: [None; 2], waiting: false, lull })
    }

    /// Runs until control closes a pipe, or the interface is deleted.
    pub(super) fn run(mut self) -> Result<(), DataPathError> {
        loop {
            match self.turn() {
                Ok(()) => {}
                Err(End::Closed) => return Ok(()),
                Err(End::Failed(e)) => return Err(e),
            }
        }
    }

    fn turn(&mut self) -> Result<(), End> {
        self.flush_control()?;
        let before = Instant::now();
        let timeout = self.core.engine.poll_timeout().map(|at| at.saturating_duration_since(before));
        let (mut tun, mut rx, mut bell, mut readable) = (false, false, false, [0_u64; WORDS]);
        let mut woken = false;
        for Ready { token, readable: ready, closed, .. } in
            self.epoll.wait_awake(timeout, self.lull.awake())?
        {
            woken = true;
            match token {
                TUN => tun = ready,
                RX => rx = ready,
                BELL => bell = ready,
                TX if closed => return Err(End::Closed),
                // The next turn starts with writing to it.
                TX => {}
                socket if ready => {
                    let index = (socket - SOCKETS) as usize;
                    readable[index / 64] |= 1 << (index % 64);
                }
                _ => {}
            }
        }
        let now = Instant::now();
        self.lull.waited(now.saturating_duration_since(before), woken);
        if self.core.engine.poll_timeout().is_some_and(|at| at <= now) {
            self.core.engine.handle_timeout(now);
            self.core.flush();
        }
        if rx && self.read_control(now)? {
            self.forget();
        }
        if bell && self.read_post(now)? {
            self.forget();
        }
        // By the sockets that are ready, not by those that there are.
        for (word, mut set) in readable.into_iter().enumerate() {
            while set != 0 {
                self.read_socket(word * 64 + set.trailing_zeros() as usize, now)?;
                set &= set - 1;
            }
        }
        if tun {
            self.read_tun(now)?;
        }
        Ok(())
    }

    /// Returns whether a peer was removed.
    fn read_control(&mut self, now: Instant) -> Result<bool, End> {
        let Some(inlet) = &mut self.inlet else { return Ok(false) };
        let mut heard = Heard::default();
        for _ in 0..CONTROL_READS {
            if !inlet.fill().map_err(piped)? {
                break;
            }
            while let Some(frame) = inlet.frames.next_frame()? {
                let frame = ToData::decode(frame)?;
                self.core.heed(now, frame, &self.epoll, &mut self.used, &mut heard)?;
            }
            self.core.flush();
        }
        self.begin(&heard)
    }

    /// Takes what other workers handed over. Returns whether a peer was removed.
    fn read_post(&mut self, now: Instant) -> Result<bool, End> {
        let Some(desk) = &mut self.desk else { return Ok(false) };
        desk.post.take(desk.me, &mut desk.taken);
        let (mut heard, mut at, mut flushed) = (Heard::default(), 0, 0);
        for (letter, len) in desk.taken.letters.drain(..) {
            let bytes = &desk.taken.bytes[at..at + len];
            at += len;
            match letter {
                Letter::Frame | Letter::FromRelay => {
                    let frame = ToData::decode(bytes)?;
                    self.core.heed(now, frame, &self.epoll, &mut self.used, &mut heard)?;
                }
                Letter::Leaving((socket, dst), class, segment) => {
                    self.core.leave((socket, dst), class, segment, bytes);
                }
                Letter::Said | Letter::ToRelay => self.core.pass_on(FromData::decode(bytes)?),
                letter => self.core.engine.handle_letter(now, letter, bytes),
            }
            if at - flushed >= FLUSH_BYTES {
                self.core.flush();
                flushed = at;
            }
        }
        desk.taken.clear();
        self.core.flush();
        self.begin(&heard)
    }

    /// Once everything was told, packets are read. Returns whether a peer was removed.
    fn begin(&self, heard: &Heard) -> Result<bool, End> {
        if heard.begin {
            self.epoll.modify(&self.core.tun, TUN, Interest::Read)?;
            for (token, socket) in (SOCKETS..).zip(&self.core.sockets) {
                if let Some(socket) = socket {
                    self.epoll.modify(socket, token, Interest::Read)?;
                }
            }
        }
        Ok(heard.removed)
    }

    /// Of a peer that was removed nothing stays, in no buffer that would be used again.
    fn forget(&mut self) {
        self.core.engine.forget();
        (self.frame, self.batch) = (Frame::new(), Batch::new());
        if let Some(desk) = &mut self.desk {
            desk.taken = Letters::default();
        }
        self.core.coalescer = Coalescer::new();
        sandbox::wipe::stack();
    }

    fn read_socket(&mut self, index: usize, now: Instant) -> Result<(), End> {
        let (mut total, mut taken) = (0, 0);
        let alone = self.lull.alone();
        for _ in 0..if alone { 1 } else { SOCKET_READS } {
            let Some(Some(socket)) = self.core.sockets.get(index) else { break };
            if alone {
                socket.recv_one(&mut self.batch)?
            } else {
                socket.recv(&mut self.batch)?
            };
            for datagram in self.batch.datagrams() {
                #[cfg(feature = "leaks")]
                crate::leaks::datagram(datagram.src);
                let from = (index as u8, datagram.src);
                self.core.engine.handle_udp(now, from, datagram.class, datagram.segment, datagram.data);
                total += datagram.data.len();
                taken += datagram.data.len();
                if taken >= WRITE_BYTES {
                    self.core.flush();
                    taken = 0;
                }
            }
            if total >= SOCKET_BYTES || !self.batch.is_full() {
                break;
            }
        }
        self.core.flush();
        Ok(())
    }

    fn read_tun(&mut self, now: Instant) -> Result<(), End> {
        let (mut total, mut taken) = (0, 0);
        for _ in 0..if self.lull.alone() { 1 } else { TUN_READS } {
            let mut split = match self.core.tun.read(&mut self.frame) {
                Ok(None) => break,
                Ok(Some(Ok(split))) => split,
                Ok(Some(Err(_))) => {
                    self.core.dropped.malformed += 1;
                    continue;
                }
                Err(e) if tun::is_gone(&e) => return Err(End::Closed),
                Err(e) => return Err(e.into()),
            };
            while let Some(packet) = split.next_packet() {
                // For another worker: the core that shares handed it over.
                let _ = self.core.engine.handle_tun(now, packet);
                taken += packet.len();
            }
            if taken >= FLUSH_BYTES {
                self.core.flush();
                total += taken;
                taken = 0;
                if total >= TUN_BYTES {
                    return Ok(());
                }
            }
        }
        self.core.flush();
        Ok(())
    }

    /// Writes to control, and watches for room if some is missing.
    fn flush_control(&mut self) -> Result<(), End> {
        let left = self.core.outlet.flush().map_err(piped)?;
        if left != self.waiting {
            let interest = if left { Interest::Write } else { Interest::None };
            if let Outlet::Pipe(tx, _) = &self.core.outlet {
                self.epoll.modify(tx, TX, interest)?;
            }
            self.waiting = left;
        }
        Ok(())
    }
}

impl<E: Engine> Core<E> {
    /// A frame from control.
    fn heed(
        &mut self,
        now: Instant,
        frame: ToData<'_>,
        epoll: &Epoll,
        used: &mut [Option<u8>; 2],
        heard: &mut Heard,
    ) -> Result<(), End> {
        heard.removed |= matches!(frame, ToData::RemovePeer(_));
        heard.begin |= matches!(frame, ToData::Begin);
        if let ToData::Beacon { link, from, datagram } = frame {
            let said = say(&self.sockets, (link, from), datagram);
            self.dropped.unsent += u64::from(!said);
        }
        if let ToData::Plain(ToPlain::Sockets { v4, v6 }) = frame {
            use_sockets(epoll, &mut self.sockets, used, [v4, v6])?;
        }
        self.engine.apply(now, frame);
        Ok(())
    }

    /// What another worker says to control.
    fn pass_on(&mut self, said: FromData<'_>) {
        let relayed = matches!(said, FromData::RelaySend { .. });
        let sent = self.engine.gather(said).is_none_or(|said| self.outlet.send(&said));
        self.dropped.unrelayed += u64::from(relayed && !sent);
    }

    /// Sends what another worker has for a socket that only this one has.
    fn leave(&mut self, (socket, dst): (u8, SocketAddr), class: u8, segment: usize, data: &[u8]) {
        let Some(Some(socket)) = self.sockets.get_mut(usize::from(socket)) else { return };
        if socket.send(dst, class, segment, data).is_err() {
            self.dropped.unsent += data.chunks(segment.max(1)).count() as u64;
        }
    }

    /// Writes everything that the core has to give.
    fn flush(&mut self) {
        while let Some(out) = self.engine.poll_transmit() {
            match out.to {
                To::Udp { socket, dst } => {
                    let Some(Some(own)) = self.sockets.get_mut(usize::from(socket)) else {
                        if let Some(first) = &self.first {
                            let letter = Letter::Leaving((socket, dst), out.class, out.segment);
                            let sent = first.send(0, letter, out.data);
                            self.dropped.unsent += if sent { 0 } else { out.datagrams().count() as u64 };
                        }
                        continue;
                    };
                    let Err(e) = own.send(dst, out.class, out.segment, out.data) else { continue };
                    self.dropped.unsent += out.datagrams().count() as u64;
                    if e == SendError::TooBig {
                        let (to, len) = (out.to, out.segment);
                        self.engine.handle_too_large(Instant::now(), to, len);
                    }
                }
                To::Relay { relay, to } => {
                    for payload in out.datagrams() {
                        let room = self.outlet.send(&FromData::RelaySend { relay, to, payload });
                        self.dropped.unrelayed += u64::from(!room);
                    }
                }
            }
        }
        if let Some(batch) = self.engine.poll_tun() {
            let written = self.tun.write(batch.packets(), &mut self.coalescer);
            self.dropped.undelivered += written.dropped as u64;
        }
        let outlet = &mut self.outlet;
        self.engine.tell(&self.dropped, &mut |said| {
            outlet.send(&said);
        });
    }
}

/// A plain interface goes by these two from now on. Those before are closed, so that nothing here keeps their port.
fn use_sockets(
    epoll: &Epoll,
    sockets: &mut [Option<Socket>],
    used: &mut [Option<u8>; 2],
    next: [Option<u8>; 2],
) -> Result<(), End> {
    let before = std::mem::replace(used, next);
    for number in before.into_iter().flatten().filter(|number| !next.contains(&Some(*number))) {
        let socket = sockets.get_mut(usize::from(number)).and_then(Option::take);
        if let Some(socket) = socket {
            // While control still holds a copy, closing does not end the watch.
            epoll.modify(&socket, SOCKETS + u64::from(number), Interest::None)?;
        }
    }
    Ok(())
}

/// Sends a beacon by the socket that packets come and go by, so that where it comes from is where this machine is reached.
/// Whom it goes to and at which port is decided here. Returns whether it left.
fn say(sockets: &[Option<Socket>], (link, from): (u32, IpAddr), datagram: &[u8]) -> bool {
    let family = if from.is_ipv4() { Family::V4 } else { Family::V6 };
    let socket = sockets.iter().flatten().find(|socket| socket.family() == family);
    socket.is_some_and(|socket| socket.say(link, from, beacon::PORT, datagram).is_ok())
}
