//! The part of boringtun's interface that `mesh` uses.

use std::{
    cell::Cell,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
    time::Duration,
};

use x25519_dalek::{PublicKey, StaticSecret};

use crate::{
    clock, mix,
    noise::{errors::WireGuardError, rate_limiter::RateLimiter},
    session::{Refusal, Session},
};

/// In nanoseconds, like all times here.
const SECOND: u64 = 1_000_000_000;
const REKEY_AFTER_TIME: u64 = 120 * SECOND;
const REJECT_AFTER_TIME: u64 = 180 * SECOND;
const REKEY_ATTEMPT_TIME: u64 = 90 * SECOND;
const REKEY_TIMEOUT: u64 = 5 * SECOND;
const KEEPALIVE_TIMEOUT: u64 = 10 * SECOND;

/// Lengths of the messages, in bytes.
const INITIATION: usize = 148;
const RESPONSE: usize = 92;
const COOKIE: usize = 64;
const DATA: usize = 32;
/// Where the first MAC of a handshake message begins, from its end.
const MACS: usize = 32;
/// Sessions of a tunnel.
const SESSIONS: usize = 8;

/// Why a message was refused.
pub mod errors {
    /// As boringtun names them.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum WireGuardError {
        /// Neither length nor type of a message.
        InvalidPacket,
        /// The message is for somebody else, or forged.
        InvalidMac,
        /// Sealed with another key.
        InvalidAeadTag,
        /// The initiator is somebody else.
        WrongKey,
        /// Nobody asked.
        UnexpectedPacket,
        /// An initiation that is not newer than the last.
        WrongTai64nTimestamp,
        /// No session has that index.
        NoCurrentSession,
        /// Seen before, or too old to say.
        DuplicateCounter,
        /// Given up.
        ConnectionExpired,
    }
}

/// Who an initiation says that it is from.
pub mod handshake {
    use super::{HandshakeInit, PublicKey, StaticSecret, errors::WireGuardError};

    /// What an initiation says before it is answered.
    pub struct HalfHandshake {
        /// The sender's index.
        pub peer_index: u32,
        /// The sender's key.
        pub peer_static_public: [u8; 32],
    }

    /// Reads an initiation.
    ///
    /// # Errors
    /// Never; boringtun's has some.
    pub fn parse_handshake_anon(
        _secret: &StaticSecret,
        _public: &PublicKey,
        initiation: &HandshakeInit<'_>,
    ) -> Result<HalfHandshake, WireGuardError> {
        Ok(HalfHandshake { peer_index: initiation.sender, peer_static_public: *initiation.public })
    }
}

/// The MACs of handshake messages.
pub mod rate_limiter {
    use super::{IpAddr, MACS, Packet, PublicKey, Tunn, TunnResult, errors::WireGuardError, mix};

    /// Whom handshake messages must be for.
    pub struct RateLimiter {
        pub(super) public: [u8; 32],
    }

    impl RateLimiter {
        /// For the owner of a key. There is no limit.
        #[must_use]
        pub fn new(public: &PublicKey, _limit: u64) -> Self {
            Self { public: *public.as_bytes() }
        }

        /// Does nothing.
        pub fn reset_count(&self) {}

        /// Reads a message, whose MAC must be right if it is of a handshake.
        ///
        /// # Errors
        /// What is wrong with it.
        pub fn verify_packet<'a, 'b>(
            &self,
            _from: Option<IpAddr>,
            message: &'a [u8],
            _cookie: &'b mut [u8],
        ) -> Result<Packet<'a>, TunnResult<'b>> {
            let packet = Tunn::parse_incoming_packet(message).map_err(TunnResult::Err)?;
            if matches!(packet, Packet::HandshakeInit(_) | Packet::HandshakeResponse(_)) {
                let (said, macs) = message.split_at(message.len() - MACS);
                if macs[..8] != mix::bytes(mix::bytes(0, &self.public), said).to_le_bytes() {
                    return Err(TunnResult::Err(WireGuardError::InvalidMac));
                }
            }
            Ok(packet)
        }
    }
}

/// What a call made.
pub enum TunnResult<'a> {
    /// Nothing.
    Done,
    /// A refusal.
    Err(WireGuardError),
    /// A message.
    WriteToNetwork(&'a mut [u8]),
    /// An inner packet and its source.
    WriteToTunnelV4(&'a mut [u8], Ipv4Addr),
    /// An inner packet and its source.
    WriteToTunnelV6(&'a mut [u8], Ipv6Addr),
}

/// A message that could be read.
pub enum Packet<'a> {
    /// Begins a handshake.
    HandshakeInit(HandshakeInit<'a>),
    /// Ends one.
    HandshakeResponse(HandshakeResponse<'a>),
    /// Not made here.
    PacketCookieReply(()),
    /// Sealed data.
    PacketData(PacketData<'a>),
}

/// The first message of a handshake.
pub struct HandshakeInit<'a> {
    sender: u32,
    ephemeral: u64,
    public: &'a [u8; 32],
    stamp: u128,
}

/// The second.
pub struct HandshakeResponse<'a> {
    sender: u32,
    receiver: u32,
    ephemeral: u64,
    tag: &'a [u8],
}

/// Data.
pub struct PacketData<'a> {
    receiver: u32,
    counter: u64,
    sealed: &'a [u8],
}

/// One end of a tunnel.
pub struct Tunn {
    limiter: Arc<RateLimiter>,
    peer: [u8; 32],
    psk: [u8; 32],
    index: u32,
    /// Our newest initiation and the one before, while they wait for an answer.
    asked: Option<Asked>,
    asked_before: Option<Asked>,
    expired: bool,
    newest_stamp: u128,
    /// Both clocks when this was made. As boringtun's, the timestamps of one `Tunn` follow the clock that never goes back;
    /// only a new `Tunn` sees that the other was set.
    made: Clocks,
    sessions: [Option<Session>; SESSIONS],
    since: [u64; SESSIONS],
    current: usize,
    times: Times,
}

struct Clocks {
    now: u64,
    wall: u64,
}

#[derive(Clone, Copy)]
struct Asked {
    index: u32,
    ephemeral: u64,
    at: u64,
}

/// When what happened, as of the last [`Tunn::update_timers`].
#[derive(Clone, Copy, Default)]
struct Times {
    now: u64,
    established: u64,
    began: u64,
    heard: u64,
    sent: u64,
    data_heard: u64,
    data_sent: u64,
    initiator: bool,
    want_keepalive: bool,
    want_handshake: bool,
}

impl Tunn {
    /// A tunnel without a session. Our own key is the limiter's.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "boringtun's interface")]
    pub fn new(
        secret: StaticSecret,
        peer: PublicKey,
        psk: Option<[u8; 32]>,
        _keepalive: Option<u16>,
        index: u32,
        limiter: Option<Arc<RateLimiter>>,
    ) -> Self {
        let now = clock::now();
        let limiter = limiter.unwrap_or_else(|| Arc::new(RateLimiter::new(&PublicKey::from(&secret), 0)));
        let times = Times { now, established: now, began: now, heard: now, sent: now, ..Times::default() };
        Self {
            limiter,
            peer: *peer.as_bytes(),
            psk: psk.unwrap_or_default(),
            index: index << 8,
            asked: None,
            asked_before: None,
            expired: false,
            newest_stamp: 0,
            made: Clocks { now, wall: clock::wall() },
            sessions: Default::default(),
            since: [now; SESSIONS],
            current: 0,
            times: Times { data_heard: now, data_sent: now, ..times },
        }
    }

    /// Reads a message.
    ///
    /// # Errors
    /// [`WireGuardError::InvalidPacket`]
    pub fn parse_incoming_packet(message: &[u8]) -> Result<Packet<'_>, WireGuardError> {
        let number = |at: usize| u32::from_le_bytes(message[at..at + 4].try_into().expect("four bytes"));
        let long = |at: usize| u64::from_le_bytes(message[at..at + 8].try_into().expect("eight bytes"));
        match (message.first_chunk::<4>(), message.len()) {
            (Some([1, 0, 0, 0]), INITIATION) => Ok(Packet::HandshakeInit(HandshakeInit {
                sender: number(4),
                ephemeral: long(8),
                public: message[40..72].try_into().map_err(|_| WireGuardError::InvalidPacket)?,
                stamp: u128::from_le_bytes(message[72..88].try_into().expect("sixteen bytes")),
            })),
            (Some([2, 0, 0, 0]), RESPONSE) => Ok(Packet::HandshakeResponse(HandshakeResponse {
                sender: number(4),
                receiver: number(8),
                ephemeral: long(12),
                tag: &message[44..52],
            })),
            (Some([3, 0, 0, 0]), COOKIE) => Ok(Packet::PacketCookieReply(())),
            (Some([4, 0, 0, 0]), DATA..) => Ok(Packet::PacketData(PacketData {
                receiver: number(4),
                counter: long(8),
                sealed: &message[16..],
            })),
            _ => Err(WireGuardError::InvalidPacket),
        }
    }

    /// Seals a packet, or begins a handshake if there is no session.
    pub fn encapsulate<'a>(&mut self, packet: &[u8], dst: &'a mut [u8]) -> TunnResult<'a> {
        let Some(session) = &mut self.sessions[self.current % SESSIONS] else {
            return self.format_handshake_initiation(dst, false);
        };
        let sealed = session.seal(packet, dst);
        self.times.did_send();
        if !packet.is_empty() {
            self.times.data_sent = self.times.now;
        }
        TunnResult::WriteToNetwork(sealed)
    }

    /// Takes a message.
    pub fn decapsulate<'a>(
        &mut self,
        from: Option<IpAddr>,
        message: &[u8],
        dst: &'a mut [u8],
    ) -> TunnResult<'a> {
        let limiter = Arc::clone(&self.limiter);
        let made = match limiter.verify_packet(from, message, &mut []) {
            Ok(Packet::HandshakeInit(initiation)) => self.answer(&initiation, dst),
            Ok(Packet::HandshakeResponse(response)) => self.answered(&response, dst),
            Ok(Packet::PacketData(data)) => self.open(&data, dst),
            Ok(Packet::PacketCookieReply(())) => Err(WireGuardError::UnexpectedPacket),
            Err(TunnResult::Err(error)) => Err(error),
            Err(_) => Err(WireGuardError::InvalidPacket),
        };
        made.unwrap_or_else(TunnResult::Err)
    }

    /// Makes an initiation; without `again` none while one waits.
    pub fn format_handshake_initiation<'a>(&mut self, dst: &'a mut [u8], again: bool) -> TunnResult<'a> {
        let waits = self.asked.is_some();
        if waits && !again {
            return TunnResult::Done;
        }
        if std::mem::take(&mut self.expired) {
            self.times.clear();
        }
        if !waits {
            self.times.began = self.times.now;
        }
        let asked = Asked { index: self.next_index(), ephemeral: fresh(), at: clock::now() };
        self.asked_before = self.asked.replace(asked);
        self.times.did_send();
        let message = &mut dst[..INITIATION];
        message.fill(0);
        message[0] = 1;
        message[4..8].copy_from_slice(&asked.index.to_le_bytes());
        message[8..16].copy_from_slice(&asked.ephemeral.to_le_bytes());
        message[40..72].copy_from_slice(&self.limiter.public);
        message[72..88].copy_from_slice(&self.stamp().to_le_bytes());
        TunnResult::WriteToNetwork(self.authenticated(message))
    }

    fn stamp(&self) -> u128 {
        (self.made.wall + (clock::now() - self.made.now)).into()
    }

    /// Does what is due (the paper, section 6).
    pub fn update_timers<'a>(&mut self, dst: &'a mut [u8]) -> TunnResult<'a> {
        let now = clock::now();
        self.times.now = now;
        for (session, since) in self.sessions.iter_mut().zip(&mut self.since) {
            if now - *since > REJECT_AFTER_TIME {
                (*session, *since) = (None, now);
            }
        }
        if self.expired {
            return TunnResult::Err(WireGuardError::ConnectionExpired);
        }
        let t = self.times;
        let given_up = self.asked.is_some() && now - t.began >= REKEY_ATTEMPT_TIME;
        if given_up || now - t.established >= REJECT_AFTER_TIME * 3 {
            self.expired = true;
            (self.asked, self.asked_before, self.sessions) = (None, None, Default::default());
            self.times.clear();
            return TunnResult::Err(WireGuardError::ConnectionExpired);
        }
        if let Some(asked) = self.asked {
            let due = now - asked.at >= REKEY_TIMEOUT;
            return if due { self.format_handshake_initiation(dst, true) } else { TunnResult::Done };
        }
        let age = now - t.established;
        let grown = t.initiator
            && (t.established < t.data_sent && age >= REKEY_AFTER_TIME
                || t.established < t.data_heard
                    && age >= REJECT_AFTER_TIME - KEEPALIVE_TIMEOUT - REKEY_TIMEOUT);
        let silent = t.data_sent > t.heard
            && now - t.heard >= KEEPALIVE_TIMEOUT + REKEY_TIMEOUT
            && std::mem::take(&mut self.times.want_handshake);
        if grown || silent {
            return self.format_handshake_initiation(dst, true);
        }
        if t.data_heard > t.sent
            && now - t.sent >= KEEPALIVE_TIMEOUT
            && std::mem::take(&mut self.times.want_keepalive)
        {
            return self.encapsulate(&[], dst);
        }
        TunnResult::Done
    }

    /// How old the session in use is, if there is one.
    #[must_use]
    pub fn time_since_last_handshake(&self) -> Option<Duration> {
        let there = self.sessions[self.current % SESSIONS].is_some();
        there.then(|| Duration::from_nanos(clock::now() - self.times.established))
    }

    /// Whether it has given up.
    #[must_use]
    pub fn is_expired(&self) -> bool {
        self.expired
    }

    fn answer<'a>(
        &mut self,
        initiation: &HandshakeInit<'_>,
        dst: &'a mut [u8],
    ) -> Result<TunnResult<'a>, WireGuardError> {
        if *initiation.public != self.peer {
            return Err(WireGuardError::WrongKey);
        }
        if initiation.stamp <= self.newest_stamp {
            return Err(WireGuardError::WrongTai64nTimestamp);
        }
        self.newest_stamp = initiation.stamp;
        self.asked_before = self.asked.take();
        self.expired = false;
        let (index, ephemeral) = (self.next_index(), fresh());
        let key = self.key(initiation.ephemeral, ephemeral);
        let message = &mut dst[..RESPONSE];
        message.fill(0);
        message[0] = 2;
        message[4..8].copy_from_slice(&index.to_le_bytes());
        message[8..12].copy_from_slice(&initiation.sender.to_le_bytes());
        message[12..20].copy_from_slice(&ephemeral.to_le_bytes());
        message[44..52].copy_from_slice(&mix::word(key, 0).to_le_bytes());
        let message = self.authenticated(message);
        let session = Session::new(index, initiation.sender, mix::word(key, 1), mix::word(key, 2));
        self.keep(session, false);
        self.times.did_send();
        Ok(TunnResult::WriteToNetwork(message))
    }

    fn answered<'a>(
        &mut self,
        response: &HandshakeResponse<'_>,
        dst: &'a mut [u8],
    ) -> Result<TunnResult<'a>, WireGuardError> {
        let waiting = [&self.asked, &self.asked_before];
        let at = waiting.iter().position(|asked| asked.is_some_and(|asked| asked.index == response.receiver));
        let asked = at.and_then(|at| *waiting[at]).ok_or(WireGuardError::UnexpectedPacket)?;
        let key = self.key(asked.ephemeral, response.ephemeral);
        if response.tag != mix::word(key, 0).to_le_bytes() {
            return Err(WireGuardError::InvalidAeadTag);
        }
        match at {
            Some(0) => self.asked = None,
            _ => self.asked_before = None,
        }
        let session = Session::new(asked.index, response.sender, mix::word(key, 2), mix::word(key, 1));
        self.keep(session, true);
        self.use_session(asked.index as usize);
        let session = self.sessions[asked.index as usize % SESSIONS].as_mut();
        let session = session.ok_or(WireGuardError::NoCurrentSession)?;
        Ok(TunnResult::WriteToNetwork(session.seal(&[], dst)))
    }

    fn open<'a>(
        &mut self,
        data: &PacketData<'_>,
        dst: &'a mut [u8],
    ) -> Result<TunnResult<'a>, WireGuardError> {
        let session = self.sessions[data.receiver as usize % SESSIONS].as_mut();
        let session = session.filter(|s| s.ours == data.receiver).ok_or(WireGuardError::NoCurrentSession)?;
        let packet = session.open(data.counter, data.sealed, dst).map_err(|refusal| match refusal {
            Refusal::Replayed => WireGuardError::DuplicateCounter,
            Refusal::Forged => WireGuardError::InvalidAeadTag,
        })?;
        self.use_session(data.receiver as usize);
        self.times.did_hear();
        let made = match packet.first().map(|first| first >> 4) {
            None => return Ok(TunnResult::Done),
            Some(4) if packet.len() >= 20 => {
                let len = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
                let from = Ipv4Addr::new(packet[12], packet[13], packet[14], packet[15]);
                packet.get_mut(..len).map(|packet| TunnResult::WriteToTunnelV4(packet, from))
            }
            Some(6) if packet.len() >= 40 => {
                let len = 40 + usize::from(u16::from_be_bytes([packet[4], packet[5]]));
                let from: [u8; 16] = packet[8..24].try_into().expect("sixteen bytes");
                packet.get_mut(..len).map(|packet| TunnResult::WriteToTunnelV6(packet, from.into()))
            }
            Some(_) => None,
        };
        self.times.data_heard = self.times.now;
        made.ok_or(WireGuardError::InvalidPacket)
    }

    fn keep(&mut self, session: Session, initiator: bool) {
        let place = session.ours as usize % SESSIONS;
        self.times.did_hear();
        self.since[place] = self.times.now;
        self.sessions[place] = Some(session);
        (self.times.established, self.times.initiator) = (self.times.now, initiator);
    }

    /// The newer of two sessions that work is used.
    fn use_session(&mut self, index: usize) {
        let (new, old) = (index % SESSIONS, self.current % SESSIONS);
        if self.sessions[old].is_none() || self.since[new] >= self.since[old] {
            self.current = index;
        }
    }

    fn next_index(&mut self) -> u32 {
        self.index = self.index & !0xff | u32::from((self.index as u8).wrapping_add(1));
        self.index
    }

    fn key(&self, initiator: u64, responder: u64) -> u64 {
        mix::word(mix::word(mix::bytes(1, &self.psk), initiator), responder)
    }

    fn authenticated<'a>(&self, message: &'a mut [u8]) -> &'a mut [u8] {
        let at = message.len() - MACS;
        let mac = mix::bytes(mix::bytes(0, &self.peer), &message[..at]);
        message[at..at + 8].copy_from_slice(&mac.to_le_bytes());
        message
    }
}

impl Times {
    fn did_send(&mut self) {
        (self.want_handshake, self.want_keepalive) = (true, false);
        self.sent = self.now;
    }

    fn did_hear(&mut self) {
        (self.want_keepalive, self.want_handshake) = (true, false);
        self.heard = self.now;
    }

    fn clear(&mut self) {
        let now = clock::now();
        let initiator = self.initiator;
        *self = Self { now, established: now, began: now, heard: now, sent: now, initiator, ..*self };
        (self.data_heard, self.data_sent) = (now, now);
        (self.want_keepalive, self.want_handshake) = (false, false);
    }
}

/// An ephemeral key: one that was not there before.
fn fresh() -> u64 {
    thread_local! {
        static COUNT: Cell<u64> = const { Cell::new(0) };
    }
    COUNT.set(COUNT.get() + 1);
    mix::word(COUNT.get(), 3)
}
