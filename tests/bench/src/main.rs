//! The way of a packet from TUN to socket and back, for `cargo xtask bench instructions` to count under valgrind.
//!
//! Two functions are counted, each called once: [`outgoing`] and [`incoming`]. What happens before, the handshake and
//! the path discovery between the two cores, is not. The input is the same in every run. Needs root, for a TUN device
//! in a network namespace of its own; calls into the kernel cost no instructions here.

#[path = "../../../mesh/benches/core/pair.rs"]
mod pair;

use std::{hint::black_box, process::Command, time::Instant};

use mesh::Mesh;
use netio::tun::{Coalescer, HEADER_LEN, Split, Tun};
use nix::sched::{CloneFlags, unshare};

use self::pair::{INNER, Pair, Received, outer};

/// Payload bytes of a TCP segment without options, at the tunnel's MTU.
const SEGMENT: usize = pair::MTU as usize - HEADERS;
/// IPv4 and TCP.
const HEADERS: usize = 40;
/// Large TCP packets of one stream.
const LARGE: usize = 12;
/// Segments in each of them.
const SEGMENTS: usize = 46;
/// Small packets, an acknowledgement each, between two large ones.
const SMALL: usize = 16;
/// Packets in all of them together.
const PACKETS: usize = LARGE * (SEGMENTS + SMALL);

fn main() {
    unshare(CloneFlags::CLONE_NEWNET).expect("this needs root, for a network namespace");
    let mut tun = Tun::create("bench").expect("root may make a device in its own namespace");
    let up = Command::new("ip").args(["link", "set", "bench", "up"]).status();
    assert!(up.is_ok_and(|status| status.success()), "ip(8) sets the device up");
    let mut pair = Pair::connected();

    // Once beforehand, so that buffers have the size that they keep.
    let mut coalescer = Coalescer::new();
    let received = sealed(&mut pair);
    assert_eq!(deliver(&mut pair.far, pair.now, &received, &mut tun, &mut coalescer), PACKETS);

    let received = sealed(&mut pair);
    assert_eq!(outgoing(&mut pair.near, pair.now, &mut frames()), PACKETS);
    assert_eq!(incoming(&mut pair.far, pair.now, &received, &mut tun, &mut coalescer), PACKETS);
}

/// Frames of the TUN, one by one: cut, sealed, and laid ready for sockets. Returns the number of datagrams.
#[inline(never)]
fn outgoing(mesh: &mut Mesh, now: Instant, frames: &mut [Vec<u8>]) -> usize {
    let mut datagrams = 0;
    for frame in frames {
        take(mesh, now, frame);
        while let Some(out) = mesh.poll_transmit() {
            datagrams += black_box(out.data).len().div_ceil(out.segment);
        }
    }
    datagrams
}

/// Datagrams as a socket receives them: opened, checked, joined, and written to the TUN. Returns the number of packets
/// that it took.
#[inline(never)]
fn incoming(
    mesh: &mut Mesh,
    now: Instant,
    received: &[Received],
    tun: &mut Tun,
    coalescer: &mut Coalescer,
) -> usize {
    // Not the last that it does, or it would be a jump out of what is counted.
    black_box(deliver(mesh, now, received, tun, coalescer))
}

#[inline(never)]
fn deliver(
    mesh: &mut Mesh,
    now: Instant,
    received: &[Received],
    tun: &mut Tun,
    coalescer: &mut Coalescer,
) -> usize {
    let mut packets = 0;
    for received in received {
        mesh.handle_udp(now, (0, outer(0)), 0, received.segment, &received.data);
        if let Some(batch) = mesh.poll_tun() {
            let written = tun.write(batch.packets(), coalescer);
            packets += batch.packets().count() - written.dropped;
        }
    }
    packets
}

fn take(mesh: &mut Mesh, now: Instant, frame: &mut [u8]) {
    let mut split = Split::new(frame).expect("the frame is as the kernel makes it");
    while let Some(packet) = split.next_packet() {
        mesh.handle_tun(now, packet);
    }
}

/// What arrives at the other side of all frames.
fn sealed(pair: &mut Pair) -> Vec<Received> {
    let mut received = Vec::new();
    for mut frame in frames() {
        take(&mut pair.near, pair.now, &mut frame);
        received.extend(pair.sealed(&[]));
    }
    received
}

/// What the kernel hands over of a stream: large packets to be cut, and acknowledgements of another stream between them.
fn frames() -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    for n in 0..LARGE {
        frames.push(frame(0, SEGMENT * SEGMENTS, n * SEGMENT * SEGMENTS));
        frames.extend((0..SMALL).map(|_| frame(1, 0, 0)));
    }
    frames
}

/// A TCP packet of a flow, behind a virtio-net header that leaves the checksum to the reader.
fn frame(flow: u8, payload: usize, sequence: usize) -> Vec<u8> {
    let mut packet = vec![0x5a; HEADERS + payload];
    packet[..12].copy_from_slice(&[0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 6, 0, 0]);
    packet[12..16].copy_from_slice(&INNER[0]);
    packet[16..20].copy_from_slice(&INNER[1]);
    let len = packet.len() as u16;
    packet[2..4].copy_from_slice(&len.to_be_bytes());
    packet[20..24].copy_from_slice(&[0x20, flow, 0x14, 0x51]);
    packet[24..28].copy_from_slice(&(sequence as u32).to_be_bytes());
    packet[28..40].copy_from_slice(&[0, 0, 0, 1, 0x50, 0x10, 1, 0, 0, 0, 0, 0]);
    let header = !sum(&packet[..20]);
    packet[10..12].copy_from_slice(&header.to_be_bytes());
    let pseudo = sum(&[&packet[12..20], &[0, 6], &(len - 20).to_be_bytes()].concat());
    packet[36..38].copy_from_slice(&pseudo.to_be_bytes());

    let (kind, size) = if payload > SEGMENT { (1, SEGMENT) } else { (0, 0) };
    let mut frame = vec![1, kind];
    for field in [HEADERS, size, 20, 16] {
        frame.extend((field as u16).to_ne_bytes());
    }
    assert_eq!(frame.len(), HEADER_LEN);
    frame.extend(packet);
    frame
}

/// The internet checksum's sum, plainly.
fn sum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}
