use std::time::Duration;

use proptest::prelude::*;
use zeroize::Zeroizing;

use super::*;
use crate::{
    metadata::{Endpoint, InnerNet},
    roster::{Floor, Order},
};

fn endpoint(text: &str) -> Endpoint {
    Endpoint(text.parse().unwrap())
}

fn net(addr: &str, len: u8) -> InnerNet {
    InnerNet::new(addr.parse().unwrap(), len).unwrap()
}

fn floor() -> Floor {
    Floor { order: Order { recovery: 0, generation: 2, version: 9 }, header: [0x88; 32] }
}

fn peer() -> Peer {
    Peer {
        id: 7,
        wireguard: [3; 32],
        psks: vec![
            (EpochTag::of(5), Zeroizing::new([0xa5; 32])),
            (EpochTag::of(4), Zeroizing::new([0xa4; 32])),
        ],
        allowed: vec![net("10.9.0.7", 32), net("fd00::7", 128)],
        endpoints: vec![endpoint("198.51.100.1:51820")],
        relays: 0b101,
    }
}

fn plain_peer() -> PlainPeer {
    PlainPeer {
        id: 9,
        wireguard: [4; 32],
        psk: Zeroizing::new([0xa5; 32]),
        endpoint: Some(endpoint("[fe80::1%3]:51820")),
        keepalive: 25,
        allowed: vec![net("0.0.0.0", 0), net("fd00::", 64)],
    }
}

fn to_data() -> Vec<ToData<'static>> {
    let secret = Zeroizing::new([0xa6; 32]);
    vec![
        ToData::Config(Config { secret, own: vec![net("10.9.0.1", 32)], mtu: 1_420 }),
        ToData::SetPeer(peer()),
        ToData::RemovePeer(7),
        ToData::Introduce { peer: peer(), relay: 1, handle: 99, initiation: &[1; 148] },
        ToData::RelayUp(0),
        ToData::RelayDown(7),
        ToData::RelayRecv { relay: 2, handle: u64::MAX, payload: b"datagram" },
        ToData::RelayGone { relay: 2, handle: 5 },
        ToData::LocalAddrs(vec![LocalAddr { addr: "192.168.1.2".parse().unwrap(), prefix_len: 24 }]),
        ToData::Mappings(vec![endpoint("203.0.113.9:40000")]),
        ToData::StunServers(vec![endpoint("203.0.113.1:3478"), endpoint("[2001:db8::1]:3478")]),
        ToData::Ping { token: 1, peer: 7 },
        ToData::StatusRequest { token: 2 },
        ToData::Begin,
        ToData::Floor(floor()),
        ToData::Beacon {
            link: 3,
            from: "192.168.1.2".parse().unwrap(),
            datagram: &[0xa7; crate::beacon::LEN],
        },
        ToData::Sighted { peer: 7, at: endpoint("192.168.1.3:51820") },
        ToData::Plain(ToPlain::Key(Some(Zeroizing::new([0xa6; 32])))),
        ToData::Plain(ToPlain::Key(None)),
        ToData::Plain(ToPlain::Sockets { v4: Some(3), v6: None }),
        ToData::Plain(ToPlain::Link { up: true, mtu: 1_420 }),
        ToData::Plain(ToPlain::Peer(plain_peer())),
        ToData::Guest(Guest {
            peer: 7,
            psk: Zeroizing::new([0xa4; 32]),
            relay: 1,
            handle: 99,
            initiation: &[1; 148],
        }),
    ]
}

fn from_data() -> Vec<FromData<'static>> {
    let peers = vec![PeerStatus {
        peer: 7,
        path: PathView::Direct(endpoint("198.51.100.1:51820")),
        rtt: Some(Duration::from_micros(1_234)),
        mtu: 1_420,
        rx_bytes: 1,
        tx_bytes: 2,
        since_handshake: None,
    }];
    let drops = Drops { spoofed: 3, unrelayed: 9, ..Drops::default() };
    vec![
        FromData::Ready,
        FromData::RelaySend {
            relay: 1,
            to: RelayTo::Peer { peer: 7, epoch: EpochTag::of(3) },
            payload: b"a",
        },
        FromData::RelaySend { relay: 1, to: RelayTo::Handle(9), payload: &[0; MAX_PAYLOAD] },
        FromData::Status(Status { token: 2, peers, drops }),
        FromData::Pong(Pong { token: 1, result: Some((Duration::from_millis(20), PathView::Relay(3))) }),
        FromData::Pong(Pong { token: 1, result: None }),
        FromData::PeerFloor { peer: 7, floor: floor() },
        FromData::Seek(7),
        FromData::PlainStatus(PlainStatus {
            token: 3,
            more: true,
            peers: vec![
                PlainState {
                    peer: 9,
                    endpoint: Some(endpoint("[fe80::1%3]:51820")),
                    rx_bytes: 1,
                    tx_bytes: 2,
                    since_handshake: Some(Duration::from_secs(3)),
                },
                PlainState { peer: 8, endpoint: None, rx_bytes: 0, tx_bytes: 0, since_handshake: None },
            ],
        }),
    ]
}

fn bytes_to(frame: &ToData<'_>) -> Vec<u8> {
    let mut w = Writer::new();
    frame.encode(&mut w);
    w.finish()
}

fn bytes_from(frame: &FromData<'_>) -> Vec<u8> {
    let mut w = Writer::new();
    frame.encode(&mut w);
    w.finish()
}

#[test]
fn what_is_written_is_read_back() {
    for bytes in to_data().iter().map(bytes_to) {
        assert!(bytes_to(&ToData::decode(&bytes).unwrap()) == bytes);
    }
    for bytes in from_data().iter().map(bytes_from) {
        assert!(bytes_from(&FromData::decode(&bytes).unwrap()) == bytes);
    }
}

#[test]
fn frames_come_out_of_a_stream_however_it_is_cut() {
    let mut writer = FrameWriter::new();
    to_data().iter().for_each(|frame| writer.to_data(frame));
    let stream = writer.pending().to_vec();
    for step in [1, 3, 64, stream.len()] {
        let mut reader = FrameReader::new();
        let mut found = Vec::new();
        for piece in stream.chunks(step) {
            reader.space()[..piece.len()].copy_from_slice(piece);
            reader.filled(piece.len());
            while let Some(frame) = reader.next_frame().unwrap() {
                found.push(frame.to_vec());
            }
        }
        assert!(found == to_data().iter().map(bytes_to).collect::<Vec<_>>(), "in steps of {step}");
    }
}

#[test]
fn a_frame_longer_than_any_ends_the_stream() {
    for (header, error) in [(u32::MAX, WireError::TooLong), (0, WireError::Truncated)] {
        let mut reader = FrameReader::new();
        reader.space()[..4].copy_from_slice(&header.to_be_bytes());
        reader.filled(4);
        assert_eq!(reader.next_frame().unwrap_err(), error);
    }
}

#[test]
fn keys_are_wiped_from_the_buffers_once_they_were_read_or_written() {
    let holds_key = |bytes: &[u8]| bytes.windows(8).any(|w| w.iter().all(|b| (0xa4..=0xa6).contains(b)));
    let mut writer = FrameWriter::new();
    to_data().iter().for_each(|frame| writer.to_data(frame));
    let mut reader = FrameReader::new();
    let len = writer.len();
    reader.space()[..len].copy_from_slice(writer.pending());
    reader.filled(len);
    assert!(holds_key(reader.all()) && holds_key(writer.all()));
    while reader.next_frame().unwrap().is_some() {}
    assert!(!holds_key(reader.all()));
    writer.written(len - 1);
    assert!(!holds_key(writer.all()));
}

#[test]
fn a_writer_that_never_runs_dry_stays_small() {
    let mut writer = FrameWriter::new();
    let frame = FromData::RelaySend {
        relay: 0,
        to: RelayTo::Peer { peer: 1, epoch: EpochTag::of(3) },
        payload: &[7; 1_000],
    };
    let mut read: Vec<u8> = Vec::new();
    writer.from_data(&frame);
    for _ in 0..10_000 {
        writer.from_data(&frame);
        read.extend_from_slice(&writer.pending()[..1_000]);
        writer.written(1_000);
        read.extend_from_slice(&writer.pending()[..11]);
        writer.written(11);
    }
    assert!(writer.all().len() < 1 << 20);
    let one = bytes_from(&frame);
    assert!(read.chunks_exact(4 + one.len()).all(|frame| frame[4..] == one[..]));
}

#[test]
fn values_outside_the_format_are_refused() {
    let mut peer_bytes = bytes_to(&ToData::SetPeer(peer()));
    // Two keys of one epoch: which one is meant?
    let tag = 1 + 4 + 32 + 1 + 4;
    peer_bytes[tag + 33] = peer_bytes[tag];
    assert!(ToData::decode(&peer_bytes).is_err());
    assert!(ToData::decode(&[5, 8]).is_err(), "relay 8");
    assert!(ToData::decode(&[5, 1, 0]).is_err(), "trailing");
    assert!(ToData::decode(&[77]).is_err() && ToData::decode(&[]).is_err());
    assert_eq!(
        FromData::decode(&[129, VERSION + 1]).err(),
        Some(WireError::Newer { found: VERSION + 1, known: VERSION })
    );
    assert!(FromData::decode(&[129, VERSION - 1]).is_err(), "a data path that is older than control");
    let guest = bytes_to(&to_data().pop().unwrap());
    let relay_at = 1 + 4 + 32;
    assert!(ToData::decode(&[&guest[..relay_at], &[8], &guest[relay_at + 1..]].concat()).is_err(), "relay 8");
    let mut long = bytes_from(&FromData::RelaySend {
        relay: 0,
        to: RelayTo::Peer { peer: 0, epoch: EpochTag::of(3) },
        payload: &[0; MAX_PAYLOAD],
    });
    long.push(0);
    assert_eq!(FromData::decode(&long).err(), Some(WireError::TooLong));
}

proptest! {
    #[test]
    fn hostile_frames_never_panic(
        which in 0usize..64,
        flips in proptest::collection::vec((any::<usize>(), any::<u8>()), 0..6),
        cut in any::<proptest::sample::Index>(),
    ) {
        let frames: Vec<Vec<u8>> =
            to_data().iter().map(bytes_to).chain(from_data().iter().map(bytes_from)).collect();
        let mut bytes = frames[which % frames.len()].clone();
        for (at, value) in flips {
            let at = at % bytes.len().min(300);
            bytes[at] = value;
        }
        bytes.truncate(cut.index(bytes.len() + 1));
        let _ = ToData::decode(&bytes);
        let _ = FromData::decode(&bytes);
    }
}
