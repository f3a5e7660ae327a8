//! One connection, from the relay's welcome to its end.

use std::{
    collections::HashMap,
    io::{self, ErrorKind},
    net::SocketAddr,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use proto::{
    epoch::EpochName,
    metadata::MailboxId,
    relay::{ExporterValue, Frame, Handle, Refusal, peek},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split},
    sync::{Notify, mpsc, watch},
    time::{Instant, interval, sleep_until, timeout},
};

use super::{
    calendar::{self, Clock},
    client::{Listen, RelayEvent},
    connect::Connection,
    link::Link,
    outbox::Outbox,
    pace::Pace,
    slept::Look,
};
use crate::{dial::ProxyFault, moved::moved_from};

/// A relay that brought nothing for this long carries nothing.
const IDLE: Duration = Duration::from_secs(180);

/// How long the answer may take; then the connection is given up.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// How long it may take when the network around us has changed.
const SOON: Duration = Duration::from_secs(3);

/// How long it may take when this machine slept: no longer than a round trip of a far relay takes. The relay may be about to give the
/// connection up, and send nothing more on it but what it repeats.
const AWAKE: Duration = Duration::from_millis(1_200);

/// How long the relay may take to accept what one write holds.
const WRITE_WITHIN: Duration = Duration::from_secs(30);

/// Room in front of each read: one TLS record.
const READ: usize = 16 << 10;

/// Why a visit to the relay ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// It could not be reached, is not who it should be, or the connection broke.
    Lost,
    /// The proxy on the way made no connection.
    Proxy(ProxyFault),
    /// The network took the connection away: the relay knows it no more, or nothing was acknowledged.
    Broken,
    /// The network around us changed, and the connection was of the old one.
    Moved,
    /// It said why.
    Refused(Refusal),
    /// Its day is none that we listen on.
    ClockWrong,
    /// Nobody takes our events any more.
    ReceiverGone,
}

pub(super) struct Session<'a> {
    relay: u8,
    key: [u8; 32],
    events: &'a mpsc::Sender<RelayEvent>,
    clock: Clock,
    outbox: &'a Outbox,
    pace: &'a mut Pace,
    /// What we listen to, by mailbox.
    mailboxes: HashMap<MailboxId, Mailbox>,
    welcomed: bool,
    up: bool,
    leaving: bool,
    /// When the relay brought something last, or the connection began.
    carried: Instant,
    /// When the relay said something last, or nothing that needs an answer was said to it.
    heard: Instant,
}

struct Mailbox {
    epoch: EpochName,
    opened: bool,
}

impl<'a> Session<'a> {
    pub(super) fn new(
        relay: u8,
        key: [u8; 32],
        events: &'a mpsc::Sender<RelayEvent>,
        clock: Clock,
        outbox: &'a Outbox,
        pace: &'a mut Pace,
    ) -> Self {
        Self {
            relay,
            key,
            events,
            clock,
            outbox,
            pace,
            mailboxes: HashMap::new(),
            welcomed: false,
            up: false,
            leaving: false,
            carried: Instant::now(),
            heard: Instant::now(),
        }
    }

    /// Whether [`RelayEvent::Up`] was told.
    pub(super) fn was_up(&self) -> bool {
        self.up
    }

    /// Whether the relay said that it is about to stop.
    pub(super) fn was_left(&self) -> bool {
        self.leaving
    }

    pub(super) async fn run(
        &mut self,
        connection: Connection,
        wanted: &mut watch::Receiver<Vec<Listen>>,
        retry: &Notify,
    ) -> End {
        let Connection { io, link, exporter, mut received, local, proxied } = connection;
        let (mut reader, writer) = split(io);
        self.outbox.open();
        let outbox = self.outbox;
        let end = tokio::select! {
            end = write(outbox, writer, link) => end,
            end = self.read(&mut reader, &mut received, &exporter, (local, proxied), wanted, retry) => end,
        };
        match end {
            // It said that it would stop.
            End::Lost | End::Broken if !self.leaving => self.pace.lost(self.heard.elapsed()),
            End::Moved => self.pace.moved(),
            _ => {}
        }
        end
    }

    async fn read(
        &mut self,
        reader: &mut ReadHalf<TokioIo<Upgraded>>,
        received: &mut BytesMut,
        exporter: &ExporterValue,
        (local, proxied): (Option<SocketAddr>, bool),
        wanted: &mut watch::Receiver<Vec<Listen>>,
        retry: &Notify,
    ) -> End {
        let mut look = interval(calendar::LOOK_AGAIN);
        // When an answer is due, and what it is the end of if none comes.
        let mut answer_by: Option<(Instant, End)> = None;
        let mut last = Look::new(Instant::now(), (self.clock)());
        let mut carried = true;
        self.follow(&wanted.borrow_and_update().clone(), exporter);
        loop {
            if let Err(end) = self.handle_all(received).await {
                return end;
            }
            received.reserve(READ);
            let carries = self.carries();
            if carries && !carried {
                last = Look::new(Instant::now(), (self.clock)());
            }
            carried = carries;
            let patience = self.pace.patience(carries, proxied);
            let deadline = answer_by.map_or(self.heard + patience, |(by, _)| by);
            tokio::select! {
                biased;
                read = reader.read_buf(received) => {
                    match read {
                        Ok(1..) => {}
                        Ok(_) => return End::Lost,
                        Err(error) => return broken(&error),
                    }
                    self.pace.survived(self.heard.elapsed());
                    self.heard = Instant::now();
                    answer_by = None;
                }
                changed = wanted.changed() => {
                    if changed.is_err() {
                        return End::ReceiverGone;
                    }
                    self.follow(&wanted.borrow_and_update().clone(), exporter);
                }
                () = self.pace.changed() => {}
                _ = look.tick() => self.follow(&wanted.borrow().clone(), exporter),
                () = retry.notified() => {
                    if local.is_some_and(moved_from) {
                        return End::Moved;
                    }
                    self.outbox.say(&Frame::Ping);
                    answer_by = Some((Instant::now() + SOON, End::Moved));
                }
                () = sleep_until(last.due()), if carries => {
                    if last.slept(Instant::now(), (self.clock)()) {
                        self.outbox.say(&Frame::Ping);
                        let awake = Instant::now() + AWAKE;
                        if answer_by.is_none_or(|(by, _)| by > awake) {
                            answer_by = Some((awake, End::Broken));
                        }
                    }
                }
                () = sleep_until(deadline) => {
                    if let Some((_, end)) = answer_by {
                        return end;
                    }
                    let sign = self.pace.sign(self.carries(), proxied);
                    self.outbox.say(&sign);
                    match sign {
                        Frame::Ping => answer_by = Some((Instant::now() + ANSWER_WITHIN, End::Lost)),
                        _ => self.heard = Instant::now(),
                    }
                }
            }
        }
    }

    fn carries(&self) -> bool {
        self.carried.elapsed() < IDLE
    }

    /// Opens what is wanted for the days of now and not yet asked for, and closes what is wanted no longer.
    fn follow(&mut self, wanted: &[Listen], exporter: &ExporterValue) {
        let days = calendar::days((self.clock)());
        let mut keep = HashMap::new();
        for listen in wanted {
            for day in &days {
                let blinded = listen.secret.blind(&self.key, *day);
                let mailbox = self.mailboxes.remove(&blinded.id()).unwrap_or_else(|| {
                    self.outbox.say(&Frame::Open(blinded.open(exporter)));
                    Mailbox { epoch: listen.epoch, opened: false }
                });
                keep.insert(blinded.id(), mailbox);
            }
        }
        for mailbox in self.mailboxes.keys() {
            self.outbox.say(&Frame::Close(*mailbox));
        }
        self.mailboxes = keep;
    }

    async fn handle_all(&mut self, received: &mut BytesMut) -> Result<(), End> {
        while let Some(len) = peek(received)? {
            let frame = received.split_to(len).freeze();
            self.handle(&frame).await?;
        }
        if !self.up && self.welcomed && self.mailboxes.values().all(|mailbox| mailbox.opened) {
            self.up = true;
            self.tell(RelayEvent::Up { relay: self.relay }).await?;
        }
        Ok(())
    }

    async fn handle(&mut self, frame: &Bytes) -> Result<(), End> {
        let relay = self.relay;
        match Frame::decode(frame)? {
            Frame::Recv { mailbox, handle, payload } => {
                self.carried = Instant::now();
                self.receive(mailbox, handle, frame.slice_ref(payload))
            }
            Frame::Gone(handle) => self.tell(RelayEvent::Gone { relay, handle }).await,
            Frame::Opened(mailbox) => {
                if let Some(mailbox) = self.mailboxes.get_mut(&mailbox) {
                    mailbox.opened = true;
                }
                Ok(())
            }
            Frame::Refused(refusal) => Err(End::Refused(refusal)),
            Frame::Leaving => {
                self.leaving = true;
                self.tell(RelayEvent::Leaving { relay }).await
            }
            Frame::Ping => {
                self.outbox.say(&Frame::Pong);
                Ok(())
            }
            Frame::Welcome => {
                self.welcomed = true;
                Ok(())
            }
            Frame::Pong | Frame::Unknown => Ok(()),
            Frame::RelayHello(_)
            | Frame::ClientHello(_)
            | Frame::Open(_)
            | Frame::Close(_)
            | Frame::Send { .. } => Err(End::Lost),
        }
    }

    /// Hands a payload on, or drops it if its receiver is behind.
    fn receive(&self, mailbox: Option<MailboxId>, handle: Handle, payload: Bytes) -> Result<(), End> {
        let epoch = match mailbox {
            None => None,
            Some(mailbox) => match self.mailboxes.get(&mailbox) {
                Some(mailbox) => Some(mailbox.epoch),
                // It was on its way when we closed the mailbox.
                None => return Ok(()),
            },
        };
        match self.events.try_send(RelayEvent::Recv { relay: self.relay, epoch, handle, payload }) {
            Ok(()) | Err(mpsc::error::TrySendError::Full(_)) => Ok(()),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(End::ReceiverGone),
        }
    }

    async fn tell(&self, event: RelayEvent) -> Result<(), End> {
        self.events.send(event).await.map_err(|_| End::ReceiverGone)
    }
}

/// What an error of the connection is the end of. (Who stops a server closes its connections, if it has the time to.)
fn broken(error: &io::Error) -> End {
    match error.kind() {
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::TimedOut => End::Broken,
        _ => End::Lost,
    }
}

/// Writes what waits, until the relay takes no more.
async fn write(outbox: &Outbox, mut writer: WriteHalf<TokioIo<Upgraded>>, mut link: Link) -> End {
    let mut batch = Vec::new();
    loop {
        outbox.take(&mut batch).await;
        link.look_again();
        let written = timeout(WRITE_WITHIN, async {
            writer.write_all(&batch).await?;
            writer.flush().await
        });
        match written.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return broken(&error),
            Err(_) => return End::Lost,
        }
        batch.clear();
    }
}
