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
    task::yield_now,
    time::{Instant as TokioInstant, interval_at, timeout},
};

use crate::{
    bucket::Bucket,
    limits::{
        CHECK_EVERY, GOODBYE_WITHIN, HELLO_WITHIN, OPENING_EVERY, OPENINGS, READ, SILENT_CHECKS, TURN,
        WRITE_WITHIN,
    },
    link::{Arrival, Link},
    relay::{Relay, Stage},
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
pub(crate) async fn serve(
    relay: &Relay,
    mut io: impl Link,
    arrival: Arrival,
    mut stage: watch::Receiver<Stage>,
) {
    // Whoever comes while the relay leaves is told as those who were there.
    stage.mark_changed();
    let Arrival { exporter, mut received } = arrival;
    let (seat, credential) =
        match timeout(HELLO_WITHIN, greet(relay, &mut io, &mut received, &exporter)).await {
            Ok(Ok(admitted)) => admitted,
            Ok(Err(End::Refused(refusal))) => {
                drop(timeout(GOODBYE_WITHIN, refuse(&mut io, refusal)).await);
                return;
            }
            Ok(Err(End::Lost)) | Err(_) => return,
        };
    io.greeted();
    let (mut reader, mut writer) = split(io);
    seat.queue().say(&Frame::Welcome);
    let visit = Visit { relay, seat: &seat, credential: &credential, exporter: &exporter };
    let writing = write(&seat, &mut writer);
    tokio::pin!(writing);
    let end = tokio::select! {
        end = visit.read(&mut reader, &mut received, stage) => end,
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
    io: &mut impl Link,
    received: &mut BytesMut,
    exporter: &ExporterValue,
) -> Result<(Seat, Credential), End> {
    let hello = RelayHello::sign(relay.key(), exporter, relay.today());
    io.write_all(&Frame::RelayHello(hello).to_vec()).await?;
    io.flush().await?;
    let len = loop {
        if let Some(len) = peek(received)? {
            break len;
        }
        // Nothing longer than a machine's hello is read before the credential is known.
        if received.len() > READ {
            return Err(End::Refused(Refusal::Protocol));
        }
        if io.read_buf(received).await? == 0 {
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

/// Says why, and reads on until the machine has heard it: closing on bytes that were not read would take the word back.
async fn refuse(io: &mut impl Link, refusal: Refusal) -> std::io::Result<()> {
    io.write_all(&Frame::Refused(refusal).to_vec()).await?;
    io.flush().await?;
    io.shutdown().await?;
    let mut ignored = [0; 512];
    while io.read(&mut ignored).await? > 0 {}
    Ok(())
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
        mut stage: watch::Receiver<Stage>,
    ) -> End {
        let mut openings = Bucket::one_in(OPENINGS, OPENING_EVERY, Instant::now());
        let mut checks = interval_at(TokioInstant::now() + CHECK_EVERY, CHECK_EVERY);
        let mut silent_checks = 0;
        let mut handled = received.len();
        loop {
            if let Err(end) = self.handle_all(received, &mut openings) {
                return end;
            }
            if handled >= TURN {
                handled = 0;
                yield_now().await;
            }
            received.reserve(READ);
            tokio::select! {
                biased;
                read = reader.read_buf(received) => {
                    let Ok(n @ 1..) = read else {
                        return End::Lost;
                    };
                    handled += n;
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
                _ = stage.changed() => match *stage.borrow_and_update() {
                    Stage::Serving => {}
                    Stage::Leaving => self.seat.queue().say(&Frame::Leaving),
                    Stage::Stopped => return End::Refused(Refusal::Stopping),
                },
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
            | Frame::Gone(_)
            | Frame::Leaving => return Err(End::Refused(Refusal::Protocol)),
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

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use ed25519_dalek::SigningKey;
    use proto::{
        mailbox::{BlindedKey, MailboxSecret},
        relay::{CredentialIssuer, RelayKeyFile, To, month_of},
    };
    use rand_core::OsRng;
    use tokio::{
        io::{DuplexStream, duplex},
        task::unconstrained,
        time::sleep,
    };

    use super::*;
    use crate::limits::{LEAVE_AFTER, LEAVE_LOOKS, QUEUE, QUEUE_RESERVE};

    const TODAY: u32 = 20_000;
    const EXPORTER: ExporterValue = [5; 32];

    #[tokio::test]
    async fn the_relay_speaks_first_and_proves_its_key() {
        let house = House::new();
        let mut machine = house.enter(EXPORTER);
        let hello = machine.receive().await;
        let Ok(Frame::RelayHello(hello)) = Frame::decode(&hello) else {
            panic!("the relay's hello comes first");
        };
        assert!(hello.verify(&house.relay.public_key(), &EXPORTER));
        assert_eq!(hello.day, TODAY);
    }

    #[tokio::test]
    async fn a_credential_of_another_coordinator_or_month_is_refused() {
        let house = House::new();
        let stranger = CredentialIssuer::generate(&mut OsRng).issue(&[1; 32], month_of(TODAY));
        assert!(house.greet(stranger).await == Frame::Refused(Refusal::Credential).to_vec());
        for month in [month_of(TODAY) - 1, month_of(TODAY) + 1] {
            let credential = house.issuer.issue(&[1; 32], month);
            assert!(house.greet(credential).await == Frame::Refused(Refusal::Credential).to_vec());
        }
        let good = house.issuer.issue(&[1; 32], month_of(TODAY));
        assert!(house.greet(good).await == Frame::Welcome.to_vec());
    }

    #[tokio::test]
    async fn nothing_is_heard_before_the_credential() {
        let house = House::new();
        for early in [Frame::Open(mailbox(&house, 1, TODAY).open(&EXPORTER)), Frame::Ping] {
            let mut machine = house.enter(EXPORTER);
            machine.receive().await;
            machine.say(&early).await;
            machine.expect(&Frame::Refused(Refusal::Protocol)).await;
            machine.expect_end().await;
        }
    }

    #[tokio::test]
    async fn an_owner_opens_its_mailbox_today_and_on_the_days_beside() {
        let house = House::new();
        let mut machine = house.admitted().await;
        for day in [TODAY - 1, TODAY, TODAY + 1] {
            let blinded = mailbox(&house, 1, day);
            machine.say(&Frame::Open(blinded.open(&EXPORTER))).await;
            machine.expect(&Frame::Opened(blinded.id())).await;
        }
    }

    #[tokio::test]
    async fn a_proof_for_another_day_connection_relay_or_mailbox_opens_nothing() {
        let house = House::new();
        let owned = mailbox(&house, 1, TODAY);
        let other_relay = secret(1).blind(&[9; 32], TODAY);
        let stolen = Open { mailbox: owned.id(), ..mailbox(&house, 2, TODAY).open(&EXPORTER) };
        let cases = [
            (mailbox(&house, 1, TODAY + 2).open(&EXPORTER), Refusal::Day),
            (mailbox(&house, 1, TODAY - 2).open(&EXPORTER), Refusal::Day),
            (Open { day: TODAY + 1, ..owned.open(&EXPORTER) }, Refusal::Proof),
            (owned.open(&[6; 32]), Refusal::Proof),
            (other_relay.open(&EXPORTER), Refusal::Proof),
            (stolen, Refusal::Proof),
        ];
        for (open, refusal) in cases {
            let mut machine = house.admitted().await;
            machine.say(&Frame::Open(open)).await;
            machine.expect(&Frame::Refused(refusal)).await;
            machine.expect_end().await;
        }
    }

    #[tokio::test]
    async fn openings_are_rationed() {
        let house = House::new();
        let mut machine = house.admitted().await;
        let blinded = mailbox(&house, 1, TODAY);
        for _ in 0..OPENINGS {
            machine.say(&Frame::Open(blinded.open(&EXPORTER))).await;
            machine.expect(&Frame::Opened(blinded.id())).await;
        }
        machine.say(&Frame::Open(blinded.open(&EXPORTER))).await;
        machine.expect(&Frame::Refused(Refusal::Limit)).await;
    }

    #[tokio::test]
    async fn what_is_no_frame_ends_the_connection() {
        let house = House::new();
        let mut machine = house.admitted().await;
        machine.io.write_all(&[0, 0, 0, 0]).await.unwrap();
        machine.expect(&Frame::Refused(Refusal::Protocol)).await;
        machine.expect_end().await;
    }

    #[tokio::test]
    async fn a_frame_of_a_later_version_is_skipped() {
        let house = House::new();
        let mut machine = house.admitted().await;
        machine.io.write_all(&[0, 2, 200, 0]).await.unwrap();
        machine.say(&Frame::Ping).await;
        machine.expect(&Frame::Pong).await;
    }

    #[tokio::test]
    async fn a_connection_that_sends_without_end_is_handled_by_turns() {
        const ROOM: usize = 4 << 20;
        let house = House::new();
        let (mut flooder, mut drain) = (house.admitted_by(ROOM).await, house.admitted().await);
        let (mut other, mut partner) = (house.admitted().await, house.admitted().await);
        let flooded = To::Mailbox(drain.open(&house, 1).await.id());
        let quiet = To::Mailbox(partner.open(&house, 2).await.id());
        // Nothing of it is handled before both are there: one thread, which does not wait in between.
        let flood = Frame::Send { to: flooded, payload: &[7; 1_400] }.to_vec().repeat(700);
        flooder.io.write_all(&flood).await.unwrap();
        other.say(&Frame::Send { to: quiet, payload: b"excuse me" }).await;
        let frame = partner.receive().await;
        assert!(Frame::decode(&frame).is_ok_and(|f| matches!(f, Frame::Recv { payload: b"excuse me", .. })));
        // What was read of the flood has made room for more.
        let more = vec![0; ROOM];
        let room = timeout(Duration::ZERO, unconstrained(flooder.io.write(&more))).await.unwrap().unwrap();
        let handled = room + flood.len() - ROOM;
        assert!(handled <= 2 * (TURN + READ), "{handled} bytes of the flood were handled before");
    }

    #[tokio::test]
    async fn a_relay_that_leaves_says_so_forwards_while_it_is_used_and_then_ends() {
        let house = House::new();
        let (mut a, mut b) = (house.admitted().await, house.admitted().await);
        let to = To::Mailbox(b.open(&house, 2).await.id());
        let relay = Arc::clone(&house.relay);
        let leaving = tokio::spawn(async move { relay.leave().await });
        a.expect(&Frame::Leaving).await;
        b.expect(&Frame::Leaving).await;
        let mut late = house.admitted().await;
        late.expect(&Frame::Leaving).await;
        for _ in 0..6 {
            a.say(&Frame::Send { to, payload: b"still" }).await;
            let frame = b.receive().await;
            assert!(Frame::decode(&frame).is_ok_and(|f| matches!(f, Frame::Recv { payload: b"still", .. })));
            sleep(LEAVE_AFTER / 4).await;
        }
        assert!(!leaving.is_finished());
        let mut last = a.receive().await;
        while Frame::decode(&last).is_ok_and(|frame| matches!(frame, Frame::Gone(_))) {
            last = a.receive().await;
        }
        assert_eq!(last, Frame::Refused(Refusal::Stopping).to_vec());
        a.expect_end().await;
        leaving.await.unwrap();
    }

    #[tokio::test]
    async fn a_relay_that_leaves_does_not_wait_for_ever_nor_for_nobody() {
        let house = House::new();
        timeout(LEAVE_AFTER / 2, house.relay.leave()).await.unwrap();
        let house = House::new();
        let (mut a, mut b) = (house.admitted().await, house.admitted().await);
        let to = To::Mailbox(b.open(&house, 2).await.id());
        let sending = tokio::spawn(async move {
            loop {
                a.say(&Frame::Send { to, payload: b"for ever" }).await;
                sleep(LEAVE_AFTER / 10).await;
            }
        });
        timeout(LEAVE_AFTER * (LEAVE_LOOKS + 1), house.relay.leave()).await.unwrap();
        sending.abort();
    }

    #[tokio::test]
    async fn a_stopping_relay_says_so() {
        let house = House::new();
        let mut machine = house.admitted().await;
        house.relay.stop();
        machine.expect(&Frame::Refused(Refusal::Stopping)).await;
        machine.expect_end().await;
    }

    #[tokio::test]
    async fn a_slow_reader_costs_a_bounded_queue_and_nobody_else_anything() {
        let house = House::new();
        let (mut sender, mut slow, mut quick) =
            (house.admitted().await, house.admitted().await, house.admitted().await);
        let slow_box = slow.open(&house, 1).await;
        let quick_box = quick.open(&house, 2).await;

        let payload = vec![7; 1_400];
        let sent = 10 * QUEUE / payload.len();
        for _ in 0..sent {
            sender.say(&Frame::Send { to: To::Mailbox(slow_box.id()), payload: &payload }).await;
        }
        sender.say(&Frame::Send { to: To::Mailbox(quick_box.id()), payload: b"still here" }).await;
        let frame = quick.receive().await;
        assert!(Frame::decode(&frame).is_ok_and(|f| matches!(f, Frame::Recv { payload: b"still here", .. })));
        assert!(house.relay.board().queued() <= QUEUE + QUEUE_RESERVE);

        let mut received = 0;
        while timeout(Duration::from_millis(200), slow.receive()).await.is_ok() {
            received += 1;
        }
        let bound = (2 * QUEUE + PIPE) / payload.len();
        assert!(received > QUEUE / 2 / payload.len() && received < bound, "{received} of {sent}");
    }

    #[tokio::test]
    async fn a_connection_that_ends_leaves_nothing() {
        let house = House::new();
        let mut machine = house.admitted().await;
        machine.open(&house, 1).await;
        assert!(!house.relay.board().is_empty());
        drop(machine);
        for _ in 0..100 {
            if house.relay.board().is_empty() {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("the mailbox is still there");
    }

    /// What a pipe between the relay and a machine holds, as a socket's buffers do.
    const PIPE: usize = 64 << 10;

    /// A relay and the coordinator that issues for it.
    struct House {
        relay: Arc<Relay>,
        issuer: CredentialIssuer,
    }

    impl House {
        fn new() -> Self {
            let issuer = CredentialIssuer::generate(&mut OsRng);
            let keys = RelayKeyFile::generate(issuer.admission_key(), &mut OsRng);
            Self { relay: Relay::new(keys, || TODAY), issuer }
        }

        fn enter(&self, exporter: ExporterValue) -> Machine {
            self.enter_by(PIPE, exporter)
        }

        fn enter_by(&self, pipe: usize, exporter: ExporterValue) -> Machine {
            let (io, theirs) = duplex(pipe);
            let (relay, stage) = (Arc::clone(&self.relay), self.relay.stage());
            let arrival = Arrival { exporter, received: BytesMut::new() };
            tokio::spawn(async move { serve(&relay, theirs, arrival, stage).await });
            Machine { io, received: BytesMut::new() }
        }

        /// What the relay answers to a credential.
        async fn greet(&self, credential: Credential) -> Vec<u8> {
            let mut machine = self.enter(EXPORTER);
            machine.receive().await;
            machine.say(&Frame::ClientHello(credential)).await;
            machine.receive().await
        }

        async fn admitted(&self) -> Machine {
            self.admitted_by(PIPE).await
        }

        async fn admitted_by(&self, pipe: usize) -> Machine {
            let mut machine = self.enter_by(pipe, EXPORTER);
            machine.receive().await;
            let credential = self.issuer.issue(&[1; 32], month_of(TODAY));
            machine.say(&Frame::ClientHello(credential)).await;
            machine.expect(&Frame::Welcome).await;
            machine
        }
    }

    struct Machine {
        io: DuplexStream,
        received: BytesMut,
    }

    impl Machine {
        async fn say(&mut self, frame: &Frame<'_>) {
            self.io.write_all(&frame.to_vec()).await.unwrap();
        }

        async fn receive(&mut self) -> Vec<u8> {
            loop {
                if let Some(len) = peek(&self.received).unwrap() {
                    return self.received.split_to(len).to_vec();
                }
                assert!(self.io.read_buf(&mut self.received).await.unwrap() > 0, "the relay has closed");
            }
        }

        async fn expect(&mut self, frame: &Frame<'_>) {
            assert_eq!(self.receive().await, frame.to_vec());
        }

        async fn expect_end(&mut self) {
            assert!(self.received.is_empty());
            assert_eq!(self.io.read_buf(&mut self.received).await.unwrap(), 0);
        }

        async fn open(&mut self, house: &House, machine: u8) -> BlindedKey {
            let blinded = mailbox(house, machine, TODAY);
            self.say(&Frame::Open(blinded.open(&EXPORTER))).await;
            self.expect(&Frame::Opened(blinded.id())).await;
            blinded
        }
    }

    fn secret(machine: u8) -> MailboxSecret {
        MailboxSecret::new(&SigningKey::from_bytes(&[machine; 32]), &[9; 32])
    }

    fn mailbox(house: &House, machine: u8, day: u32) -> BlindedKey {
        secret(machine).blind(&house.relay.public_key(), day)
    }
}
