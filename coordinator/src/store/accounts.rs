//! Accounts: a name and OPAQUE's record. No address, no time, no password.

use proto::{
    account::{AccountName, MESSAGE_MAX, NAME_MAX},
    token::EnrolCode,
    wire::{Reader, Wire, WireError, Writer},
};
use sqlx::{Row, sqlite::SqliteRow};

use super::{Store, StoreError};

/// An account as it is kept.
pub struct Account {
    /// The row's number; what the account owns refers to it.
    pub id: i64,
    /// OPAQUE's record.
    pub record: Vec<u8>,
}

/// What an operator sees of an account.
pub struct AccountSummary {
    /// The account's name.
    pub name: AccountName,
    /// Networks that it owns.
    pub networks: u32,
    /// Bytes that they take.
    pub bytes: u64,
}

/// What became of a registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewAccount {
    /// The account is there, the code used up.
    Made,
    /// The name is taken; the code stays good.
    NameTaken,
    /// The code is not good.
    BadCode,
}

impl Store {
    /// The account of this name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn account(&self, name: &AccountName) -> Result<Option<Account>, StoreError> {
        let row = sqlx::query("SELECT id, body FROM accounts WHERE tag = ?")
            .bind(self.account_tag(name))
            .fetch_optional(&self.pool)
            .await?;
        let Some(row) = row else {
            return Ok(None);
        };
        Ok(Some(Account { id: row.try_get(0)?, record: body(&row, 1)?.record }))
    }

    /// Makes an account and uses up the code, both or neither.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn add_account(
        &self,
        name: &AccountName,
        record: Vec<u8>,
        code: &EnrolCode,
        today: u32,
    ) -> Result<NewAccount, StoreError> {
        let mut transaction = self.begin().await?;
        if !self.take_enrolment(&mut transaction, code, today).await? {
            return Ok(NewAccount::BadCode);
        }
        let body = Body { name: name.clone(), record };
        let added = sqlx::query("INSERT INTO accounts (tag, body) VALUES (?, ?) ON CONFLICT DO NOTHING")
            .bind(self.account_tag(name))
            .bind(body.to_bytes())
            .execute(&mut *transaction)
            .await?;
        if added.rows_affected() == 0 {
            return Ok(NewAccount::NameTaken);
        }
        transaction.commit().await?;
        Ok(NewAccount::Made)
    }

    /// Every account, by name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn accounts(&self) -> Result<Vec<AccountSummary>, StoreError> {
        let rows = sqlx::query(
            "SELECT accounts.body,
                (SELECT count(*) FROM networks WHERE account = accounts.id),
                (SELECT coalesce(sum(length(networks.body)
                    + (SELECT coalesce(sum(length(body)), 0) FROM entries WHERE network = networks.id)
                    + (SELECT coalesce(sum(length(body)), 0) FROM slots WHERE network = networks.id)
                    + (SELECT coalesce(sum(length(body)), 0) FROM joins WHERE network = networks.id)), 0)
                    FROM networks WHERE account = accounts.id)
             FROM accounts",
        )
        .fetch_all(&self.pool)
        .await?;
        let mut accounts = Vec::with_capacity(rows.len());
        for row in &rows {
            let (networks, bytes): (i64, i64) = (row.try_get(1)?, row.try_get(2)?);
            accounts.push(AccountSummary {
                name: body(row, 0)?.name,
                networks: networks.try_into().unwrap_or(u32::MAX),
                bytes: bytes.try_into().unwrap_or(0),
            });
        }
        accounts.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(accounts)
    }

    fn account_tag(&self, name: &AccountName) -> Vec<u8> {
        self.tag("account", name.as_str().as_bytes())
    }
}

struct Body {
    name: AccountName,
    record: Vec<u8>,
}

fn body(row: &SqliteRow, column: usize) -> Result<Body, StoreError> {
    let bytes: Vec<u8> = row.try_get(column)?;
    Ok(Body::from_bytes(&bytes)?)
}

/// Version, name, OPAQUE's record.
impl Wire for Body {
    fn encode(&self, w: &mut Writer) {
        w.version(1);
        w.text(self.name.as_str());
        w.bytes(&self.record);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        r.version(1)?;
        let name = AccountName::parse(r.text(NAME_MAX)?).map_err(|_| WireError::Invalid("account name"))?;
        Ok(Self { name, record: r.bytes(MESSAGE_MAX)?.to_vec() })
    }
}
