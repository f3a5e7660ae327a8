//! The way of a packet from TUN to socket and back, for `cargo xtask bench instructions` to count under valgrind.
//!
//! Two functions are counted, each called once: [`outgoing`] and [`incoming`]. What happens before, the handshake and
//! the path discovery between the two cores, is not. The input is the same in every run. Needs root, for a TUN device
//! in a network namespace of its own; calls into the kernel cost no instructions here.

mod frame;
#[path = "../../../mesh/benches/core/pair.rs"]
mod pair;

use std::{hint::black_box, process::Command, time::Instant};

use mesh::Mesh;
use netio::tun::{Coalescer, Split, Tun};
use nix::sched::{CloneFlags, unshare};

use self::{
    frame::{Frame, Protocol},
    pair::{INNER, Pair, Received, outer},
};

/// Payload bytes of a TCP segment without options, at the tunnel's MTU.
const SEGMENT: usize = pair::MTU as usize - Protocol::Tcp.headers();
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
    let [from, to] = INNER;
    for n in 0..LARGE {
        let (payload, sequence) = (SEGMENT * SEGMENTS, n * SEGMENT * SEGMENTS);
        let large = Frame { protocol: Protocol::Tcp, from, to, flow: 0, payload, segment: SEGMENT, sequence };
        frames.push(large.bytes());
        let small = Frame { flow: 1, payload: 0, sequence: 0, ..large };
        frames.extend((0..SMALL).map(|_| small.bytes()));
    }
    frames
}
