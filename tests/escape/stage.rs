//! Where an attempt is made: a process that holds what a data path, control or a server holds, in a folder with something
//! to steal and something to spoil, with descriptors that a careless parent passed on.

use std::{
    ffi::CString,
    fs::{self, File, OpenOptions},
    net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket},
    ops::RangeInclusive,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
        unix::net::{UnixDatagram, UnixStream},
    },
    path::Path,
};

use netio::{
    bell::Bell,
    epoll::{Epoll, Interest},
    inherit, pipe,
    tun::Tun,
    udp,
};
use nix::{
    fcntl::{FcntlArg, fcntl},
    libc,
};

use crate::walls::{Kind, Who};

/// Numbers below this are tried one by one.
pub(crate) const NUMBERS: RawFd = 65;

/// Sockets in a data path's pool: fewer than in life, so that there are numbers beyond.
const POOL: usize = 20;

/// What a server was born with lies above this number.
const BORN_WITH: RawFd = 100;

/// What the process lives from.
pub(crate) struct Held {
    /// A TUN device; a server's listening socket.
    pub(crate) device: RawFd,
    /// A connection, of a server.
    pub(crate) tcp: Option<RawFd>,
    pub(crate) udp: Vec<RawFd>,
    /// A data path's more sockets, in a row.
    pub(crate) pool: Option<RangeInclusive<RawFd>>,
    /// The two ends that it reads from and writes to: of two pipes; of a server's own pair of sockets.
    pub(crate) rx: RawFd,
    pub(crate) tx: RawFd,
    pub(crate) epoll: RawFd,
    /// By which workers of a data path wake each other.
    pub(crate) bells: Vec<RawFd>,
}

pub(crate) struct Stage {
    who: Who,
    pub(crate) held: Held,
    /// A file, open to read and write.
    pub(crate) file: RawFd,
    /// A folder.
    pub(crate) folder: RawFd,
    /// A unix datagram socket. The next number is the other end of the same.
    pub(crate) unix: RawFd,
    /// One without a name.
    pub(crate) unbound: RawFd,
    _open: Vec<OwnedFd>,
    _epoll: Epoll,
    _bells: Vec<Bell>,
}

/// What a careless parent left open.
struct Inherited {
    file: File,
    folder: File,
    unix: UnixDatagram,
    far: UnixDatagram,
    unbound: UnixDatagram,
    /// Somebody listens to it, under the name `log`.
    log: UnixDatagram,
}

impl Stage {
    /// In `folder`, which becomes the working directory. A process with `walls` is prepared for them first, as its kind is.
    pub(crate) fn set(folder: &Path, who: Who, walls: bool) -> Self {
        fs::create_dir(folder).unwrap();
        std::env::set_current_dir(folder).unwrap();
        furnish();
        let inherited = Inherited::open();
        match who.kind() {
            Kind::Machine => of_a_machine(who, inherited),
            Kind::Server => of_a_server(who, inherited, walls),
        }
    }
}

impl Stage {
    /// Whether a data path lives from reading from this number.
    pub(crate) fn reads_from(&self, fd: RawFd) -> bool {
        let other = if self.who == Who::LaterWorker { self.held.bells[0] } else { self.held.rx };
        [self.held.device, other].contains(&fd)
    }

    /// Whether it lives from writing to this number.
    pub(crate) fn writes_to(&self, fd: RawFd) -> bool {
        let Held { device, tcp, rx, tx, .. } = self.held;
        match tcp {
            None if self.who == Who::LaterWorker => fd == device || self.held.bells.contains(&fd),
            None => [device, tx].contains(&fd),
            // A pair of sockets between two ends of the process itself leads nowhere.
            Some(tcp) => [tcp, tx, rx].contains(&fd),
        }
    }
}

fn furnish() {
    fs::write("secret", "a secret, and room for more").unwrap();
    fs::write("other", "").unwrap();
    for made in ["folder", "empty", "state", "run", "data", "certificates"] {
        fs::create_dir(made).unwrap();
    }
    // What control keeps.
    fs::write("state/kept", "a key").unwrap();
    fs::write("run/socket", "").unwrap();
    // What a server keeps, and what it reads.
    fs::write("data/coordinator.db", "rows").unwrap();
    fs::write("certificates/chain.pem", "a chain").unwrap();
    std::os::unix::fs::symlink("secret", "symlink").unwrap();
}

impl Inherited {
    fn open() -> Self {
        let (unix, far) = UnixDatagram::pair().unwrap();
        let inherited = Self {
            file: OpenOptions::new().read(true).write(true).open("secret").unwrap(),
            folder: File::open("folder").unwrap(),
            unix,
            far,
            unbound: UnixDatagram::unbound().unwrap(),
            log: UnixDatagram::bind("log").unwrap(),
        };
        // An attempt to read must not wait for something to come.
        let sockets = [&inherited.unix, &inherited.far, &inherited.unbound, &inherited.log];
        sockets.iter().for_each(|socket| socket.set_nonblocking(true).unwrap());
        inherited
    }

    fn into_descriptors(self) -> Vec<OwnedFd> {
        let Self { file, folder, unix, far, unbound, log } = self;
        vec![file.into(), folder.into(), unix.into(), far.into(), unbound.into(), log.into()]
    }
}

/// Every low number is open: the walls are what closes them.
fn of_a_machine(who: Who, inherited: Inherited) -> Stage {
    let tun = Tun::create(&format!("tacet{}", std::process::id() % 1_000_000)).unwrap();
    let udp::Pair { v4, v6, .. } = udp::bind_pair(0, true, None).unwrap();
    let (rx, to) = pipe::pipe().unwrap();
    let (from, tx) = pipe::pipe().unwrap();
    let epoll = Epoll::new().unwrap();
    epoll.add(&tx, 0, Interest::None).unwrap();
    let udp: Vec<OwnedFd> = [Some(v4), v6].into_iter().flatten().map(udp::Socket::into_fd).collect();
    let bells = vec![Bell::new().unwrap(), Bell::new().unwrap()];
    let pool = inherit::line_up(udp::pool(POOL, None).unwrap()).unwrap();
    let held = Held {
        device: tun.as_fd().as_raw_fd(),
        tcp: None,
        udp: udp.iter().map(AsRawFd::as_raw_fd).collect(),
        pool: Some(pool[0].as_raw_fd()..=pool[POOL - 1].as_raw_fd()),
        rx: rx.as_raw_fd(),
        tx: tx.as_raw_fd(),
        epoll: epoll.as_fd().as_raw_fd(),
        bells: bells.iter().map(|bell| bell.as_fd().as_raw_fd()).collect(),
    };
    let Inherited { file, folder, unix, unbound, .. } = &inherited;
    let [file, folder, unix, unbound] =
        [file.as_raw_fd(), folder.as_raw_fd(), unix.as_raw_fd(), unbound.as_raw_fd()];
    let spare = inherited.file.try_clone().unwrap();
    let mut open = inherited.into_descriptors();
    open.extend([tun.into_fd(), rx, to, from, tx]);
    open.extend(udp);
    open.extend(pool);
    while open.last().unwrap().as_raw_fd() < NUMBERS {
        open.push(spare.try_clone().unwrap().into());
    }
    Stage { who, held, file, folder, unix, unbound, _open: open, _epoll: epoll, _bells: bells }
}

/// What it was born with is closed before it opens anything: its numbers lead nowhere then.
fn of_a_server(who: Who, inherited: Inherited, walls: bool) -> Stage {
    let far_up = |fd: BorrowedFd<'_>| fcntl(fd, FcntlArg::F_DUPFD(BORN_WITH)).unwrap();
    let Inherited { file, folder, unix, far, unbound, .. } = &inherited;
    // A pair's ends are neighbours.
    let [file, folder, unix, _, unbound] =
        [file.as_fd(), folder.as_fd(), unix.as_fd(), far.as_fd(), unbound.as_fd()].map(far_up);
    let mut open: Vec<OwnedFd> = Vec::new();
    if walls {
        drop(inherited);
        relay::walls::prepare().unwrap();
    } else {
        open = inherited.into_descriptors();
    }
    let loopback = (Ipv4Addr::LOCALHOST, 0);
    let listener = TcpListener::bind(loopback).unwrap();
    let tcp = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let udp = UdpSocket::bind(loopback).unwrap();
    let (tx, rx) = UnixStream::pair().unwrap();
    let epoll = Epoll::new().unwrap();
    tcp.set_nonblocking(true).unwrap();
    udp.set_nonblocking(true).unwrap();
    listener.set_nonblocking(true).unwrap();
    tx.set_nonblocking(true).unwrap();
    rx.set_nonblocking(true).unwrap();
    let held = Held {
        device: listener.as_raw_fd(),
        tcp: Some(tcp.as_raw_fd()),
        udp: vec![udp.as_raw_fd()],
        pool: None,
        rx: rx.as_raw_fd(),
        tx: tx.as_raw_fd(),
        epoll: epoll.as_fd().as_raw_fd(),
        bells: Vec::new(),
    };
    open.extend([listener.into(), tcp.into(), udp.into(), tx.into(), OwnedFd::from(rx)]);
    Stage { who, held, file, folder, unix, unbound, _open: open, _epoll: epoll, _bells: Vec::new() }
}

pub(crate) fn text(text: &str) -> CString {
    CString::new(text).unwrap()
}

/// The address of a unix socket.
pub(crate) fn unix_address(path: &str) -> (libc::sockaddr_un, usize) {
    let mut address = libc::sockaddr_un { sun_family: libc::AF_UNIX as u16, sun_path: [0; 108] };
    for (to, from) in address.sun_path.iter_mut().zip(path.bytes()) {
        *to = from as libc::c_char;
    }
    (address, size_of::<u16>() + path.len() + 1)
}
