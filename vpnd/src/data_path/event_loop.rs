//! The loop: wait, read a bounded amount, let the core work, write everything, wait again.
//!
//! Packets are read once control has told everything ([`ToData::Begin`]): what comes before that, while a data path
//! that died is replaced for instance, waits in the kernel, for it would be dropped here for want of a peer.
//!
//! Level-triggered: what a turn leaves unread shows up in the next. Each source has its share of a turn, so that
//! neither a flood from one side nor a busy control starves the others.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Instant,
};

use mesh::{Event, Mesh, To};
use netio::{
    epoll::{Epoll, Interest, Ready},
    pipe::PipeError,
    tun::{Coalescer, Frame, Tun},
    udp::{Batch, Family, SendError, Socket},
};
use proto::{
    beacon,
    pipe::{FromData, ToData},
};
use rand_core::OsRng;

use super::{DataPathError, control::Control};

/// Reads from the device in one turn.
const TUN_READS: usize = 64;
/// Bytes read from the device in one turn.
const TUN_BYTES: usize = 256 << 10;
/// Bytes taken into the core before what they became is written: what stays in the cache.
const FLUSH_BYTES: usize = 64 << 10;
/// Reads from control's pipe in one turn.
const CONTROL_READS: usize = 4;

const TUN: u64 = 0;
const RX: u64 = 1;
const TX: u64 = 2;
/// The first socket; the others follow.
const SOCKETS: u64 = 3;

/// Sockets at most, in words of a set.
const WORDS: usize = (u8::MAX as usize + 1) / u64::BITS as usize;

/// What was dropped outside the core, in packets.
#[derive(Default)]
struct Dropped {
    malformed: u64,
    unsent: u64,
    undelivered: u64,
    unrelayed: u64,
}

pub(super) struct EventLoop {
    epoll: Epoll,
    frame: Frame,
    batch: Batch,
    core: Core,
    /// Whether the pipe to control is full, and its becoming writable is waited for.
    waiting: bool,
}

/// The core and all that it writes to.
struct Core {
    mesh: Mesh,
    tun: Tun,
    /// The two of the machine, and the pool's.
    sockets: Vec<Socket>,
    control: Control,
    coalescer: Coalescer,
    dropped: Dropped,
}

/// Why a turn ended the loop: control is gone, which is the ordinary end, or something failed.
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

impl EventLoop {
    pub(super) fn new(
        epoll: Epoll,
        tun: Tun,
        mut sockets: Vec<Socket>,
        pool: Vec<Socket>,
        control: Control,
    ) -> Result<Self, DataPathError> {
        epoll.add(&tun, TUN, Interest::None)?;
        epoll.add(&control.rx, RX, Interest::Read)?;
        epoll.add(&control.tx, TX, Interest::None)?;
        let mut addresses = Vec::new();
        for socket in &sockets {
            let ip = match socket.family() {
                Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
                Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
            };
            addresses.push(SocketAddr::new(ip, socket.port()?));
        }
        let first = sockets.len();
        sockets.extend(pool);
        sockets.truncate(u8::MAX.into());
        for (token, socket) in (SOCKETS..).zip(&sockets) {
            epoll.add(socket, token, Interest::None)?;
        }
        let pool = first as u8..sockets.len() as u8;
        let mesh = Mesh::new(Instant::now(), Box::new(OsRng), &addresses).with_pool(pool);
        let (coalescer, dropped) = (Coalescer::new(), Dropped::default());
        let core = Core { mesh, tun, sockets, control, coalescer, dropped };
        Ok(Self { epoll, frame: Frame::new(), batch: Batch::new(), core, waiting: false })
    }

    /// Runs until control closes a pipe.
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
        let timeout = self.core.mesh.poll_timeout().map(|at| at.saturating_duration_since(Instant::now()));
        let (mut tun, mut rx, mut readable) = (false, false, [0_u64; WORDS]);
        for Ready { token, readable: ready, closed, .. } in self.epoll.wait(timeout)? {
            match token {
                TUN => tun = ready,
                RX => rx = ready,
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
        if self.core.mesh.poll_timeout().is_some_and(|at| at <= now) {
            self.core.mesh.handle_timeout(now);
            self.core.flush();
        }
        if rx && self.read_control(now)? {
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
        let (mut removed, mut begin) = (false, false);
        for _ in 0..CONTROL_READS {
            if !self.core.control.fill().map_err(piped)? {
                break;
            }
            while let Some(frame) = self.core.control.frames.next_frame()? {
                let frame = ToData::decode(frame)?;
                removed |= matches!(frame, ToData::RemovePeer(_));
                begin |= matches!(frame, ToData::Begin);
                if let ToData::Beacon { link, from, datagram } = frame {
                    let said = say(&self.core.sockets, (link, from), datagram);
                    self.core.dropped.unsent += u64::from(!said);
                }
                self.core.mesh.apply(now, frame);
            }
            self.core.flush();
        }
        if begin {
            self.epoll.modify(&self.core.tun, TUN, Interest::Read)?;
            for (token, socket) in (SOCKETS..).zip(&self.core.sockets) {
                self.epoll.modify(socket, token, Interest::Read)?;
            }
        }
        Ok(removed)
    }

    /// Of a peer that was removed nothing stays, in no buffer that would be used again.
    fn forget(&mut self) {
        self.core.mesh.forget();
        (self.frame, self.batch) = (Frame::new(), Batch::new());
        self.core.coalescer = Coalescer::new();
        sandbox::wipe::stack();
    }

    fn read_socket(&mut self, index: usize, now: Instant) -> Result<(), End> {
        self.core.sockets[index].recv(&mut self.batch)?;
        let mut taken = 0;
        for datagram in self.batch.datagrams() {
            #[cfg(feature = "leaks")]
            crate::leaks::datagram(datagram.src);
            let from = (index as u8, datagram.src);
            self.core.mesh.handle_udp(now, from, datagram.class, datagram.segment, datagram.data);
            taken += datagram.data.len();
            if taken >= FLUSH_BYTES {
                self.core.flush();
                taken = 0;
            }
        }
        self.core.flush();
        Ok(())
    }

    fn read_tun(&mut self, now: Instant) -> Result<(), End> {
        let (mut total, mut taken) = (0, 0);
        for _ in 0..TUN_READS {
            let mut split = match self.core.tun.read(&mut self.frame)? {
                None => break,
                Some(Ok(split)) => split,
                Some(Err(_)) => {
                    self.core.dropped.malformed += 1;
                    continue;
                }
            };
            while let Some(packet) = split.next_packet() {
                self.core.mesh.handle_tun(now, packet);
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
        let left = self.core.control.flush().map_err(piped)?;
        if left != self.waiting {
            let interest = if left { Interest::Write } else { Interest::None };
            self.epoll.modify(&self.core.control.tx, TX, interest)?;
            self.waiting = left;
        }
        Ok(())
    }
}

impl Core {
    /// Writes everything that the core has to give.
    fn flush(&mut self) {
        while let Some(out) = self.mesh.poll_transmit() {
            match out.to {
                To::Udp { socket, dst } => {
                    let socket = self.sockets.get_mut(usize::from(socket));
                    let Some(Err(e)) =
                        socket.map(|socket| socket.send(dst, out.class, out.segment, out.data))
                    else {
                        continue;
                    };
                    self.dropped.unsent += out.datagrams().count() as u64;
                    if e == SendError::TooBig {
                        let (to, len) = (out.to, out.segment);
                        self.mesh.handle_too_large(Instant::now(), to, len);
                    }
                }
                To::Relay { relay, to } => {
                    for payload in out.datagrams() {
                        let room = self.control.send(&FromData::RelaySend { relay, to, payload });
                        self.dropped.unrelayed += u64::from(!room);
                    }
                }
            }
        }
        if let Some(batch) = self.mesh.poll_tun() {
            let written = self.tun.write(batch.packets(), &mut self.coalescer);
            self.dropped.undelivered += written.dropped as u64;
        }
        while let Some(event) = self.mesh.poll_event() {
            match event {
                Event::Status(mut status) => {
                    status.drops.malformed += self.dropped.malformed;
                    status.drops.unsent = self.dropped.unsent;
                    status.drops.undelivered = self.dropped.undelivered;
                    status.drops.unrelayed = self.dropped.unrelayed;
                    self.control.send(&FromData::Status(status));
                }
                Event::Pong(pong) => {
                    self.control.send(&FromData::Pong(pong));
                }
                Event::PeerFloor { peer, floor } => {
                    self.control.send(&FromData::PeerFloor { peer, floor });
                }
                Event::Seek(peer) => {
                    self.control.send(&FromData::Seek(peer));
                }
            }
        }
    }
}

/// Sends a beacon by the socket that packets come and go by, so that where it comes from is where this machine is reached.
/// Whom it goes to and at which port is decided here. Returns whether it left.
fn say(sockets: &[Socket], (link, from): (u32, IpAddr), datagram: &[u8]) -> bool {
    let family = if from.is_ipv4() { Family::V4 } else { Family::V6 };
    let socket = sockets.iter().find(|socket| socket.family() == family);
    socket.is_some_and(|socket| socket.say(link, from, beacon::PORT, datagram).is_ok())
}
