//! Where an attempt is made: a process that holds what a server holds, in a folder with something to steal and something
//! to spoil, and that was born with descriptors which a careless parent passed on.

use std::{
    ffi::CString,
    fs::{self, File, OpenOptions},
    net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
        unix::net::{UnixDatagram, UnixStream},
    },
    path::{Path, PathBuf},
};

use coordinator::{
    store::DataDir,
    walls::{Needs, put_up},
};
use nix::{
    fcntl::{FcntlArg, fcntl},
    libc,
    sys::epoll::{Epoll, EpollCreateFlags},
};
use relay::walls::{self, Kept, Missing};
use sandbox::files::{self, Grant, Reach};

/// Whose walls are tried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Server {
    Relay,
    RelayWithCertificate,
    Coordinator,
}

impl Server {
    pub(crate) const ALL: [Self; 3] = [Self::Relay, Self::RelayWithCertificate, Self::Coordinator];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Relay => "relay",
            Self::RelayWithCertificate => "relay-with-certificate",
            Self::Coordinator => "coordinator",
        }
    }

    pub(crate) fn from_name(name: &str) -> Self {
        Self::ALL.into_iter().find(|server| server.name() == name).unwrap()
    }
}

/// What the process was born with lies above this number.
const BORN_WITH: RawFd = 100;

/// What a server holds, under the names that the data path's attempts know: a listening socket for its device, its own
/// pair of sockets for its pipes.
pub(crate) struct Held {
    pub(crate) tun: RawFd,
    pub(crate) udp: Vec<RawFd>,
    pub(crate) tx: RawFd,
    pub(crate) epoll: RawFd,
}

pub(crate) struct Stage {
    server: Server,
    data: DataDir,
    certificates: PathBuf,
    pub(crate) held: Held,
    /// A connection.
    pub(crate) tcp: RawFd,
    /// A file that it was born with, open to read and write.
    pub(crate) file: RawFd,
    /// A folder that it was born with.
    pub(crate) folder: RawFd,
    /// A unix datagram socket that it was born with.
    pub(crate) unix: RawFd,
    _open: Vec<OwnedFd>,
    _epoll: Epoll,
}

impl Stage {
    /// In `folder`, which becomes the working directory.
    pub(crate) fn set(folder: &Path, server: Server, walls: bool) -> Self {
        fs::create_dir(folder).unwrap();
        std::env::set_current_dir(folder).unwrap();
        fs::write("secret", "a secret, and room for more").unwrap();
        fs::write("other", "").unwrap();
        for made in ["folder", "empty", "data", "certificates"] {
            fs::create_dir(made).unwrap();
        }
        fs::write("data/coordinator.db", "rows").unwrap();
        fs::write("certificates/chain.pem", "a chain").unwrap();
        std::os::unix::fs::symlink("secret", "symlink").unwrap();

        let file = OpenOptions::new().read(true).write(true).open("secret").unwrap();
        let inside = File::open("folder").unwrap();
        let log = UnixDatagram::bind("log").unwrap();
        let (unix, far) = UnixDatagram::pair().unwrap();
        [&log, &unix, &far].iter().for_each(|socket| socket.set_nonblocking(true).unwrap());
        let far_up = |fd: BorrowedFd<'_>| fcntl(fd, FcntlArg::F_DUPFD(BORN_WITH)).unwrap();
        // The last two are neighbours, as a pair's ends are.
        let born_with = [file.as_fd(), inside.as_fd(), unix.as_fd(), far.as_fd()].map(far_up);
        let mut open: Vec<OwnedFd> = Vec::new();
        if walls {
            drop((file, inside, log, unix, far));
            walls::prepare().unwrap();
        } else {
            open.extend([log.into(), unix.into(), far.into(), OwnedFd::from(file), OwnedFd::from(inside)]);
        }
        let [file, inside, unix, _] = born_with;

        let loopback = (Ipv4Addr::LOCALHOST, 0);
        let listener = TcpListener::bind(loopback).unwrap();
        let tcp = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let udp = UdpSocket::bind(loopback).unwrap();
        let (tx, rx) = UnixStream::pair().unwrap();
        let epoll = Epoll::new(EpollCreateFlags::empty()).unwrap();
        tcp.set_nonblocking(true).unwrap();
        udp.set_nonblocking(true).unwrap();
        listener.set_nonblocking(true).unwrap();
        tx.set_nonblocking(true).unwrap();
        rx.set_nonblocking(true).unwrap();
        let held = Held {
            tun: listener.as_raw_fd(),
            udp: vec![udp.as_raw_fd()],
            tx: tx.as_raw_fd(),
            epoll: epoll.0.as_raw_fd(),
        };
        let tcp_fd = tcp.as_raw_fd();
        open.extend([listener.into(), tcp.into(), udp.into(), tx.into(), OwnedFd::from(rx)]);
        Self {
            server,
            data: DataDir::new(&folder.join("data"), None),
            certificates: folder.join("certificates"),
            held,
            tcp: tcp_fd,
            file,
            folder: inside,
            unix,
            _open: open,
            _epoll: epoll,
        }
    }

    /// `all`: as the program puts them up; `files`: all but seccomp; `none`.
    pub(crate) fn put_up(&self, walls: &str) {
        let certificate = [(self.certificates.as_path(), Grant::Read)];
        let certificates = [self.certificates.clone()];
        let data: Vec<(&Path, Grant)> =
            self.data.folders().into_iter().map(|folder| (folder, Grant::Write)).collect();
        let paths = match self.server {
            Server::Relay => &[][..],
            Server::RelayWithCertificate => &certificate[..],
            Server::Coordinator => &data[..],
        };
        match (walls, self.server) {
            ("none", _) => Ok(()),
            ("files", _) => walls::give_up_powers(None).and_then(|()| files::confine(paths, Reach::NONE)),
            (_, Server::Coordinator) => {
                put_up(&Needs { user: None, data: &self.data, certificates: &certificates }, Missing::Refuse)
            }
            (_, server) => {
                let calls = walls::relay(server == Server::RelayWithCertificate);
                walls::put_up(Kept { user: None, paths, calls, silent: true }, Missing::Refuse)
            }
        }
        .unwrap();
    }
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
