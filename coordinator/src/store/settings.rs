//! What there is once: the coordinator's own keys, and how it is reached.

use ed25519_dalek::SigningKey;
use proto::{
    account::OpaqueServer,
    relay::CredentialIssuer,
    wire::{Reader, Wire, WireError, Writer},
};
use rand_core::CryptoRngCore;
use sqlx::Row;
use zeroize::Zeroizing;

use super::{Store, StoreError};

/// The coordinator's own keys, made at the first start.
pub struct Secrets {
    /// The long-lived key that machines pin; it certifies the TLS keys.
    pub authority: SigningKey,
    /// OPAQUE's half; without it no password record is of use.
    pub opaque: OpaqueServer,
    /// Issues the credentials for relays.
    pub issuer: CredentialIssuer,
    /// The Ed25519 key of the relay that runs in the coordinator.
    pub relay: SigningKey,
}

/// How machines reach this coordinator, as `serve` was told.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicAddress {
    /// `https://host[:port]`.
    pub url: String,
    /// Whether machines pin the long-lived key (or else trust the certificate that `serve` was given).
    pub pinned: bool,
}

impl Store {
    /// The coordinator's keys; makes those that are missing.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn secrets(&self, rng: &mut (impl CryptoRngCore + Send)) -> Result<Secrets, StoreError> {
        let authority =
            self.setting_or("authority", || SigningKey::generate(rng).to_bytes().to_vec()).await?;
        let relay = self.setting_or("relay", || SigningKey::generate(rng).to_bytes().to_vec()).await?;
        let opaque = self.setting_or("opaque", || OpaqueServer::generate(rng).to_bytes().to_vec()).await?;
        let issuer = self.setting_or("issuer", || CredentialIssuer::generate(rng).to_bytes()).await?;
        Ok(Secrets {
            authority: signing_key(&authority)?,
            relay: signing_key(&relay)?,
            opaque: OpaqueServer::from_bytes(&opaque)?,
            issuer: CredentialIssuer::from_bytes(&issuer)?,
        })
    }

    /// Remembers how machines reach this coordinator. Writes only if it has changed.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn set_public_address(&self, address: &PublicAddress) -> Result<(), StoreError> {
        let body = address.to_bytes();
        if self.setting("address").await?.is_some_and(|present| *present == body) {
            return Ok(());
        }
        self.put_setting("address", &body).await
    }

    /// How machines reach this coordinator; `None` before its first start.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn public_address(&self) -> Result<Option<PublicAddress>, StoreError> {
        let body = self.setting("address").await?;
        Ok(body.map(|body| PublicAddress::from_bytes(&body)).transpose()?)
    }

    async fn setting_or(
        &self,
        name: &str,
        make: impl FnOnce() -> Vec<u8>,
    ) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        if let Some(present) = self.setting(name).await? {
            return Ok(present);
        }
        let made = Zeroizing::new(make());
        self.put_setting(name, &made).await?;
        Ok(made)
    }

    pub(super) async fn setting(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        let row = sqlx::query("SELECT body FROM settings WHERE name = ?")
            .bind(name)
            .fetch_optional(&self.pool)
            .await?;
        Ok(row.map(|row| row.try_get(0).map(Zeroizing::new)).transpose()?)
    }

    async fn put_setting(&self, name: &str, body: &[u8]) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO settings (name, body) VALUES (?, ?) ON CONFLICT DO UPDATE SET body = excluded.body",
        )
        .bind(name)
        .bind(body)
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}

fn signing_key(bytes: &[u8]) -> Result<SigningKey, StoreError> {
    Ok(SigningKey::from_bytes(bytes.try_into().map_err(|_| StoreError::Damaged)?))
}

/// Version, URL, pinned (0 or 1).
impl Wire for PublicAddress {
    fn encode(&self, w: &mut Writer) {
        w.version(1);
        w.text(&self.url);
        w.u8(u8::from(self.pinned));
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        r.version(1)?;
        let url = r.text(proto::token::MAX_URL)?.to_owned();
        Ok(Self { url, pinned: r.u8()? != 0 })
    }
}
