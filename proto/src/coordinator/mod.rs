//! What machines and a coordinator say to one another: HTTP over TLS 1.3, bodies in the formats here.
//!
//! | request | who may | body | answer |
//! |---|---|---|---|
//! | `GET /v1/info` | anyone | | [`Info`] |
//! | `POST /v1/account/register/start` | holder of an enrolment code | [`RegisterStart`] | OPAQUE answer |
//! | `POST /v1/account/register/finish` | the same | [`RegisterFinish`] | |
//! | `POST /v1/account/login/start` | anyone | [`LoginStart`] | [`LoginChallenge`] |
//! | `POST /v1/account/login/finish` | the same connection | [`LoginFinish`] | [`LoginDone`] |
//! | `POST /v1/account/logout` | session | | |
//! | `GET /v1/networks` | session | | [`Networks`] |
//! | `POST /v1/networks` | session | roster's `PublicState` | |
//! | `GET /v1/networks/{n}/head` | who can name the network | | roster's `Head` |
//! | `GET /v1/networks/{n}/slots/{slot}` | who can name both | | a sealed epoch key |
//! | `GET /v1/networks/{n}/state` | member, invite | | roster's `PublicState` |
//! | `PUT /v1/networks/{n}/state` | member by the uploaded header | roster's `PublicState` | |
//! | `POST /v1/networks/{n}/delta` | member | [`DeltaUpload`] | |
//! | `GET /v1/networks/{n}/joins` | member, invite | | [`Joins`] |
//! | `POST /v1/networks/{n}/joins` | member, invite | [`Join`] | |
//! | `GET /v1/networks/{n}/watch/{seconds}` | member | | [`WatchEvent`]s without end, and without a longer silence |
//! | `GET /v1/networks/{n}/credential/{month}` | member | | relay's `Credential` |
//! | `GET /v1/relay` | relay's own | | upgrade to `tacet-relay` |
//!
//! `{n}` and `{slot}` are 64 lower-case hex digits. A request that fails is answered with a [`Refusal`]. Whoever asks
//! for more than may be asked with a name alone proves a right by a signature bound to the connection ([`Auth`]).

mod auth;
mod message;
mod refusal;

pub use auth::{AUTH_HEADER, Auth, Proof, RequestParts};
pub use message::{
    DeltaUpload, Info, Join, JoinId, Joins, LoginChallenge, LoginDone, LoginFinish, LoginStart, Networks,
    RegisterFinish, RegisterStart, RelayOffer, WatchEvent,
};
pub use refusal::{Reason, Refusal};

pub use crate::relay::EXPORTER_LABEL;

/// The largest body that either side reads, in bytes: a network of some thousand machines.
pub const BODY_MAX: usize = 8 << 20;

/// The most records that wait in a network's join list; a signer that is up folds each within seconds.
pub const JOINS_MAX: usize = 256;

/// The largest sealed join record, in bytes.
pub const JOIN_MAX: usize = crate::roster::MAX_SEALED_JOIN;

/// The paths of the requests, for the side that asks.
pub mod path {
    use crate::{epoch::Slot, identity::NetworkId};

    /// Offers and pins.
    pub const INFO: &str = "/v1/info";
    /// First step of a registration.
    pub const REGISTER_START: &str = "/v1/account/register/start";
    /// Second step of a registration.
    pub const REGISTER_FINISH: &str = "/v1/account/register/finish";
    /// First step of a login.
    pub const LOGIN_START: &str = "/v1/account/login/start";
    /// Second step of a login.
    pub const LOGIN_FINISH: &str = "/v1/account/login/finish";
    /// Ends a session.
    pub const LOGOUT: &str = "/v1/account/logout";
    /// An account's networks.
    pub const NETWORKS: &str = "/v1/networks";
    /// Where relay frames take over the connection.
    pub const RELAY: &str = crate::relay::PATH;

    /// `/v1/networks/{network}/{what}`.
    #[must_use]
    pub fn network(network: &NetworkId, what: &str) -> String {
        format!("{NETWORKS}/{}/{what}", network.to_hex())
    }

    /// `/v1/networks/{network}/slots/{slot}`.
    #[must_use]
    pub fn slot(network: &NetworkId, slot: &Slot) -> String {
        network_part(network, "slots", &data_encoding::HEXLOWER.encode(&slot.0))
    }

    /// `/v1/networks/{network}/credential/{month}`.
    #[must_use]
    pub fn credential(network: &NetworkId, month: u32) -> String {
        network_part(network, "credential", &month.to_string())
    }

    /// `/v1/networks/{network}/watch/{seconds}`.
    #[must_use]
    pub fn watch(network: &NetworkId, silence: u16) -> String {
        network_part(network, "watch", &silence.to_string())
    }

    /// Reads 64 lower-case hex digits.
    #[must_use]
    pub fn unhex(text: &str) -> Option<[u8; 32]> {
        data_encoding::HEXLOWER.decode(text.as_bytes()).ok()?.try_into().ok()
    }

    fn network_part(network: &NetworkId, what: &str, last: &str) -> String {
        format!("{NETWORKS}/{}/{what}/{last}", network.to_hex())
    }
}
