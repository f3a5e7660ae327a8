//! What the local API shows of a network. Only this room makes these values; they are told and dropped.

use std::{
    collections::HashMap,
    net::{Ipv6Addr, SocketAddr},
};

use proto::{
    api::{Invite, Machine, NetworkState, NetworkStatus, NetworkSummary, Own, Path, Peer, Warning},
    pipe::{PathView, PeerStatus, Status},
    roster::{InviteEntry, MachineEntry, Roster},
};

use super::{
    actor::Actor,
    clock,
    interface::{Lack, MTU},
    link::Trouble,
};
use crate::{dial::ProxyFault, netcheck::Subject, state::Intent};

impl Actor {
    /// How the network is.
    pub(super) fn network_state(&self) -> NetworkState {
        let health = &self.health;
        if health.removed || self.own().is_none() {
            NetworkState::Removed
        } else if self.settings.intent == Intent::Down {
            NetworkState::Down
        } else if self.running.is_none() {
            NetworkState::Pending
        } else if health.trouble == Some(Trouble::Forked) || health.contradiction.is_some() {
            NetworkState::Forked
        } else if is_stale(&self.present.borrow().roster, clock::now()) {
            NetworkState::Stale
        } else {
            NetworkState::Up
        }
    }

    pub(super) fn summary(&self) -> NetworkSummary {
        let present = self.present.borrow();
        NetworkSummary {
            name: self.settings.alias.clone().unwrap_or_else(|| present.roster.name().to_owned()),
            roster_name: self.settings.alias.as_ref().map(|_| present.roster.name().to_owned()),
            state: self.network_state(),
            machine: self.own().map(|own| own.name).unwrap_or_default(),
            machines: u32::try_from(self.machine_list().len()).unwrap_or(u32::MAX),
            coordinator: self.settings.coordinator.url.clone(),
            damage: None,
        }
    }

    /// What `netcheck` asks of this network.
    pub(super) fn surroundings(&self) -> Subject {
        Subject {
            name: Some(self.summary().name),
            coordinator: self.settings.coordinator.clone(),
            relays: self.present.borrow().roster.relays().to_vec(),
            link: self.running.as_ref().map(|running| running.interface.index()),
            mapped: self.running.as_ref().and_then(|running| running.mapping.map(|mapped| mapped.0)),
        }
    }

    /// The status with all peers idle: what is known without the data path.
    pub(super) fn quiet_status(&self) -> NetworkStatus {
        let present = self.present.borrow();
        let own = self.own();
        let peers = self.machine_list().iter().filter(|machine| !machine.this).map(idle).collect();
        NetworkStatus {
            name: self.settings.alias.clone().unwrap_or_else(|| present.roster.name().to_owned()),
            roster_name: self.settings.alias.as_ref().map(|_| present.roster.name().to_owned()),
            state: self.network_state(),
            generation: present.roster.order().generation,
            version: present.roster.order().version,
            epoch: present.roster.epoch_number(),
            machine: Own {
                name: own.as_ref().map(|own| own.name.clone()).unwrap_or_default(),
                ipv4: own.as_ref().and_then(|own| own.ipv4),
                ipv6: own.map_or(Ipv6Addr::UNSPECIFIED, |own| own.ipv6),
                signer: present.roster.is_signer(&self.keys.identity_public()),
            },
            peers,
            warnings: self.warnings(),
            damage: None,
        }
    }

    fn warnings(&self) -> Vec<Warning> {
        let health = &self.health;
        let running = self.running.as_ref();
        let trouble = match health.trouble {
            Some(Trouble::WrongPin) => Some(Warning::WrongPin),
            Some(Trouble::Unreachable | Trouble::Proxy(_)) => Some(Warning::CoordinatorUnreachable),
            Some(Trouble::Untrusted) => Some(Warning::CoordinatorUntrusted),
            Some(Trouble::Unknown) => Some(Warning::NetworkUnknown),
            Some(Trouble::Forked) | None => None,
        };
        let when = |holds: bool, warning: Warning| holds.then_some(warning);
        [
            trouble,
            self.proxy_fault().and_then(proxy_warning),
            when(health.refused.is_some(), Warning::ChangeRefused),
            when(running.is_some_and(|running| running.relays.all_down()), Warning::RelayUnreachable),
            when(health.clock_wrong, Warning::ClockWrong),
            when(health.overused, Warning::InviteOverused),
            when(running.is_some_and(|running| running.data.is_none()), Warning::DataPathDown),
            health.lack.map(Lack::warning),
            when(health.interface_down, Warning::InterfaceDown),
            when(health.not_saved, Warning::StateNotWritable),
            when(health.renamed, Warning::Renamed),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// What the proxy says, where it is why no server can be reached.
    fn proxy_fault(&self) -> Option<ProxyFault> {
        if let Some(Trouble::Proxy(fault)) = self.health.trouble {
            return Some(fault);
        }
        let relays = &self.running.as_ref()?.relays;
        if relays.all_down() { relays.faults().next() } else { None }
    }

    /// All machines, this one included, by name; also while the network is down.
    pub(super) fn machine_list(&self) -> Vec<Machine> {
        let present = self.present.borrow();
        let this = self.keys.identity_public();
        let mut joined = self.joiners.accepted(&present.roster).machines;
        joined.retain(|machine| machine.identity.identity != this);
        if present.roster.machine_by_identity(&this).is_none() {
            joined.extend(self.own());
        }
        let mut all = listed(&present.roster, Some(&this));
        all.extend(
            joined
                .iter()
                .map(|joined| Machine { provisional: true, ..machine(joined, &present.roster, Some(&this)) }),
        );
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    pub(super) fn invite_list(&self) -> Vec<Invite> {
        // One that ended stays in the roster until the next change of it.
        let now = clock::now();
        let present = self.present.borrow();
        let live = present.roster.invites().filter(|invite| invite.expires > now);
        let mut invites: Vec<Invite> = live.map(invite).collect();
        invites.sort_by_key(|invite| invite.expires);
        invites
    }

    /// Peers by the numbers under which the data path knows them: to find each in a status by its IPv6 address, which
    /// no two machines share.
    pub(super) fn numbers(&self) -> HashMap<u32, Ipv6Addr> {
        let number =
            |(key, machine): (&[u8; 32], &MachineEntry)| Some((self.peers.number(key)?, machine.ipv6));
        self.members.iter().filter_map(number).collect()
    }
}

/// What to tell of a proxy that is at fault; nothing of one that is well and does not reach a server.
fn proxy_warning(fault: ProxyFault) -> Option<Warning> {
    match fault {
        ProxyFault::Name | ProxyFault::Connect | ProxyFault::Silent => Some(Warning::ProxyUnreachable),
        ProxyFault::NotAProxy => Some(Warning::NotAProxy),
        ProxyFault::LoginWanted | ProxyFault::LoginRefused | ProxyFault::LoginKind => {
            Some(Warning::ProxyLogin)
        }
        ProxyFault::Refused => Some(Warning::ProxyRefuses),
        ProxyFault::Unreachable => None,
    }
}

/// Whether a roster is older than signers let one become: whoever has it is kept from the newer ones, or no signer was
/// up for a month.
pub(super) fn is_stale(roster: &Roster, now: u64) -> bool {
    roster.not_after() < now
}

/// Puts what the data path says into a status.
pub(super) fn enliven(status: &mut NetworkStatus, numbers: &HashMap<u32, Ipv6Addr>, live: &Status) {
    for told in &live.peers {
        let addr = numbers.get(&told.peer);
        if let Some(peer) = status.peers.iter_mut().find(|peer| Some(&peer.ipv6) == addr) {
            show(peer, told);
        }
    }
}

/// A path as the API tells it, and the endpoint of a direct one.
pub(super) fn path(view: PathView) -> (Path, Option<SocketAddr>) {
    match view {
        PathView::Idle | PathView::Silent => (Path::Idle, None),
        PathView::Relay(_) => (Path::Relay, None),
        PathView::Direct(endpoint) => (Path::Direct, Some(endpoint.0)),
    }
}

fn show(peer: &mut Peer, told: &PeerStatus) {
    (peer.path, peer.endpoint) = path(told.path);
    peer.silent = told.path == PathView::Silent;
    #[cfg(feature = "leaks")]
    peer.endpoint.iter().for_each(|endpoint| crate::leaks::peer(&peer.name, *endpoint));
    peer.rtt_ms = told.rtt.map(|rtt| rtt.as_secs_f64() * 1_000.0);
    peer.mtu = told.mtu;
    peer.rx_bytes = told.rx_bytes;
    peer.tx_bytes = told.tx_bytes;
}

fn idle(machine: &Machine) -> Peer {
    Peer {
        name: machine.name.clone(),
        ipv4: machine.ipv4,
        ipv6: machine.ipv6,
        path: Path::Idle,
        silent: false,
        endpoint: None,
        rtt_ms: None,
        mtu: MTU,
        rx_bytes: 0,
        tx_bytes: 0,
    }
}

/// The machines of a roster by name, as seen by the one with the identity `this`.
pub(crate) fn listed(roster: &Roster, this: Option<&[u8; 32]>) -> Vec<Machine> {
    let mut machines: Vec<Machine> = roster.machines().map(|entry| machine(entry, roster, this)).collect();
    machines.sort_by(|a, b| a.name.cmp(&b.name));
    machines
}

/// A machine that is in the roster.
fn machine(entry: &MachineEntry, roster: &Roster, this: Option<&[u8; 32]>) -> Machine {
    Machine {
        name: entry.name.clone(),
        ipv4: entry.ipv4,
        ipv6: entry.ipv6,
        groups: entry.groups.clone(),
        signer: roster.is_signer(&entry.identity.identity),
        provisional: false,
        this: this == Some(&entry.identity.identity),
    }
}

/// An invite as the list shows it.
pub(super) fn invite(entry: &InviteEntry) -> Invite {
    Invite {
        id: entry.id.to_hex(),
        name: entry.name.clone(),
        uses: entry.uses,
        expires: entry.expires,
        groups: entry.groups.clone(),
    }
}
