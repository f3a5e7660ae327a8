//! `network create`: this machine makes a network and is its first signer.

use netio::netlink::Prefix;
use proto::{
    api::{ApiError, ErrorCode, NetworkCreated, Progress, Secret},
    coordinator::RelayOffer,
    epoch::EpochKeys,
    identity::MachineKeys,
    metadata::InnerNet,
    roster::{MAX_RELAYS, NewNetwork, RelayEntry, Roster, valid_name},
    token::Token,
    wire::Wire,
};
use rand_core::OsRng;

use super::{Daemon, hostname, local_name, refusal};
use crate::{
    api::Replies,
    network::{Query, choose_range, now},
    state::{Contents, Intent, Settings},
};

const WHAT: &str = "the network was not created";

/// What the person asked for.
pub(super) struct Wanted {
    pub(super) name: String,
    pub(super) machine: Option<String>,
    pub(super) alias: Option<String>,
    pub(super) coordinator: Option<String>,
}

/// Makes the network, puts it at the coordinator, keeps it and brings it up.
///
/// # Errors
/// What the caller is to be told.
pub(super) async fn create(
    daemon: &Daemon,
    wanted: Wanted,
    replies: &Replies,
) -> Result<NetworkCreated, ApiError> {
    let _one_at_a_time = daemon.adding.lock().await;
    let name = checked_name(&wanted.name)?;
    let machine = hostname::choose(WHAT, wanted.machine)?;
    let alias = local_name::alias(WHAT, wanted.alias, &name)?;
    let again = format!("vpnctl network create {name}");
    daemon.need_free_name(WHAT, alias.as_ref().unwrap_or(&name), &again)?;
    daemon.need_interface(WHAT).await?;
    let login = daemon.find_login(WHAT, wanted.coordinator.as_deref())?;

    replies.progress(Progress::Contacting).await;
    let info = login.client.info().await.map_err(|e| refusal::coordinator(WHAT, &e))?;

    replies.progress(Progress::Keys).await;
    let keys = MachineKeys::generate(&mut OsRng);
    let new = NewNetwork {
        name: name.clone(),
        machine_name: machine,
        keys: &keys,
        coordinator: login.coordinator.url.clone(),
        pin: login.coordinator.pin,
        relays: info.relays.into_iter().take(MAX_RELAYS).map(relay).collect(),
        ipv4: choose_ipv4(daemon).await?,
    };
    let (roster, recovery) = Roster::create(new, now(), &mut OsRng).map_err(|e| {
        ApiError::new(ErrorCode::Failed, WHAT, e.to_string(), "check what the coordinator's operator set up")
    })?;

    let contents = Contents {
        epochs: EpochKeys::new(roster.epoch_key().clone()),
        roster: roster.state().clone(),
        keys,
        settings: Settings {
            network: roster.network(),
            intent: Intent::Up,
            coordinator: login.coordinator.clone(),
            alias,
        },
        membership: None,
        credentials: Vec::new(),
    };
    let unfinished = daemon.prepare(WHAT, &contents)?;

    replies.progress(Progress::Publishing).await;
    let published = login.client.create_network(&login.session, roster.state().to_bytes()).await;
    published.map_err(|e| {
        if matches!(e, crate::coordinator::Error::LoginNeeded) {
            daemon.forget_login(&login.coordinator.url);
        }
        refusal::coordinator(WHAT, &e)
    })?;
    let network = daemon.adopt(WHAT, unfinished, contents, login.client)?;

    replies.progress(Progress::Starting).await;
    // A network that is not up yet is made all the same, and its recovery key must reach the person.
    let _ = network.ask(Query::Up).await;
    let own = network.ask(|reply| Query::Machine(None, reply)).await?;
    Ok(NetworkCreated {
        roster_name: (network.name != name).then_some(name),
        network: network.name,
        machine: own.name,
        ipv4: own.ipv4,
        ipv6: own.ipv6,
        recovery_key: Secret::new(recovery.to_text().to_string()),
    })
}

fn checked_name(name: &str) -> Result<String, ApiError> {
    if valid_name(name) { Ok(name.to_owned()) } else { Err(hostname::invalid(WHAT)) }
}

pub(super) fn relay(offer: RelayOffer) -> RelayEntry {
    RelayEntry { url: offer.url, key: offer.key, stun_port: offer.stun_port }
}

async fn choose_ipv4(daemon: &Daemon) -> Result<InnerNet, ApiError> {
    let routes = daemon.netlink.other_routes(None).await.unwrap_or_default();
    let routes: Vec<InnerNet> =
        routes.into_iter().filter_map(|(addr, len): Prefix| InnerNet::new(addr, len).ok()).collect();
    choose_range(&mut OsRng, &routes).ok_or_else(|| {
        ApiError::new(
            ErrorCode::Failed,
            WHAT,
            "this host has routes to all of 10.0.0.0/8, so no range is left for the network",
            "remove a route, or create the network on another machine",
        )
    })
}
