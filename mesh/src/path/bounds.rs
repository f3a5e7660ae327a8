//! How many paths of each origin a peer has at most, and which one gives way.

use std::time::{Duration, Instant};

use super::{Origin, Path, Paths, Via, schedule::BURST_LASTS};

/// Learned paths of one peer that are remembered.
const MAX_LEARNED: usize = 4;
/// Places on the LAN where a peer was seen: two links by two address families.
const MAX_SIGHTED: usize = 4;
/// How long a learned path may be silent.
const LEARNED_LASTS: Duration = Duration::from_secs(60);

impl Paths {
    /// Makes room for one more learned path, if that costs nothing: what is being probed has time for its answer. (Two
    /// machines that learn more paths than they keep, and forget each before its answer comes, would probe without end.)
    pub(super) fn has_room(&mut self, now: Instant) -> bool {
        while self.table.iter().filter(|p| p.origin == Origin::Learned).count() >= MAX_LEARNED {
            let spent = |p: &Path| !p.trusted && now >= p.burst_at + BURST_LASTS;
            let find = |is: &dyn Fn(&Path) -> bool| {
                let mut places = (0..self.table.len()).filter(|at| self.chosen != Some(*at));
                places.find(|at| self.table[*at].origin == Origin::Learned && is(&self.table[*at]))
            };
            let Some(at) = find(&spent).or_else(|| find(&|p| p.trusted)) else { return false };
            self.table.remove(at);
            self.choose();
        }
        true
    }

    /// A place that nobody names and where nobody answers is asked no more: the router there would keep in mind whom it was for,
    /// and give the port to nobody else.
    pub(super) fn forget_learned(&mut self, now: Instant) {
        let stays = |p: &Path| p.origin != Origin::Learned || p.trusted || now < p.burst_at + LEARNED_LASTS;
        let chosen = self.chosen_via;
        if !self.table.iter().all(stays) {
            self.table.retain(|p| stays(p) || Some(p.via) == chosen);
            self.choose();
        }
    }

    /// Keeps the number of paths of one origin within bounds; those in `keep` stay.
    pub(super) fn trim(&mut self, origin: Origin, keep: &[Via]) {
        let most = match origin {
            Origin::Learned => MAX_LEARNED,
            Origin::Sighted => MAX_SIGHTED,
            Origin::Static | Origin::Announced | Origin::Relay => 2 * proto::probe::MAX_CANDIDATES,
        };
        while self.table.iter().filter(|p| p.origin == origin).count() > most {
            let oldest = self
                .table
                .iter()
                .position(|p| p.origin == origin && !p.trusted && !keep.contains(&p.via))
                .or_else(|| self.table.iter().position(|p| p.origin == origin && !keep.contains(&p.via)));
            let Some(at) = oldest else { break };
            self.table.remove(at);
        }
    }
}
