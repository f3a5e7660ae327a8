//! `relay`: the network's relays, and those that its coordinator offers.

use proto::{
    api::{ApiError, ErrorCode, Relay},
    roster::RelayEntry,
};

use super::{Daemon, accounts, create, refusal};
use crate::network::{Handle, Query};

/// The relays of the network, and those that could be added.
///
/// # Errors
/// What the caller is to be told. A coordinator that cannot be asked is no error.
pub(super) async fn list(daemon: &Daemon, network: &Handle) -> Result<Vec<Relay>, ApiError> {
    let offers = offered("the relays cannot be shown", daemon, network).await.ok();
    let kept = network.ask(Query::Kept).await?;
    let used = kept.present.roster.relays();
    let is_offered = |url: &str| offers.as_ref().map(|offers| offers.iter().any(|offer| offer.url == url));
    let mut relays: Vec<Relay> = used
        .iter()
        .map(|relay| Relay { url: relay.url.clone(), used: true, offered: is_offered(&relay.url) })
        .collect();
    let others = offers.iter().flatten().filter(|offer| used.iter().all(|relay| relay.url != offer.url));
    relays.extend(others.map(|offer| Relay { url: offer.url.clone(), used: false, offered: Some(true) }));
    Ok(relays)
}

/// Adds a relay that the coordinator offers, or all of them.
///
/// # Errors
/// What the caller is to be told.
pub(super) async fn add(daemon: &Daemon, network: &Handle, url: Option<&str>) -> Result<(), ApiError> {
    const WHAT: &str = "no relay was added";
    let mut offers = offered(WHAT, daemon, network).await?;
    offers.retain(|offer| url.is_none_or(|url| offer.url.trim_end_matches('/') == url.trim_end_matches('/')));
    if offers.is_empty() {
        let code = if url.is_some() { ErrorCode::NotFound } else { ErrorCode::Failed };
        return Err(ApiError::new(
            code,
            WHAT,
            "the coordinator offers no such relay",
            "see what it offers: vpnctl relay list; its operator sets up relays",
        ));
    }
    network.ask(|reply| Query::AddRelays(offers, reply)).await
}

async fn offered(what: &str, daemon: &Daemon, network: &Handle) -> Result<Vec<RelayEntry>, ApiError> {
    let client = accounts::client(what, &network.coordinator, &daemon.way)?;
    let info = client.info().await.map_err(|e| refusal::coordinator(what, &e))?;
    Ok(info.relays.into_iter().map(create::relay).collect())
}
