//! Many peers: nothing is done for those that nothing passes, little is kept, and the others are called together.

use std::{net::Ipv4Addr, time::Duration};

use proto::metadata::{Endpoint, InnerAddr, InnerNet};
use rand_core::OsRng;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use super::*;
use crate::timers::AT_ONCE;

const CONFIGURED: u32 = 10_000;
const ACTIVE: u32 = 1_000;

/// The number of the one that all of them know.
const SERVER: u32 = u32::MAX;

/// Bytes of a peer that was only told, without its ranges.
const KEPT: usize = 640;

fn secret(n: u32) -> StaticSecret {
    let mut secret = [0x11; 32];
    // Not in the first byte, of which a key has not all bits.
    secret[8..12].copy_from_slice(&n.to_le_bytes());
    secret.into()
}

fn inner(n: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0a00_0000 | n & 0xff_ffff)
}

fn outer(n: u32) -> SocketAddr {
    (Ipv4Addr::from_bits(0xc612_0000 | n & 0xffff), 51_820).into()
}

fn device(now: Instant, n: u32) -> Device {
    let mut device = Device::new(now, Box::new(OsRng));
    for frame in [
        ToPlain::Key(Some(Zeroizing::new(secret(n).to_bytes()))),
        ToPlain::Sockets { v4: Some(0), v6: None },
        ToPlain::Link { up: true, mtu: 1_420 },
    ] {
        device.apply(now, ToData::Plain(frame));
    }
    device
}

fn introduce(now: Instant, device: &mut Device, n: u32) {
    // Of those that are never spoken to nobody needs to know the secret.
    let wireguard =
        if n < ACTIVE || n == SERVER { PublicKey::from(&secret(n)).to_bytes() } else { secret(n).to_bytes() };
    let peer = PlainPeer {
        id: n,
        wireguard,
        psk: Zeroizing::new([0; 32]),
        endpoint: Some(Endpoint(outer(n))),
        keepalive: 0,
        allowed: vec![InnerNet::host(InnerAddr(inner(n).into()))],
    };
    device.apply(now, ToData::Plain(ToPlain::Peer(peer)));
}

/// A packet of 100 bytes.
fn packet(from: u32, to: u32) -> Vec<u8> {
    let mut packet = vec![0; 100];
    (packet[0], packet[3]) = (0x45, 100);
    packet[12..16].copy_from_slice(&inner(from).octets());
    packet[16..20].copy_from_slice(&inner(to).octets());
    packet
}

/// What one has to send, and to whom.
fn sent(device: &mut Device) -> Vec<(SocketAddr, Vec<u8>)> {
    let mut all = Vec::new();
    while let Some(out) = device.poll_transmit() {
        let To::Udp { dst, .. } = out.to else { panic!("a plain interface has no relays") };
        all.extend(out.datagrams().map(|datagram| (dst, datagram.to_vec())));
    }
    all
}

/// A server with all peers, of which the first are there too, and have not spoken.
fn crowd(now: Instant) -> (Device, Vec<Device>) {
    let mut server = device(now, SERVER);
    // The limits on handshakes are not what this is about.
    server.machine.gate.open();
    (0..CONFIGURED).for_each(|n| introduce(now, &mut server, n));
    let mut peers: Vec<Device> = (0..ACTIVE).map(|n| device(now, n)).collect();
    peers.iter_mut().for_each(|peer| introduce(now, peer, SERVER));
    (server, peers)
}

/// One peer sends a packet; all that comes of it happens. Whether it arrived.
fn speaks(now: Instant, server: &mut Device, peer: &mut Device, n: u32) -> bool {
    peer.handle_tun(now, &packet(n, SERVER));
    let mut arrived = 0;
    loop {
        let (there, back) = (sent(peer), sent(server));
        if there.is_empty() && back.is_empty() {
            return arrived == 1;
        }
        for (_, datagram) in there {
            server.handle_udp(now, (0, outer(n)), 0, datagram.len(), &datagram);
        }
        for (to, datagram) in back {
            assert_eq!(to, outer(n), "to whom it is for");
            peer.handle_udp(now, (0, outer(SERVER)), 0, datagram.len(), &datagram);
        }
        arrived += server.poll_tun().map_or(0, |batch| batch.packets().count());
    }
}

fn tunnels(device: &Device) -> usize {
    device.peers.iter().filter(|peer| peer.has_tunnel()).count()
}

#[test]
fn nothing_is_done_for_peers_that_nothing_passes_and_little_is_kept() {
    let mut now = Instant::now();
    let (mut server, mut peers) = crowd(now);
    assert!(server.poll_timeout().is_none(), "nobody is to be called");
    assert_eq!(tunnels(&server), 0);
    assert!(size_of::<Peer>() + size_of::<crate::session::Keyed>() <= KEPT);
    for (n, peer) in (0..).zip(&mut peers) {
        now += Duration::from_micros(700);
        assert!(speaks(now, &mut server, peer, n), "{n}");
    }
    assert_eq!(tunnels(&server), ACTIVE as usize);

    // Back, to all of them in one turn: each gets its own.
    for n in 0..ACTIVE {
        server.handle_tun(now, &packet(SERVER, n));
    }
    let back = sent(&mut server);
    assert_eq!(back.len(), ACTIVE as usize);
    for ((n, peer), (to, datagram)) in (0..).zip(&mut peers).zip(back) {
        assert_eq!(to, outer(n));
        peer.handle_udp(now, (0, outer(SERVER)), 0, datagram.len(), &datagram);
        assert_eq!(peer.poll_tun().map_or(0, |batch| batch.packets().count()), 1);
    }
}

#[test]
fn those_that_are_active_are_called_together_and_so_many_in_a_turn() {
    let mut now = Instant::now();
    let (mut server, mut peers) = crowd(now);
    for (n, peer) in (0..).zip(&mut peers) {
        now += Duration::from_micros(700);
        assert!(speaks(now, &mut server, peer, n));
    }
    // For a second after its data each is called four times. Together they are not called more often.
    let (mut moments, mut turns) = (Vec::new(), 0);
    let end = now + Duration::from_secs(1);
    while let Some(due) = server.poll_timeout().filter(|due| *due <= end) {
        now = now.max(due);
        if moments.last() != Some(&now) {
            moments.push(now);
        }
        turns += 1;
        server.handle_timeout(now);
        assert!(sent(&mut server).len() <= AT_ONCE);
    }
    assert!((4..=6).contains(&moments.len()), "{} moments", moments.len());
    let each = ACTIVE as usize / AT_ONCE;
    assert!((3 * each..=moments.len() * (each + 2)).contains(&turns), "{turns} turns");
}
