//! Where a peer said on the LAN that it is.
//!
//! It is a place for handshakes, which are sealed for the peer, and for probes once there is a session. Data goes there when
//! an echo came back, as on any path. When this machine moves, such a place is a stranger's, and is forgotten.

use std::time::Instant;

use proto::pipe::LocalAddr;

use super::{Kind, Origin, Path, Paths, Via};
use crate::out::To;

impl Paths {
    /// The peer was seen there, on one of our links.
    pub(crate) fn sighted(&mut self, now: Instant, via: Via, locals: &[LocalAddr]) {
        let Via::Udp { socket, remote } = via else { return };
        match self.place(via) {
            Some(at) => {
                let path = &mut self.table[at];
                if path.origin != Origin::Static {
                    path.origin = Origin::Sighted;
                }
                if !path.trusted {
                    path.restart(now);
                }
            }
            None => {
                let (to, kind) = (To::Udp { socket, dst: remote }, Kind::of(remote.ip(), locals));
                self.table.push(Path::new(now, via, to, kind, Origin::Sighted, self.top));
            }
        }
        self.trim(Origin::Sighted, &[via]);
        self.choose();
    }

    /// Whether the peer was seen anywhere on the LAN.
    pub(crate) fn is_sighted(&self) -> bool {
        self.table.iter().any(|path| path.origin == Origin::Sighted)
    }

    /// This machine is on another LAN, or nobody wants the peer any more. A path that worked stays one to be tried.
    pub(crate) fn forget_sighted(&mut self) {
        self.table.retain(|path| path.origin != Origin::Sighted || path.rtt.is_some());
        for path in self.table.iter_mut().filter(|path| path.origin == Origin::Sighted) {
            path.origin = Origin::Learned;
        }
        self.trim(Origin::Learned, &[]);
        self.choose();
    }
}
