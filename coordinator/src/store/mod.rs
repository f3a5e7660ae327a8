//! All that a coordinator keeps: one SQLite file, and the only code that touches it.
//!
//! Every change is one transaction that is on disk before its function returns. Rows hold bodies of bytes under
//! tags: HMAC-SHA256 of what is searched for (a name, a network) under a key of this database, so that no column
//! spells it.
//!
//! One connection does everything in turn. A write takes milliseconds and happens when a roster changes; reads are
//! of a few rows. Another process (`coordinator enrol`) waits for it, and it for them.

mod accounts;
mod enrolments;
mod error;
mod files;
mod inventory;
mod networks;
mod relays;
mod schema;
mod settings;

use hmac::{Hmac, Mac};
use sha2::Sha256;
use sqlx::{Row, Sqlite, SqlitePool, Transaction};
use zeroize::Zeroizing;

pub use accounts::{Account, AccountSummary, NewAccount};
pub use enrolments::ENROLMENT_DAYS;
pub use error::StoreError;
pub use files::{DataDir, Lock};
pub use inventory::declared;
pub use networks::{Appended, Change, Created, Published, StoredNetwork};
pub use settings::{PublicAddress, Secrets};

/// An opened database.
#[derive(Clone)]
pub struct Store {
    pool: SqlitePool,
    tag_key: Zeroizing<[u8; 32]>,
}

impl Store {
    /// What stands in a column in place of `what`; `domain` keeps the kinds of things apart.
    fn tag(&self, domain: &str, what: &[u8]) -> Vec<u8> {
        let mut mac =
            <Hmac<Sha256> as Mac>::new_from_slice(&*self.tag_key).expect("HMAC takes a key of any length");
        mac.update(b"tacet tag v1\0");
        mac.update(domain.as_bytes());
        mac.update(b"\0");
        mac.update(what);
        mac.finalize().into_bytes().to_vec()
    }

    /// A transaction that is the only writer from its first statement on. Dropping it undoes it.
    async fn begin(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        Ok(self.pool.begin_with("BEGIN IMMEDIATE").await?)
    }

    /// Checks the file's structure and the references between its rows.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if something is wrong with them.
    pub async fn check_structure(&self) -> Result<(), StoreError> {
        let report: String = sqlx::query("PRAGMA integrity_check").fetch_one(&self.pool).await?.try_get(0)?;
        let dangling = sqlx::query("PRAGMA foreign_key_check").fetch_optional(&self.pool).await?;
        if report == "ok" && dangling.is_none() { Ok(()) } else { Err(StoreError::Damaged) }
    }

    /// Closes the file; what was done is on disk already.
    pub async fn close(self) {
        self.pool.close().await;
    }
}
