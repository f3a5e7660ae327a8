//! Looking for a direct path through a hard NAT.

use std::{net::SocketAddr, time::Instant};

use proto::probe::{Candidate, Origin};

use super::{Peer, receive::is_inner};
use crate::{
    machine::Machine,
    path::{Probe, Turn, is_private, may_probe},
    route::Routes,
};

impl Peer {
    /// Opens ports, or looks for one, where there is data and it goes by a relay.
    pub(super) fn seek(&mut self, now: Instant, machine: &mut Machine) {
        if !self.paths.is_relayed() {
            if self.birthday.stop(self.paths.is_direct()) {
                self.announce.renew(now);
            }
            return;
        }
        let may_open = self.birthday.may_open(now, &machine.pool);
        let opened = may_open
            && self.turn(now, machine).is_some_and(|turn| self.birthday.open(now, turn, &machine.pool));
        if opened || self.birthday.acted(now) {
            // The peer is to look at the same time.
            self.announce.renew(now);
        }
        while let Some(to) = self.birthday.next(now, &mut machine.budgets.seeking) {
            // Nobody waits for an answer to this: what arrives makes the other side probe, and its probe ours.
            let nonce = machine.rng.next_u64();
            self.send_probe(&Probe { to, nonce, size: 0, last: false }, machine);
        }
    }

    /// Whose turn it is to begin. (Behind one router other ways lead, or none; and where UDP is blocked none does.)
    fn turn(&self, now: Instant, machine: &Machine) -> Option<Turn> {
        if machine.is_hard(now) {
            return Some(Turn::Hard);
        }
        machine.stun.seen(now).find(SocketAddr::is_ipv4)?;
        let own = machine.keys.as_ref().filter(|_| !self.shares_public(machine))?.public;
        Some(if own.as_bytes() < self.key.as_bytes() { Turn::First } else { Turn::Second })
    }

    /// The peer's newest list.
    pub(super) fn heed_hard(
        &mut self,
        now: Instant,
        (restarted, hard): (bool, Option<u32>),
        list: &[Candidate],
        routes: &Routes,
        machine: &mut Machine,
    ) {
        let aim = list.iter().filter(|c| c.origin == Origin::Reflexive).map(|c| c.endpoint.0).find(|aim| {
            let allowed = |aim: SocketAddr| may_probe(aim, &machine.locals, false);
            aim.is_ipv4() && allowed(*aim) && !is_private(aim.ip()) && !is_inner(*aim, routes, machine)
        });
        let acted = self.birthday.acts();
        if self.birthday.told(restarted, hard, aim) && !machine.is_hard(now) {
            self.birthday.look(now, &mut *machine.rng);
        }
        if acted && !self.birthday.acts() {
            self.announce.renew(now);
        }
    }
}
