//! Starts the data path and keeps it running.
//!
//! The data path is this program again, `vpnd data-path`, with the TUN device, the UDP sockets and two pipes inherited
//! by number. Control keeps its own descriptors of the device and the sockets, so that interface, addresses, routes and
//! port outlive a data path that dies; another is started at once, and told everything anew: [`Event::Up`] brings a
//! fresh [`Link`] each time, and what is sent over an old one goes nowhere.
//!
//! What comes from the data path is read as hostile: it faces the network. Whatever is no frame ends that process.

mod link;
mod process;

use std::{io, os::fd::OwnedFd, path::PathBuf, time::Duration};

use netio::udp;
use nix::sys::signal::{Signal, raise};
use sandbox::Missing;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{Instant, sleep},
};

pub use self::link::{Event, Link, Relayed};
use self::process::Process;
use crate::message::Message;

/// This program, whatever file lies at its path by now.
const SELF: &str = "/proc/self/exe";

/// Sockets that a data path gets besides, to get through a hard NAT (see `mesh`): its sockets are numbered by a byte, some of
/// which are its own two and to spare.
const POOL: usize = 248;

/// Events that wait for a busy control. One may be as many datagrams as a pipe holds (64 KiB): with these it is a megabyte,
/// and what comes then waits in the data path, or is dropped there.
const EVENTS: usize = 16;

/// A data path that lived longer than this is started again without delay.
const STEADY: Duration = Duration::from_secs(5);

/// Delay before a start after a start that failed or did not last; it doubles each time.
const FIRST_DELAY: Duration = Duration::from_millis(20);

/// The longest delay before a start.
const LAST_DELAY: Duration = Duration::from_secs(1);

/// Why the data path cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// The process or its pipes could not be made.
    #[error("the data path could not be started: {0}")]
    Spawn(#[from] io::Error),
}

/// What the data path holds, kept open over its restarts.
pub struct Descriptors {
    /// The TUN device: its queues, one for each worker.
    pub tun: Vec<OwnedFd>,
    /// The UDP sockets, worker by worker, IPv4 first.
    pub udp: Vec<OwnedFd>,
    /// Its sockets besides.
    pub pool: Pool,
}

/// Sockets that are not bound yet when a data path gets them.
pub enum Pool {
    /// For hard NATs: fresh ones for each process, which keep nothing that should outlive it. None has a port before that
    /// process sends from it.
    Mesh,
    /// Of a plain interface, which has no others: copies, for each process, of what control holds and binds.
    Plain(Box<dyn Fn() -> io::Result<Vec<OwnedFd>> + Send + Sync>),
}

/// How a data path is started, each time.
#[derive(Clone, Copy)]
pub struct Manner {
    /// Where the kernel lacks a wall.
    pub missing: Missing,
    /// Whether the class of service (DSCP) of packets is copied to their datagrams.
    pub show_dscp: bool,
}

impl From<Missing> for Manner {
    fn from(missing: Missing) -> Self {
        Self { missing, show_dscp: false }
    }
}

/// A data path that is kept running until [`Child::stop`], or until this is dropped.
pub struct Child {
    stop: oneshot::Sender<()>,
    supervisor: JoinHandle<()>,
}

impl Child {
    /// Starts the data path and watches over it. Everything that it says comes out of the receiver, [`Event::Up`]
    /// first.
    ///
    /// # Errors
    /// [`ChildError`] if the first process cannot be started; later it is tried again for ever.
    pub fn start(
        descriptors: Descriptors,
        manner: impl Into<Manner>,
    ) -> Result<(Self, mpsc::Receiver<Event>), ChildError> {
        Self::start_program(SELF.into(), descriptors, manner)
    }

    /// The same from the file `program`, for a test, which is another program.
    ///
    /// # Errors
    /// [`ChildError`].
    pub fn start_program(
        program: PathBuf,
        descriptors: Descriptors,
        manner: impl Into<Manner>,
    ) -> Result<(Self, mpsc::Receiver<Event>), ChildError> {
        let start = Start { program, descriptors, manner: manner.into() };
        let first = Process::spawn(&start)?;
        let (events, receiver) = mpsc::channel(EVENTS);
        let (stop, stopped) = oneshot::channel();
        let supervisor = tokio::spawn(supervise(start, first, events, stopped));
        Ok((Self { stop, supervisor }, receiver))
    }

    /// Ends the data path, and returns once it is gone.
    pub async fn stop(self) {
        let _ = self.stop.send(());
        let _ = self.supervisor.await;
    }
}

async fn supervise(
    start: Start,
    first: Process,
    events: mpsc::Sender<Event>,
    mut stopped: oneshot::Receiver<()>,
) {
    let mut delay = FIRST_DELAY;
    let mut next = Some(first);
    loop {
        let started = Instant::now();
        if let Some(mut process) = next.take().or_else(|| another(&start)) {
            tokio::select! {
                () = process.run(&events) => process.kill().await,
                _ = &mut stopped => return process.end().await,
            }
        }
        if events.is_closed() {
            return;
        }
        if started.elapsed() >= STEADY {
            delay = FIRST_DELAY;
        } else {
            tokio::select! {
                () = sleep(delay) => {}
                _ = &mut stopped => return,
            }
            delay = (delay * 2).min(LAST_DELAY);
        }
    }
}

/// One more process. Where this one may not start it, because an update replaced the program's loader and the walls
/// are for the old one, only a fresh control can: this one is asked to end as by its service manager.
fn another(start: &Start) -> Option<Process> {
    match Process::spawn(start) {
        Ok(process) => Some(process),
        Err(e) => {
            if e.kind() == io::ErrorKind::PermissionDenied {
                Message::CannotStart.print();
                let _ = raise(Signal::SIGTERM);
            }
            None
        }
    }
}

/// All that it takes to start one more process.
struct Start {
    program: PathBuf,
    descriptors: Descriptors,
    manner: Manner,
}

impl Pool {
    /// For one more process. A machine of a network that may open no more descriptors lives without.
    fn sockets(&self) -> io::Result<Vec<OwnedFd>> {
        match self {
            Self::Mesh => Ok(udp::pool(POOL, None).unwrap_or_default()),
            Self::Plain(copies) => copies(),
        }
    }
}

impl Descriptors {
    /// Copies for one process; they are closed here once it is spawned.
    fn copies(&self) -> io::Result<(Vec<OwnedFd>, Vec<OwnedFd>)> {
        let copies = |fds: &[OwnedFd]| fds.iter().map(OwnedFd::try_clone).collect::<io::Result<_>>();
        Ok((copies(&self.tun)?, copies(&self.udp)?))
    }
}
