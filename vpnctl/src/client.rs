//! One command to vpnd and what comes back.

use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use proto::api::{
    Answer, ErrorCode, Event, Progress, Reply, Request,
    line::{Lines, MAX_REPLY, encode},
};
use zeroize::Zeroize;

use crate::failure::Failure;

/// vpnd answers, or tells its progress, well within this: its own patience with a coordinator is 30 s.
const PATIENCE: Duration = Duration::from_secs(120);

/// A connection to vpnd, good for one command.
pub(crate) struct Connection {
    stream: UnixStream,
    lines: Lines,
}

/// What vpnd says before its answer.
pub(crate) enum Message {
    /// What it does now.
    Progress(Progress),
    /// A result on the way.
    Event(Event),
    /// The answer.
    Answer(Answer),
}

impl Connection {
    /// Connects to vpnd.
    ///
    /// # Errors
    /// Not running, not permitted, or a socket path that cannot be one.
    pub(crate) fn open(socket: &Path) -> Result<Self, Failure> {
        let stream = UnixStream::connect(socket).map_err(|error| not_connected(&error, socket))?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(|error| broken(&error))?;
        Ok(Self { stream, lines: Lines::new(MAX_REPLY) })
    }

    /// Waits this long at most from now on.
    pub(crate) fn wait_for(&self, patience: Duration) -> Result<(), Failure> {
        self.stream.set_read_timeout(Some(patience)).map_err(|error| broken(&error))
    }

    /// Waits without limit from now on: for a command that goes on until it is interrupted.
    pub(crate) fn wait_for_ever(&self) -> Result<(), Failure> {
        self.stream.set_read_timeout(None).map_err(|error| broken(&error))
    }

    /// The socket itself, so that another thread can end the conversation.
    pub(crate) fn socket(&self) -> Result<UnixStream, Failure> {
        self.stream.try_clone().map_err(|error| broken(&error))
    }

    /// Sends the command. A vpnd that hung up already may have said why: that is for [`Self::next`] to read.
    pub(crate) fn send(&mut self, request: &Request) -> Result<(), Failure> {
        match self.stream.write_all(&encode(request)) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(broken(&error)),
            _ => Ok(()),
        }
    }

    /// The next thing vpnd says. After [`Message::Answer`] there is nothing.
    ///
    /// # Errors
    /// vpnd's error, or that it fell silent, hung up or said what this build does not understand.
    pub(crate) fn next(&mut self) -> Result<Message, Failure> {
        loop {
            if let Some(line) = self.lines.next_line().map_err(|_| not_understood())? {
                return match serde_json::from_slice(&line).map_err(|_| not_understood())? {
                    Reply::Progress(progress) => Ok(Message::Progress(progress)),
                    Reply::Event(event) => Ok(Message::Event(event)),
                    Reply::Ok(answer) => Ok(Message::Answer(answer)),
                    Reply::Error(error) => Err(error.into()),
                };
            }
            let mut chunk = [0; 4096];
            let read = self.stream.read(&mut chunk);
            if let Ok(n) = read {
                self.lines.push(&chunk[..n]);
            }
            chunk.zeroize();
            match read {
                Ok(0) => return Err(hung_up()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(broken(&error)),
            }
        }
    }
}

/// The answer was not the command's.
pub(crate) fn not_understood() -> Failure {
    Failure::new(
        ErrorCode::Newer,
        "vpnd's answer was not understood",
        "vpnctl and vpnd are of different versions",
        "use a vpnctl and a vpnd of one release; after an upgrade, restart vpnd: systemctl restart vpnd",
    )
}

pub(crate) fn not_connected(error: &io::Error, socket: &Path) -> Failure {
    let at = socket.display();
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Failure::new(
            ErrorCode::NotRunning,
            "vpnd is not running",
            format!("nothing listens at {at}"),
            "start it: systemctl start vpnd (or run vpnd as root)",
        ),
        io::ErrorKind::PermissionDenied => Failure::new(
            ErrorCode::NotPermitted,
            "vpnd may not be asked",
            format!("only root and the group tacet may use {at}"),
            "run it with sudo, or join the group and log in again: sudo usermod -aG tacet \"$USER\"",
        ),
        _ => Failure::new(
            ErrorCode::Failed,
            "vpnd cannot be asked",
            format!("{at}: {error}"),
            "check the path given by --socket or TACET_SOCKET",
        ),
    }
}

fn broken(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Failure::new(
            ErrorCode::Timeout,
            "vpnd did not answer",
            format!("it said nothing for {} seconds", PATIENCE.as_secs()),
            "see whether the command was done: vpnctl status; then whether vpnd is well: systemctl status vpnd",
        ),
        io::ErrorKind::ConnectionReset => hung_up(),
        _ => Failure::new(
            ErrorCode::Failed,
            "the conversation with vpnd broke",
            error.to_string(),
            "see whether the command was done: vpnctl status",
        ),
    }
}

fn hung_up() -> Failure {
    Failure::new(
        ErrorCode::Failed,
        "vpnd ended the conversation without an answer",
        "it was stopped or restarted meanwhile",
        "see whether the command was done: vpnctl status",
    )
}
