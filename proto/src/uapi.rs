//! WireGuard's cross-platform interface for configuration: what callers write, line by line, and what they are answered.
//!
//! A request is `get=1` or `set=1`, then `key=value` lines, and ends with an empty line. So does its answer, whose last
//! line is `errno=0` or a negative error number. What is wrong with a request is known before any of it is done: it changes
//! everything it names or nothing.
//!
//! What a caller writes is bounded here: lines, requests, peers, ranges. Keys are in memory that is overwritten.

use std::{
    fmt::Write as _,
    net::{IpAddr, SocketAddr, SocketAddrV6},
};

use zeroize::Zeroizing;

use crate::{
    metadata::{Endpoint, InnerNet},
    pipe::MAX_ALLOWED,
};

/// The longest line, in bytes. The longest that says anything is a key: 79.
pub const MAX_LINE: usize = 512;

/// The longest request, in bytes: 65,536 peers with some ranges each.
pub const MAX_REQUEST: usize = 32 << 20;

/// Of peers that one interface has (wireguard-go's limit).
pub const MAX_PEERS: usize = 1 << 16;

/// A key's length in hexadecimal digits.
const KEY_DIGITS: usize = 64;

/// A key, private or pre-shared.
pub type Secret = Zeroizing<[u8; 32]>;

/// An error number of Linux, positive, that a caller is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Errno(pub i32);

/// A value that has no meaning, or a key that is not known (EINVAL).
pub const INVALID: Errno = Errno(22);
/// No line of the protocol (EPROTO).
pub const PROTOCOL: Errno = Errno(71);
/// More than is kept (E2BIG).
pub const TOO_MUCH: Errno = Errno(7);

/// What a caller asks for.
pub enum Request {
    /// The configuration and the live state.
    Get,
    /// Changes.
    Set(Box<Set>),
}

/// Changes of an interface.
#[derive(Default)]
pub struct Set {
    /// Another private key; `Some(None)` takes it away.
    pub private_key: Option<Option<Secret>>,
    /// Another port; 0: any.
    pub listen_port: Option<u16>,
    /// Another mark of the datagrams that leave; 0: none.
    pub fwmark: Option<u32>,
    /// Peers that are not named below are removed.
    pub replace_peers: bool,
    /// Changes of peers, in this order.
    pub peers: Vec<SetPeer>,
}

/// Changes of a peer.
pub struct SetPeer {
    /// Its public key.
    pub public_key: [u8; 32],
    /// It is taken away.
    pub remove: bool,
    /// It is changed if it is there, and not made.
    pub update_only: bool,
    /// Another pre-shared key; zeros: none.
    pub preshared_key: Option<Secret>,
    /// Where it is.
    pub endpoint: Option<Endpoint>,
    /// Seconds between keepalives; 0: none.
    pub keepalive: Option<u16>,
    /// Ranges that are not named below are taken away.
    pub replace_allowed_ips: bool,
    /// Ranges that are given to it (true) or taken from it, in this order.
    pub allowed: Vec<(InnerNet, bool)>,
}

/// The state of an interface, for [`Shown::text`].
pub struct Shown<'a> {
    /// The private key.
    pub private_key: Option<&'a Secret>,
    /// The port.
    pub listen_port: u16,
    /// The mark.
    pub fwmark: u32,
    /// The peers.
    pub peers: Vec<ShownPeer<'a>>,
}

/// The state of a peer.
pub struct ShownPeer<'a> {
    /// Its public key.
    pub public_key: &'a [u8; 32],
    /// Its pre-shared key.
    pub preshared_key: &'a Secret,
    /// Where it is.
    pub endpoint: Option<Endpoint>,
    /// When the last handshake was done, since 1970: seconds and nanoseconds; zeros: never.
    pub last_handshake: (u64, u32),
    /// Bytes sent to it.
    pub tx_bytes: u64,
    /// Bytes received from it.
    pub rx_bytes: u64,
    /// Seconds between keepalives.
    pub keepalive: u16,
    /// Its ranges.
    pub allowed: Vec<InnerNet>,
}

/// Takes the lines of one caller.
#[derive(Default)]
pub struct Parser {
    state: State,
    /// Bytes of the request so far.
    bytes: usize,
    ranges: usize,
}

#[derive(Default)]
enum State {
    /// Between requests.
    #[default]
    Idle,
    Get,
    Set(Box<Set>),
    /// Something was wrong: the rest is passed over.
    Wrong(Errno),
}

impl Parser {
    /// The next line, without its end. With the last of a request, the request, or what is wrong with it. `link` finds the
    /// index of a link by its name.
    pub fn line(
        &mut self,
        line: &[u8],
        link: impl FnOnce(&str) -> Option<u32>,
    ) -> Option<Result<Request, Errno>> {
        self.bytes = self.bytes.saturating_add(line.len() + 1);
        if line.is_empty() {
            (self.bytes, self.ranges) = (0, 0);
            return match std::mem::take(&mut self.state) {
                // An empty line between requests.
                State::Idle => None,
                State::Get => Some(Ok(Request::Get)),
                State::Set(set) => Some(Ok(Request::Set(set))),
                State::Wrong(errno) => Some(Err(errno)),
            };
        }
        if let Err(errno) = self.take(line, link) {
            self.state = State::Wrong(errno);
        }
        None
    }

    /// Whether a caller is in the middle of a request.
    #[must_use]
    pub fn is_inside(&self) -> bool {
        !matches!(self.state, State::Idle)
    }

    fn take(&mut self, line: &[u8], link: impl FnOnce(&str) -> Option<u32>) -> Result<(), Errno> {
        let Self { state, bytes, ranges } = self;
        let text = std::str::from_utf8(line).map_err(|_| PROTOCOL)?;
        if line.len() > MAX_LINE || *bytes > MAX_REQUEST {
            return Err(TOO_MUCH);
        }
        match state {
            State::Wrong(errno) => Err(*errno),
            State::Idle => {
                *state = match text {
                    "get=1" => State::Get,
                    "set=1" => State::Set(Box::default()),
                    _ => return Err(INVALID),
                };
                Ok(())
            }
            // Nothing is asked for in particular.
            State::Get => Err(PROTOCOL),
            State::Set(set) => {
                let (key, value) = text.split_once('=').ok_or(PROTOCOL)?;
                if key == "public_key" {
                    if set.peers.len() >= MAX_PEERS {
                        return Err(TOO_MUCH);
                    }
                    *ranges = 0;
                    set.peers.push(SetPeer::new(*self::key(value)?));
                    return Ok(());
                }
                match set.peers.last_mut() {
                    None => set.take(key, value),
                    Some(peer) => {
                        *ranges += usize::from(key == "allowed_ip");
                        if *ranges > MAX_ALLOWED {
                            return Err(TOO_MUCH);
                        }
                        peer.take(key, value, link)
                    }
                }
            }
        }
    }
}

impl Set {
    fn take(&mut self, key: &str, value: &str) -> Result<(), Errno> {
        match key {
            "private_key" => {
                let private = self::key(value)?;
                self.private_key = Some(Some(private).filter(|key| **key != [0; 32]));
            }
            "listen_port" => self.listen_port = Some(number(value)?),
            "fwmark" => self.fwmark = Some(number(value)?),
            "replace_peers" => self.replace_peers = yes(value)?,
            _ => return Err(INVALID),
        }
        Ok(())
    }
}

impl SetPeer {
    fn new(public_key: [u8; 32]) -> Self {
        Self {
            public_key,
            remove: false,
            update_only: false,
            preshared_key: None,
            endpoint: None,
            keepalive: None,
            replace_allowed_ips: false,
            allowed: Vec::new(),
        }
    }

    fn take(&mut self, key: &str, value: &str, link: impl FnOnce(&str) -> Option<u32>) -> Result<(), Errno> {
        match key {
            "remove" => self.remove = yes(value)?,
            "update_only" => self.update_only = yes(value)?,
            "preshared_key" => self.preshared_key = Some(self::key(value)?),
            "endpoint" => self.endpoint = Some(endpoint(value, link)?),
            "persistent_keepalive_interval" => self.keepalive = Some(number(value)?),
            "replace_allowed_ips" => {
                self.replace_allowed_ips = yes(value)?;
                self.allowed.clear();
            }
            "allowed_ip" => {
                let (range, add) = match value.strip_prefix('-') {
                    Some(range) => (range, false),
                    None => (value.strip_prefix('+').unwrap_or(value), true),
                };
                self.allowed.push((self::range(range)?, add));
            }
            // The only version that there is.
            "protocol_version" if value == "1" => {}
            _ => return Err(INVALID),
        }
        Ok(())
    }
}

fn key(value: &str) -> Result<Secret, Errno> {
    let digits = value.as_bytes();
    if digits.len() != KEY_DIGITS {
        return Err(INVALID);
    }
    let mut key = Zeroizing::new([0; 32]);
    for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |d: u8| char::from(d).to_digit(16).ok_or(INVALID);
        *byte = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
    }
    Ok(key)
}

/// A decimal number: digits, no sign.
fn number<N: std::str::FromStr>(value: &str) -> Result<N, Errno> {
    if !value.bytes().all(|b| b.is_ascii_digit()) {
        return Err(INVALID);
    }
    value.parse().map_err(|_| INVALID)
}

/// The only thing that a switch can be told.
fn yes(value: &str) -> Result<bool, Errno> {
    if value == "true" { Ok(true) } else { Err(INVALID) }
}

/// `192.0.2.1:51820`, `[2001:db8::1]:51820`, `[fe80::1%eth0]:51820`.
fn endpoint(value: &str, link: impl FnOnce(&str) -> Option<u32>) -> Result<Endpoint, Errno> {
    let (host, port) = value.rsplit_once(':').ok_or(INVALID)?;
    let port: u16 = number(port)?;
    let addr = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        None => SocketAddr::new(host.parse::<std::net::Ipv4Addr>().map_err(|_| INVALID)?.into(), port),
        Some(host) => {
            let (ip, scope) = match host.split_once('%') {
                None => (host, 0),
                Some((ip, zone)) => (ip, number(zone).ok().or_else(|| link(zone)).ok_or(INVALID)?),
            };
            let ip: std::net::Ipv6Addr = ip.parse().map_err(|_| INVALID)?;
            match ip.to_canonical() {
                IpAddr::V4(v4) => SocketAddr::new(v4.into(), port),
                IpAddr::V6(v6) => SocketAddrV6::new(v6, port, 0, scope).into(),
            }
        }
    };
    if port == 0 || addr.ip().is_unspecified() {
        return Err(INVALID);
    }
    Ok(Endpoint(addr))
}

/// `10.0.0.0/8`; what lies behind the length is passed over.
fn range(value: &str) -> Result<InnerNet, Errno> {
    let (ip, len) = value.split_once('/').ok_or(INVALID)?;
    let ip: IpAddr = ip.parse().map_err(|_| INVALID)?;
    InnerNet::new(ip, number(len)?).map_err(|_| INVALID)
}

impl Shown<'_> {
    /// The answer to `get=1`.
    #[must_use]
    pub fn text(&self) -> Zeroizing<String> {
        // Room for all of it: what grows leaves copies behind.
        let ranges: usize = self.peers.iter().map(|peer| peer.allowed.len()).sum();
        let mut text = Zeroizing::new(String::with_capacity(512 + 768 * self.peers.len() + 64 * ranges));
        if let Some(key) = self.private_key {
            put_key(&mut text, "private_key", key);
        }
        if self.listen_port != 0 {
            put(&mut text, "listen_port", self.listen_port);
        }
        if self.fwmark != 0 {
            put(&mut text, "fwmark", self.fwmark);
        }
        for peer in &self.peers {
            put_key(&mut text, "public_key", peer.public_key);
            put_key(&mut text, "preshared_key", peer.preshared_key);
            put(&mut text, "protocol_version", 1);
            if let Some(endpoint) = peer.endpoint {
                put(&mut text, "endpoint", endpoint.0);
            }
            put(&mut text, "last_handshake_time_sec", peer.last_handshake.0);
            put(&mut text, "last_handshake_time_nsec", peer.last_handshake.1);
            put(&mut text, "tx_bytes", peer.tx_bytes);
            put(&mut text, "rx_bytes", peer.rx_bytes);
            put(&mut text, "persistent_keepalive_interval", peer.keepalive);
            for net in &peer.allowed {
                let _ = writeln!(text, "allowed_ip={}/{}", net.addr(), net.prefix_len());
            }
        }
        text.push_str(&done(Ok(())));
        text
    }
}

/// The end of an answer.
#[must_use]
pub fn done(result: Result<(), Errno>) -> String {
    let number = result.err().map_or(0, |errno| -errno.0);
    format!("errno={number}\n\n")
}

fn put(text: &mut String, key: &str, value: impl std::fmt::Display) {
    let _ = writeln!(text, "{key}={value}");
}

fn put_key(text: &mut String, name: &str, key: &[u8; 32]) {
    text.push_str(name);
    text.push('=');
    for byte in key {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from_digit(digit.into(), 16).unwrap_or('0'));
        }
    }
    text.push('\n');
}

#[cfg(test)]
mod tests;
