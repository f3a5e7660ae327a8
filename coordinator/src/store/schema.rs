//! The database's shape, step by step: the number of steps done is SQLite's `user_version`.
//!
//! A table has columns to search by and a `body` of bytes. What is searched for is a tag (a keyed hash, see
//! [`super::Store`]), so a column never spells a name or a network, and everything else goes through the bodies.
//! Only the present version of anything is kept, and no time but the day on which an enrolment code ends.

use sqlx::{Row, SqliteConnection};

use super::StoreError;

/// "Tace" in ASCII: SQLite's `application_id`, so that another program's file is not taken for ours.
const APPLICATION: i64 = 0x5461_6365;

/// Steps are appended, never changed.
const STEPS: [&str; 1] = ["
    CREATE TABLE settings (name TEXT NOT NULL PRIMARY KEY, body BLOB NOT NULL) STRICT, WITHOUT ROWID;

    CREATE TABLE accounts (id INTEGER PRIMARY KEY, tag BLOB NOT NULL UNIQUE, body BLOB NOT NULL) STRICT;

    CREATE TABLE enrolments (tag BLOB NOT NULL PRIMARY KEY, last_day INTEGER NOT NULL) STRICT, WITHOUT ROWID;

    CREATE TABLE networks (
        id INTEGER PRIMARY KEY,
        tag BLOB NOT NULL UNIQUE,
        account INTEGER NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
        body BLOB NOT NULL
    ) STRICT;
    CREATE INDEX networks_of_account ON networks (account);

    CREATE TABLE entries (
        network INTEGER NOT NULL REFERENCES networks (id) ON DELETE CASCADE,
        tag BLOB NOT NULL,
        body BLOB NOT NULL,
        PRIMARY KEY (network, tag)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE slots (
        network INTEGER NOT NULL REFERENCES networks (id) ON DELETE CASCADE,
        tag BLOB NOT NULL,
        body BLOB NOT NULL,
        PRIMARY KEY (network, tag)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE joins (
        id INTEGER PRIMARY KEY,
        network INTEGER NOT NULL REFERENCES networks (id) ON DELETE CASCADE,
        tag BLOB NOT NULL,
        body BLOB NOT NULL,
        UNIQUE (network, tag)
    ) STRICT;

    CREATE TABLE relays (tag BLOB NOT NULL PRIMARY KEY, body BLOB NOT NULL) STRICT, WITHOUT ROWID;
"];

/// Brings an opened database to the present shape. Writes nothing if it has it.
pub(super) async fn migrate(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    let (application, version) = identify(connection).await?;
    let fresh = application == 0 && version == 0;
    if application != APPLICATION && !fresh {
        return Err(StoreError::Foreign);
    }
    let done = usize::try_from(version).unwrap_or(usize::MAX);
    if done > STEPS.len() {
        return Err(StoreError::Newer);
    }
    if done == STEPS.len() {
        return Ok(());
    }
    sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await?;
    let migrated = run(connection, done).await;
    let end = if migrated.is_ok() { "COMMIT" } else { "ROLLBACK" };
    sqlx::query(end).execute(&mut *connection).await?;
    migrated
}

async fn run(connection: &mut SqliteConnection, done: usize) -> Result<(), StoreError> {
    for step in &STEPS[done..] {
        sqlx::raw_sql(*step).execute(&mut *connection).await?;
    }
    // A pragma takes no parameters; these are numbers of ours.
    let stamp = format!("PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {};", STEPS.len());
    sqlx::raw_sql(sqlx::AssertSqlSafe(stamp)).execute(&mut *connection).await?;
    Ok(())
}

async fn identify(connection: &mut SqliteConnection) -> Result<(i64, i64), StoreError> {
    let application = sqlx::query("PRAGMA application_id").fetch_one(&mut *connection).await?.try_get(0)?;
    let version = sqlx::query("PRAGMA user_version").fetch_one(&mut *connection).await?.try_get(0)?;
    Ok((application, version))
}
