//! All that a coordinator keeps: a SQLite file, the keys of its rows, and the only code that touches them.
//!
//! Every change is one transaction that is on disk before its function returns. Each row is sealed under a key of its
//! own, which lies in a file beside the database and is overwritten there when the row is changed or removed: SQLite and
//! the file system keep copies of old rows for as long as they like, and this makes them noise (decision 010).
//!
//! One connection does everything in turn. A write takes milliseconds and happens when a roster changes; reads are
//! of a few rows. Another process (`coordinator enrol`) waits for it, and it for them.
//!
//! | room | what is in it |
//! |---|---|
//! | `keyring` | the keys |
//! | `rows` | rows under their keys: reading, changing, and in which order it comes to the disk |
//! | `index` | which row is which, in memory |
//! | `accounts` `networks` `enrolments` `relays` `settings` | what is in them |
//! | `files` `schema` `previous` `backup` | files, their shape, and the shape they had |

mod accounts;
mod backup;
mod enrolments;
mod error;
mod files;
mod index;
mod inventory;
mod keyring;
#[cfg(feature = "leaks")]
mod leaks;
mod networks;
mod previous;
mod relays;
mod rows;
mod schema;
mod settings;
#[cfg(test)]
mod tests;

use std::sync::{Arc, atomic::AtomicBool};

use sqlx::{Row, SqlitePool};
use tokio::sync::Mutex;
use zeroize::Zeroizing;

pub use accounts::{Account, AccountSummary, NewAccount};
pub use enrolments::ENROLMENT_DAYS;
pub use error::StoreError;
pub use files::{DataDir, Lock};
pub use inventory::declared;
pub use networks::{Appended, Change, Created, NetworkSummary, Published, StoredNetwork};
pub use settings::{PublicAddress, Secrets};

/// An opened database.
#[derive(Clone)]
pub struct Store {
    pool: SqlitePool,
    /// Whether the pool's connection is a new one, to which SQLite counts others' changes anew.
    reconnected: Arc<AtomicBool>,
    state: Arc<Mutex<rows::State>>,
    /// Whether it is a copy that is being made: the keyring holds keys then that its rows do not name.
    building: bool,
    tag_key: Zeroizing<[u8; 32]>,
}

impl Store {
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
