//! When the kernel gives a connection to a relay up.

use std::{
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use nix::{getsockopt_impl, libc, sockopt_impl, sys::socket::getsockopt};
use proto::relay::{LOOK_AGAIN, patience};
use socket2::SockRef;

/// A connection's socket. A machine that changed its network must notice, and what the kernel repeats after ever longer pauses
/// would not be heard at once when the way is whole again. The relay does the same.
pub(super) struct Link {
    socket: Option<OwnedFd>,
    /// When it was looked at last.
    looked: Instant,
    /// After what time the connection is given up.
    time: Option<Duration>,
}

impl Link {
    /// `socket` is none where there are no more descriptors.
    pub(super) fn new(socket: Option<OwnedFd>) -> Self {
        let mut link = Self { socket, looked: Instant::now(), time: None };
        link.look();
        link
    }

    /// To be called before something is sent.
    pub(super) fn look_again(&mut self) {
        let now = Instant::now();
        if now - self.looked >= LOOK_AGAIN {
            self.looked = now;
            self.look();
        }
    }

    fn look(&mut self) {
        let Some(socket) = &self.socket else {
            return;
        };
        let of = |micros: u32| Duration::from_micros(micros.into());
        // Of a kernel that does not say nothing is known.
        let time = getsockopt(socket, LinkInfo).map_or_else(
            |_| patience(Duration::ZERO, Duration::ZERO),
            |info| patience(of(info.tcpi_rtt), of(info.tcpi_rttvar)),
        );
        if self.time.replace(time) != Some(time) {
            // One that refuses does no harm.
            let _ = SockRef::from(socket).set_tcp_user_timeout(Some(time));
        }
    }
}

sockopt_impl!(
    /// What the kernel knows of a connection.
    LinkInfo,
    GetOnly,
    libc::IPPROTO_TCP,
    libc::TCP_INFO,
    libc::tcp_info
);
