//! Whose walls are tried, and which of them stand.

use std::{os::fd::RawFd, path::Path};

use coordinator::{store::DataDir, walls::Needs};
use relay::walls::Kept;
use sandbox::{
    Missing, SandboxError,
    files::{self, Grant, Reach},
};
use vpnd::{
    data_path::lockdown::{self, close_calls, close_files, lockdown},
    walls::Places,
};

use crate::stage::Stage;

/// Whose walls are tried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Who {
    DataPath,
    /// Of a plain WireGuard interface: its sockets are those of the pool.
    PlainDataPath,
    /// Of several the thread of one after the first: it has bells in place of the pipes, and no pool.
    LaterWorker,
    Control,
    /// Of a plain WireGuard interface.
    PlainControl,
    Relay,
    RelayWithCertificate,
    Coordinator,
}

/// What a process holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// A device, sockets for datagrams, two pipes.
    Machine,
    /// A listening socket, a connection.
    Server,
}

/// Which walls stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Walls {
    /// None: the attempt itself is put to the test.
    None,
    /// All but seccomp.
    Files,
    /// All but Landlock.
    Calls,
    /// All, as the program puts them up.
    All,
}

const WHO: [(&str, Who); 8] = [
    ("data-path", Who::DataPath),
    ("plain-data-path", Who::PlainDataPath),
    ("later-worker", Who::LaterWorker),
    ("control", Who::Control),
    ("plain-control", Who::PlainControl),
    ("relay", Who::Relay),
    ("relay-with-certificate", Who::RelayWithCertificate),
    ("coordinator", Who::Coordinator),
];

const WALLS: [(&str, Walls); 4] =
    [("none", Walls::None), ("files", Walls::Files), ("calls", Walls::Calls), ("all", Walls::All)];

impl Who {
    pub(crate) const SERVERS: [Self; 3] = [Self::Relay, Self::RelayWithCertificate, Self::Coordinator];

    pub(crate) fn kind(self) -> Kind {
        match self {
            Self::DataPath | Self::PlainDataPath | Self::LaterWorker | Self::Control | Self::PlainControl => {
                Kind::Machine
            }
            Self::Relay | Self::RelayWithCertificate | Self::Coordinator => Kind::Server,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        WHO.iter().find(|(_, who)| *who == self).unwrap().0
    }

    pub(crate) fn from_name(name: &str) -> Self {
        WHO.iter().find(|(known, _)| *known == name).unwrap().1
    }
}

impl Walls {
    pub(crate) fn name(self) -> &'static str {
        WALLS.iter().find(|(_, walls)| *walls == self).unwrap().0
    }

    pub(crate) fn from_name(name: &str) -> Self {
        WALLS.iter().find(|(known, _)| *known == name).unwrap().1
    }

    pub(crate) fn put_up(self, who: Who, stage: &Stage) {
        match (self, who) {
            (Self::None, _) => Ok(()),
            (_, Who::DataPath) => self.around(&of_a_data_path(stage, stage.held.udp.clone())),
            (_, Who::PlainDataPath) => self.around(&of_a_data_path(stage, Vec::new())),
            (_, Who::LaterWorker) => self.around(&lockdown::Held {
                pool: None,
                rx: None,
                tx: None,
                bells: stage.held.bells.clone(),
                ..of_a_data_path(stage, stage.held.udp.clone())
            }),
            (Self::All, Who::Control) => {
                let places = Places { state: Path::new("state"), socket: Path::new("run/socket") };
                vpnd::walls::put_up(&places, Missing::Refuse)
            }
            (Self::All, Who::PlainControl) => vpnd::device::walls::put_up(Path::new("run"), Missing::Refuse),
            (Self::All | Self::Files, Who::Relay | Who::RelayWithCertificate | Who::Coordinator) => {
                self.around_a_server(who)
            }
            _ => panic!("{who:?} has no walls to put up one by one"),
        }
        .unwrap();
    }

    fn around(self, held: &lockdown::Held) -> Result<(), SandboxError> {
        match self {
            Self::None => Ok(()),
            Self::Files => lockdown::give_up_powers(held).and_then(|()| close_files()),
            Self::Calls => lockdown::give_up_powers(held).and_then(|()| close_calls(held)),
            Self::All => lockdown(held, Missing::Refuse),
        }
    }

    fn around_a_server(self, who: Who) -> Result<(), SandboxError> {
        let here = std::env::current_dir().unwrap();
        let (data, certificates) = (DataDir::new(&here.join("data"), None), here.join("certificates"));
        let certificate = [(certificates.as_path(), Grant::Read)];
        let folders: Vec<(&Path, Grant)> =
            data.folders().into_iter().map(|folder| (folder, Grant::Write)).collect();
        let paths = match who {
            Who::RelayWithCertificate => &certificate[..],
            Who::Coordinator => &folders[..],
            _ => &[][..],
        };
        if self == Self::Files {
            return relay::walls::give_up_powers(None).and_then(|()| files::confine(paths, Reach::NONE));
        }
        let refuse = Missing::Refuse;
        if who == Who::Coordinator {
            let needs = Needs { user: None, data: &data, certificates: std::slice::from_ref(&certificates) };
            return coordinator::walls::put_up(&needs, refuse);
        }
        let calls = relay::walls::relay(who == Who::RelayWithCertificate);
        relay::walls::put_up(Kept { user: None, paths, calls, silent: true }, refuse)
    }
}

fn of_a_data_path(stage: &Stage, udp: Vec<RawFd>) -> lockdown::Held {
    let held = &stage.held;
    lockdown::Held {
        tun: held.device,
        udp,
        pool: held.pool.clone(),
        rx: Some(held.rx),
        tx: Some(held.tx),
        epoll: held.epoll,
        bells: Vec::new(),
    }
}
