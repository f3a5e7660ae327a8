//! What happens to the machines and between them.

use std::time::Duration;

use super::{PATIENCE, SETTLE, Task, World};
use crate::{
    host::Host,
    plan::{Place, What},
    relay::RESTART,
    watch::Cause,
};

/// The kernel tells of new addresses within this.
const NETLINK: Duration = Duration::from_millis(20);
/// A new epoch does not follow another sooner: machines that are online are one apart at most.
const EPOCHS_APART: Duration = Duration::from_secs(5);
/// The end waits for a machine that sleeps no longer than this, for its sessions are gone then like any longer sleeper's.
const AWAITED: Duration = Duration::from_secs(200);
/// A machine that slept longer has no connection any more.
const CONNECTION: Duration = Duration::from_secs(30);

impl World {
    /// Sees to the event with this number, or to the end.
    pub(super) fn next_event(&mut self, number: usize) {
        match self.plan.events.get(number) {
            Some(event) => {
                let after = event.after;
                self.after(after, Task::Event(number));
            }
            None => self.after(SETTLE, Task::Mend),
        }
    }

    /// Whether that was the last thing to do: the end of time, unless a direct path is awaited.
    pub(super) fn is_over(&mut self, task: &Task) -> bool {
        let Task::Look = task else { return false };
        let Some(mended) = self.mended else { return false };
        let mended = mended.max(self.returned);
        let waits = self.pairs.iter().chain(&self.large).filter_map(|pair| pair.waits(self.now)).max();
        self.now >= mended + SETTLE && waits.is_none_or(|longest| self.now >= mended + longest + PATIENCE)
    }

    pub(super) fn happen(&mut self, what: What) {
        match what {
            What::Cut(a, b) => {
                self.cut.insert((a.min(b), a.max(b)));
                self.touch(Cause::Cut, false, |x, y| (x, y) == (a, b));
            }
            What::CutRelay(host, relay) => {
                self.cut_relay.insert((host, relay));
                self.touch(Cause::Cut, true, |a, _| a == host);
                self.check_lines();
            }
            What::Offline(host) => self.go_offline(host),
            What::Heal => self.heal(),
            What::Roam(host, place) => self.roam(host, place),
            What::Return(host, time) => {
                if self.hosts[host].away {
                    return;
                }
                self.hosts[host].away = true;
                self.go_offline(host);
                self.returned = self.returned.max(self.now + time);
                self.after(time, Task::Return(host));
            }
            What::NewWan(host) => {
                if !self.net.new_wan(host) {
                    let place = self.net.place(host);
                    return self.roam(host, place);
                }
                for other in 0..self.hosts.len() {
                    if self.net.together(host, other) {
                        self.break_links(other, |a| a == other, Cause::NewWan);
                    }
                }
            }
            What::Flush(host) => {
                self.net.flush(host);
                self.touch(Cause::Flush, false, |_, _| true);
            }
            What::Sleep(host, time) => {
                if self.hosts[host].awake {
                    self.hosts[host].awake = false;
                    self.touch(Cause::Sleep, false, |a, _| a == host);
                    if time <= AWAITED {
                        self.returned = self.returned.max(self.now + time);
                    }
                    self.after(time, Task::Wake(host, time));
                    self.check_lines();
                }
            }
            What::Restart(host) => self.restart(host),
            What::RestartAll => (0..self.hosts.len()).for_each(|host| self.restart(host)),
            What::RelayRestart(relay, times) => {
                for n in 0..times {
                    let at = Duration::from_secs(n.into());
                    self.after(at, Task::Relay { relay, up: false });
                    self.after(at + RESTART, Task::Relay { relay, up: true });
                }
            }
            What::RelayDown(relay) => self.set_relay(relay, false),
            What::Quiet(time) => {
                self.quiet = true;
                self.after(time, Task::Resume);
            }
            What::Epoch => {
                if self.now >= self.epoch_at + EPOCHS_APART {
                    self.new_epoch();
                }
            }
            What::Remove(host) => self.remove(host),
            What::Clock(host, seconds) => {
                self.hosts[host].skew += seconds;
                self.touch(Cause::Clock, false, |a, _| a == host);
            }
            What::Line(host, line) => self.net.set_line(host, line),
            What::Size(host, mtu) => {
                self.net.set_mtu(host, mtu);
                self.touch(Cause::Size, false, |a, _| a == host);
            }
        }
    }

    fn heal(&mut self) {
        let was_cut = std::mem::take(&mut self.cut);
        let cut_relay = std::mem::take(&mut self.cut_relay);
        let back = |host: &mut Host| std::mem::replace(&mut host.offline, host.away) && !host.away;
        let offline: Vec<bool> = self.hosts.iter_mut().map(back).collect();
        self.touch(Cause::Heal, false, |a, b| was_cut.contains(&(a.min(b), a.max(b))) || offline[a]);
        self.touch(Cause::Heal, true, |a, _| cut_relay.iter().any(|(host, _)| *host == a));
        for relay in 0..self.relays.len() {
            self.set_relay(relay, true);
        }
        self.check_lines();
        if self.plan_is_over() {
            self.mended = Some(self.now);
        }
        for host in 0..self.hosts.len() {
            self.reconnect(host);
        }
    }

    fn plan_is_over(&self) -> bool {
        !self.tasks.iter().flatten().any(|task| matches!(task, Task::Event(_) | Task::Mend))
    }

    fn go_offline(&mut self, host: usize) {
        self.hosts[host].offline = true;
        self.touch(Cause::Offline, false, |a, _| a == host);
        self.check_lines();
    }

    pub(super) fn come_back(&mut self, host: usize) {
        self.net.go_back(host);
        (self.hosts[host].offline, self.hosts[host].away) = (false, false);
        self.moved(host);
        self.check_lines();
        self.reconnect(host);
    }

    /// A machine notices that there is a network, and connecting begins anew.
    fn reconnect(&mut self, host: usize) {
        for relay in 0..self.relays.len() {
            let link = &mut self.hosts[host].links[relay];
            link.reset();
            if link.up.is_none() && self.hosts[host].awake {
                self.connect(host, relay, NETLINK);
            }
        }
    }

    fn roam(&mut self, host: usize, place: Place) {
        self.net.settle(host, place);
        self.moved(host);
    }

    /// A machine has other addresses.
    fn moved(&mut self, host: usize) {
        self.break_links(host, |a| a == host, Cause::Roam);
        self.after(NETLINK, Task::Locals(host));
        for relay in 0..self.relays.len() {
            // The connection is of an address that is gone, as control sees.
            if let Some(id) = self.hosts[host].links[relay].up {
                self.hosts[host].links[relay].reset();
                self.after(NETLINK, Task::Close { host, relay, id });
            }
        }
    }

    /// A machine is seen elsewhere: connections of before are dead, which is found out by who sends on them.
    fn break_links(&mut self, host: usize, concerns: impl Fn(usize) -> bool, cause: Cause) {
        self.touch(cause, false, |a, _| concerns(a));
        for relay in 0..self.relays.len() {
            let link = &mut self.hosts[host].links[relay];
            if let Some(id) = link.up {
                link.broken = true;
                self.after(Duration::from_secs(20), Task::GiveUp { host, relay, id });
            }
        }
    }

    pub(super) fn wake(&mut self, host: usize, slept: Duration) {
        self.hosts[host].awake = true;
        self.touch(Cause::Sleep, false, |a, _| a == host);
        self.check_lines();
        for relay in 0..self.relays.len() {
            match self.hosts[host].links[relay].up {
                Some(id) if slept > CONNECTION => {
                    let back = self.round_trip(host);
                    self.after(back, Task::Close { host, relay, id });
                }
                Some(_) => {}
                None => self.connect(host, relay, Duration::ZERO),
            }
        }
        self.after(Duration::from_millis(500), Task::Epoch(host));
        self.after(NETLINK, Task::Locals(host));
    }

    fn restart(&mut self, host: usize) {
        if self.hosts[host].awake {
            self.touch(Cause::Restart, false, |a, _| a == host);
            if crate::REAL {
                // Its clock stands still meanwhile. What it said before with a later one, and comes later, would have it
                // refused by a peer that starts anew too.
                self.hosts[host].links.iter_mut().for_each(|link| link.stalled.clear());
            }
            self.start(host);
        }
    }

    pub(super) fn resume(&mut self) {
        self.quiet = false;
        self.touch(Cause::Quiet, false, |_, _| true);
    }
}
