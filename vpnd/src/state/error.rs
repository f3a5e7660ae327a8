//! Why the state directory could not be used, in words for the person who can do something about it.

use std::{
    io,
    path::{Path, PathBuf},
};

use proto::wire::WireError;

/// Why the state directory could not be read or changed. After an error in a change, the old state stands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// Another daemon holds the lock.
    #[error("another vpnd uses this state directory: stop it, or choose another one with --state-dir")]
    InUse,
    /// Other users may read the directory, or own it.
    #[error("the state directory is open to other users: give it to root and run `chmod 700` on it")]
    Exposed,
    /// It cannot be read.
    #[error("the state directory cannot be read ({0}): run vpnd as root and check the disk")]
    Unreadable(io::ErrorKind),
    /// It cannot be written.
    #[error(
        "the state directory cannot be written ({0}), nothing was changed: run vpnd as root and check the disk"
    )]
    Unwritable(io::ErrorKind),
    /// No space is left.
    #[error(
        "the disk that holds the state directory is full, nothing was changed: free some space and try again"
    )]
    Full,
    /// A newer Tacet wrote it.
    #[error(
        "a newer version of Tacet wrote the state directory (format {found}; vpnd {} knows formats up to {known}), nothing was changed: install a newer version of Tacet",
        env!("CARGO_PKG_VERSION")
    )]
    Newer {
        /// The format found.
        found: u8,
        /// The newest format that this program knows.
        known: u8,
    },
    /// A file is not what it should be.
    #[error("the file {} is damaged: restore it from a backup", .0.display())]
    Damaged(PathBuf),
    /// A file has the mark of a version that this program does not know; damage can look the same.
    #[error(
        "the file {} was written by a newer version of Tacet, or is damaged: install a newer version of Tacet, or restore the file from a backup",
        .0.display()
    )]
    NewerFile(PathBuf),
    /// The file that remembers where the account is.
    #[error(
        "the file {} is damaged: remove it and name the coordinator at the next login, for nothing else was in it",
        .0.display()
    )]
    DamagedAccount(PathBuf),
    /// A network's folder holds another one than its name says: a copy, for instance.
    #[error("the folder {} does not hold the network that it is named after: move it elsewhere", .0.display())]
    Misplaced(PathBuf),
}

impl StateError {
    /// What a failed read means.
    pub(super) fn reading(e: &io::Error) -> Self {
        Self::Unreadable(e.kind())
    }

    /// What a failed write means.
    pub(super) fn writing(e: &io::Error) -> Self {
        match e.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                Self::Full
            }
            kind => Self::Unwritable(kind),
        }
    }

    /// What bytes that cannot be parsed mean, `file` being where they come from.
    pub(crate) fn parsing(e: &WireError, file: &Path) -> Self {
        match e {
            WireError::Newer { .. } => Self::NewerFile(file.to_owned()),
            _ => Self::Damaged(file.to_owned()),
        }
    }
}
