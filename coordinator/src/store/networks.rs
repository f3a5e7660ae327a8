//! Networks: head, sealed entries, sealed epoch keys, join list. A change is compared and swapped in one transaction
//! and writes only the rows that differ.

use std::collections::BTreeMap;

use proto::{
    coordinator::{JOINS_MAX, Join, JoinId},
    epoch::Slot,
    identity::NetworkId,
    roster::{Head, Header, PublicState, SealedEntry, SealedKey},
    wire::Wire,
};
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

use super::{Store, StoreError};

/// A network as it is kept, without its entries.
pub struct StoredNetwork {
    row: i64,
    /// Its present chain and header.
    pub head: Head,
}

/// What became of a new network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// It is there.
    Made,
    /// It was there.
    Exists,
    /// The account has as many as it may.
    TooMany,
}

/// What became of a change.
pub enum Published<E> {
    /// It is on disk.
    Done(Box<Change>),
    /// There is no such network.
    Unknown,
    /// The caller's check refused it.
    Refused(E),
}

/// A change that was made.
pub struct Change {
    /// The head before it.
    pub before: Head,
    /// The head after it.
    pub after: Head,
}

/// What became of a join record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended<E> {
    /// It is in the list.
    Added,
    /// The same record was in the list.
    Present,
    /// There is no such network.
    Unknown,
    /// As many records wait as the invite has uses.
    UsedUp,
    /// The list is full.
    Full,
    /// The caller's check refused it.
    Refused(E),
}

impl Store {
    /// A network's present head.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn network(&self, network: &NetworkId) -> Result<Option<StoredNetwork>, StoreError> {
        let mut connection = self.pool.acquire().await?;
        self.find(&mut connection, network).await
    }

    /// The ids of an account's networks.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn networks_of(&self, account: i64) -> Result<Vec<NetworkId>, StoreError> {
        let rows = sqlx::query("SELECT body FROM networks WHERE account = ? ORDER BY tag")
            .bind(account)
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(|row| Ok(read::<Head>(row, 0)?.header().network)).collect()
    }

    /// The ids of all networks.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn networks(&self) -> Result<Vec<NetworkId>, StoreError> {
        let rows = sqlx::query("SELECT body FROM networks ORDER BY tag").fetch_all(&self.pool).await?;
        rows.iter().map(|row| Ok(read::<Head>(row, 0)?.header().network)).collect()
    }

    /// A network's whole present state.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn state(&self, network: &NetworkId) -> Result<Option<PublicState>, StoreError> {
        // One snapshot for all its queries.
        let mut transaction = self.pool.begin().await?;
        let Some(found) = self.find(&mut transaction, network).await? else {
            return Ok(None);
        };
        Ok(Some(load(&mut transaction, found).await?))
    }

    /// The epoch key sealed at a slot.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn slot(&self, network: &NetworkId, slot: &Slot) -> Result<Option<Vec<u8>>, StoreError> {
        let row = sqlx::query(
            "SELECT slots.body FROM slots JOIN networks ON networks.id = slots.network
             WHERE networks.tag = ? AND slots.tag = ?",
        )
        .bind(self.network_tag(network))
        .bind(&slot.0[..])
        .fetch_optional(&self.pool)
        .await?;
        Ok(row.map(|row| read::<SealedKey>(&row, 0)).transpose()?.map(|key| key.sealed))
    }

    /// Puts a verified network under an account that may have at most `quota`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn create_network(
        &self,
        account: i64,
        state: &PublicState,
        quota: u32,
    ) -> Result<Created, StoreError> {
        let mut transaction = self.begin().await?;
        let network = state.header().network;
        if self.find(&mut transaction, &network).await?.is_some() {
            return Ok(Created::Exists);
        }
        let count: i64 = sqlx::query("SELECT count(*) FROM networks WHERE account = ?")
            .bind(account)
            .fetch_one(&mut *transaction)
            .await?
            .try_get(0)?;
        if count >= i64::from(quota) {
            return Ok(Created::TooMany);
        }
        let row = sqlx::query("INSERT INTO networks (tag, account, body) VALUES (?, ?, ?)")
            .bind(self.network_tag(&network))
            .bind(account)
            .bind(state.head.to_bytes())
            .execute(&mut *transaction)
            .await?
            .last_insert_rowid();
        write_entries(&mut transaction, row, &[], state.entries()).await?;
        write_slots(&mut transaction, row, &[], state.slots()).await?;
        transaction.commit().await?;
        Ok(Created::Made)
    }

    /// Replaces a network's state by what `next` makes of the present one, which nobody else changes meanwhile.
    /// Records that are `settled`, or whose invite is no more, leave the join list in the same transaction.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn publish<E>(
        &self,
        network: &NetworkId,
        settled: &[JoinId],
        next: impl FnOnce(&PublicState) -> Result<PublicState, E>,
    ) -> Result<Published<E>, StoreError> {
        let mut transaction = self.begin().await?;
        let Some(found) = self.find(&mut transaction, network).await? else {
            return Ok(Published::Unknown);
        };
        let row = found.row;
        let before = load(&mut transaction, found).await?;
        let after = match next(&before) {
            Ok(after) => after,
            Err(refused) => return Ok(Published::Refused(refused)),
        };
        sqlx::query("UPDATE networks SET body = ? WHERE id = ?")
            .bind(after.head.to_bytes())
            .bind(row)
            .execute(&mut *transaction)
            .await?;
        write_entries(&mut transaction, row, before.entries(), after.entries()).await?;
        write_slots(&mut transaction, row, before.slots(), after.slots()).await?;
        prune_joins(&mut transaction, row, settled, after.header()).await?;
        transaction.commit().await?;
        Ok(Published::Done(Box::new(Change { before: before.head, after: after.head })))
    }

    /// The join list, oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn joins(&self, network: &StoredNetwork) -> Result<Vec<Join>, StoreError> {
        joins(&mut *self.pool.acquire().await?, network.row).await
    }

    /// Appends a record. `uses` says of the present header how many records of the record's invite may wait.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn append_join<E>(
        &self,
        network: &NetworkId,
        join: &Join,
        uses: impl FnOnce(&Header) -> Result<u32, E>,
    ) -> Result<Appended<E>, StoreError> {
        let mut transaction = self.begin().await?;
        let Some(found) = self.find(&mut transaction, network).await? else {
            return Ok(Appended::Unknown);
        };
        let uses = match uses(found.head.header()) {
            Ok(uses) => uses,
            Err(refused) => return Ok(Appended::Refused(refused)),
        };
        let waiting = joins(&mut transaction, found.row).await?;
        if waiting.contains(join) {
            return Ok(Appended::Present);
        }
        let of_invite = waiting.iter().filter(|other| other.invite == join.invite).count();
        if of_invite >= uses as usize {
            return Ok(Appended::UsedUp);
        }
        if waiting.len() >= JOINS_MAX {
            return Ok(Appended::Full);
        }
        sqlx::query("INSERT INTO joins (network, tag, body) VALUES (?, ?, ?)")
            .bind(found.row)
            .bind(&join.id()[..])
            .bind(join.to_bytes())
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(Appended::Added)
    }

    async fn find(
        &self,
        connection: &mut SqliteConnection,
        network: &NetworkId,
    ) -> Result<Option<StoredNetwork>, StoreError> {
        let row = sqlx::query("SELECT id, body FROM networks WHERE tag = ?")
            .bind(self.network_tag(network))
            .fetch_optional(connection)
            .await?;
        let Some(row) = row else {
            return Ok(None);
        };
        Ok(Some(StoredNetwork { row: row.try_get(0)?, head: read(&row, 1)? }))
    }

    fn network_tag(&self, network: &NetworkId) -> Vec<u8> {
        self.tag("network", &network.0)
    }
}

async fn load(connection: &mut SqliteConnection, network: StoredNetwork) -> Result<PublicState, StoreError> {
    let entries = sqlx::query("SELECT body FROM entries WHERE network = ? ORDER BY tag")
        .bind(network.row)
        .fetch_all(&mut *connection)
        .await?;
    let slots = sqlx::query("SELECT body FROM slots WHERE network = ? ORDER BY tag")
        .bind(network.row)
        .fetch_all(connection)
        .await?;
    let entries = entries.iter().map(|row| read(row, 0)).collect::<Result<_, _>>()?;
    let slots = slots.iter().map(|row| read(row, 0)).collect::<Result<_, _>>()?;
    Ok(PublicState::new(network.head, entries, slots))
}

async fn joins(connection: &mut SqliteConnection, network: i64) -> Result<Vec<Join>, StoreError> {
    let rows = sqlx::query("SELECT body FROM joins WHERE network = ? ORDER BY id")
        .bind(network)
        .fetch_all(connection)
        .await?;
    rows.iter().map(|row| read(row, 0)).collect()
}

async fn prune_joins(
    connection: &mut SqliteConnection,
    network: i64,
    settled: &[JoinId],
    header: &Header,
) -> Result<(), StoreError> {
    for join in joins(&mut *connection, network).await? {
        let id = join.id();
        let alive = header.invites.iter().any(|invite| invite.id == join.invite);
        if alive && !settled.contains(&id) {
            continue;
        }
        sqlx::query("DELETE FROM joins WHERE network = ? AND tag = ?")
            .bind(network)
            .bind(&id[..])
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

async fn write_entries(
    connection: &mut SqliteConnection,
    network: i64,
    before: &[SealedEntry],
    after: &[SealedEntry],
) -> Result<(), StoreError> {
    let (put, delete) = difference(before, after, |entry| entry.id.0);
    for (tag, entry) in put {
        sqlx::query("INSERT OR REPLACE INTO entries (network, tag, body) VALUES (?, ?, ?)")
            .bind(network)
            .bind(&tag[..])
            .bind(entry.to_bytes())
            .execute(&mut *connection)
            .await?;
    }
    for tag in delete {
        sqlx::query("DELETE FROM entries WHERE network = ? AND tag = ?")
            .bind(network)
            .bind(&tag[..])
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

async fn write_slots(
    connection: &mut SqliteConnection,
    network: i64,
    before: &[SealedKey],
    after: &[SealedKey],
) -> Result<(), StoreError> {
    let (put, delete) = difference(before, after, |key| key.slot.0);
    for (tag, key) in put {
        sqlx::query("INSERT OR REPLACE INTO slots (network, tag, body) VALUES (?, ?, ?)")
            .bind(network)
            .bind(&tag[..])
            .bind(key.to_bytes())
            .execute(&mut *connection)
            .await?;
    }
    for tag in delete {
        sqlx::query("DELETE FROM slots WHERE network = ? AND tag = ?")
            .bind(network)
            .bind(&tag[..])
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// Which rows to write and which to delete, by tag.
fn difference<'a, T: PartialEq, K: Ord + Copy>(
    before: &'a [T],
    after: &'a [T],
    key: impl Fn(&T) -> K,
) -> (Vec<(K, &'a T)>, Vec<K>) {
    let mut old: BTreeMap<K, &T> = before.iter().map(|item| (key(item), item)).collect();
    let mut put = Vec::new();
    for item in after {
        let tag = key(item);
        if old.remove(&tag).is_none_or(|same| same != item) {
            put.push((tag, item));
        }
    }
    (put, old.into_keys().collect())
}

fn read<T: Wire>(row: &SqliteRow, column: usize) -> Result<T, StoreError> {
    let body: Vec<u8> = row.try_get(column)?;
    Ok(T::from_bytes(&body)?)
}
