//! What the core takes for a packet: to seal it, to open it, to find whose it is. `cargo xtask bench micro`.

mod pair;

use std::{hint::black_box, time::Instant};

use divan::{
    Bencher,
    counter::{BytesCount, ItemsCount},
};
use mesh::Mesh;
use proto::pipe::{EpochTag, Peer, ToData};
use rand_core::OsRng;
use zeroize::Zeroizing;

use self::pair::{INNER, Pair, host, outer, udp};

/// Packets in one call of a benchmark: what one large TCP packet of the TUN becomes.
const PACKETS: usize = 45;

fn main() {
    divan::main();
}

/// Packets of the TUN into datagrams, route and padding included.
#[divan::bench(args = [64, 576, 1_420])]
fn encapsulate(bencher: Bencher<'_, '_>, len: usize) {
    let mut pair = Pair::connected();
    let packet = udp(INNER[0], INNER[1], len);
    bencher.counter(ItemsCount::new(PACKETS)).counter(BytesCount::new(PACKETS * len)).bench_local(|| {
        for _ in 0..PACKETS {
            pair.near.handle_tun(pair.now, black_box(&packet));
        }
        while let Some(out) = pair.near.poll_transmit() {
            black_box(out.data);
        }
    });
}

/// Datagrams into packets for the TUN, with the check whose they are.
#[divan::bench(args = [64, 576, 1_420])]
fn decapsulate(bencher: Bencher<'_, '_>, len: usize) {
    let mut sender = Pair::connected();
    let now = sender.now;
    let mut receiver = std::mem::replace(&mut sender.far, Mesh::new(now, Box::new(OsRng), &[]));
    let packets = vec![udp(INNER[0], INNER[1], len); PACKETS];
    bencher
        .counter(ItemsCount::new(PACKETS))
        .counter(BytesCount::new(PACKETS * len))
        .with_inputs(|| sender.sealed(&packets))
        .bench_local_values(|received| {
            for received in &received {
                receiver.handle_udp(now, (0, outer(0)), 0, received.segment, &received.data);
            }
            black_box(receiver.poll_tun().map_or(0, |batch| batch.packets().count()))
        });
}

/// Whose an address is, among so many machines. Nobody's: its neighbours are taken, so that the search goes to the end
/// of the trie, and nothing is sealed.
#[divan::bench(args = [10, 1_000, 10_000])]
fn lookup(bencher: Bencher<'_, '_>, machines: u32) {
    let now = Instant::now();
    let mut mesh = Mesh::new(now, Box::new(OsRng), &[outer(0)]);
    let address = |n: u32| (0x0a00_0000 | n).to_be_bytes();
    for n in 0..machines {
        let mut key = [1; 32];
        key[..4].copy_from_slice(&n.to_le_bytes());
        mesh.apply(
            now,
            ToData::SetPeer(Peer {
                id: n,
                wireguard: key,
                psks: vec![(EpochTag::of(0), Zeroizing::new([7; 32]))],
                allowed: vec![host(address(2 * n))],
                endpoints: Vec::new(),
                relays: 0,
            }),
        );
    }
    let packets: Vec<Vec<u8>> =
        (0..1_000).map(|i| udp(INNER[0], address(2 * (i * 7 % machines) + 1), 64)).collect();
    bencher.counter(ItemsCount::new(packets.len())).bench_local(|| {
        for packet in &packets {
            mesh.handle_tun(now, black_box(packet));
        }
    });
    assert!(mesh.poll_transmit().is_none(), "nobody's packet was sent");
}
