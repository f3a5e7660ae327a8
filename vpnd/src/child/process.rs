//! One data path process, from its start to its end.

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
    os::unix::process::CommandExt,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use netio::{
    inherit::{self, Numbers},
    pipe,
};
use proto::pipe::{FrameReader, FrameWriter, FromData};
use sandbox::Missing;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::unix::pipe::{Receiver, Sender},
    sync::mpsc,
    time::timeout,
};

use super::{
    Pool, Start,
    link::{Event, Link, Relayed, Shared},
};

/// How long a new process may take to be ready.
const START: Duration = Duration::from_secs(5);

/// How long a process may take to end after its pipes were closed.
const FINISH: Duration = Duration::from_secs(1);

pub(super) struct Process {
    child: tokio::process::Child,
    to: Option<Sender>,
    from: Option<Receiver>,
    shared: Arc<Shared>,
}

impl Process {
    pub(super) fn spawn(start: &Start) -> io::Result<Self> {
        let (tun, mut udp) = start.descriptors.copies()?;
        let (rx, to) = pipe::pipe()?;
        let (from, tx) = pipe::pipe()?;
        let pool = start.descriptors.pool.sockets()?;
        let plain = matches!(start.descriptors.pool, Pool::Plain(_));
        let pool_numbers = Numbers(pool.iter().map(AsRawFd::as_raw_fd).collect());
        let numbers = |fds: &[OwnedFd]| {
            let numbers: Vec<String> = fds.iter().map(|fd| fd.as_raw_fd().to_string()).collect();
            numbers.join(",")
        };
        let mut command = Command::new(&start.program);
        command
            .arg0("vpnd")
            .arg("data-path")
            .args(["--tun", &numbers(&tun)])
            .args(if plain { vec!["--plain".to_owned()] } else { vec!["--udp".to_owned(), numbers(&udp)] })
            .args(["--rx", &rx.as_raw_fd().to_string(), "--tx", &tx.as_raw_fd().to_string()])
            .args((!pool.is_empty()).then(|| format!("--pool={pool_numbers}")))
            .args(start.manner.show_dscp.then_some("--show-dscp"))
            .args((start.manner.missing == Missing::Allow).then_some("--allow-unsandboxed"))
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A terminal's interrupt is for control, which ends the data path itself.
            .process_group(0);
        #[cfg(feature = "leaks")]
        crate::leaks::start(&mut command);
        udp.extend(tun);
        udp.extend([rx, tx]);
        udp.extend(pool);
        inherit::pass(&mut command, udp);
        let mut command = tokio::process::Command::from(command);
        let child = command.kill_on_drop(true).spawn()?;
        Ok(Self {
            child,
            to: Some(Sender::from_owned_fd(to)?),
            from: Some(Receiver::from_owned_fd(from)?),
            shared: Arc::default(),
        })
    }

    /// Moves frames both ways until the process ends, says something that is no frame, or does not read.
    pub(super) async fn run(&mut self, events: &mpsc::Sender<Event>) {
        let (Some(to), Some(from)) = (&mut self.to, &mut self.from) else {
            return;
        };
        let mut frames = FrameReader::new();
        let ready = timeout(START, ready(from, &mut frames)).await;
        if ready.is_err() || ready.is_ok_and(|ready| ready.is_none()) {
            return;
        }
        if events.send(Event::Up(Link::new(self.shared.clone()))).await.is_err() {
            return;
        }
        tokio::select! {
            _ = self.child.wait() => {}
            _ = write(to, &self.shared) => {}
            _ = read(from, &mut frames, events) => {}
        }
    }

    /// Ends the process at once.
    pub(super) async fn kill(mut self) {
        self.shared.close();
        let _ = self.child.kill().await;
    }

    /// Ends the process by closing its pipes, and by force if it does not follow.
    pub(super) async fn end(mut self) {
        self.shared.close();
        self.to = None;
        self.from = None;
        if timeout(FINISH, self.child.wait()).await.is_err() {
            let _ = self.child.kill().await;
        }
    }
}

/// Waits for the first frame, which must be `Ready`.
async fn ready(from: &mut Receiver, frames: &mut FrameReader) -> Option<()> {
    loop {
        if let Some(frame) = frames.next_frame().ok()? {
            return matches!(FromData::decode(frame).ok()?, FromData::Ready).then_some(());
        }
        fill(from, frames).await?;
    }
}

/// Reads once; `None` at the end.
async fn fill(from: &mut Receiver, frames: &mut FrameReader) -> Option<()> {
    let n = from.read(frames.space()).await.ok().filter(|&n| n > 0)?;
    frames.filled(n);
    Some(())
}

/// Passes on what the process says; returns when it says something that is no frame, or nothing any more.
///
/// Relayed datagrams that were read together are passed on together, and before anything that came after them. Where
/// control is behind, reading waits: the pipe fills up, and the data path drops what is too much.
async fn read(from: &mut Receiver, frames: &mut FrameReader, events: &mpsc::Sender<Event>) -> Option<()> {
    loop {
        let mut relayed = Relayed::default();
        while let Some(frame) = frames.next_frame().ok()? {
            match FromData::decode(frame).ok()? {
                FromData::RelaySend { relay, to, payload } => relayed.push(relay, to, payload),
                other => {
                    pass_on(std::mem::take(&mut relayed), events).await?;
                    events.send(Event::from_frame(other)?).await.ok()?;
                }
            }
        }
        pass_on(relayed, events).await?;
        fill(from, frames).await?;
    }
}

async fn pass_on(relayed: Relayed, events: &mpsc::Sender<Event>) -> Option<()> {
    if !relayed.is_empty() {
        events.send(Event::RelaySend(Box::new(relayed))).await.ok()?;
    }
    Some(())
}

/// Writes what is queued for the process; returns when it cannot be written to any more.
async fn write(to: &mut Sender, shared: &Shared) -> Option<()> {
    let mut writing = FrameWriter::new();
    loop {
        if !shared.queue().take(&mut writing)? {
            shared.filled.notified().await;
            continue;
        }
        while !writing.is_empty() {
            tokio::select! {
                written = to.write(writing.pending()) => writing.written(written.ok().filter(|&n| n > 0)?),
                // It may be that it does not read, and is to be ended.
                () = shared.filled.notified() => shared.queue().alive()?,
            }
        }
    }
}
