//! The database's shape; its number is SQLite's `user_version`.
//!
//! A row has a number, the number of the slot in which its key lies, and a body that is sealed under that key. Rows that
//! belong to a network say to which. Nothing else stands in a column: rows are found by the index in memory, so that a
//! deleted row leaves nothing behind that says what it was. Only the present version of anything is kept, and no time
//! but, sealed, the day on which an enrolment code ends.

use sqlx::{Row, SqliteConnection};

use super::StoreError;

/// "Tace" in ASCII: SQLite's `application_id`, so that another program's file is not taken for ours.
const APPLICATION: i64 = 0x5461_6365;

/// Bodies lay open, and columns held hashes to search by ([`super::previous`]).
const PLAIN: i64 = 1;

/// The present shape.
const SEALED: i64 = 2;

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
    /// The present one.
    Sealed,
}

/// Which shape a database has.
///
/// # Errors
/// [`StoreError::Foreign`], [`StoreError::Newer`]; [`StoreError`].
pub(super) async fn shape(connection: &mut SqliteConnection) -> Result<Shape, StoreError> {
    let application = sqlx::query("PRAGMA application_id").fetch_one(&mut *connection).await?.try_get(0)?;
    let version = sqlx::query("PRAGMA user_version").fetch_one(&mut *connection).await?.try_get(0)?;
    match (application, version) {
        (0, 0) => Ok(Shape::Fresh),
        (APPLICATION, PLAIN) => Ok(Shape::Plain),
        (APPLICATION, SEALED) => Ok(Shape::Sealed),
        (APPLICATION, newer) if newer > SEALED => Err(StoreError::Newer),
        _ => Err(StoreError::Foreign),
    }
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
        let stamp = format!("PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {SEALED};");
        sqlx::raw_sql(TABLES).execute(&mut *connection).await?;
        sqlx::raw_sql(sqlx::AssertSqlSafe(stamp)).execute(&mut *connection).await?;
        Ok(())
    }
    .await;
    let end = if created.is_ok() { "COMMIT" } else { "ROLLBACK" };
    sqlx::query(end).execute(&mut *connection).await?;
    created
}
