//! Relays that run apart and are offered to networks.

use proto::{
    coordinator::RelayOffer,
    wire::{Reader, Wire, WireError, Writer},
};
use sqlx::Row;

use super::{Store, StoreError};

impl Store {
    /// Offers a relay from now on, or again under another key.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn put_relay(&self, relay: &RelayOffer) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO relays (tag, body) VALUES (?, ?) ON CONFLICT DO UPDATE SET body = excluded.body",
        )
        .bind(self.tag("relay", relay.url.as_bytes()))
        .bind(Body(relay.clone()).to_bytes())
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Offers a relay no more; false if it was not offered.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn remove_relay(&self, url: &str) -> Result<bool, StoreError> {
        let removed = sqlx::query("DELETE FROM relays WHERE tag = ?")
            .bind(self.tag("relay", url.as_bytes()))
            .execute(&self.pool)
            .await?;
        Ok(removed.rows_affected() == 1)
    }

    /// The relays that are offered, by URL.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn relays(&self) -> Result<Vec<RelayOffer>, StoreError> {
        let rows = sqlx::query("SELECT body FROM relays").fetch_all(&self.pool).await?;
        let mut relays = Vec::with_capacity(rows.len());
        for row in rows {
            let body: Vec<u8> = row.try_get(0)?;
            relays.push(Body::from_bytes(&body)?.0);
        }
        relays.sort_by(|a, b| a.url.cmp(&b.url));
        Ok(relays)
    }
}

struct Body(RelayOffer);

/// Version, URL, key, STUN port or 0.
impl Wire for Body {
    fn encode(&self, w: &mut Writer) {
        w.version(1);
        w.text(&self.0.url);
        w.raw(&self.0.key);
        w.u16(self.0.stun_port.unwrap_or(0));
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        r.version(1)?;
        let url = r.text(proto::token::MAX_URL)?.to_owned();
        let key = r.array()?;
        Ok(Self(RelayOffer { url, key, stun_port: Some(r.u16()?).filter(|&port| port != 0) }))
    }
}
