//! A network whose folder cannot be read: what can be told of it all the same.

use std::path::{Path, PathBuf};

use super::{NetworkFolder, StateError};

/// Digits of a folder's name by which a network is called whose own name cannot be read.
const DIGITS: usize = 8;

/// A network that cannot run until a person mends what is stored of it. Nothing here changes its folder.
#[derive(Clone)]
pub struct DamagedNetwork {
    folder: PathBuf,
    name: String,
    error: StateError,
}

impl DamagedNetwork {
    /// The network in `folder`, and what kept it from being read.
    #[must_use]
    pub fn new(folder: &Path, error: StateError) -> Self {
        let name = NetworkFolder::open(folder).ok().and_then(|folder| folder.name());
        Self { name: name.unwrap_or_else(|| digits(folder)), folder: folder.to_owned(), error }
    }

    /// Its name if that can still be read, else the first digits of its id.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What is wrong with it.
    #[must_use]
    pub fn why(&self) -> String {
        let text = self.error.to_string();
        text.split_once(": ").map_or(text.clone(), |(why, _)| why.to_owned())
    }

    /// What a person can do about it.
    #[must_use]
    pub fn next(&self) -> String {
        let folder = self.folder.display();
        if matches!(self.error, StateError::Damaged(_) | StateError::NewerFile(_)) {
            return format!(
                "restore it from a backup and restart vpnd; or move {folder} elsewhere, restart vpnd and join again"
            );
        }
        let text = self.error.to_string();
        let next = text.split_once(": ").map_or("check the disk", |(_, next)| next);
        format!("{next}; then restart vpnd")
    }
}

fn digits(folder: &Path) -> String {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    name.chars().take(DIGITS).collect()
}
