//! A peer that is seen on the LAN.

use std::{net::SocketAddr, time::Instant};

use super::{Peer, UNASKED_HANDSHAKE, receive::is_inner};
use crate::{
    machine::Machine,
    path::{Kind, may_probe},
    route::Routes,
};

impl Peer {
    /// The peer said on the LAN that it is there, and looks for us or is looked for. Both sides begin a handshake, so that the
    /// firewall of either lets the other's pass.
    pub(crate) fn sighted(
        &mut self,
        now: Instant,
        remote: SocketAddr,
        routes: &Routes,
        machine: &mut Machine,
    ) {
        let Some(via) = machine.via(remote) else { return };
        let near = Kind::of(remote.ip(), &machine.locals) == Kind::Lan;
        if !near || !may_probe(remote, &machine.locals, false) || is_inner(remote, routes, machine) {
            return;
        }
        self.paths.sighted(now, via, &machine.locals);
        if self.last_unasked.is_none_or(|at| now >= at + UNASKED_HANDSHAKE) {
            self.last_unasked = Some(now);
            // What is under way went elsewhere.
            self.keyed.iter_mut().for_each(|keyed| keyed.attempt = None);
            self.initiate(now, machine);
        }
        self.schedule(now, machine);
    }
}
