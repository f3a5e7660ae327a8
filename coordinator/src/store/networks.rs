//! Networks: head, sealed entries, sealed epoch keys, join list. A change is compared and swapped in one transaction
//! and writes only the rows that differ.

use std::collections::BTreeMap;

use proto::{
    account::AccountName,
    coordinator::{JOIN_MAX, JOINS_MAX, Join, JoinId},
    epoch::Slot,
    identity::NetworkId,
    roster::{Head, Header, PublicState, SealedEntry, SealedKey},
    wire::{Reader, Wire, WireError, Writer},
};
use sqlx::{AssertSqlSafe, Row};

use super::{
    Store, StoreError,
    index::{Indexed, Owned},
    rows::{Change as Changing, OF_NETWORK, Reading, Table},
};

/// A network as it is kept, without its entries.
pub struct StoredNetwork {
    row: i64,
    account: i64,
    /// Its present chain and header.
    pub head: Head,
}

/// What an operator sees of a network.
pub struct NetworkSummary {
    /// The network.
    pub id: NetworkId,
    /// The account that owns it.
    pub account: Option<AccountName>,
    /// Entries of its roster.
    pub entries: u32,
    /// Records that wait for a signer.
    pub joins: u32,
    /// Bytes that it takes.
    pub bytes: u64,
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
    /// The account is there no more.
    NoAccount,
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
        find(&mut self.read().await?, network).await
    }

    /// The ids of an account's networks.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn networks_of(&self, account: i64) -> Result<Vec<NetworkId>, StoreError> {
        let reading = self.read().await?;
        let networks = reading.state.index.networks().filter(|(_, owned)| owned.account == account);
        Ok(networks.map(|(id, _)| id).collect())
    }

    /// The ids of all networks.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn networks(&self) -> Result<Vec<NetworkId>, StoreError> {
        Ok(self.read().await?.state.index.networks().map(|(id, _)| id).collect())
    }

    /// Every network, by its owner and its id.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn network_summaries(&self) -> Result<Vec<NetworkSummary>, StoreError> {
        let mut reading = self.read().await?;
        let owners: BTreeMap<i64, AccountName> =
            reading.state.index.accounts().map(|(name, id)| (id, name.clone())).collect();
        let networks: Vec<_> = reading.state.index.networks().collect();
        let mut summaries = Vec::with_capacity(networks.len());
        for (id, owned) in networks {
            summaries.push(NetworkSummary {
                id,
                account: owners.get(&owned.account).cloned(),
                entries: count(&mut reading, owned.row, Table::Entries).await?,
                joins: count(&mut reading, owned.row, Table::Joins).await?,
                bytes: bytes(&mut reading, owned.row).await?,
            });
        }
        summaries.sort_by(|a, b| (&a.account, a.id).cmp(&(&b.account, b.id)));
        Ok(summaries)
    }

    /// A network's whole present state.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn state(&self, network: &NetworkId) -> Result<Option<PublicState>, StoreError> {
        // One snapshot for all its queries.
        let mut reading = self.read().await?;
        let Some(found) = find(&mut reading, network).await? else {
            return Ok(None);
        };
        Ok(Some(Rows::load(&mut reading, found.row).await?.state(found.head)))
    }

    /// The epoch key sealed at a slot.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn slot(&self, network: &NetworkId, slot: &Slot) -> Result<Option<Vec<u8>>, StoreError> {
        let mut reading = self.read().await?;
        let Some(owned) = reading.state.index.network(network)? else {
            return Ok(None);
        };
        let keys: Vec<(i64, SealedKey)> = all(&mut reading, owned.row, Table::Slots).await?;
        Ok(keys.into_iter().find(|(_, key)| key.slot == *slot).map(|(_, key)| key.sealed))
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
        let mut change = self.change().await?;
        let network = state.header().network;
        if change.row(Table::Accounts, account).await?.is_none() {
            return Ok(Created::NoAccount);
        }
        if change.state.index.network(&network)?.is_some() {
            return Ok(Created::Exists);
        }
        let owned = change.state.index.networks().filter(|(_, owned)| owned.account == account).count();
        if owned >= quota as usize {
            return Ok(Created::TooMany);
        }
        let body = Body { account, head: state.head.clone() };
        let row = change.insert(Table::Networks, &body.to_bytes()).await?;
        for entry in state.entries() {
            change.insert_of(row, Table::Entries, &entry.to_bytes()).await?;
        }
        for slot in state.slots() {
            change.insert_of(row, Table::Slots, &slot.to_bytes()).await?;
        }
        change.index(Indexed::Network(network, Owned { row, account }));
        self.commit(change).await?;
        Ok(Created::Made)
    }

    /// Removes a network; false if there is none of this id. What was kept of it can be read no more once this
    /// returns.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn remove_network(&self, network: &NetworkId) -> Result<bool, StoreError> {
        let mut change = self.change().await?;
        let Some(owned) = change.state.index.network(network)? else {
            return Ok(false);
        };
        remove(&mut change, *network, owned).await?;
        self.commit(change).await?;
        self.settle().await?;
        Ok(true)
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
        let mut change = self.change().await?;
        let Some(found) = find(&mut change, network).await? else {
            return Ok(Published::Unknown);
        };
        let (row, account) = (found.row, found.account);
        let rows = Rows::load(&mut change, row).await?;
        let (entries, slots) = (rows.entry_ids(), rows.slot_ids());
        let before = rows.state(found.head);
        let after = match next(&before) {
            Ok(after) => after,
            Err(refused) => return Ok(Published::Refused(refused)),
        };
        let body = Body { account, head: after.head.clone() };
        change.replace(Table::Networks, row, &body.to_bytes()).await?;
        let differ = difference(before.entries(), after.entries(), |entry| entry.id.0);
        write(&mut change, (row, Table::Entries), &entries, differ).await?;
        let differ = difference(before.slots(), after.slots(), |key| key.slot.0);
        write(&mut change, (row, Table::Slots), &slots, differ).await?;
        prune_joins(&mut change, row, settled, after.header()).await?;
        self.commit(change).await?;
        Ok(Published::Done(Box::new(Change { before: before.head, after: after.head })))
    }

    /// The join list, oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn joins(&self, network: &StoredNetwork) -> Result<Vec<Join>, StoreError> {
        let waiting = joins(&mut self.read().await?, network.row).await?;
        Ok(waiting.into_iter().map(|(_, waiting)| waiting.join).collect())
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
        let mut change = self.change().await?;
        let Some(found) = find(&mut change, network).await? else {
            return Ok(Appended::Unknown);
        };
        let uses = match uses(found.head.header()) {
            Ok(uses) => uses,
            Err(refused) => return Ok(Appended::Refused(refused)),
        };
        let waiting = joins(&mut change, found.row).await?;
        if waiting.iter().any(|(_, other)| other.join == *join) {
            return Ok(Appended::Present);
        }
        let of_invite = waiting.iter().filter(|(_, other)| other.join.invite == join.invite).count();
        if of_invite >= uses as usize {
            return Ok(Appended::UsedUp);
        }
        if waiting.len() >= JOINS_MAX {
            return Ok(Appended::Full);
        }
        let place = waiting.last().map_or(0, |(_, last)| last.place.saturating_add(1));
        let body = Waiting { place, join: join.clone() };
        change.insert_of(found.row, Table::Joins, &body.to_bytes()).await?;
        self.commit(change).await?;
        Ok(Appended::Added)
    }
}

/// A network's row: its account, and its present head.
pub(super) struct Body {
    pub(super) account: i64,
    pub(super) head: Head,
}

impl Body {
    pub(super) fn read(plain: &[u8]) -> Result<Self, StoreError> {
        Ok(Self::from_bytes(plain)?)
    }
}

/// A join record and its place in the list.
pub(super) struct Waiting {
    pub(super) place: u32,
    pub(super) join: Join,
}

/// Removes a network as part of a change.
pub(super) async fn remove(
    change: &mut Changing,
    network: NetworkId,
    owned: Owned,
) -> Result<(), StoreError> {
    for table in OF_NETWORK {
        change.delete_of(owned.row, table).await?;
    }
    change.delete(Table::Networks, owned.row).await?;
    change.index(Indexed::NoNetwork(network));
    Ok(())
}

/// Bytes that a network takes.
pub(super) async fn bytes(reading: &mut Reading, network: i64) -> Result<u64, StoreError> {
    let sum = "SELECT length(body) + (SELECT coalesce(sum(length(body)), 0) FROM entries WHERE network = ?1)
        + (SELECT coalesce(sum(length(body)), 0) FROM slots WHERE network = ?1)
        + (SELECT coalesce(sum(length(body)), 0) FROM joins WHERE network = ?1) FROM networks WHERE id = ?1";
    let sum: i64 = sqlx::query(sum).bind(network).fetch_one(&mut *reading.transaction).await?.try_get(0)?;
    Ok(sum.try_into().unwrap_or(0))
}

async fn count(reading: &mut Reading, network: i64, table: Table) -> Result<u32, StoreError> {
    let query = AssertSqlSafe(format!("SELECT count(*) FROM {} WHERE network = ?", table.name()));
    let count: i64 =
        sqlx::query(query).bind(network).fetch_one(&mut *reading.transaction).await?.try_get(0)?;
    Ok(count.try_into().unwrap_or(u32::MAX))
}

/// A network's entries and sealed keys, with the numbers of their rows, in the order of their ids.
struct Rows {
    entries: Vec<(i64, SealedEntry)>,
    slots: Vec<(i64, SealedKey)>,
}

impl Rows {
    async fn load(reading: &mut Reading, network: i64) -> Result<Self, StoreError> {
        let mut entries: Vec<(i64, SealedEntry)> = all(reading, network, Table::Entries).await?;
        let mut slots: Vec<(i64, SealedKey)> = all(reading, network, Table::Slots).await?;
        entries.sort_by_key(|(_, entry)| entry.id);
        slots.sort_by_key(|(_, key)| key.slot.0);
        Ok(Self { entries, slots })
    }

    fn entry_ids(&self) -> BTreeMap<[u8; 16], i64> {
        self.entries.iter().map(|(row, entry)| (entry.id.0, *row)).collect()
    }

    fn slot_ids(&self) -> BTreeMap<[u8; 32], i64> {
        self.slots.iter().map(|(row, key)| (key.slot.0, *row)).collect()
    }

    fn state(self, head: Head) -> PublicState {
        let entries = self.entries.into_iter().map(|(_, entry)| entry).collect();
        PublicState::new(head, entries, self.slots.into_iter().map(|(_, key)| key).collect())
    }
}

async fn find(reading: &mut Reading, network: &NetworkId) -> Result<Option<StoredNetwork>, StoreError> {
    let Some(Owned { row, account }) = reading.state.index.network(network)? else {
        return Ok(None);
    };
    let plain = reading.row(Table::Networks, row).await?.ok_or(StoreError::Damaged)?;
    Ok(Some(StoredNetwork { row, account, head: Body::read(&plain)?.head }))
}

async fn all<T: Wire>(
    reading: &mut Reading,
    network: i64,
    table: Table,
) -> Result<Vec<(i64, T)>, StoreError> {
    let rows = reading.rows_of(network, table).await?;
    rows.into_iter().map(|(row, plain)| Ok((row, T::from_bytes(&plain)?))).collect()
}

async fn joins(reading: &mut Reading, network: i64) -> Result<Vec<(i64, Waiting)>, StoreError> {
    let mut joins: Vec<(i64, Waiting)> = all(reading, network, Table::Joins).await?;
    joins.sort_by_key(|(_, waiting)| waiting.place);
    Ok(joins)
}

async fn prune_joins(
    change: &mut Changing,
    network: i64,
    settled: &[JoinId],
    header: &Header,
) -> Result<(), StoreError> {
    for (row, Waiting { join, .. }) in joins(change, network).await? {
        let alive = header.invites.iter().any(|invite| invite.id == join.invite);
        if !alive || settled.contains(&join.id()) {
            change.delete(Table::Joins, row).await?;
        }
    }
    Ok(())
}

/// Writes what differs: puts what has a row into it, under a new key, and the rest into new ones.
async fn write<T: Wire, K: Ord>(
    change: &mut Changing,
    (network, table): (i64, Table),
    rows: &BTreeMap<K, i64>,
    (put, delete): (Vec<(K, &T)>, Vec<K>),
) -> Result<(), StoreError> {
    for (key, item) in put {
        match rows.get(&key) {
            Some(row) => change.replace(table, *row, &item.to_bytes()).await?,
            None => change.insert_of(network, table, &item.to_bytes()).await?,
        }
    }
    for key in delete {
        if let Some(row) = rows.get(&key) {
            change.delete(table, *row).await?;
        }
    }
    Ok(())
}

/// Which rows to write and which to delete, by id.
fn difference<'a, T: PartialEq, K: Ord + Copy>(
    before: &'a [T],
    after: &'a [T],
    key: impl Fn(&T) -> K,
) -> (Vec<(K, &'a T)>, Vec<K>) {
    let mut old: BTreeMap<K, &T> = before.iter().map(|item| (key(item), item)).collect();
    let mut put = Vec::new();
    for item in after {
        let id = key(item);
        if old.remove(&id).is_none_or(|same| same != item) {
            put.push((id, item));
        }
    }
    (put, old.into_keys().collect())
}

/// Version, account, head.
impl Wire for Body {
    fn encode(&self, w: &mut Writer) {
        w.version(1);
        w.u64(self.account.cast_unsigned());
        w.bytes(&self.head.to_bytes());
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        r.version(1)?;
        let account = r.u64()?.cast_signed();
        Ok(Self { account, head: Head::from_bytes(r.bytes(usize::MAX)?)? })
    }
}

/// Version, place, record.
impl Wire for Waiting {
    fn encode(&self, w: &mut Writer) {
        w.version(1);
        w.u32(self.place);
        w.bytes(&self.join.to_bytes());
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        r.version(1)?;
        let place = r.u32()?;
        Ok(Self { place, join: Join::from_bytes(r.bytes(2 * JOIN_MAX)?)? })
    }
}
