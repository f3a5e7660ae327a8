//! Where an attempt is made: a process that holds what a data path holds, in a folder with something to steal and
//! something to spoil, with descriptors left open that a careless parent could have passed.

use std::{
    ffi::CString,
    fs::{self, File, OpenOptions},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd, RawFd},
        unix::net::UnixDatagram,
    },
    path::Path,
};

use netio::{epoll::Epoll, pipe, tun::Tun, udp};
use nix::libc;
use vpnd::{
    data_path::lockdown::{Held, Missing, close_calls, close_files, give_up_powers, lockdown},
    walls::{self, Places},
};

/// Which walls stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Walls {
    /// None: the attempt itself is put to the test.
    None,
    /// All but seccomp.
    Files,
    /// All but Landlock.
    Calls,
    /// All, as the data path puts them up.
    All,
    /// All, as control puts them up.
    Control,
}

impl Walls {
    const NAMES: [(&str, Self); 5] = [
        ("none", Self::None),
        ("files", Self::Files),
        ("calls", Self::Calls),
        ("all", Self::All),
        ("control", Self::Control),
    ];

    pub(crate) fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, walls)| *walls == self).unwrap().0
    }

    pub(crate) fn from_name(name: &str) -> Self {
        Self::NAMES.iter().find(|(known, _)| *known == name).unwrap().1
    }

    pub(crate) fn put_up(self, stage: &Stage) {
        let held = &stage.held;
        match self {
            Self::None => Ok(()),
            Self::Files => give_up_powers(held).and_then(|()| close_files()),
            Self::Calls => give_up_powers(held).and_then(|()| close_calls(held)),
            Self::All => lockdown(held, Missing::Refuse),
            Self::Control => {
                let places = Places { state: Path::new("state"), socket: Path::new("run/socket") };
                walls::put_up(&places, Missing::Refuse)
            }
        }
        .unwrap();
    }
}

/// Numbers below this are tried one by one.
pub(crate) const DESCRIPTORS: RawFd = 65;

pub(crate) struct Stage {
    pub(crate) held: Held,
    /// A file, open to read and write.
    pub(crate) file: RawFd,
    /// A folder.
    pub(crate) folder: RawFd,
    /// A unix datagram socket, and the other end of the same.
    pub(crate) unix: RawFd,
    /// One without a name.
    pub(crate) unbound: RawFd,
    _open: Vec<OwnedFd>,
    _epoll: Epoll,
}

impl Stage {
    /// In `folder`, which becomes the working directory.
    pub(crate) fn set(folder: &Path) -> Self {
        fs::create_dir(folder).unwrap();
        std::env::set_current_dir(folder).unwrap();
        fs::write("secret", "a secret, and room for more").unwrap();
        fs::write("other", "").unwrap();
        fs::create_dir("folder").unwrap();
        fs::create_dir("empty").unwrap();
        std::os::unix::fs::symlink("secret", "symlink").unwrap();
        // What control keeps.
        fs::create_dir("state").unwrap();
        fs::write("state/kept", "a key").unwrap();
        fs::create_dir("run").unwrap();
        fs::write("run/socket", "").unwrap();
        let log = UnixDatagram::bind("log").unwrap();
        let (unix, far) = UnixDatagram::pair().unwrap();
        // An attempt to read must not wait for something to come.
        let unbound = UnixDatagram::unbound().unwrap();
        [&log, &unix, &far, &unbound].iter().for_each(|socket| socket.set_nonblocking(true).unwrap());

        let tun = Tun::create(&format!("tacet{}", std::process::id() % 1_000_000)).unwrap();
        let udp::Pair { v4, v6, .. } = udp::bind_pair(0, true, None).unwrap();
        let (rx, to) = pipe::pipe().unwrap();
        let (from, tx) = pipe::pipe().unwrap();
        let epoll = Epoll::new().unwrap();
        epoll.add(&tx, 0, netio::epoll::Interest::None).unwrap();
        let udp: Vec<OwnedFd> = [Some(v4), v6].into_iter().flatten().map(udp::Socket::into_fd).collect();
        let held = Held {
            tun: tun.as_fd().as_raw_fd(),
            udp: udp.iter().map(AsRawFd::as_raw_fd).collect(),
            rx: rx.as_raw_fd(),
            tx: tx.as_raw_fd(),
            epoll: epoll.as_fd().as_raw_fd(),
        };
        let file = OpenOptions::new().read(true).write(true).open("secret").unwrap();
        let inside = File::open("folder").unwrap();
        let (file_fd, folder_fd, unix_fd) = (file.as_raw_fd(), inside.as_raw_fd(), unix.as_raw_fd());
        let unbound_fd = unbound.as_raw_fd();
        let mut open: Vec<OwnedFd> =
            vec![tun.into_fd(), rx, to, from, tx, log.into(), unix.into(), far.into()];
        open.extend([inside.into(), unbound.into()]);
        open.extend(udp);
        // Every number that is tried is open.
        while open.last().unwrap().as_raw_fd() < DESCRIPTORS {
            open.push(file.try_clone().unwrap().into());
        }
        open.push(file.into());
        Self {
            held,
            file: file_fd,
            folder: folder_fd,
            unix: unix_fd,
            unbound: unbound_fd,
            _open: open,
            _epoll: epoll,
        }
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
