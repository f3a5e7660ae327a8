//! What is asked: where, over which connection, with which proof.

use bytes::Bytes;
use hyper::{Method, http::request::Parts};
use proto::{
    coordinator::{AUTH_HEADER, Proof, Reason, RequestParts, path},
    epoch::Slot,
    identity::NetworkId,
};
use relay::listener::{Exporter, Source};

use super::format;

/// A request's method and path, read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Info,
    RegisterStart,
    RegisterFinish,
    LoginStart,
    LoginFinish,
    Logout,
    Networks,
    CreateNetwork,
    Head(NetworkId),
    Slot(NetworkId, Slot),
    State(NetworkId),
    Heal(NetworkId),
    Delta(NetworkId),
    Joins(NetworkId),
    AppendJoin(NetworkId),
    /// With the longest silence that is wanted, in seconds.
    Watch(NetworkId, u16),
    Credential(NetworkId, u32),
}

impl Place {
    pub(super) fn of(method: &Method, path: &str) -> Option<Self> {
        let (get, post, put) = (method == Method::GET, method == Method::POST, method == Method::PUT);
        match path {
            path::INFO if get => return Some(Self::Info),
            path::REGISTER_START if post => return Some(Self::RegisterStart),
            path::REGISTER_FINISH if post => return Some(Self::RegisterFinish),
            path::LOGIN_START if post => return Some(Self::LoginStart),
            path::LOGIN_FINISH if post => return Some(Self::LoginFinish),
            path::LOGOUT if post => return Some(Self::Logout),
            path::NETWORKS if get => return Some(Self::Networks),
            path::NETWORKS if post => return Some(Self::CreateNetwork),
            _ => {}
        }
        let rest = path.strip_prefix(path::NETWORKS)?.strip_prefix('/')?;
        let (network, what) = rest.split_once('/')?;
        let network = NetworkId::from_hex(network)?;
        match what.split_once('/') {
            None => match what {
                "head" if get => Some(Self::Head(network)),
                "state" if get => Some(Self::State(network)),
                "state" if put => Some(Self::Heal(network)),
                "delta" if post => Some(Self::Delta(network)),
                "joins" if get => Some(Self::Joins(network)),
                "joins" if post => Some(Self::AppendJoin(network)),
                _ => None,
            },
            Some(("slots", slot)) if get => Some(Self::Slot(network, Slot(path::unhex(slot)?))),
            Some(("watch", silence)) if get => Some(Self::Watch(network, silence.parse().ok()?)),
            Some(("credential", month)) if get => Some(Self::Credential(network, month.parse().ok()?)),
            Some(_) => None,
        }
    }

    /// The network that the path names.
    pub(super) fn network(&self) -> Option<&NetworkId> {
        match self {
            Self::Head(network)
            | Self::Slot(network, _)
            | Self::State(network)
            | Self::Heal(network)
            | Self::Delta(network)
            | Self::Joins(network)
            | Self::AppendJoin(network)
            | Self::Watch(network, _)
            | Self::Credential(network, _) => Some(network),
            _ => None,
        }
    }

    /// Whether the body may be large.
    pub(super) fn brings_a_roster(&self) -> bool {
        matches!(self, Self::CreateNetwork | Self::Heal(_) | Self::Delta(_))
    }
}

/// A request, apart from its place.
pub(super) struct Asked {
    exporter: [u8; 32],
    pub(super) source: Source,
    pub(super) proof: Option<Proof>,
    method: Method,
    path: String,
    pub(super) body: Bytes,
}

impl Asked {
    /// Without its body yet.
    pub(super) fn new(parts: &Parts) -> Result<Self, Reason> {
        let Some(Exporter(exporter)) = parts.extensions.get() else {
            return Err(Reason::BadRequest);
        };
        let source = parts.extensions.get().copied().ok_or(Reason::BadRequest)?;
        let proof = parts.headers.get(AUTH_HEADER);
        let proof = proof.map(|value| Proof::from_header(value.as_bytes())).transpose().map_err(format)?;
        Ok(Self {
            exporter: *exporter,
            source,
            proof,
            method: parts.method.clone(),
            path: parts.uri.path().to_owned(),
            body: Bytes::new(),
        })
    }

    pub(super) fn exporter(&self) -> &[u8; 32] {
        &self.exporter
    }

    /// What a proof must cover.
    pub(super) fn parts(&self) -> RequestParts<'_> {
        RequestParts {
            exporter: &self.exporter,
            method: self.method.as_str(),
            path: &self.path,
            body: &self.body,
        }
    }

    /// Whether a holder of this member key asks.
    pub(super) fn is_member(&self, key: &[u8; 32]) -> bool {
        matches!(&self.proof, Some(proof @ Proof::Member { .. }) if proof.signed_by(key, &self.parts()))
    }
}
