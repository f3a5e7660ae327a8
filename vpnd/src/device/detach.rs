//! Going into the background: another process of this program in a session of its own does the work, and this one waits
//! until the interface can be configured. What keeps it from coming up is said where it was asked for.

use std::{
    io::{self, Read as _},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd, RawFd},
        unix::process::CommandExt as _,
    },
    process::{Command, Stdio},
};

use netio::inherit;
use nix::unistd;

use super::{DeviceError, Options};

/// This program, whatever file lies at its path by now.
const SELF: &str = "/proc/self/exe";

/// The way to whoever waits in the foreground.
pub(super) struct Readiness(Option<OwnedFd>);

/// Starts the interface in the background.
pub(super) fn start(options: &Options) -> Result<(), DeviceError> {
    let (mut reader, writer) = io::pipe()?;
    let writer = OwnedFd::from(writer);
    let mut command = Command::new(SELF);
    command
        .arg0("vpnd")
        .args(["device", "--foreground", "--ready", &writer.as_raw_fd().to_string()])
        .args(options.show_dscp.then_some("--show-dscp"))
        .args(options.workers.map(|workers| format!("--workers={workers}")))
        .args(options.allow_unsandboxed.then_some("--allow-unsandboxed"))
        .args(["--", &options.name])
        .current_dir("/")
        .stdin(Stdio::null());
    inherit::pass(&mut command, vec![writer]);
    let mut child = command.spawn()?;
    // It holds the copy that is ours of the writing end.
    drop(command);
    let mut said = Vec::new();
    // Closed by the other's end, or by its saying so.
    reader.read_to_end(&mut said)?;
    if said.is_empty() {
        let _ = child.wait();
        return Err(DeviceError::Background);
    }
    Ok(())
}

impl Readiness {
    /// What was passed, if anybody waits. In the background nobody hangs up on us.
    pub(super) fn take(fd: Option<RawFd>) -> Result<Self, DeviceError> {
        let Some(fd) = fd else { return Ok(Self(None)) };
        let fd = inherit::take(fd).map_err(io::Error::other)?;
        unistd::setsid().map_err(io::Error::from)?;
        Ok(Self(Some(fd)))
    }

    /// Whether somebody waits in the foreground, and sees it by that.
    pub(super) fn awaited(&self) -> bool {
        self.0.is_some()
    }

    /// The interface can be configured. From now on nobody reads what would be printed.
    pub(super) fn tell(self) -> io::Result<()> {
        let Some(fd) = self.0 else { return Ok(()) };
        let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
        unistd::dup2_stdin(null.as_fd())?;
        unistd::dup2_stdout(null.as_fd())?;
        unistd::dup2_stderr(null.as_fd())?;
        unistd::write(&fd, b"1")?;
        Ok(())
    }
}
