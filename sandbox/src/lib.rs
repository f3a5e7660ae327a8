//! The walls that a process puts around itself. Each function takes a power away for good; none gives one.
//!
//! | room | what is gone afterwards |
//! |---|---|
//! | [`process`] | inherited descriptors, new privileges by `execve`, core dumps and debuggers |
//! | [`capabilities`] | every capability but those named |
//! | [`files`] | every path but those named (Landlock) |
//! | [`calls`] | every system call but those named, down to the descriptors that they are used on (seccomp) |
//! | [`memory`] | the way of secrets into swap |
//! | [`user`] | root, and standard input and output |
//! | [`wipe`] | what was in memory that is not used any more |
//! | [`readings`] | the file system's notes of when files were read |
//!
//! Mechanism only: which process keeps what is written where that process starts. The kernel keeps all of these walls
//! for each thread, and threads made later inherit them: put them up while there is one ([`process::single_threaded`]).
//!
//! Nothing here prints or logs. Errors name the wall, never a path.

pub mod calls;
pub mod capabilities;
pub mod files;
pub mod memory;
pub mod process;
pub mod readings;
pub mod user;
pub mod wipe;

use std::io;

/// Why a wall could not be put up.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// This kernel confines no paths.
    #[error(
        "this kernel has no Landlock: it needs Linux 5.13 or newer with `landlock` in CONFIG_LSM or lsm="
    )]
    NoLandlock,
    /// There are as many Landlock rule sets as a process can have: whoever started this one is confined often.
    #[error(
        "this process is in as many Landlock rule sets already as the kernel lets it be: start it from outside of them"
    )]
    Stacked,
    /// This kernel filters no system calls, or cannot end a process that makes a wrong one.
    #[error("this kernel has no seccomp filters: it needs Linux 4.14 or newer with CONFIG_SECCOMP_FILTER")]
    NoSeccomp,
    /// There are other threads, which would stay outside of the walls.
    #[error("the process has several threads already")]
    Threads,
    /// The system refused.
    #[error("the system refused: {0}")]
    Io(#[from] io::Error),
}

/// What happens where the kernel lacks a wall.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Missing {
    /// The process does not start.
    Refuse,
    /// It starts with the walls that there are: `--allow-unsandboxed`.
    Allow,
}

impl Missing {
    /// Passes over a wall that this kernel does not have, where that is allowed.
    ///
    /// # Errors
    /// What kept the wall from standing, else.
    pub fn tolerate(self, wall: Result<(), SandboxError>) -> Result<(), SandboxError> {
        match wall {
            Err(SandboxError::NoLandlock | SandboxError::NoSeccomp) if self == Self::Allow => Ok(()),
            wall => wall,
        }
    }
}

/// Whether this kernel has what every wall here needs: Landlock, and seccomp that can end a process.
///
/// # Errors
/// What is missing.
pub fn available() -> Result<(), SandboxError> {
    files::available()?;
    calls::available()
}
