//! Who may hold what: the judgement of the audit (docs/decisions/012-canary-audit.md gives the reasons).

use crate::{
    canary::{Canary, Kind},
    house::{COORDINATOR, FIRST, RELAY},
};

/// When a process is looked into.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    /// While everything runs and has just been used.
    Live,
    /// After this machine was removed from the network.
    Removed(usize),
    /// After every machine was killed.
    Ended,
}

/// Whether a running process may hold it in memory.
pub(crate) fn in_memory(component: usize, process: &str, when: When, canary: &Canary) -> bool {
    let own = canary.machine.is_some() && canary.machine == component.checked_sub(FIRST);
    let of_removed = matches!(when, When::Removed(machine) if canary.machine == Some(machine)) && !own;
    match (component, process) {
        // Where a connection comes from, while it lasts.
        (COORDINATOR | RELAY, _) => canary.kind == Kind::Public && when == When::Live,
        // The roster; and where it stands itself, which it tells its data path.
        (_, "control") => match canary.kind {
            Kind::Name | Kind::Tunnel => true,
            Kind::Public | Kind::Lan => own,
            _ => false,
        },
        // What it is there for: packets, and where to send them.
        _ => match canary.kind {
            Kind::Name => false,
            Kind::Public | Kind::Lan => !of_removed,
            _ => true,
        },
    }
}

/// Whether a process must hold it while everything runs: what shows that the memory is looked through.
pub(crate) fn must_be_in_memory(component: usize, process: &str, canary: &Canary) -> bool {
    match process {
        "control" => canary.kind == Kind::Name,
        "data path" => canary.kind == Kind::Tunnel && canary.machine != component.checked_sub(FIRST),
        _ => false,
    }
}

/// Whether a component may keep it on its disk: a machine has its roster there.
pub(crate) fn on_disk(component: usize, canary: &Canary) -> bool {
    component >= FIRST && matches!(canary.kind, Kind::Name | Kind::Tunnel)
}

/// Whether a table of a host's kernel says it because of us. A machine's own addresses are on its interfaces, and what
/// its programs send to each other inside the network is theirs; but an entry that has a peer's endpoint is of a socket
/// of ours that was connected.
pub(crate) fn of_ours(component: usize, table: &str, canary: &Canary) -> bool {
    let udp = ["udp", "udp6", "udplite", "udplite6", "raw", "raw6"];
    let endpoint = matches!(canary.kind, Kind::Public | Kind::Lan);
    let other = canary.machine != component.checked_sub(FIRST);
    let ours = table.strip_prefix("/proc/net/").is_some_and(|name| udp.contains(&name));
    ours && endpoint && other
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canary(kind: Kind, machine: usize) -> Canary {
        Canary::name(kind, Some(machine), "kestrel")
    }

    #[test]
    fn a_machine_holds_its_roster_and_a_data_path_its_peers_until_one_is_removed() {
        let (control, data_path) = ("control", "data path");
        for machine in 0..3 {
            assert!(in_memory(FIRST, control, When::Live, &canary(Kind::Name, machine)));
            assert!(on_disk(FIRST, &canary(Kind::Name, machine)));
            assert!(in_memory(FIRST, data_path, When::Live, &canary(Kind::Public, machine)));
        }
        assert!(!in_memory(FIRST, control, When::Live, &canary(Kind::Public, 1)));
        assert!(!in_memory(FIRST, data_path, When::Removed(2), &canary(Kind::Public, 2)));
        assert!(in_memory(FIRST, data_path, When::Removed(2), &canary(Kind::Public, 1)));
        assert!(!in_memory(FIRST, data_path, When::Live, &canary(Kind::Name, 1)));
        assert!(!on_disk(FIRST, &canary(Kind::Public, 0)), "not even its own");
    }

    #[test]
    fn a_server_holds_the_source_of_a_connection_that_lasts_and_nothing_else() {
        for server in [COORDINATOR, RELAY] {
            assert!(in_memory(server, "", When::Live, &canary(Kind::Public, 0)));
            assert!(!in_memory(server, "", When::Ended, &canary(Kind::Public, 0)));
            for kind in [Kind::Lan, Kind::Name, Kind::Lookup, Kind::Tunnel, Kind::Payload, Kind::Ports] {
                assert!(!in_memory(server, "", When::Live, &canary(kind, 0)));
                assert!(!on_disk(server, &canary(kind, 0)));
            }
        }
    }

    #[test]
    fn a_connected_socket_of_ours_is_our_affair() {
        assert!(of_ours(FIRST, "/proc/net/udp", &canary(Kind::Public, 1)));
        assert!(!of_ours(FIRST, "/proc/net/udp", &canary(Kind::Public, 0)), "bound to its own address");
        assert!(!of_ours(FIRST, "conntrack", &canary(Kind::Public, 1)));
    }
}
