//! Where the database lies, and how it is opened, copied and put back.

use std::{
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, chown},
    path::{Path, PathBuf},
    time::Duration,
};

use rand_core::{OsRng, RngCore};
use sqlx::{
    ConnectOptions, Row, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use zeroize::Zeroizing;

use super::{Store, StoreError, schema};

/// How long one process waits for another's transaction.
const BUSY: Duration = Duration::from_secs(5);

const DATABASE: &str = "coordinator.db";
const JOURNAL: &str = "coordinator.db-journal";
const LOCK: &str = "lock";

/// A coordinator's directory, and the database in it or elsewhere.
#[derive(Clone)]
pub struct DataDir {
    dir: PathBuf,
    database: PathBuf,
}

/// Held by the one process that serves, or that puts a backup in place.
pub struct Lock(#[expect(dead_code, reason = "held, not read")] File);

impl DataDir {
    /// The directory `dir`, with the database in it unless `database` says where else.
    #[must_use]
    pub fn new(dir: &Path, database: Option<&Path>) -> Self {
        let database = database.map_or_else(|| dir.join(DATABASE), Path::to_owned);
        Self { dir: dir.to_owned(), database }
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// Whether there is a database.
    #[must_use]
    pub fn has_database(&self) -> bool {
        self.database.exists()
    }

    /// The folders in which files are written.
    #[must_use]
    pub fn folders(&self) -> Vec<&Path> {
        let of_database = self.database.parent().filter(|folder| !folder.as_os_str().is_empty());
        let mut folders = vec![self.dir.as_path()];
        folders.extend(of_database.filter(|folder| *folder != self.dir));
        folders
    }

    /// Whom the directory belongs to: user and group.
    ///
    /// # Errors
    /// [`StoreError::Missing`], [`StoreError::Denied`].
    pub fn owner(&self) -> Result<(u32, u32), StoreError> {
        let owner = self.dir.metadata()?;
        Ok((owner.uid(), owner.gid()))
    }

    /// Gives the directory, which must be there, to a user and group.
    ///
    /// # Errors
    /// [`StoreError::Denied`].
    pub fn give_to(&self, (user, group): (u32, u32)) -> Result<(), StoreError> {
        Ok(chown(&self.dir, Some(user), Some(group))?)
    }

    /// Where one of the coordinator's own files lies, by the name that the inventory declares it under.
    pub(super) fn file(&self, name: &str) -> Option<PathBuf> {
        match name {
            DATABASE => Some(self.database.clone()),
            JOURNAL => Some(journal(&self.database)),
            LOCK => Some(self.dir.join(LOCK)),
            _ => None,
        }
    }

    /// Makes the directory (0700) if it is not there.
    ///
    /// # Errors
    /// [`StoreError::Denied`], [`StoreError::Full`].
    pub fn make(&self) -> Result<(), StoreError> {
        Ok(DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?)
    }

    /// Makes the directory (0700) if it is not there, and takes its lock.
    ///
    /// # Errors
    /// [`StoreError::InUse`], [`StoreError::Denied`], [`StoreError::Full`].
    pub fn lock(&self) -> Result<Lock, StoreError> {
        self.make()?;
        let path = self.dir.join(LOCK);
        let file = private().create(true).truncate(false).write(true).open(&path)?;
        give_to_owner_of(&self.dir, &path)?;
        match file.try_lock() {
            Ok(()) => Ok(Lock(file)),
            Err(TryLockError::WouldBlock) => Err(StoreError::InUse),
            Err(TryLockError::Error(error)) => Err(error.into()),
        }
    }

    /// Opens the database, and makes it (0600) if it is not there.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn create_or_open(&self) -> Result<Store, StoreError> {
        private().create(true).truncate(false).write(true).open(&self.database)?;
        open(&self.database).await
    }

    /// Opens the database that is there.
    ///
    /// # Errors
    /// [`StoreError::Missing`]; [`StoreError`].
    pub async fn open(&self) -> Result<Store, StoreError> {
        // SQLite itself does not tell a missing file from one it may not open.
        OpenOptions::new().read(true).write(true).open(&self.database)?;
        open(&self.database).await
    }

    /// Writes a consistent copy (0600) to `target`, which must not exist; a serving coordinator goes on meanwhile.
    ///
    /// # Errors
    /// [`StoreError::Exists`] if `target` does; [`StoreError`].
    pub async fn backup(&self, target: &Path) -> Result<(), StoreError> {
        let store = self.open().await?;
        let file = private().create_new(true).write(true).open(target).map_err(|error| {
            if error.kind() == std::io::ErrorKind::NotFound { StoreError::Denied } else { error.into() }
        })?;
        // SQLite fills a file that is there as long as it is empty.
        let path = target.to_str().ok_or(StoreError::Denied)?;
        let copied = sqlx::query("VACUUM INTO ?").bind(path).execute(&store.pool).await;
        store.close().await;
        if let Err(error) = copied {
            let _ = std::fs::remove_file(target);
            return Err(error.into());
        }
        file.sync_all()?;
        Ok(())
    }

    /// Puts a backup in the database's place. `replace` allows one to be there already. The lock must be held.
    ///
    /// # Errors
    /// What is wrong with the backup, [`StoreError::Exists`] if there is a database and `replace` is false.
    pub async fn restore(&self, backup: &Path, replace: bool, _lock: &Lock) -> Result<(), StoreError> {
        if self.database.exists() && !replace {
            return Err(StoreError::Exists);
        }
        // The copy is judged, not the original: opening may bring it to the present shape, which writes.
        let copy = self.database.with_extension("restored");
        let _ = std::fs::remove_file(&copy);
        let mut target = private().create_new(true).write(true).open(&copy)?;
        let judged = async {
            std::io::copy(&mut File::open(backup)?, &mut target)?;
            let store = open(&copy).await?;
            let sound = store.check_structure().await;
            store.close().await;
            sound?;
            target.sync_all()?;
            Ok(())
        };
        if let Err(error) = judged.await {
            let _ = std::fs::remove_file(&copy);
            let _ = std::fs::remove_file(journal(&copy));
            return Err(error);
        }
        let _ = std::fs::remove_file(journal(&copy));
        give_to_owner_of(&self.dir, &copy)?;
        // A journal of the database that was there must not be played into the restored one.
        match std::fs::remove_file(journal(&self.database)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        std::fs::rename(&copy, &self.database)?;
        if let Some(dir) = self.database.parent() {
            File::open(dir)?.sync_all()?;
        }
        Ok(())
    }
}

async fn open(database: &Path) -> Result<Store, StoreError> {
    let options = SqliteConnectOptions::new()
        .filename(database)
        .create_if_missing(false)
        .foreign_keys(true)
        // A rollback journal that is emptied, not deleted: its owner and mode stay when root runs `enrol`.
        .journal_mode(SqliteJournalMode::Truncate)
        // On disk before the answer, whatever the file system.
        .synchronous(SqliteSynchronous::Extra)
        .pragma("secure_delete", "ON")
        .pragma("temp_store", "MEMORY")
        .busy_timeout(BUSY)
        .disable_statement_logging();
    let pool = SqlitePoolOptions::new()
        .max_connections(1)
        .idle_timeout(None)
        .max_lifetime(None)
        .connect_with(options)
        .await?;
    schema::migrate(&mut *pool.acquire().await?).await?;
    let tag_key = tag_key(&pool).await?;
    Ok(Store { pool, tag_key })
}

/// The key of all tags, made on first use.
async fn tag_key(pool: &SqlitePool) -> Result<Zeroizing<[u8; 32]>, StoreError> {
    let read = "SELECT body FROM settings WHERE name = 'tag key'";
    if sqlx::query(read).fetch_optional(pool).await?.is_none() {
        let mut key = Zeroizing::new([0; 32]);
        OsRng.fill_bytes(&mut *key);
        // Another process may have come first.
        sqlx::query("INSERT OR IGNORE INTO settings (name, body) VALUES ('tag key', ?)")
            .bind(&key[..])
            .execute(pool)
            .await?;
    }
    let key: Zeroizing<Vec<u8>> = Zeroizing::new(sqlx::query(read).fetch_one(pool).await?.try_get(0)?);
    Ok(Zeroizing::new(key.as_slice().try_into().map_err(|_| StoreError::Damaged)?))
}

/// What root makes in the service's directory must stay the service's.
fn give_to_owner_of(dir: &Path, file: &Path) -> Result<(), StoreError> {
    let (dir, made) = (dir.metadata()?, file.metadata()?);
    if (dir.uid(), dir.gid()) != (made.uid(), made.gid()) {
        chown(file, Some(dir.uid()), Some(dir.gid()))?;
    }
    Ok(())
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

fn journal(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push("-journal");
    name.into()
}
