//! The TUN device, with segmentation offload.
//!
//! With a virtio-net header before every packet the kernel hands over up to 64 KB of one flow in one read, and takes as
//! much in one write. a splitter cuts what was read into the packets that the peer is to receive, in place; a
//! coalescer finds what of many received packets may be written as one. Each alone gives a factor of two to three.
//!
//! The kernel is trusted, the packets are not: a local program can send anything, and so can a peer.

mod device;

pub use device::{Tun, TunError};
