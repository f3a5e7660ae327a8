//! Where the files lie, and how they are opened.

use std::{
    fs::{self, DirBuilder, File, Metadata, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, chown},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rand_core::{OsRng, RngCore};
use sqlx::{
    ConnectOptions, Row, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use super::{
    Store, StoreError,
    keyring::Keyring,
    previous,
    rows::State,
    schema::{self, Shape},
};

/// How long one process waits for another's transaction.
const BUSY: Duration = Duration::from_secs(5);

/// What is overwritten is overwritten by pieces of this many bytes.
const PIECE: usize = 1 << 16;

const DATABASE: &str = "coordinator.db";
const LOCK: &str = "lock";

/// A coordinator's directory, and the database in it or elsewhere.
#[derive(Clone)]
pub struct DataDir {
    dir: PathBuf,
    pub(super) database: PathBuf,
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
        match name.strip_prefix(DATABASE) {
            Some("") => Some(self.database.clone()),
            Some("-keys") => Some(self.keys()),
            Some("-journal") => Some(beside(&self.database, "-journal")),
            _ => (name == LOCK).then(|| self.dir.join(LOCK)),
        }
    }

    /// Whether a file is one of the coordinator's own, whatever name it was found under.
    pub(super) fn owns(&self, file: &Metadata) -> bool {
        let own = self.own_files();
        let mut own = own.iter().filter_map(|path| path.metadata().ok());
        own.any(|own| (own.dev(), own.ino()) == (file.dev(), file.ino()))
    }

    fn own_files(&self) -> [PathBuf; 4] {
        [self.database.clone(), self.keys(), beside(&self.database, "-journal"), self.dir.join(LOCK)]
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
        self.leave_no_readings();
        match file.try_lock() {
            Ok(()) => Ok(Lock(file)),
            Err(TryLockError::WouldBlock) => Err(StoreError::InUse),
            Err(TryLockError::Error(error)) => Err(error.into()),
        }
    }

    /// Opens the database, and makes it (0600) if it is not there. What an interrupted change left is erased.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn create_or_open(&self, lock: &Lock) -> Result<Store, StoreError> {
        self.refuse_newer()?;
        self.clear()?;
        private().create(true).truncate(false).write(true).open(&self.database)?;
        let store = match self.open_present().await? {
            Some(store) => store,
            None => self.upgrade(lock).await?,
        };
        store.settle().await?;
        Ok(store)
    }

    /// Opens the database that is there.
    ///
    /// # Errors
    /// [`StoreError::Missing`]; [`StoreError::InUse`] if it is of an older version and still served; [`StoreError`].
    pub async fn open(&self) -> Result<Store, StoreError> {
        // SQLite itself does not tell a missing file from one it may not open.
        OpenOptions::new().read(true).write(true).open(&self.database)?;
        self.refuse_newer()?;
        self.leave_no_readings();
        match self.open_present().await? {
            Some(store) => Ok(store),
            None => self.upgrade(&self.lock()?).await,
        }
    }

    /// Refuses a database that a later version wrote, before anything is changed.
    ///
    /// # Errors
    /// [`StoreError::Newer`].
    pub fn refuse_newer(&self) -> Result<(), StoreError> {
        schema::refuse_newer(&self.database)
    }

    /// When somebody last asked is not to stay with the files. A file system that cannot leave it notes it
    /// (docs/PRIVACY.md).
    fn leave_no_readings(&self) {
        let _ = sandbox::readings::forget(&self.dir);
        for path in self.own_files() {
            let _ = sandbox::readings::forget(&path);
        }
    }

    /// Opens the database; `None` if it has an older shape.
    async fn open_present(&self) -> Result<Option<Store>, StoreError> {
        let (pool, reconnected) = connect(options(&self.database)).await?;
        let shape = schema::shape(&mut *pool.acquire().await?).await?;
        if matches!(shape, Shape::Plain | Shape::Older) {
            pool.close().await;
            return Ok(None);
        }
        let keyring = self.keyring(shape == Shape::Fresh)?;
        if shape == Shape::Fresh {
            // A database that was lost may be found again, and cannot be opened without its keys.
            if keyring.used().next().is_some() {
                return Err(StoreError::Lost);
            }
            schema::create(&mut *pool.acquire().await?).await?;
        }
        Ok(Some(Store::new(pool, reconnected, keyring, false).await?))
    }

    /// Brings a database of an older shape to the present one, and opens it.
    async fn upgrade(&self, _lock: &Lock) -> Result<Store, StoreError> {
        let (pool, _) = connect(options(&self.database)).await?;
        let shape = schema::shape(&mut *pool.acquire().await?).await?;
        let migrated = match shape {
            Shape::Older => schema::migrate(&mut *pool.acquire().await?, schema::STEPS).await,
            _ => Ok(()),
        };
        pool.close().await;
        migrated?;
        if shape == Shape::Plain {
            self.seal().await?;
        }
        self.open_present().await?.ok_or(StoreError::Damaged)
    }

    /// Puts a sealed database in the place of one that is not, and overwrites that one.
    async fn seal(&self) -> Result<(), StoreError> {
        let target = self.build(&self.keyring(true)?).await?;
        // The file itself: its journal may have to be played back first.
        let (plain, _) = connect(options(&self.database)).await?;
        let sealed = previous::seal(&plain, &target).await;
        plain.close().await;
        target.close().await;
        sealed?;
        self.replace()
    }

    /// An empty database beside the present one, with its keys in the same keyring.
    pub(super) async fn build(&self, keyring: &Keyring) -> Result<Store, StoreError> {
        let path = self.built();
        erase(&path)?;
        private().create_new(true).write(true).open(&path)?;
        self.open_built(keyring).await
    }

    /// Opens what [`DataDir::build`] made.
    pub(super) async fn open_built(&self, keyring: &Keyring) -> Result<Store, StoreError> {
        let (pool, reconnected) = connect(options(&self.built())).await?;
        if schema::shape(&mut *pool.acquire().await?).await? == Shape::Fresh {
            schema::create(&mut *pool.acquire().await?).await?;
        }
        let keyring = keyring.again()?;
        Store::new(pool, reconnected, keyring, true).await
    }

    /// Puts what was built in the database's place, and overwrites what was there.
    pub(super) fn replace(&self) -> Result<(), StoreError> {
        let built = self.built();
        remove(&beside(&built, "-journal"))?;
        give_to_owner_of(&self.dir, &built)?;
        File::open(&built)?.sync_all()?;
        // A journal of the database that was there must not be played into the new one.
        remove(&beside(&self.database, "-journal"))?;
        // A second name, so that what it named can be overwritten after a crash too.
        match fs::hard_link(&self.database, self.old()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        fs::rename(&built, &self.database)?;
        sync_folder_of(&self.database)?;
        self.clear()
    }

    /// Overwrites what an interrupted change of files left.
    pub(super) fn clear(&self) -> Result<(), StoreError> {
        let old = self.old();
        let inode = |path: &Path| path.metadata().map(|meta| (meta.dev(), meta.ino())).ok();
        // Before the rename it is but another name of the database.
        if inode(&old).is_some() && inode(&old) == inode(&self.database) {
            remove(&old)?;
        }
        erase(&old)?;
        remove(&beside(&self.built(), "-journal"))?;
        erase(&self.built())
    }

    /// The keyring; `make` it if it is not there.
    pub(super) fn keyring(&self, make: bool) -> Result<Keyring, StoreError> {
        let path = self.keys();
        let made = make && !path.exists();
        let file = private().read(true).write(true).create(make).truncate(false).open(&path);
        let file = file.map_err(|error| {
            if error.kind() == io::ErrorKind::NotFound { StoreError::Keys } else { error.into() }
        })?;
        if made {
            give_to_owner_of(&self.dir, &path)?;
            sync_folder_of(&path)?;
        }
        Keyring::open(file, make)
    }

    pub(super) fn keys(&self) -> PathBuf {
        beside(&self.database, "-keys")
    }

    pub(super) fn built(&self) -> PathBuf {
        beside(&self.database, "-new")
    }

    fn old(&self) -> PathBuf {
        beside(&self.database, "-old")
    }
}

impl Store {
    async fn new(
        pool: SqlitePool,
        reconnected: Arc<AtomicBool>,
        keyring: Keyring,
        building: bool,
    ) -> Result<Self, StoreError> {
        let tag_key = tag_key(&pool).await?;
        let state = Arc::new(Mutex::new(State::new(keyring)));
        Ok(Self { pool, reconnected, state, building, tag_key })
    }
}

/// How every database is opened.
pub(super) fn options(database: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(database)
        .create_if_missing(false)
        .foreign_keys(true)
        // A rollback journal that is emptied, not deleted: its owner and mode stay when root runs `enrol`. And a commit
        // waits for readers, which is what keeps the keys of their snapshot in place; it would not with a WAL.
        .journal_mode(SqliteJournalMode::Truncate)
        // On disk before the answer, whatever the file system.
        .synchronous(SqliteSynchronous::Extra)
        .pragma("secure_delete", "ON")
        .pragma("temp_store", "MEMORY")
        .busy_timeout(BUSY)
        .disable_statement_logging()
}

/// One connection, and whether it is another than it was when last asked.
pub(super) async fn connect(
    options: SqliteConnectOptions,
) -> Result<(SqlitePool, Arc<AtomicBool>), StoreError> {
    let reconnected = Arc::new(AtomicBool::new(true));
    let flag = Arc::clone(&reconnected);
    let pool = SqlitePoolOptions::new()
        .max_connections(1)
        .idle_timeout(None)
        .max_lifetime(None)
        .after_connect(move |_, _| {
            flag.store(true, Ordering::Release);
            Box::pin(async { Ok(()) })
        })
        .connect_with(options)
        .await?;
    Ok((pool, reconnected))
}

/// The key of the tags of enrolment codes, made on first use.
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
pub(super) fn give_to_owner_of(dir: &Path, file: &Path) -> Result<(), StoreError> {
    let (dir, made) = (dir.metadata()?, file.metadata()?);
    if (dir.uid(), dir.gid()) != (made.uid(), made.gid()) {
        chown(file, Some(dir.uid()), Some(dir.gid()))?;
    }
    Ok(())
}

pub(super) fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

/// Overwrites a file in place, and removes it; one that is not there is no error.
pub(super) fn erase(path: &Path) -> Result<(), StoreError> {
    let file = match OpenOptions::new().write(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        file => file?,
    };
    let length = file.metadata()?.len();
    for at in (0..length).step_by(PIECE) {
        let piece = usize::try_from(length - at).unwrap_or(PIECE).min(PIECE);
        file.write_all_at(&[0; PIECE][..piece], at)?;
    }
    file.sync_all()?;
    remove(path)?;
    sync_folder_of(path)
}

fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

fn sync_folder_of(path: &Path) -> Result<(), StoreError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    Ok(File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?)
}

/// The file whose name is this one's and then `suffix`.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
