//! The two pipes between control and the data path, with ends that never block.
//!
//! Bytes only; what frames they make is the matter of whoever speaks over the pipe.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    unistd,
};

/// What the kernel is asked to keep in a pipe, in bytes: an unprivileged process may go to 1 MiB.
const PIPE_SIZE: i32 = 256 << 10;

/// A pipe for one direction: (read end, write end), both closed on exec and non-blocking.
///
/// # Errors
/// As `pipe2(2)`.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (rx, tx) = unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
    // A smaller pipe works too, so a refusal (a user over its pipe quota) is no error.
    let _ = fcntl(&tx, FcntlArg::F_SETPIPE_SZ(PIPE_SIZE));
    Ok((rx, tx))
}

/// Why a pipe cannot be used any more.
#[derive(Debug, thiserror::Error)]
pub enum PipeError {
    /// The other side closed its end.
    #[error("the other process closed the pipe")]
    Closed,
    /// The system refused.
    #[error("the pipe failed: {0}")]
    Io(io::Error),
}

/// The end that is read from.
pub struct Reader(OwnedFd);

impl Reader {
    /// Reads from `fd`, which must be non-blocking.
    #[must_use]
    pub fn new(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// Reads what is there into `space`; returns how many bytes. 0: nothing was there.
    ///
    /// # Errors
    /// [`PipeError::Closed`] at the end, [`PipeError::Io`].
    pub fn read(&self, space: &mut [u8]) -> Result<usize, PipeError> {
        match unistd::read(&self.0, space) {
            Ok(0) if !space.is_empty() => Err(PipeError::Closed),
            Ok(n) => Ok(n),
            Err(nix::Error::EAGAIN | nix::Error::EINTR) => Ok(0),
            Err(e) => Err(PipeError::Io(e.into())),
        }
    }
}

impl AsFd for Reader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The end that is written to.
pub struct Writer(OwnedFd);

impl Writer {
    /// Writes to `fd`, which must be non-blocking.
    #[must_use]
    pub fn new(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// Writes what the pipe takes of `bytes` now; returns how many. 0: the pipe is full.
    ///
    /// # Errors
    /// [`PipeError::Closed`] if nobody reads any more, [`PipeError::Io`].
    pub fn write(&self, bytes: &[u8]) -> Result<usize, PipeError> {
        match unistd::write(&self.0, bytes) {
            Ok(n) => Ok(n),
            Err(nix::Error::EAGAIN | nix::Error::EINTR) => Ok(0),
            Err(nix::Error::EPIPE) => Err(PipeError::Closed),
            Err(e) => Err(PipeError::Io(e.into())),
        }
    }
}

impl AsFd for Writer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Makes a descriptor that another side opened non-blocking.
pub(crate) fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn neither_end_blocks_and_both_notice_that_the_other_is_gone() {
        // A process that another test starts holds copies of all ends for the moment between its fork and exec.
        let end = Instant::now() + Duration::from_secs(5);
        let (rx, tx) = pipe().unwrap();
        let (rx, tx) = (Reader::new(rx), Writer::new(tx));
        let mut space = vec![0; 1 << 20];
        assert_eq!(rx.read(&mut space).unwrap(), 0);

        let mut written = 0;
        while let n @ 1.. = tx.write(&[7; 5_000]).unwrap() {
            written += n;
        }
        let mut read = 0;
        while let n @ 1.. = rx.read(&mut space).unwrap() {
            assert!(space[..n].iter().all(|&b| b == 7));
            read += n;
        }
        assert_eq!(read, written);

        drop(tx);
        while !matches!(rx.read(&mut space), Err(PipeError::Closed)) {
            assert!(Instant::now() < end);
        }
        let (rx, tx) = pipe().unwrap();
        drop(rx);
        while !matches!(Writer::new(tx.try_clone().unwrap()).write(b"x"), Err(PipeError::Closed)) {
            assert!(Instant::now() < end);
        }
    }
}
