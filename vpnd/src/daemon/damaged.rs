//! Networks whose stored state cannot be read: shown, refused with the reason, left as they are.

use std::net::Ipv6Addr;

use proto::api::{ApiError, Damage, ErrorCode, NetworkState, NetworkStatus, NetworkSummary, Own};

use crate::state::DamagedNetwork;

/// One line for a list of networks.
pub(super) fn summary(network: &DamagedNetwork) -> NetworkSummary {
    NetworkSummary {
        name: network.name().to_owned(),
        roster_name: None,
        state: NetworkState::Damaged,
        machine: String::new(),
        machines: 0,
        coordinator: String::new(),
        damage: Some(damage(network)),
    }
}

/// Its status: nothing is known but the damage.
pub(super) fn status(network: &DamagedNetwork) -> NetworkStatus {
    NetworkStatus {
        name: network.name().to_owned(),
        roster_name: None,
        state: NetworkState::Damaged,
        generation: 0,
        version: 0,
        epoch: 0,
        machine: Own { name: String::new(), ipv4: None, ipv6: Ipv6Addr::UNSPECIFIED, signer: false },
        peers: Vec::new(),
        warnings: Vec::new(),
        damage: Some(damage(network)),
    }
}

/// Why nothing can be done with it.
pub(super) fn refusal(what: &str, network: &DamagedNetwork) -> ApiError {
    ApiError::new(ErrorCode::Storage, what, network.why(), network.next())
}

fn damage(network: &DamagedNetwork) -> Damage {
    Damage { why: network.why(), next: network.next() }
}
