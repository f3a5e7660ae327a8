//! One connection, from the relay's hello to its end.

use std::time::Instant;

use bytes::{Buf, BytesMut};
use proto::{
    mailbox::verify_open,
    relay::{Credential, ExporterValue, Frame, Open, Refusal, RelayHello, peek},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split},
    sync::watch,
    time::{Instant as TokioInstant, interval_at, timeout},
};

use crate::{
    bucket::Bucket,
    limits::{
        CHECK_EVERY, GOODBYE_WITHIN, HELLO_WITHIN, OPENING_EVERY, OPENINGS, READ, SILENT_CHECKS, WRITE_WITHIN,
    },
    relay::Relay,
    switchboard::Seat,
};

/// Bytes written under one deadline.
const WRITE: usize = 64 << 10;

/// Why a connection ends.
enum End {
    /// The other side closed, fell silent or broke off.
    Lost,
    /// The relay closes, and says why.
    Refused(Refusal),
}

impl From<std::io::Error> for End {
    fn from(_: std::io::Error) -> Self {
        Self::Lost
    }
}

impl From<proto::wire::WireError> for End {
    fn from(_: proto::wire::WireError) -> Self {
        Self::Refused(Refusal::Protocol)
    }
}

/// Serves a connection until it ends.
pub(crate) async fn serve<S>(relay: &Relay, io: S, exporter: ExporterValue, stopped: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite,
{
    let (mut reader, mut writer) = split(io);
    let mut received = BytesMut::new();
    let greeting = timeout(HELLO_WITHIN, greet(relay, &mut reader, &mut writer, &mut received, &exporter));
    let (seat, credential) = match greeting.await {
        Ok(Ok(admitted)) => admitted,
        Ok(Err(End::Refused(refusal))) => {
            drop(timeout(GOODBYE_WITHIN, refuse(&mut writer, refusal)).await);
            return;
        }
        Ok(Err(End::Lost)) | Err(_) => return,
    };
    seat.queue().say(&Frame::Welcome);
    let visit = Visit { relay, seat: &seat, credential: &credential, exporter: &exporter };
    let writing = write(&seat, &mut writer);
    tokio::pin!(writing);
    let end = tokio::select! {
        end = visit.read(&mut reader, &mut received, stopped) => end,
        () = writing.as_mut() => return,
    };
    if let End::Refused(refusal) = end {
        seat.queue().say(&Frame::Refused(refusal));
        seat.queue().finish();
        drop(timeout(GOODBYE_WITHIN, writing).await);
    }
}

/// The relay's hello, then the machine's.
async fn greet(
    relay: &Relay,
    reader: &mut (impl AsyncRead + Unpin),
    writer: &mut (impl AsyncWrite + Unpin),
    received: &mut BytesMut,
    exporter: &ExporterValue,
) -> Result<(Seat, Credential), End> {
    let hello = RelayHello::sign(relay.key(), exporter, relay.today());
    writer.write_all(&Frame::RelayHello(hello).to_vec()).await?;
    writer.flush().await?;
    let len = loop {
        if let Some(len) = peek(received)? {
            break len;
        }
        // Nothing longer than a machine's hello is read before the credential is known.
        if received.len() > READ {
            return Err(End::Refused(Refusal::Protocol));
        }
        if reader.read_buf(received).await? == 0 {
            return Err(End::Lost);
        }
    };
    let Frame::ClientHello(credential) = Frame::decode(&received[..len])? else {
        return Err(End::Refused(Refusal::Protocol));
    };
    received.advance(len);
    if !relay.accepts(&credential) {
        return Err(End::Refused(Refusal::Credential));
    }
    let seat = relay.board().admit(credential.pseudonym(), Instant::now());
    Ok((seat.ok_or(End::Refused(Refusal::Limit))?, credential))
}

async fn refuse(writer: &mut (impl AsyncWrite + Unpin), refusal: Refusal) -> std::io::Result<()> {
    writer.write_all(&Frame::Refused(refusal).to_vec()).await?;
    writer.flush().await?;
    writer.shutdown().await
}

/// Writes what is queued until the queue ends or the machine takes nothing more.
async fn write(seat: &Seat, writer: &mut (impl AsyncWrite + Unpin)) {
    let mut batch = Vec::new();
    while seat.queue().take(&mut batch).await {
        for part in batch.chunks(WRITE) {
            if !matches!(timeout(WRITE_WITHIN, writer.write_all(part)).await, Ok(Ok(()))) {
                return;
            }
        }
        batch.clear();
        if !matches!(timeout(WRITE_WITHIN, writer.flush()).await, Ok(Ok(()))) {
            return;
        }
    }
    drop(writer.shutdown().await);
}

/// An admitted connection.
struct Visit<'a> {
    relay: &'a Relay,
    seat: &'a Seat,
    credential: &'a Credential,
    exporter: &'a ExporterValue,
}

impl Visit<'_> {
    /// Handles what comes until the connection ends.
    async fn read(
        &self,
        reader: &mut (impl AsyncRead + Unpin),
        received: &mut BytesMut,
        mut stopped: watch::Receiver<bool>,
    ) -> End {
        let mut openings = Bucket::one_in(OPENINGS, OPENING_EVERY, Instant::now());
        let mut checks = interval_at(TokioInstant::now() + CHECK_EVERY, CHECK_EVERY);
        let mut silent_checks = 0;
        loop {
            if let Err(end) = self.handle_all(received, &mut openings) {
                return end;
            }
            received.reserve(READ);
            tokio::select! {
                biased;
                read = reader.read_buf(received) => {
                    if !matches!(read, Ok(1..)) {
                        return End::Lost;
                    }
                    silent_checks = 0;
                }
                _ = checks.tick() => {
                    silent_checks += 1;
                    if silent_checks > SILENT_CHECKS {
                        return End::Lost;
                    }
                    if !self.relay.accepts(self.credential) {
                        return End::Refused(Refusal::Credential);
                    }
                    self.seat.expire(self.relay.today().saturating_sub(1));
                }
                _ = stopped.wait_for(|stopped| *stopped) => return End::Refused(Refusal::Stopping),
            }
        }
    }

    /// Handles the whole frames at the front of `received` and leaves the rest.
    fn handle_all(&self, received: &mut BytesMut, openings: &mut Bucket) -> Result<(), End> {
        let now = Instant::now();
        while let Some(len) = peek(received)? {
            self.handle(&Frame::decode(&received[..len])?, openings, now)?;
            received.advance(len);
        }
        Ok(())
    }

    fn handle(&self, frame: &Frame<'_>, openings: &mut Bucket, now: Instant) -> Result<(), End> {
        match frame {
            Frame::Send { to, payload } => self.seat.send(*to, payload, now),
            Frame::Open(open) => {
                if !openings.take(1, now) {
                    return Err(End::Refused(Refusal::Limit));
                }
                self.open(open).map_err(End::Refused)?;
            }
            Frame::Close(mailbox) => self.seat.close(*mailbox),
            Frame::Ping => self.seat.queue().say(&Frame::Pong),
            Frame::Pong | Frame::Unknown => {}
            Frame::ClientHello(_)
            | Frame::RelayHello(_)
            | Frame::Welcome
            | Frame::Refused(_)
            | Frame::Opened(_)
            | Frame::Recv { .. }
            | Frame::Gone(_) => return Err(End::Refused(Refusal::Protocol)),
        }
        Ok(())
    }

    fn open(&self, open: &Open) -> Result<(), Refusal> {
        if open.day.abs_diff(self.relay.today()) > 1 {
            return Err(Refusal::Day);
        }
        if !verify_open(open, &self.relay.public_key(), self.exporter) {
            return Err(Refusal::Proof);
        }
        self.seat.open(open.mailbox, open.day)?;
        self.seat.queue().say(&Frame::Opened(open.mailbox));
        Ok(())
    }
}
