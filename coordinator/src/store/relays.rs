//! Relays that run apart and are offered to networks.

use proto::{
    coordinator::RelayOffer,
    wire::{Reader, Wire, WireError, Writer},
};

use super::{
    Store, StoreError,
    rows::{Reading, Table},
};

impl Store {
    /// Offers a relay from now on, or again under another key.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn put_relay(&self, relay: &RelayOffer) -> Result<(), StoreError> {
        let mut change = self.change().await?;
        let body = Body(relay.clone()).to_bytes();
        match find(&mut change, &relay.url).await? {
            Some(id) => change.replace(Table::Relays, id, &body).await?,
            None => drop(change.insert(Table::Relays, &body).await?),
        }
        self.commit(change).await
    }

    /// Offers a relay no more; false if it was not offered.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn remove_relay(&self, url: &str) -> Result<bool, StoreError> {
        let mut change = self.change().await?;
        let Some(id) = find(&mut change, url).await? else {
            return Ok(false);
        };
        change.delete(Table::Relays, id).await?;
        self.commit(change).await?;
        Ok(true)
    }

    /// The relays that are offered, by URL.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn relays(&self) -> Result<Vec<RelayOffer>, StoreError> {
        let mut relays: Vec<_> =
            offers(&mut self.read().await?).await?.into_iter().map(|(_, offer)| offer).collect();
        relays.sort_by(|a, b| a.url.cmp(&b.url));
        Ok(relays)
    }
}

async fn find(reading: &mut Reading, url: &str) -> Result<Option<i64>, StoreError> {
    Ok(offers(reading).await?.into_iter().find(|(_, offer)| offer.url == url).map(|(id, _)| id))
}

async fn offers(reading: &mut Reading) -> Result<Vec<(i64, RelayOffer)>, StoreError> {
    let rows = reading.rows(Table::Relays).await?;
    rows.into_iter().map(|(id, plain)| Ok((id, Body::from_bytes(&plain)?.0))).collect()
}

pub(super) struct Body(RelayOffer);

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
