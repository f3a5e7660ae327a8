//! The paths that a process may still use (Landlock).
//!
//! Whatever the newest Landlock of this kernel can forbid is forbidden, but for what is granted; older ones forbid less,
//! and none at all is an error. Descriptors that are open already are not touched: close them first.

use std::{error::Error, io, path::Path};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, NetPort, PathBeneath, PathFd,
    Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus, Scope,
};

use crate::SandboxError;

/// What may be done with a path, and with all that is beneath it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Grant {
    /// Files may be read, directories listed.
    Read,
    /// As [`Grant::Read`], and programs may be started.
    Execute,
    /// A device may be read, written and controlled.
    Device,
    /// Files and directories may be read, written, made, renamed in their directory and removed; no device, pipe,
    /// socket or symbolic link may be made.
    Write,
    /// Entries may be removed.
    Remove,
}

/// What else a process with paths may reach.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reach {
    /// It may connect TCP sockets.
    pub connect: bool,
    /// The one port that it may bind TCP sockets to, and so wait for connections. Before Linux 6.7 it may bind any.
    pub listen: Option<u16>,
    /// It may connect to unix sockets, by path and by abstract name.
    pub unix_sockets: bool,
}

impl Reach {
    /// Nothing.
    pub const NONE: Self = Self { connect: false, listen: None, unix_sockets: false };
}

/// The newest version whose rights are named here; a kernel takes those that it knows.
const NEWEST: ABI = ABI::V9;

impl Grant {
    fn rights(self) -> BitFlags<AccessFs> {
        match self {
            Self::Read => AccessFs::ReadFile | AccessFs::ReadDir,
            Self::Execute => AccessFs::ReadFile | AccessFs::ReadDir | AccessFs::Execute,
            Self::Device => {
                AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::Truncate | AccessFs::IoctlDev
            }
            Self::Write => {
                AccessFs::ReadFile
                    | AccessFs::ReadDir
                    | AccessFs::WriteFile
                    | AccessFs::Truncate
                    | AccessFs::MakeReg
                    | AccessFs::MakeDir
                    | AccessFs::RemoveFile
                    | AccessFs::RemoveDir
            }
            Self::Remove => AccessFs::RemoveFile.into(),
        }
    }
}

/// Whether this kernel has Landlock, switched on.
///
/// # Errors
/// [`SandboxError::NoLandlock`].
pub fn available() -> Result<(), SandboxError> {
    required().and_then(Ruleset::create).map(drop).map_err(refused)
}

/// Takes every path from this process but those of `granted`, binding and connecting TCP sockets, unix sockets, and signals to
/// processes that are not its children, as far as `reach` does not leave them. A path that does not exist grants
/// nothing. Sets no_new_privs.
///
/// # Errors
/// [`SandboxError`].
pub fn confine(granted: &[(&Path, Grant)], reach: Reach) -> Result<(), SandboxError> {
    let (mut files, mut net, mut scopes) =
        (AccessFs::from_all(NEWEST), AccessNet::from_all(NEWEST), Scope::from_all(NEWEST));
    if reach.connect {
        net.remove(AccessNet::ConnectTcp);
    }
    if reach.unix_sockets {
        files.remove(AccessFs::ResolveUnix);
        scopes.remove(Scope::AbstractUnixSocket);
    }
    let mut ruleset = required()
        .map_err(refused)?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(files)
        .and_then(|handled| handled.handle_access(net))
        .and_then(|handled| handled.scope(scopes))
        .and_then(Ruleset::create)
        .map_err(refused)?;
    if let Some(port) = reach.listen {
        ruleset = ruleset.add_rule(NetPort::new(port, AccessNet::BindTcp)).map_err(refused)?;
    }
    for (path, grant) in granted {
        let Ok(fd) = PathFd::new(path) else {
            continue;
        };
        // The kernel takes rights over directories for directories only.
        let rights =
            if path.is_dir() { grant.rights() } else { grant.rights() & AccessFs::from_file(NEWEST) };
        ruleset = ruleset.add_rule(PathBeneath::new(fd, rights)).map_err(refused)?;
    }
    // What is refused is not to be told to the kernel's audit log, which would name paths and addresses.
    let ruleset = ruleset.log_same_exec(false).map_err(refused)?;
    let status = ruleset.restrict_self().map_err(refused)?;
    if status.ruleset == RulesetStatus::NotEnforced { Err(SandboxError::NoLandlock) } else { Ok(()) }
}

/// What every kernel that we run on can forbid.
fn required() -> Result<Ruleset, landlock::RulesetError> {
    Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(ABI::V1))
}

/// The rules themselves are sound: what fails is the kernel. One without Landlock fails before a call is made, and one where
/// it is switched off says so.
#[expect(clippy::needless_pass_by_value, reason = "as `map_err` hands it over")]
fn refused(error: landlock::RulesetError) -> SandboxError {
    let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
    while let Some(error) = cause {
        if let Some(call) = error.downcast_ref::<io::Error>() {
            return match call.raw_os_error() {
                Some(libc::ENOSYS | libc::EOPNOTSUPP) => SandboxError::NoLandlock,
                Some(libc::E2BIG) => SandboxError::Stacked,
                Some(number) => io::Error::from_raw_os_error(number).into(),
                None => SandboxError::NoLandlock,
            };
        }
        cause = error.source();
    }
    SandboxError::NoLandlock
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_rule_set_too_many_is_told_apart_from_a_kernel_without_landlock() {
        // The kernel keeps them for each thread.
        let stack = || (0..64).find_map(|_| confine(&[], Reach::NONE).err());
        let ended = std::thread::spawn(stack).join().unwrap();
        assert!(matches!(ended, Some(SandboxError::Stacked)), "{ended:?}");
    }
}
