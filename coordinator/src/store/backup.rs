//! Copies of the database, and putting one back.
//!
//! A backup is one file: a SQLite database, then the keys of its rows (slot and key of each), their number, and
//! [`MARK`]. It keeps what it kept: what is erased here later is in it still. A file without the mark is one that an
//! earlier version wrote, whose rows are not sealed.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    path::Path,
};

use proto::wire::Reader;
use sqlx::{ConnectOptions, Row};
use zeroize::Zeroizing;

use super::{
    DataDir, Lock, Store, StoreError,
    files::{connect, erase, options, private},
    keyring::{Key, Keyring, Slot},
    previous,
    rows::{TABLES, Table},
    schema::{self, Shape},
};

/// What a backup ends with.
const MARK: [u8; 16] = *b"tacet backup v1\n";

/// What the backups of every version that has keys end with, but for the last two bytes.
const FAMILY: &[u8] = b"tacet backup v";

/// Bytes of a slot's number and its key.
const ENTRY: u64 = 4 + 32;

/// Bytes of the number of keys, and the mark.
const END: u64 = 4 + 16;

/// Keys by the slots that they were in.
type Keys = BTreeMap<Slot, Key>;

impl DataDir {
    /// Writes a consistent copy (0600) to `target`, which must not exist; a serving coordinator goes on meanwhile.
    ///
    /// # Errors
    /// [`StoreError::Exists`] if `target` does; [`StoreError`].
    pub async fn backup(&self, target: &Path) -> Result<(), StoreError> {
        let store = self.open().await?;
        let file =
            private().create_new(true).write(true).open(target).map_err(|error| match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => StoreError::NoFolder,
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => StoreError::Unwritable,
                _ => error.into(),
            })?;
        let written = self.write_backup(&store, file, target).await;
        store.close().await;
        if written.is_err() {
            // There may be keys in it.
            let _ = erase(target);
        }
        written
    }

    async fn write_backup(&self, store: &Store, mut file: File, target: &Path) -> Result<(), StoreError> {
        // Nothing is changed meanwhile, so that the keys are those of the copy.
        let mut change = store.change().await?;
        let named = change.named().await?;
        // SQLite fills a file that is there as long as it is empty. A transaction cannot copy: another connection does.
        let path = target.to_str().ok_or(StoreError::Denied)?;
        let mut copying = options(&self.database).connect().await?;
        sqlx::query("VACUUM INTO ?").bind(path).execute(&mut copying).await?;
        sqlx::Connection::close(copying).await?;
        let mut keys = Zeroizing::new(Vec::with_capacity(named.len() * ENTRY as usize + END as usize));
        let mut count = 0u32;
        for slot in named {
            let Some(key) = change.state.keyring.key(i64::from(slot)) else { continue };
            keys.extend_from_slice(&slot.to_be_bytes());
            keys.extend_from_slice(key.as_bytes());
            count += 1;
        }
        keys.extend_from_slice(&count.to_be_bytes());
        keys.extend_from_slice(&MARK);
        file.seek(SeekFrom::End(0))?;
        file.write_all(&keys)?;
        Ok(file.sync_all()?)
    }

    /// Puts a backup in the database's place. `replace` allows one to be there already, which is erased then. The lock
    /// must be held.
    ///
    /// # Errors
    /// What is wrong with the backup, [`StoreError::Occupied`] if there is a database and `replace` is false.
    pub async fn restore(&self, backup: &Path, replace: bool, _lock: &Lock) -> Result<(), StoreError> {
        if self.database.exists() && !replace {
            return Err(StoreError::Occupied);
        }
        let mut source = File::open(backup).map_err(|error| {
            if error.kind() == io::ErrorKind::NotFound { StoreError::NoBackup } else { error.into() }
        })?;
        let keys = read_keys(&mut source)?;
        // The keys of the present database stay in their slots until the other is in its place.
        let mut keyring = match self.keyring(true) {
            Err(StoreError::Keys) => {
                // Of no use to the database that is there either.
                erase(&self.keys())?;
                self.keyring(true)?
            }
            keyring => keyring?,
        };
        let built = match keys {
            Some((keys, length)) => {
                source.rewind()?;
                self.rebuild(source.take(length), keys, &mut keyring).await
            }
            None => self.build_from_plain(backup, &keyring).await,
        };
        let judged = match built {
            Ok(store) => judge(store).await,
            Err(error) => Err(error),
        };
        if let Err(error) = judged {
            // The keys that were written for it go at the next start.
            let _ = self.clear();
            return Err(error);
        }
        self.replace()?;
        let store = self.open().await?;
        let settled = store.settle().await;
        store.close().await;
        settled
    }

    /// The copy of a sealed database, with its keys in free slots.
    async fn rebuild(
        &self,
        mut source: io::Take<File>,
        keys: Keys,
        keyring: &mut Keyring,
    ) -> Result<Store, StoreError> {
        self.clear()?;
        let mut target = private().create_new(true).write(true).open(self.built())?;
        io::copy(&mut source, &mut target)?;
        target.sync_all()?;
        let (pool, _) = connect(options(&self.built())).await?;
        // Before a key is written.
        match schema::shape(&mut *pool.acquire().await?).await? {
            Shape::Sealed => {}
            Shape::Older => schema::migrate(&mut *pool.acquire().await?, schema::STEPS).await?,
            Shape::Fresh | Shape::Plain => return Err(StoreError::Damaged),
        }
        let (mut moved, mut taken, mut next) = (BTreeMap::new(), BTreeMap::new(), 0);
        for (slot, key) in keys {
            let free = keyring.free_from(next);
            next = free + 1;
            moved.insert(i64::from(slot), i64::from(free));
            taken.insert(free, key);
        }
        keyring.write(taken).await?;
        let mut transaction = pool.begin().await?;
        for table in TABLES {
            move_keys(&mut transaction, table, &moved).await?;
        }
        transaction.commit().await?;
        pool.close().await;
        self.open_built(keyring).await
    }

    async fn build_from_plain(&self, backup: &Path, keyring: &Keyring) -> Result<Store, StoreError> {
        self.clear()?;
        let (plain, _) = connect(options(backup).read_only(true).immutable(true)).await?;
        if schema::shape(&mut *plain.acquire().await?).await? != Shape::Plain {
            // Cut off before its keys, or a database that was copied by hand.
            return Err(StoreError::Damaged);
        }
        let target = self.build(keyring).await?;
        let sealed = previous::seal(&plain, &target).await;
        plain.close().await;
        sealed.map(|()| target)
    }
}

/// Checks that all of it can be read, and closes it.
async fn judge(store: Store) -> Result<(), StoreError> {
    let judged = async {
        store.check_structure().await?;
        match store.unreadable().await? {
            (_, 0) => Ok(()),
            _ => Err(StoreError::Damaged),
        }
    };
    let judged = judged.await;
    store.close().await;
    judged
}

/// The keys at the end of a backup, and how many bytes come before them; `None` if there are none.
fn read_keys(source: &mut File) -> Result<Option<(Keys, u64)>, StoreError> {
    let length = source.metadata()?.len();
    let mut end = [0; END as usize];
    if length < END {
        return Ok(None);
    }
    source.seek(SeekFrom::Start(length - END))?;
    source.read_exact(&mut end)?;
    let mut r = Reader::new(&end);
    let count = r.u32()?;
    match r.raw(MARK.len())? {
        mark if mark == MARK => {}
        mark if mark.starts_with(FAMILY) => return Err(StoreError::NewerBackup),
        _ => return Ok(None),
    }
    let bytes = u64::from(count) * ENTRY;
    let database = (length - END).checked_sub(bytes).ok_or(StoreError::Damaged)?;
    let mut entries = Zeroizing::new(vec![0; bytes as usize]);
    source.seek(SeekFrom::Start(database))?;
    source.read_exact(&mut entries)?;
    let mut r = Reader::new(&entries);
    let mut keys = Keys::new();
    for _ in 0..count {
        let slot = r.u32()?;
        keys.insert(slot, Key::from_bytes(r.array()?).ok_or(StoreError::Damaged)?);
    }
    Ok(Some((keys, database)))
}

/// Makes the rows of a table name the slots in which their keys are now.
async fn move_keys(
    connection: &mut sqlx::SqliteConnection,
    table: Table,
    moved: &BTreeMap<i64, i64>,
) -> Result<(), StoreError> {
    let query = sqlx::AssertSqlSafe(format!("SELECT id, key FROM {}", table.name()));
    for row in sqlx::query(query).fetch_all(&mut *connection).await? {
        let (id, key): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
        let query = sqlx::AssertSqlSafe(format!("UPDATE {} SET key = ? WHERE id = ?", table.name()));
        sqlx::query(query)
            .bind(moved.get(&key).ok_or(StoreError::Damaged)?)
            .bind(id)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}
