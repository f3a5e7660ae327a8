//! Linux mechanisms, no policy: what the data path reads and writes packets with, and what control prepares it with.
//!
//! * [`tun`]: the TUN device with segmentation offload: one read brings up to 64 KB of one flow, cut in place into
//!   packets; many packets of one flow leave in one write.
//! * [`udp`]: wildcard sockets that are never connected, receiving batches with `UDP_GRO` and sending with
//!   `UDP_SEGMENT`.
//! * [`epoll`], [`pipe`], [`bell`], [`inherit`]: the loop, the two pipes, what wakes another thread's loop, and what a
//!   process inherits.
//! * [`mod@slice`]: how long the data path's threads run in one go.
//! * [`netlink`]: addresses, routes and links, asynchronous, for control.
//!
//! Every `unsafe` block of the project is in this crate and in `sandbox`. Errors name what failed and the system's reason, never an
//! address or a name. Nothing here prints or logs.

#![deny(clippy::disallowed_macros, clippy::disallowed_methods, clippy::disallowed_types)]

pub mod bell;
pub mod epoll;
pub mod inherit;
pub mod netlink;
pub mod pipe;
pub mod slice;
pub mod tun;
pub mod udp;
