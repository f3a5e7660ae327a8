//! Reading and changing rows, each of which is sealed under a key of its own.
//!
//! Content that changes or goes takes its key with it. The order makes that safe whenever the power fails:
//!
//! 1. new keys are put into free slots of the keyring, and are on disk;
//! 2. the transaction that names them is committed, and is on disk;
//! 3. the slots that it names no more are overwritten, on disk before the change counts as done.
//!
//! A crash leaves slots that no row names: those of a transaction that was not committed, or of one whose third step
//! did not come. A start overwrites them, and so does the first change of a process that notices another's.
//! SQLite's write lock keeps two processes from choosing the same slot, and its read lock keeps the keys in place that
//! a reader's snapshot names: a commit waits for the readers before it.

use std::collections::{BTreeMap, BTreeSet};

use rand_core::{OsRng, RngCore};
use sqlx::{AssertSqlSafe, Row, Sqlite, SqliteConnection, Transaction, sqlite::SqliteRow};
use tokio::sync::OwnedMutexGuard;
use zeroize::Zeroizing;

use super::{
    Store, StoreError,
    index::{Index, Indexed},
    keyring::{Key, Keyring, Slot},
};

/// The tables whose rows are sealed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Table {
    Accounts,
    Enrolments,
    Networks,
    Entries,
    Slots,
    Joins,
    Relays,
}

/// All of them.
pub(super) const TABLES: [Table; 7] = [
    Table::Accounts,
    Table::Enrolments,
    Table::Networks,
    Table::Entries,
    Table::Slots,
    Table::Joins,
    Table::Relays,
];

/// Tables whose rows belong to a network.
pub(super) const OF_NETWORK: [Table; 3] = [Table::Entries, Table::Slots, Table::Joins];

/// A row's number and its content.
pub(super) type Opened = (i64, Zeroizing<Vec<u8>>);

/// What the process knows of the files beside what is in them.
pub(super) struct State {
    pub(super) keyring: Keyring,
    pub(super) index: Index,
    /// SQLite's `data_version` at which keyring and index were read; `None` if they have to be read again.
    version: Option<i64>,
    /// Whether every slot that no row names is known to be in `unnamed`.
    settled: bool,
    unnamed: BTreeSet<Slot>,
}

/// A snapshot of the database, with the keys and the index of that moment.
pub(super) struct Reading {
    pub(super) transaction: Transaction<'static, Sqlite>,
    pub(super) state: OwnedMutexGuard<State>,
}

/// The one change that is under way. Dropping it undoes it.
pub(super) struct Change {
    reading: Reading,
    taken: BTreeMap<Slot, Key>,
    released: Vec<Slot>,
    indexed: Vec<Indexed>,
}

impl Table {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Accounts => "accounts",
            Self::Enrolments => "enrolments",
            Self::Networks => "networks",
            Self::Entries => "entries",
            Self::Slots => "slots",
            Self::Joins => "joins",
            Self::Relays => "relays",
        }
    }

    /// What a row's seal is bound to.
    fn place(self, id: i64) -> Vec<u8> {
        format!("tacet row v1 {} {id}", self.name()).into_bytes()
    }

    /// A query; `TABLE` in it stands for the table's name, which is our own.
    fn query(self, text: &str) -> AssertSqlSafe<String> {
        AssertSqlSafe(text.replace("TABLE", self.name()))
    }
}

impl State {
    pub(super) fn new(keyring: Keyring) -> Self {
        Self { keyring, index: Index::default(), version: None, settled: false, unnamed: BTreeSet::new() }
    }

    /// Makes the next one to begin read keyring and index again.
    fn forget(&mut self) {
        self.version = None;
    }

    async fn refresh(&mut self, connection: &mut SqliteConnection) -> Result<(), StoreError> {
        let version = sqlx::query("PRAGMA data_version").fetch_one(&mut *connection).await?.try_get(0)?;
        if self.version == Some(version) {
            return Ok(());
        }
        self.forget();
        self.keyring.reload()?;
        self.index = Index::read(connection, &self.keyring).await?;
        (self.settled, self.unnamed) = (false, BTreeSet::new());
        self.version = Some(version);
        Ok(())
    }

    /// Overwrites every key whose row is gone. The write lock must be held.
    async fn settle(&mut self, connection: &mut SqliteConnection) -> Result<(), StoreError> {
        if !self.settled {
            let named = named(connection).await?;
            self.unnamed = self.keyring.used().filter(|slot| !named.contains(slot)).collect();
            self.settled = true;
        }
        self.keyring.erase(self.unnamed.iter().copied().collect()).await?;
        self.unnamed.clear();
        Ok(())
    }
}

impl Store {
    /// A snapshot.
    pub(super) async fn read(&self) -> Result<Reading, StoreError> {
        self.begin("BEGIN").await
    }

    /// A change; nobody else changes anything until it is committed or dropped. What went before is erased.
    pub(super) async fn change(&self) -> Result<Change, StoreError> {
        let mut reading = self.begin("BEGIN IMMEDIATE").await?;
        if !self.building {
            let Reading { transaction, state } = &mut reading;
            state.settle(transaction).await?;
        }
        Ok(Change { reading, taken: BTreeMap::new(), released: Vec::new(), indexed: Vec::new() })
    }

    /// Overwrites every key whose row is gone. It writes nothing if that was done.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn settle(&self) -> Result<(), StoreError> {
        self.change().await.map(drop)
    }

    /// How many rows there are, and how many of them cannot be opened.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn unreadable(&self) -> Result<(usize, usize), StoreError> {
        self.read().await?.unreadable().await
    }

    async fn begin(&self, how: &'static str) -> Result<Reading, StoreError> {
        use std::sync::atomic::Ordering;
        let mut state = self.state.clone().lock_owned().await;
        let mut transaction = match self.pool.begin_with(how).await {
            // SQLite undid a transaction by itself, as it does when the disk is full, and sqlx did not notice: it takes
            // the connection for one inside of that transaction.
            Err(sqlx::Error::InvalidSavePointStatement) => {
                self.pool.acquire().await?.close().await?;
                self.pool.begin_with(how).await?
            }
            begun => begun?,
        };
        if self.reconnected.swap(false, Ordering::AcqRel) {
            state.forget();
        }
        state.refresh(&mut transaction).await?;
        Ok(Reading { transaction, state })
    }

    /// Commits a change and overwrites the keys of what it removed. It runs to its end even if nobody waits for it.
    ///
    /// # Errors
    /// [`StoreError`]: then nothing was changed. If only the overwriting fails, it is tried again before the next
    /// change, which fails if it cannot be done; [`Store::settle`] says so at once.
    pub(super) async fn commit(&self, change: Change) -> Result<(), StoreError> {
        let store = self.clone();
        tokio::spawn(async move {
            change.commit().await?;
            if !store.building {
                let _ = store.settle().await;
            }
            Ok(())
        })
        .await
        .unwrap_or(Err(StoreError::Io))
    }
}

impl Reading {
    /// A row's content.
    pub(super) async fn row(
        &mut self,
        table: Table,
        id: i64,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        let row = sqlx::query(table.query("SELECT id, key, body FROM TABLE WHERE id = ?"))
            .bind(id)
            .fetch_optional(&mut *self.transaction)
            .await?;
        row.map(|row| Ok(open(&self.state.keyring, table, &row)?.1)).transpose()
    }

    /// The rows of a table.
    pub(super) async fn rows(&mut self, table: Table) -> Result<Vec<Opened>, StoreError> {
        each(&mut self.transaction, &self.state.keyring, table).await?.into_iter().collect()
    }

    /// The rows of a table that belong to a network.
    pub(super) async fn rows_of(&mut self, network: i64, table: Table) -> Result<Vec<Opened>, StoreError> {
        let rows = sqlx::query(table.query("SELECT id, key, body FROM TABLE WHERE network = ?"))
            .bind(network)
            .fetch_all(&mut *self.transaction)
            .await?;
        rows.iter().map(|row| open(&self.state.keyring, table, row)).collect()
    }

    async fn unreadable(&mut self) -> Result<(usize, usize), StoreError> {
        let (mut all, mut unreadable) = (0, 0);
        for table in TABLES {
            let rows = each(&mut self.transaction, &self.state.keyring, table).await?;
            all += rows.len();
            unreadable += rows.iter().filter(|row| row.is_err()).count();
        }
        Ok((all, unreadable))
    }

    /// The slots that rows name.
    pub(super) async fn named(&mut self) -> Result<BTreeSet<Slot>, StoreError> {
        named(&mut self.transaction).await
    }
}

impl std::ops::Deref for Change {
    type Target = Reading;

    fn deref(&self) -> &Reading {
        &self.reading
    }
}

impl std::ops::DerefMut for Change {
    fn deref_mut(&mut self) -> &mut Reading {
        &mut self.reading
    }
}

impl Change {
    /// Adds a row that belongs to no network; its number tells nothing.
    pub(super) async fn insert(&mut self, table: Table, plain: &[u8]) -> Result<i64, StoreError> {
        let (id, key, body) = self.sealed(table, plain);
        sqlx::query(table.query("INSERT INTO TABLE (id, key, body) VALUES (?, ?, ?)"))
            .bind(id)
            .bind(key)
            .bind(body)
            .execute(&mut *self.transaction)
            .await?;
        Ok(id)
    }

    /// Adds a row that belongs to a network.
    pub(super) async fn insert_of(
        &mut self,
        network: i64,
        table: Table,
        plain: &[u8],
    ) -> Result<(), StoreError> {
        let (id, key, body) = self.sealed(table, plain);
        sqlx::query(table.query("INSERT INTO TABLE (id, network, key, body) VALUES (?, ?, ?, ?)"))
            .bind(id)
            .bind(network)
            .bind(key)
            .bind(body)
            .execute(&mut *self.transaction)
            .await?;
        Ok(())
    }

    /// Gives a row another content, under another key.
    pub(super) async fn replace(&mut self, table: Table, id: i64, plain: &[u8]) -> Result<(), StoreError> {
        let before = sqlx::query(table.query("SELECT key FROM TABLE WHERE id = ?"))
            .bind(id)
            .fetch_one(&mut *self.transaction)
            .await?;
        let (key, body) = self.seal(table, id, plain);
        sqlx::query(table.query("UPDATE TABLE SET key = ?, body = ? WHERE id = ?"))
            .bind(key)
            .bind(body)
            .bind(id)
            .execute(&mut *self.transaction)
            .await?;
        self.release(&before)
    }

    /// Removes a row.
    pub(super) async fn delete(&mut self, table: Table, id: i64) -> Result<(), StoreError> {
        let gone = sqlx::query(table.query("DELETE FROM TABLE WHERE id = ? RETURNING key"))
            .bind(id)
            .fetch_all(&mut *self.transaction)
            .await?;
        gone.iter().try_for_each(|row| self.release(row))
    }

    /// Removes a network's rows from a table.
    pub(super) async fn delete_of(&mut self, network: i64, table: Table) -> Result<(), StoreError> {
        let gone = sqlx::query(table.query("DELETE FROM TABLE WHERE network = ? RETURNING key"))
            .bind(network)
            .fetch_all(&mut *self.transaction)
            .await?;
        gone.iter().try_for_each(|row| self.release(row))
    }

    /// What the index is to know once this is committed.
    pub(super) fn index(&mut self, indexed: Indexed) {
        self.indexed.push(indexed);
    }

    /// The first two steps; what was released waits to be overwritten.
    pub(super) async fn commit(mut self) -> Result<(), StoreError> {
        // Whatever interrupts this, what is in memory is read again.
        let version = self.state.version.take();
        self.write_keys().await?;
        let Reading { transaction, mut state } = self.reading;
        transaction.commit().await?;
        state.unnamed.extend(self.released);
        for indexed in self.indexed {
            state.index.apply(indexed);
        }
        state.version = version;
        Ok(())
    }

    /// The first step.
    pub(super) async fn write_keys(&mut self) -> Result<(), StoreError> {
        self.state.forget();
        let taken = std::mem::take(&mut self.taken);
        self.state.keyring.write(taken).await
    }

    fn sealed(&mut self, table: Table, plain: &[u8]) -> (i64, i64, Vec<u8>) {
        // Random, so that it tells no order, and never used again: a session of an account that is gone is nobody's.
        let id = (OsRng.next_u64() >> 1) as i64;
        let (key, body) = self.seal(table, id, plain);
        (id, key, body)
    }

    fn seal(&mut self, table: Table, id: i64, plain: &[u8]) -> (i64, Vec<u8>) {
        // Somewhere: the numbers of slots are to tell no order either.
        let keyring = &self.reading.state.keyring;
        let slot = keyring.free_near(OsRng.next_u32() % keyring.slots().max(1), &self.taken);
        let key = Key::generate();
        let body = key.seal(&table.place(id), plain);
        self.taken.insert(slot, key);
        (i64::from(slot), body)
    }

    fn release(&mut self, row: &SqliteRow) -> Result<(), StoreError> {
        let slot: i64 = row.try_get(0)?;
        self.released.extend(Slot::try_from(slot).ok());
        Ok(())
    }
}

/// The rows of a table, each opened if it can be; `connection` is in a transaction.
pub(super) async fn each(
    connection: &mut SqliteConnection,
    keyring: &Keyring,
    table: Table,
) -> Result<Vec<Result<Opened, StoreError>>, StoreError> {
    let rows = sqlx::query(table.query("SELECT id, key, body FROM TABLE")).fetch_all(connection).await?;
    Ok(rows.iter().map(|row| open(keyring, table, row)).collect())
}

/// Opens a row of id, key and body.
fn open(keyring: &Keyring, table: Table, row: &SqliteRow) -> Result<Opened, StoreError> {
    let (id, key): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    let body: &[u8] = row.try_get(2)?;
    let plain = keyring.key(key).and_then(|key| key.open(&table.place(id), body));
    Ok((id, plain.ok_or(StoreError::Damaged)?))
}

async fn named(connection: &mut SqliteConnection) -> Result<BTreeSet<Slot>, StoreError> {
    let mut named = BTreeSet::new();
    for table in TABLES {
        let rows = sqlx::query(table.query("SELECT key FROM TABLE")).fetch_all(&mut *connection).await?;
        for row in rows {
            named.extend(Slot::try_from(row.try_get::<i64, _>(0)?).ok());
        }
    }
    Ok(named)
}
