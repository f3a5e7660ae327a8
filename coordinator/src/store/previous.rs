//! Reading a database in which rows were not sealed yet (shape 1), as an earlier version left or backed it up.

use std::collections::BTreeMap;

use proto::{
    account::{AccountName, MESSAGE_MAX, NAME_MAX},
    coordinator::Join,
    roster::Head,
    wire::{Reader, Wire, WireError},
};
use sqlx::{Row, SqlitePool, sqlite::SqliteRow};

use super::{
    Store, StoreError, accounts, enrolments, networks,
    rows::{Change, Table},
};

/// Copies all that is in `plain` into an empty sealed database, in one change.
///
/// # Errors
/// [`StoreError`].
pub(super) async fn seal(plain: &SqlitePool, target: &Store) -> Result<(), StoreError> {
    let mut change = target.change().await?;
    for row in read(plain, "SELECT name, body FROM settings").await? {
        sqlx::query("INSERT OR REPLACE INTO settings (name, body) VALUES (?, ?)")
            .bind(row.try_get::<String, _>(0)?)
            .bind(bytes(&row, 1)?)
            .execute(&mut *change.transaction)
            .await?;
    }
    for row in read(plain, "SELECT tag, last_day FROM enrolments").await? {
        let tag = bytes(&row, 0)?.try_into().map_err(|_| StoreError::Damaged)?;
        let last_day = row.try_get::<i64, _>(1)?.try_into().map_err(|_| StoreError::Damaged)?;
        change.insert(Table::Enrolments, &enrolments::Body { tag, last_day }.to_bytes()).await?;
    }
    for row in read(plain, "SELECT body FROM relays").await? {
        change.insert(Table::Relays, &bytes(&row, 0)?).await?;
    }
    let mut owners = BTreeMap::new();
    for row in read(plain, "SELECT id, body FROM accounts").await? {
        let body = account(&bytes(&row, 1)?)?;
        owners.insert(row.try_get::<i64, _>(0)?, change.insert(Table::Accounts, &body.to_bytes()).await?);
    }
    let mut rows = BTreeMap::new();
    for row in read(plain, "SELECT id, account, body FROM networks").await? {
        let account = *owners.get(&row.try_get::<i64, _>(1)?).ok_or(StoreError::Damaged)?;
        let body = networks::Body { account, head: Head::from_bytes(&bytes(&row, 2)?)? };
        rows.insert(row.try_get::<i64, _>(0)?, change.insert(Table::Networks, &body.to_bytes()).await?);
    }
    copy_of_networks(plain, &mut change, &rows).await?;
    target.commit(change).await
}

async fn copy_of_networks(
    plain: &SqlitePool,
    change: &mut Change,
    rows: &BTreeMap<i64, i64>,
) -> Result<(), StoreError> {
    let network = |row: &SqliteRow| rows.get(&row.try_get::<i64, _>(0)?).copied().ok_or(StoreError::Damaged);
    for (query, table) in [
        ("SELECT network, body FROM entries", Table::Entries),
        ("SELECT network, body FROM slots", Table::Slots),
    ] {
        for row in read(plain, query).await? {
            change.insert_of(network(&row)?, table, &bytes(&row, 1)?).await?;
        }
    }
    for (row, place) in read(plain, "SELECT network, body FROM joins ORDER BY id").await?.iter().zip(0..) {
        let body = networks::Waiting { place, join: Join::from_bytes(&bytes(row, 1)?)? };
        change.insert_of(network(row)?, Table::Joins, &body.to_bytes()).await?;
    }
    Ok(())
}

async fn read(plain: &SqlitePool, query: &'static str) -> Result<Vec<SqliteRow>, StoreError> {
    Ok(sqlx::query(query).fetch_all(plain).await?)
}

fn bytes(row: &SqliteRow, column: usize) -> Result<Vec<u8>, StoreError> {
    Ok(row.try_get(column)?)
}

/// Version, name, OPAQUE's record.
fn account(plain: &[u8]) -> Result<accounts::Body, StoreError> {
    let mut r = Reader::new(plain);
    r.version(1)?;
    let name = AccountName::parse(r.text(NAME_MAX)?).map_err(|_| WireError::Invalid("account name"))?;
    Ok(accounts::Body { name, record: r.bytes(MESSAGE_MAX)?.to_vec() })
}
