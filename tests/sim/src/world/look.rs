//! What the machines say of their paths, held against what their routers allow.

use std::time::Duration;

use proto::{
    metadata::Endpoint,
    pipe::{PathView, ToData},
};

use super::{LOOK, Task, World};
use crate::{
    host::Host,
    net::Way,
    watch::{CALM, CHATTER, FRESH, SEEKS, STORM, WINDOW},
};

impl World {
    /// Looks at what the machines say of their paths.
    pub(super) fn look(&mut self) {
        self.after(LOOK, Task::Look);
        if self.now >= self.window + WINDOW {
            self.window = self.now;
            let peers = self.hosts.len() as u64 - 1;
            for host in 0..self.hosts.len() {
                let each = std::mem::take(&mut self.chatter[host]) / peers;
                self.report.chatter = self.report.chatter.max(each);
                let calm = self.now >= self.stirred[host] + CALM + WINDOW;
                let seeks = if self.plan.has_pools() { SEEKS / peers } else { 0 };
                if each > seeks + if calm { CHATTER } else { STORM } {
                    self.broken(format!("machine {host} sent {each} datagrams for each peer in {WINDOW:?}"));
                }
            }
        }
        if self.quiet {
            return;
        }
        for host in 0..self.hosts.len() {
            if self.hosts[host].awake {
                let before = self.notes.as_ref().map(|_| self.hosts[host].paths.clone());
                self.tell(host, ToData::StatusRequest { token: 0 });
                self.note_paths(host, before);
            }
        }
        let direct = |hosts: &[Host], a: usize, b: usize| matches!(hosts[a].paths[b].0, PathView::Direct(_));
        for a in 0..self.hosts.len() {
            for b in 0..self.hosts.len() {
                if a == b || !self.hosts[a].awake {
                    continue;
                }
                let (path, age) = self.hosts[a].paths[b];
                // (One who has just woken has not looked at its sessions yet.)
                let woken = self.now < self.stirred[a] + LOOK;
                if !matches!(path, PathView::Idle | PathView::Silent)
                    && !woken
                    && age.is_none_or(|age| age > FRESH)
                {
                    self.broken(format!("machine {a} shows a path to {b} on a session of age {age:?}"));
                }
                let both = direct(&self.hosts, a, b) && direct(&self.hosts, b, a);
                let way = self.way(a, b);
                let asked = self.can_meet(a, b) && (self.share_relay(a, b) || self.are_near(a, b));
                let at = self.at(a, b);
                if both && way != Way::Open && !self.is_cut(a, b) {
                    self.pairs[at].met(self.now, &mut self.report);
                }
                if let Some(broken) = self.pairs[at].look(self.now, (way, asked), both, &mut self.report) {
                    self.broken(format!("machine {a} to {b}: {broken}"));
                }
            }
        }
    }

    /// Tells which paths changed.
    fn note_paths(&mut self, host: usize, before: Option<Vec<(PathView, Option<Duration>)>>) {
        for (peer, (before, _)) in before.into_iter().flatten().enumerate() {
            let path = self.hosts[host].paths[peer].0;
            if path != before {
                self.note(|| match path {
                    PathView::Idle => format!("  {host} has no path to {peer}"),
                    PathView::Silent => format!("  {host} hears nothing of {peer}"),
                    PathView::Relay(relay) => format!("  {host} to {peer} over relay {relay}"),
                    PathView::Direct(Endpoint(to)) => format!("  {host} to {peer} at {to}"),
                });
            }
        }
    }

    /// What leads from one to the other beside relays.
    fn way(&self, a: usize, b: usize) -> Way {
        match self.net.way(self.now, a, b) {
            _ if self.is_cut(a, b) => Way::No,
            Way::Sought(by) if !self.plan.hosts[by].pool => Way::No,
            way => way,
        }
    }

    pub(super) fn is_cut(&self, a: usize, b: usize) -> bool {
        self.cut.contains(&(a.min(b), a.max(b))) || self.hosts[a].offline || self.hosts[b].offline
    }
}
