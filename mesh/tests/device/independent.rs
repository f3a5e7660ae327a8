//! A peer of side 0 that is no boringtun: its Noise is `snow`'s, and it numbers its messages, and is where it is, as it likes.

use std::net::SocketAddr;

use blake2::{
    Blake2s256, Blake2sMac, Digest,
    digest::{Mac, consts::U16},
};
use proto::{metadata::Endpoint, pipe::PlainPeer};
use snow::{Builder, HandshakeState, StatelessTransportState};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use super::link::{Link, NONE, Sent, net};

const SECRET: [u8; 32] = [3; 32];
/// How a data message is built: type, receiver and counter, then what is sealed and its tag.
const HEADER: usize = 16;
const TAG: usize = 16;

/// Side 0 has the address 10.0.0.0 inside, and this one 10.0.0.1.
pub struct Independent {
    pub link: Link,
    pub addr: SocketAddr,
    /// The oldest first.
    pub sessions: Vec<Session>,
}

pub struct Session {
    noise: StatelessTransportState,
    /// What side 0 calls it by.
    index: [u8; 4],
    next: u64,
}

/// An initiation that was sent.
pub struct Begun(HandshakeState);

impl Independent {
    /// With a session that it began.
    pub fn meet() -> Self {
        let mut met = Self::known();
        let begun = met.begin();
        let answer = met.link.collect().pop().unwrap();
        met.finish(begun, &answer);
        met
    }

    /// Side 0 knows it, and there is no session.
    pub fn known() -> Self {
        let mut link = Link::new(2);
        let addr = "198.18.0.1:4000".parse().unwrap();
        link.introduce(0, 1, |peer: &mut PlainPeer| {
            peer.wireguard = PublicKey::from(&StaticSecret::from(SECRET)).to_bytes();
            peer.endpoint = Some(Endpoint(addr));
            peer.allowed = vec![net("10.0.0.1/32")];
            peer.psk = Zeroizing::new(NONE);
        });
        Self { link, addr, sessions: Vec::new() }
    }

    /// Begins a session beside those that there are.
    pub fn begin(&mut self) -> Begun {
        let remote = self.link.sides[0].public();
        let mut noise = noise().remote_public_key(&remote).and_then(Builder::build_initiator).unwrap();
        let number = self.sessions.len() as u8;
        let mut initiation = [0; 148];
        (initiation[0], initiation[4]) = (1, number);
        let timestamp = [1 + number; 12];
        let len = 8 + noise.write_message(&timestamp, &mut initiation[8..]).unwrap();
        self.authenticate(&mut initiation, len);
        self.inject(&initiation);
        Begun(noise)
    }

    /// Answers an initiation of side 0's.
    pub fn answer(&mut self, initiation: &Sent) {
        let mut noise = noise().build_responder().unwrap();
        noise.read_message(&initiation.bytes[8..116], &mut [0; 12]).unwrap();
        let index: [u8; 4] = initiation.bytes[4..8].try_into().unwrap();
        let mut response = [0; 92];
        (response[0], response[4]) = (2, self.sessions.len() as u8);
        response[8..12].copy_from_slice(&index);
        let len = 12 + noise.write_message(&[], &mut response[12..]).unwrap();
        self.authenticate(&mut response, len);
        let noise = noise.into_stateless_transport_mode().unwrap();
        self.sessions.push(Session { noise, index, next: 0 });
        self.inject(&response);
    }

    /// Writes the first MAC of a handshake message behind what is said in it.
    fn authenticate(&self, message: &mut [u8], len: usize) {
        let remote = self.link.sides[0].public();
        let key = Blake2s256::new().chain_update(b"mac1----").chain_update(remote).finalize();
        let mac = Blake2sMac::<U16>::new_from_slice(&key).unwrap().chain_update(&message[..len]);
        message[len..][..16].copy_from_slice(&mac.finalize().into_bytes());
    }

    pub fn finish(&mut self, begun: Begun, answer: &Sent) {
        let Begun(mut noise) = begun;
        noise.read_message(&answer.bytes[12..60], &mut []).unwrap();
        let index = answer.bytes[4..8].try_into().unwrap();
        let noise = noise.into_stateless_transport_mode().unwrap();
        self.sessions.push(Session { noise, index, next: 0 });
    }

    /// Sends a packet, whose length is a multiple of 16, in a session under a counter.
    pub fn send_as(&mut self, session: usize, counter: u64, inner: &[u8]) {
        let Session { noise, index, .. } = &self.sessions[session];
        let mut message =
            [4, 0, 0, 0].into_iter().chain(*index).chain(counter.to_le_bytes()).collect::<Vec<u8>>();
        message.resize(HEADER + inner.len() + TAG, 0);
        noise.write_message(counter, inner, &mut message[HEADER..]).unwrap();
        self.inject(&message);
    }

    /// The same under the next counter.
    pub fn send(&mut self, session: usize, inner: &[u8]) {
        let counter = self.sessions[session].next;
        self.sessions[session].next += 1;
        self.send_as(session, counter, inner);
    }

    /// Of a data message, in which session it came, and the packet.
    pub fn open(&self, sent: &Sent) -> (usize, Vec<u8>) {
        let session = usize::from(sent.bytes[4]);
        let counter = u64::from_le_bytes(sent.bytes[8..HEADER].try_into().unwrap());
        let mut inner = vec![0; sent.bytes.len() - HEADER - TAG];
        self.sessions[session].noise.read_message(counter, &sent.bytes[HEADER..], &mut inner).unwrap();
        (session, inner)
    }

    fn inject(&mut self, bytes: &[u8]) {
        let dst = self.link.sides[0].addr;
        self.link.inject(self.addr, &Sent { from: 1, socket: 0, dst, bytes: bytes.to_vec() });
    }
}

/// WireGuard's Noise, for this end.
fn noise() -> Builder<'static> {
    Builder::new("Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s".parse().unwrap())
        .local_private_key(&SECRET)
        .and_then(|builder| builder.prologue(b"WireGuard v1 zx2c4 Jason@zx2c4.com"))
        .and_then(|builder| builder.psk(2, &NONE))
        .unwrap()
}
