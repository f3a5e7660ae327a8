//! The coordinator's requests by which a roster is followed and changed, and no others: a seam behind which tests put a
//! coordinator that forgets, forks and lies.

use ed25519_dalek::SigningKey;
use proto::{
    coordinator::{Auth, JoinId},
    epoch::Slot,
    identity::NetworkId,
};

use crate::coordinator::{Client, Error};

/// Where a network's present state lies. Nothing that comes from it is believed.
pub(crate) trait Upstream: Sync {
    /// As [`Client::head`].
    fn head(&self, network: &NetworkId) -> impl Future<Output = Result<Vec<u8>, Error>> + Send;

    /// As [`Client::slot`].
    fn slot(&self, network: &NetworkId, slot: &Slot) -> impl Future<Output = Result<Vec<u8>, Error>> + Send;

    /// As [`Client::state`].
    fn state(
        &self,
        network: &NetworkId,
        auth: &Auth<'_>,
    ) -> impl Future<Output = Result<Vec<u8>, Error>> + Send;

    /// As [`Client::push`].
    fn push(
        &self,
        network: &NetworkId,
        member: &SigningKey,
        delta: Vec<u8>,
        settled: Vec<JoinId>,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// As [`Client::heal`].
    fn heal(
        &self,
        network: &NetworkId,
        member: &SigningKey,
        state: Vec<u8>,
    ) -> impl Future<Output = Result<(), Error>> + Send;
}

impl Upstream for Client {
    async fn head(&self, network: &NetworkId) -> Result<Vec<u8>, Error> {
        Self::head(self, network).await
    }

    async fn slot(&self, network: &NetworkId, slot: &Slot) -> Result<Vec<u8>, Error> {
        Self::slot(self, network, slot).await
    }

    async fn state(&self, network: &NetworkId, auth: &Auth<'_>) -> Result<Vec<u8>, Error> {
        Self::state(self, network, auth).await
    }

    async fn push(
        &self,
        network: &NetworkId,
        member: &SigningKey,
        delta: Vec<u8>,
        settled: Vec<JoinId>,
    ) -> Result<(), Error> {
        Self::push(self, network, member, delta, settled).await
    }

    async fn heal(&self, network: &NetworkId, member: &SigningKey, state: Vec<u8>) -> Result<(), Error> {
        Self::heal(self, network, member, state).await
    }
}
