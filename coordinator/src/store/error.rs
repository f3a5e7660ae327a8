//! What can be wrong with the database, by what an operator can do about it.

use proto::{account::OpaqueError, wire::WireError};

/// The database did not do what it was asked. The texts name no row and no content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// There is no database.
    #[error("there is no database there: start `tacet-coordinator serve` once, or give the right --data-dir")]
    Missing,
    /// It may not be read or written.
    #[error(
        "the database may not be read or written by this user: run as the coordinator's user, or as root"
    )]
    Denied,
    /// Its file system can only be read.
    #[error(
        "the file system of the database can only be read: look for errors of the disk, and mount it so that it can be written"
    )]
    ReadOnly,
    /// Another coordinator serves from it.
    #[error("a coordinator is running on this data directory: stop it first")]
    InUse,
    /// A file is where one would be written.
    #[error("there is a file of that name already: choose another")]
    Exists,
    /// A database is where one would be restored.
    #[error("there is a database already: `restore --replace` overwrites it")]
    Occupied,
    /// The folder of a backup's file is missing.
    #[error("the folder for the file is not there: make it, or name another file")]
    NoFolder,
    /// There is no backup to put back.
    #[error("there is no such file: give the one that `tacet-coordinator backup` wrote")]
    NoBackup,
    /// A backup's file may not be made.
    #[error("this user may not write the file there: name another file, or run as root")]
    Unwritable,
    /// Another process held it for too long.
    #[error("the database is busy: try again")]
    Busy,
    /// The disk is full.
    #[error("the disk is full: nothing was changed; free some space")]
    Full,
    /// It was written by a later version.
    #[error(
        "a newer version of Tacet wrote the database (format {found}; coordinator {} knows formats up to {known}), nothing was changed: install a newer version of Tacet",
        env!("CARGO_PKG_VERSION")
    )]
    Newer {
        /// The format found.
        found: i64,
        /// The newest format that this program knows.
        known: i64,
    },
    /// Something in it was.
    #[error(
        "a newer version of Tacet wrote part of the database, which coordinator {} does not know: install a newer version of Tacet",
        env!("CARGO_PKG_VERSION")
    )]
    NewerPart,
    /// The file of keys was.
    #[error(
        "a newer version of Tacet wrote the file of keys beside the database, which coordinator {} does not know, nothing was changed: install a newer version of Tacet",
        env!("CARGO_PKG_VERSION")
    )]
    NewerKeys,
    /// A backup was.
    #[error(
        "a newer version of Tacet wrote the backup, which coordinator {} does not know, nothing was changed: install a newer version of Tacet",
        env!("CARGO_PKG_VERSION")
    )]
    NewerBackup,
    /// It is another program's.
    #[error("this is not a coordinator's database: give the right file or --data-dir")]
    Foreign,
    /// Its bytes make no sense.
    #[error("the database is damaged: restore a backup with `tacet-coordinator restore --replace`")]
    Damaged,
    /// The file of keys beside the database is not there, or is another's.
    #[error(
        "the file of keys that belongs to the database is missing or not a keyring: put it back, or restore a backup with `tacet-coordinator restore --replace`"
    )]
    Keys,
    /// There are keys of rows, and no rows.
    #[error(
        "the database is missing or empty, but the keys of one lie beside it: put it back, or restore a backup with `tacet-coordinator restore --replace`; to begin anew, remove the file that ends in -keys"
    )]
    Lost,
    /// The disk failed.
    #[error("the database cannot be read or written: look for errors of the disk")]
    Io,
}

/// SQLite's primary result codes (sqlite.org/rescode.html) that an operator can act on.
mod code {
    pub(super) const PERM: i32 = 3;
    pub(super) const BUSY: i32 = 5;
    pub(super) const LOCKED: i32 = 6;
    pub(super) const READONLY: i32 = 8;
    pub(super) const CORRUPT: i32 = 11;
    pub(super) const FULL: i32 = 13;
    pub(super) const CANTOPEN: i32 = 14;
    pub(super) const NOTADB: i32 = 26;
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let code = error
            .as_database_error()
            .and_then(sqlx::error::DatabaseError::code)
            .and_then(|code| code.parse::<i32>().ok())
            .map(|extended| extended & 0xff);
        match (error, code) {
            (_, Some(code::FULL)) => Self::Full,
            (_, Some(code::PERM | code::READONLY | code::CANTOPEN)) => Self::Denied,
            (_, Some(code::BUSY | code::LOCKED)) | (sqlx::Error::PoolTimedOut, _) => Self::Busy,
            (_, Some(code::CORRUPT)) => Self::Damaged,
            (_, Some(code::NOTADB)) => Self::Foreign,
            (sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_), _) => Self::Damaged,
            _ => Self::Io,
        }
    }
}

impl From<std::io::Error> for StoreError {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::NotFound => Self::Missing,
            std::io::ErrorKind::PermissionDenied => Self::Denied,
            std::io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly,
            std::io::ErrorKind::AlreadyExists => Self::Exists,
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Self::Full,
            _ => Self::Io,
        }
    }
}

impl From<WireError> for StoreError {
    fn from(error: WireError) -> Self {
        match error {
            WireError::Newer { .. } => Self::NewerPart,
            _ => Self::Damaged,
        }
    }
}

impl From<OpaqueError> for StoreError {
    fn from(_: OpaqueError) -> Self {
        Self::Damaged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_be_typed_next_is_called_as_it_is_installed() {
        for error in [StoreError::Missing, StoreError::Damaged, StoreError::Keys, StoreError::Lost] {
            assert!(error.to_string().contains("`tacet-coordinator "), "{error}");
        }
    }
}
