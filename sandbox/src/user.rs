//! Whom a process runs as, and what it holds as standard input and output.

use std::{
    ffi::CString,
    fs::{File, OpenOptions},
    io,
};

use nix::unistd::{self, Gid, Uid};

/// An account of the system, by its numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct User {
    /// Its number.
    pub uid: u32,
    /// The number of its group.
    pub gid: u32,
}

/// Whether this process runs as root, and so may run as anybody else.
#[must_use]
pub fn is_root() -> bool {
    Uid::effective().is_root()
}

/// The account of this name, if there is one.
///
/// # Errors
/// As `getpwnam_r(3)`.
pub fn named(name: &str) -> io::Result<Option<User>> {
    let found = unistd::User::from_name(name)?;
    Ok(found.map(|found| User { uid: found.uid.as_raw(), gid: found.gid.as_raw() }))
}

/// Runs as `user` for good, with the further groups that the system knows it in. Needs root. What root's powers are
/// needed for comes before it; a change of user makes a process dumpable again.
///
/// # Errors
/// As `initgroups(3)`, `setresgid(2)`, `setresuid(2)`.
pub fn run_as(user: User) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    let name = unistd::User::from_uid(uid)?.and_then(|found| CString::new(found.name).ok());
    match name {
        Some(name) => unistd::initgroups(&name, gid)?,
        None => unistd::setgroups(&[gid])?,
    }
    unistd::setresgid(gid, gid, gid)?;
    Ok(unistd::setresuid(uid, uid, uid)?)
}

/// Takes the place of standard input or output: nothing comes from it, and what is written to it is nowhere.
pub struct Nothing(File);

impl Nothing {
    /// Opens it; to be done while there are paths.
    ///
    /// # Errors
    /// As `open(2)`.
    pub fn open() -> io::Result<Self> {
        Ok(Self(OpenOptions::new().read(true).write(true).open("/dev/null")?))
    }

    /// In place of standard input.
    ///
    /// # Errors
    /// As `dup2(2)`.
    pub fn as_input(&self) -> io::Result<()> {
        Ok(unistd::dup2_stdin(&self.0)?)
    }

    /// In place of standard output.
    ///
    /// # Errors
    /// As `dup2(2)`.
    pub fn as_output(&self) -> io::Result<()> {
        Ok(unistd::dup2_stdout(&self.0)?)
    }

    /// In place of standard error.
    ///
    /// # Errors
    /// As `dup2(2)`.
    pub fn as_error(&self) -> io::Result<()> {
        Ok(unistd::dup2_stderr(&self.0)?)
    }
}
