//! Whose turn it is. Tests that measure time run alone; the others share.
//!
//! The lock is a file's, so it holds across processes: nextest runs each test in its own, and two runs may go on at
//! the same time. The kernel lets it go when its holder dies.

use std::fs::{File, OpenOptions};

use crate::Result;

const LOCK: &str = "/run/lock/tacet-laboratory";

/// Held while a laboratory is up.
pub struct Turn(#[expect(dead_code, reason = "closing it lets the turn go")] File);

impl Turn {
    /// Beside others that share.
    ///
    /// # Errors
    /// If the lock's file cannot be made.
    pub fn shared() -> Result<Self> {
        let file = open()?;
        file.lock_shared()?;
        Ok(Self(file))
    }

    /// Alone.
    ///
    /// # Errors
    /// If the lock's file cannot be made.
    pub fn alone() -> Result<Self> {
        let file = open()?;
        file.lock()?;
        Ok(Self(file))
    }
}

fn open() -> Result<File> {
    std::fs::create_dir_all("/run/lock")?;
    Ok(OpenOptions::new().create(true).truncate(false).write(true).open(LOCK)?)
}
