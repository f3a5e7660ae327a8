//! The TUN device, with segmentation offload.
//!
//! With a virtio-net header before every packet the kernel hands over up to 64 KB of one flow in one read, and takes as
//! much in one write. [`Split`] cuts what was read into the packets that the peer is to receive, in place;
//! [`Coalescer`] finds which of many received packets may be written as one. Each alone gives a factor of two to three.
//!
//! The kernel is trusted, the packets are not: a local program can send anything, and so can a peer. Neither finds a
//! way here to a panic, to bytes that are not its own, or to a checksum that we vouch for without having verified it.

mod checksum;
mod coalesce;
mod device;
mod headers;
mod split;
mod transfer;
mod vnet;

pub use self::{
    coalesce::{Coalescer, MAX_BATCH, Written},
    device::{Tun, TunError},
    split::{Malformed, Split},
    transfer::{Frame, is_gone},
    vnet::HEADER_LEN,
};

#[cfg(test)]
mod tests;
