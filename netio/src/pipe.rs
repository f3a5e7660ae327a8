//! Whole frames over a pipe whose ends never block.
//!
//! A frame on the pipe is its length (four bytes, big-endian), then that many bytes. [`Reader`] gives out whole
//! frames; [`Writer`] keeps what the pipe does not take, up to a bound, and refuses a frame over it: one side that
//! stops reading can neither block the other nor make it grow.

use std::{
    io::{self, ErrorKind},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    unistd,
};

/// The longest frame, in bytes without its length; a longer length means that the other side is broken or hostile.
pub const MAX_FRAME: usize = 1 << 20;

/// What the kernel is asked to keep in a pipe, in bytes: an unprivileged process may go to 1 MiB.
const PIPE_SIZE: i32 = 256 << 10;

/// Bytes asked for in one read.
const READ: usize = 64 << 10;

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

/// Why reading frames came to an end.
#[derive(Debug, thiserror::Error)]
pub enum PipeError {
    /// The other side closed its end.
    #[error("the other process closed the pipe")]
    Closed,
    /// A frame announced more than [`MAX_FRAME`] bytes.
    #[error("a frame on the pipe is over its limit")]
    TooLong,
    /// The system refused.
    #[error("the pipe failed: {0}")]
    Io(#[from] io::Error),
}

/// A frame did not fit into the writer's buffer and was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the other process does not read its pipe")]
pub struct Full;

/// Reads whole frames.
pub struct Reader {
    fd: OwnedFd,
    buf: Vec<u8>,
    /// Bytes of `buf` already given out.
    start: usize,
}

impl Reader {
    /// Reads from `fd`, which must be non-blocking.
    #[must_use]
    pub fn new(fd: OwnedFd) -> Self {
        Self { fd, buf: Vec::new(), start: 0 }
    }

    /// Reads once from the pipe, as much as is there up to 64 KB. `Ok(false)` if nothing was there.
    ///
    /// # Errors
    /// [`PipeError::Closed`] at the end, [`PipeError::Io`].
    pub fn fill(&mut self) -> Result<bool, PipeError> {
        self.buf.drain(..self.start);
        self.start = 0;
        let len = self.buf.len();
        self.buf.resize(len + READ, 0);
        let read = unistd::read(&self.fd, &mut self.buf[len..]);
        self.buf.truncate(len + read.unwrap_or(0));
        match read {
            Ok(0) => Err(PipeError::Closed),
            Ok(_) => Ok(true),
            Err(nix::Error::EAGAIN | nix::Error::EINTR) => Ok(false),
            Err(e) => Err(PipeError::Io(e.into())),
        }
    }

    /// The next whole frame that was read, without its length; `None` until [`Reader::fill`] brings more.
    ///
    /// # Errors
    /// [`PipeError::TooLong`].
    pub fn next_frame(&mut self) -> Result<Option<&mut [u8]>, PipeError> {
        let Some(head) = self.buf[self.start..].first_chunk::<4>() else {
            return Ok(None);
        };
        let len = u32::from_be_bytes(*head) as usize;
        if len > MAX_FRAME {
            return Err(PipeError::TooLong);
        }
        let from = self.start + 4;
        let Some(frame) = self.buf.get_mut(from..from + len) else {
            return Ok(None);
        };
        self.start = from + len;
        Ok(Some(frame))
    }
}

impl AsFd for Reader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Writes whole frames, keeping a bounded remainder.
pub struct Writer {
    fd: OwnedFd,
    buf: Vec<u8>,
    /// Bytes of `buf` already written.
    start: usize,
    limit: usize,
}

impl Writer {
    /// Writes to `fd`, which must be non-blocking, and keeps at most `limit` bytes that it did not take.
    #[must_use]
    pub fn new(fd: OwnedFd, limit: usize) -> Self {
        Self { fd, buf: Vec::new(), start: 0, limit }
    }

    /// Queues a frame; [`Writer::flush`] sends it.
    ///
    /// # Errors
    /// [`Full`] if the frame would take the buffer over its limit; it is dropped whole.
    pub fn push(&mut self, frame: &[u8]) -> Result<(), Full> {
        if frame.len() > MAX_FRAME || self.pending() + 4 + frame.len() > self.limit {
            return Err(Full);
        }
        self.buf.extend_from_slice(&(frame.len() as u32).to_be_bytes());
        self.buf.extend_from_slice(frame);
        Ok(())
    }

    /// Bytes that wait for the pipe.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.buf.len() - self.start
    }

    /// Writes what the pipe takes now; what is left stays ([`Writer::pending`]).
    ///
    /// # Errors
    /// [`PipeError::Closed`] if nobody reads any more, [`PipeError::Io`].
    pub fn flush(&mut self) -> Result<(), PipeError> {
        while self.pending() > 0 {
            match unistd::write(&self.fd, &self.buf[self.start..]) {
                Ok(n) => self.start += n,
                Err(nix::Error::EAGAIN) => break,
                Err(nix::Error::EINTR) => {}
                Err(nix::Error::EPIPE) => return Err(PipeError::Closed),
                Err(e) => return Err(PipeError::Io(e.into())),
            }
        }
        self.buf.drain(..self.start);
        self.start = 0;
        Ok(())
    }
}

impl AsFd for Writer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Makes a descriptor that another side opened non-blocking.
pub(crate) fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

/// Whether a read or write failed only because it would have blocked.
#[must_use]
pub fn would_block(e: &io::Error) -> bool {
    e.kind() == ErrorKind::WouldBlock
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(limit: usize) -> (Reader, Writer) {
        let (rx, tx) = pipe().unwrap();
        (Reader::new(rx), Writer::new(tx, limit))
    }

    #[test]
    fn frames_arrive_whole_whatever_pieces_the_pipe_makes_of_them() {
        let (mut rx, mut tx) = ends(usize::MAX);
        let sent: Vec<Vec<u8>> = (0..200_usize).map(|n| vec![n as u8; n * n % 9_001]).collect();
        let mut received = Vec::new();
        for frame in &sent {
            tx.push(frame).unwrap();
        }
        while received.len() < sent.len() {
            tx.flush().unwrap();
            rx.fill().unwrap();
            while let Some(frame) = rx.next_frame().unwrap() {
                received.push(frame.to_vec());
            }
        }
        assert!(received == sent);
        drop(tx);
        assert!(matches!(rx.fill(), Err(PipeError::Closed)));
    }

    #[test]
    fn a_side_that_does_not_read_costs_frames_not_memory() {
        let (mut rx, mut tx) = ends(100 << 10);
        let mut dropped = 0;
        for _ in 0..1_000 {
            dropped += usize::from(tx.push(&[1; 1_400]).is_err());
            tx.flush().unwrap();
        }
        assert!(dropped > 0 && tx.pending() <= 100 << 10 && tx.buf.capacity() <= 200 << 10);
        let mut received = 0;
        loop {
            tx.flush().unwrap();
            if !rx.fill().unwrap() {
                break;
            }
            while let Some(frame) = rx.next_frame().unwrap() {
                assert!(frame == [1; 1_400]);
                received += 1;
            }
        }
        assert_eq!(received + dropped, 1_000);
    }

    #[test]
    fn a_hostile_length_is_refused() {
        let (rx, tx) = pipe().unwrap();
        unistd::write(&tx, &[0xff; 8]).unwrap();
        let mut rx = Reader::new(rx);
        rx.fill().unwrap();
        assert!(matches!(rx.next_frame(), Err(PipeError::TooLong)));
    }
}
