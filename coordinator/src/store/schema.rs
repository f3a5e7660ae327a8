//! The database's shape; its number is SQLite's `user_version`.
//!
//! Shape 1 is brought to the present one by writing everything anew ([`super::previous`]); each later shape differs from the
//! one before by a step, some SQL. The steps that are missing, and the number of the shape that they lead to, are one
//! transaction: whenever the program is killed, SQLite's journal leaves the old database or the new one.
//!
//! A row has a number, the number of the slot in which its key lies, and a body that is sealed under that key. Rows that
//! belong to a network say to which. Nothing else stands in a column: rows are found by the index in memory, so that a
//! deleted row leaves nothing behind that says what it was. Only the present version of anything is kept, and no time
//! but, sealed, the day on which an enrolment code ends.

use std::{fs::File, io, os::unix::fs::FileExt, path::Path};

use sqlx::{Row, SqliteConnection};

use super::StoreError;

/// "Tace" in ASCII: SQLite's `application_id`, so that another program's file is not taken for ours.
const APPLICATION: i64 = 0x5461_6365;

/// Bodies lay open, and columns held hashes to search by ([`super::previous`]).
const PLAIN: i64 = 1;

/// The first shape whose rows are sealed.
pub(super) const SEALED: i64 = 2;

/// The step at index *n* leads from shape *n* + 2 to *n* + 3. [`TABLES`] is what all of them come to. What is in the bodies
/// has a version of its own.
pub(super) const STEPS: &[&str] = &[];

const TABLES: &str = "
    CREATE TABLE settings (name TEXT NOT NULL PRIMARY KEY, body BLOB NOT NULL) STRICT, WITHOUT ROWID;

    CREATE TABLE accounts (id INTEGER PRIMARY KEY, key INTEGER NOT NULL, body BLOB NOT NULL) STRICT;

    CREATE TABLE enrolments (id INTEGER PRIMARY KEY, key INTEGER NOT NULL, body BLOB NOT NULL) STRICT;

    CREATE TABLE networks (id INTEGER PRIMARY KEY, key INTEGER NOT NULL, body BLOB NOT NULL) STRICT;

    CREATE TABLE entries (
        id INTEGER PRIMARY KEY,
        network INTEGER NOT NULL REFERENCES networks (id),
        key INTEGER NOT NULL,
        body BLOB NOT NULL
    ) STRICT;
    CREATE INDEX entries_of_network ON entries (network);

    CREATE TABLE slots (
        id INTEGER PRIMARY KEY,
        network INTEGER NOT NULL REFERENCES networks (id),
        key INTEGER NOT NULL,
        body BLOB NOT NULL
    ) STRICT;
    CREATE INDEX slots_of_network ON slots (network);

    CREATE TABLE joins (
        id INTEGER PRIMARY KEY,
        network INTEGER NOT NULL REFERENCES networks (id),
        key INTEGER NOT NULL,
        body BLOB NOT NULL
    ) STRICT;
    CREATE INDEX joins_of_network ON joins (network);

    CREATE TABLE relays (id INTEGER PRIMARY KEY, key INTEGER NOT NULL, body BLOB NOT NULL) STRICT;
";

/// Which shape a database has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// None yet.
    Fresh,
    /// The one before rows were sealed.
    Plain,
    /// One between that and the present one.
    Older,
    /// The present one.
    Sealed,
}

/// The shape that these steps lead to.
pub(super) fn newest(steps: &[&str]) -> i64 {
    SEALED + i64::try_from(steps.len()).expect("there are few shapes")
}

/// Refuses a database of a newer shape without opening it, which could change it: SQLite plays back a journal that lies
/// beside it. Whatever else is wrong with the file is told once it is opened.
///
/// # Errors
/// [`StoreError::Newer`].
pub(super) fn refuse_newer(database: &Path) -> Result<(), StoreError> {
    // SQLite's file format, section 1.3: two big-endian numbers.
    const USER_VERSION: u64 = 60;
    const APPLICATION_ID: u64 = 68;
    let read = |at| -> io::Result<i64> {
        let mut bytes = [0; 4];
        File::open(database)?.read_exact_at(&mut bytes, at)?;
        Ok(i64::from(i32::from_be_bytes(bytes)))
    };
    match (read(APPLICATION_ID), read(USER_VERSION)) {
        (Ok(APPLICATION), Ok(found)) if found > newest(STEPS) => {
            Err(StoreError::Newer { found, known: newest(STEPS) })
        }
        _ => Ok(()),
    }
}

/// Which shape a database has.
///
/// # Errors
/// [`StoreError::Foreign`], [`StoreError::Newer`]; [`StoreError`].
pub(super) async fn shape(connection: &mut SqliteConnection) -> Result<Shape, StoreError> {
    shape_of(connection, STEPS).await.map(|(shape, _)| shape)
}

/// Which shape a database has among those that these steps know, and its number.
async fn shape_of(connection: &mut SqliteConnection, steps: &[&str]) -> Result<(Shape, i64), StoreError> {
    let known = newest(steps);
    let application = sqlx::query("PRAGMA application_id").fetch_one(&mut *connection).await?.try_get(0)?;
    let version = sqlx::query("PRAGMA user_version").fetch_one(&mut *connection).await?.try_get(0)?;
    let shape = match (application, version) {
        (0, 0) => Shape::Fresh,
        (APPLICATION, PLAIN) => Shape::Plain,
        (APPLICATION, present) if present == known => Shape::Sealed,
        (APPLICATION, SEALED..) if version < known => Shape::Older,
        (APPLICATION, found) if found > known => return Err(StoreError::Newer { found, known }),
        _ => return Err(StoreError::Foreign),
    };
    Ok((shape, version))
}

/// Brings a database whose rows are sealed to the shape that these steps lead to. The directory's lock must be held: a
/// coordinator that runs knows the old shape.
///
/// # Errors
/// [`StoreError`]; the database is as it was then.
pub(super) async fn migrate(
    connection: &mut SqliteConnection,
    steps: &[&'static str],
) -> Result<(), StoreError> {
    sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await?;
    let migrated = take_steps(&mut *connection, steps).await;
    let end = if migrated.is_ok() { "COMMIT" } else { "ROLLBACK" };
    sqlx::query(end).execute(&mut *connection).await?;
    migrated
}

/// The body of the transaction.
async fn take_steps(connection: &mut SqliteConnection, steps: &[&'static str]) -> Result<(), StoreError> {
    let (Shape::Older, from) = shape_of(&mut *connection, steps).await? else { return Ok(()) };
    let missing = usize::try_from(from - SEALED).map_err(|_| StoreError::Damaged)?;
    for step in &steps[missing..] {
        sqlx::raw_sql(*step).execute(&mut *connection).await?;
    }
    // A pragma takes no parameters; this is a number of ours.
    let stamp = format!("PRAGMA user_version = {};", newest(steps));
    sqlx::raw_sql(sqlx::AssertSqlSafe(stamp)).execute(&mut *connection).await?;
    Ok(())
}

/// Gives a fresh database the present shape.
///
/// # Errors
/// [`StoreError`].
pub(super) async fn create(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await?;
    let created = async {
        // Another process may have come first.
        if shape(&mut *connection).await? != Shape::Fresh {
            return Ok(());
        }
        // A pragma takes no parameters; these are numbers of ours.
        let stamp =
            format!("PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {};", newest(STEPS));
        sqlx::raw_sql(TABLES).execute(&mut *connection).await?;
        sqlx::raw_sql(sqlx::AssertSqlSafe(stamp)).execute(&mut *connection).await?;
        Ok(())
    }
    .await;
    let end = if created.is_ok() { "COMMIT" } else { "ROLLBACK" };
    sqlx::query(end).execute(&mut *connection).await?;
    created
}

#[cfg(test)]
mod tests {
    use std::fs;

    use sqlx::SqlitePool;

    use super::*;
    use crate::store::{
        DataDir,
        files::{connect, options},
    };

    /// To shapes 3 and 4.
    const MORE: &[&str] = &[
        "ALTER TABLE relays ADD COLUMN weight INTEGER NOT NULL DEFAULT 1;",
        "CREATE TABLE more (id INTEGER) STRICT;",
    ];

    async fn database() -> (tempfile::TempDir, DataDir, SqlitePool) {
        let tmp = tempfile::tempdir().unwrap();
        let dir = DataDir::new(tmp.path(), None);
        dir.create_or_open(&dir.lock().unwrap()).await.unwrap().close().await;
        let (pool, _) = connect(options(&dir.database)).await.unwrap();
        (tmp, dir, pool)
    }

    async fn has_more(connection: &mut SqliteConnection) -> bool {
        let found = sqlx::query("SELECT weight FROM relays UNION SELECT id FROM more");
        found.fetch_all(connection).await.is_ok()
    }

    #[tokio::test]
    async fn an_older_shape_is_brought_up_step_by_step() {
        let (_tmp, _dir, pool) = database().await;
        let mut connection = pool.acquire().await.unwrap();
        for steps in [&MORE[..1], MORE, MORE] {
            migrate(&mut connection, steps).await.unwrap();
            assert_eq!(shape_of(&mut connection, steps).await, Ok((Shape::Sealed, newest(steps))));
        }
        assert!(has_more(&mut connection).await);
        assert_eq!(shape(&mut connection).await, Err(StoreError::Newer { found: 4, known: 2 }));
    }

    #[tokio::test]
    async fn a_step_that_fails_leaves_the_database_as_it_was() {
        let (_tmp, dir, pool) = database().await;
        let before = fs::read(&dir.database).unwrap();
        let mut connection = pool.acquire().await.unwrap();
        let steps = [MORE[0], MORE[1], "INSERT INTO nowhere VALUES (1);"];
        assert!(migrate(&mut connection, &steps).await.is_err());
        assert_eq!(shape(&mut connection).await, Ok(Shape::Sealed));
        assert!(fs::read(&dir.database).unwrap() == before);
    }

    #[tokio::test]
    async fn a_kill_within_the_migration_leaves_the_old_shape_and_after_it_the_new_one() {
        let (tmp, dir, pool) = database().await;
        let mut connection = pool.acquire().await.unwrap();
        // What the disk has at that moment, with pages written that are not committed.
        sqlx::raw_sql("PRAGMA cache_size = 1; BEGIN IMMEDIATE;").execute(&mut *connection).await.unwrap();
        take_steps(&mut connection, MORE).await.unwrap();
        sqlx::raw_sql("PRAGMA cache_spill = 1; CREATE TABLE filler AS WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) SELECT i, randomblob(100) AS b FROM n;")
            .execute(&mut *connection)
            .await
            .unwrap();
        let killed = DataDir::new(&tmp.path().join("killed"), None);
        fs::create_dir(killed.path()).unwrap();
        for file in ["coordinator.db", "coordinator.db-journal"] {
            fs::copy(dir.path().join(file), killed.path().join(file)).unwrap();
        }
        assert!(fs::metadata(&killed.database).unwrap().len() > 100_000, "nothing was written yet");
        sqlx::query("ROLLBACK").execute(&mut *connection).await.unwrap();

        let (pool, _) = connect(options(&killed.database)).await.unwrap();
        let mut connection = pool.acquire().await.unwrap();
        assert_eq!(shape_of(&mut connection, MORE).await, Ok((Shape::Older, SEALED)));
        assert!(!has_more(&mut connection).await);
        migrate(&mut connection, MORE).await.unwrap();
        assert!(has_more(&mut connection).await);
    }
}
