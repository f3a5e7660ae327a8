//! What the TUN's offload takes: to cut what was read, to join what is written. `cargo xtask bench micro`.
//!
//! Joining is measured where it happens, in [`Tun::write`], with the calls that write to a real device in a network
//! namespace of its own, whose other end is nobody. That needs root; without it these are left out.

use std::{hint::black_box, process::Command};

use divan::{
    Bencher,
    counter::{BytesCount, ItemsCount},
};
use netio::tun::{Coalescer, HEADER_LEN, Split, Tun};
use nix::{
    sched::{CloneFlags, unshare},
    unistd::geteuid,
};

/// Payload bytes of a TCP segment with timestamps, at an MTU of 1,420.
const SEGMENT: usize = 1_368;
/// Segments in the largest packet that the kernel hands over.
const SEGMENTS: usize = 47;
/// IPv4, TCP and its timestamps.
const HEADERS: usize = 52;

fn main() {
    if geteuid().is_root() {
        unshare(CloneFlags::CLONE_NEWNET).expect("root may make a network namespace");
    }
    divan::main();
}

/// One large TCP packet into those that it stands for.
#[divan::bench]
fn split_tcp(bencher: Bencher<'_, '_>) {
    let frame = large();
    bencher
        .counter(ItemsCount::new(SEGMENTS))
        .counter(BytesCount::new(SEGMENTS * SEGMENT))
        .with_inputs(|| frame.clone())
        .bench_local_refs(|frame| cut(frame));
}

/// A small packet, which is left as it is but for its checksum.
#[divan::bench]
fn split_single(bencher: Bencher<'_, '_>) {
    let mut frame = [vec![1, 0], vec![0; HEADER_LEN - 2], segment(0, 64, 0)].concat();
    frame[6..10].copy_from_slice(&[20_u16.to_ne_bytes(), 16_u16.to_ne_bytes()].concat());
    bencher
        .counter(ItemsCount::new(1_usize))
        .with_inputs(|| frame.clone())
        .bench_local_refs(|frame| cut(frame));
}

/// Segments of so many flows, mixed, checked, joined and written.
#[divan::bench(args = [1, 4, 47], ignore = !geteuid().is_root())]
fn coalesce(bencher: Bencher<'_, '_>, flows: usize) {
    let mut tun = device(flows);
    let packets: Vec<Vec<u8>> =
        (0..SEGMENTS).map(|n| segment((n % flows) as u8, SEGMENT, n / flows)).collect();
    let mut coalescer = Coalescer::new();
    bencher.counter(ItemsCount::new(SEGMENTS)).counter(BytesCount::new(SEGMENTS * SEGMENT)).bench_local(
        || {
            let written = tun.write(packets.iter().map(Vec::as_slice), &mut coalescer);
            assert_eq!((written.writes, written.dropped), (flows, 0));
        },
    );
}

fn cut(frame: &mut [u8]) -> usize {
    let mut split = Split::new(frame).expect("the frame is as the kernel makes it");
    let mut packets = 0;
    while let Some(packet) = split.next_packet() {
        black_box(packet);
        packets += 1;
    }
    packets
}

/// A device that takes packets.
fn device(number: usize) -> Tun {
    let name = format!("bench{number}");
    let tun = Tun::create(&name).expect("root may make a device in its own namespace");
    let up = Command::new("ip").args(["link", "set", &name, "up"]).status();
    assert!(up.is_ok_and(|status| status.success()), "ip(8) sets the device up");
    tun
}

/// What the kernel hands over of a TCP stream: headers for all, and the checksum left to us.
fn large() -> Vec<u8> {
    let mut packet = segment(0, SEGMENT * SEGMENTS, 0);
    let mut pseudo = Sum::default();
    pseudo.add(&packet[12..20]);
    pseudo.add(&[0, 6]);
    pseudo.add(&((packet.len() - 20) as u16).to_be_bytes());
    packet[36..38].copy_from_slice(&pseudo.folded().to_be_bytes());
    let mut frame = vec![1, 1];
    for field in [HEADERS, SEGMENT, 20, 16] {
        frame.extend((field as u16).to_ne_bytes());
    }
    frame.extend(packet);
    frame
}

/// A TCP segment of one of many flows, the `place`th of its flow, with right checksums.
fn segment(flow: u8, payload: usize, place: usize) -> Vec<u8> {
    let mut packet = vec![0x5a; HEADERS + payload];
    packet[..20].copy_from_slice(&[0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 9, 0, 2, 10, 9, 0, 1]);
    let len = packet.len() as u16;
    packet[2..4].copy_from_slice(&len.to_be_bytes());
    let sequence = (place * SEGMENT) as u32;
    packet[20..24].copy_from_slice(&[0x20, flow, 0x14, 0x51]);
    packet[24..28].copy_from_slice(&sequence.to_be_bytes());
    packet[28..40].copy_from_slice(&[0, 0, 0, 1, 0x80, 0x10, 1, 0, 0, 0, 0, 0]);
    packet[40..44].copy_from_slice(&[1, 1, 8, 10]);
    for (at, range) in [(10, 0..20), (36, 12..packet.len())] {
        let mut sum = Sum::default();
        sum.add(&packet[range]);
        if at == 36 {
            sum.add(&[0, 6]);
            sum.add(&(len - 20).to_be_bytes());
        }
        packet[at..at + 2].copy_from_slice(&(!sum.folded()).to_be_bytes());
    }
    packet
}

/// The internet checksum, plainly.
#[derive(Default)]
struct Sum(u64);

impl Sum {
    fn add(&mut self, bytes: &[u8]) {
        for pair in bytes.chunks(2) {
            self.0 += u64::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
        }
    }

    fn folded(&self) -> u16 {
        let mut sum = self.0;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }
}
