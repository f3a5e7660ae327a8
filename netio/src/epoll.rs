//! Level-triggered readiness of a handful of descriptors.
//!
//! Level-triggered, because the loop leaves work behind on purpose: a turn reads a bounded amount, and the next wait
//! returns at once for what is left.

use std::{
    io,
    os::fd::AsFd,
    time::{Duration, Instant},
};

use nix::sys::epoll::{Epoll as Sys, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

/// Descriptors that one wait reports; of more that are ready, the next wait reports the others first.
const EVENTS: usize = 16;

/// What to wait for on a descriptor.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// Until it can be read.
    Read,
    /// Until it can be written.
    Write,
    /// Until it can be read or written.
    Both,
    /// Nothing but its end.
    None,
}

impl Interest {
    fn flags(self) -> EpollFlags {
        match self {
            Self::Read => EpollFlags::EPOLLIN,
            Self::Write => EpollFlags::EPOLLOUT,
            Self::Both => EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT,
            Self::None => EpollFlags::empty(),
        }
    }
}

/// A descriptor that is ready.
#[derive(Clone, Copy)]
pub struct Ready {
    /// The token that it was added with.
    pub token: u64,
    /// A read will not block (it may report an error or the end).
    pub readable: bool,
    /// A write will not block.
    pub writable: bool,
    /// The other end is gone, or the descriptor is in error.
    pub closed: bool,
}

/// An epoll instance.
pub struct Epoll {
    sys: Sys,
    events: [EpollEvent; EVENTS],
}

impl Epoll {
    /// A new instance, closed on exec.
    ///
    /// # Errors
    /// As `epoll_create1(2)`.
    pub fn new() -> io::Result<Self> {
        Ok(Self { sys: Sys::new(EpollCreateFlags::EPOLL_CLOEXEC)?, events: [EpollEvent::empty(); EVENTS] })
    }

    /// The instance's own descriptor, for a filter that allows descriptors by number.
    #[must_use]
    pub fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.sys.0.as_fd()
    }

    /// Starts watching `fd` under `token`.
    ///
    /// # Errors
    /// As `epoll_ctl(2)`.
    pub fn add(&self, fd: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        Ok(self.sys.add(fd, EpollEvent::new(interest.flags(), token))?)
    }

    /// Changes what `fd`, already added, is watched for.
    ///
    /// # Errors
    /// As `epoll_ctl(2)`.
    pub fn modify(&self, fd: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        Ok(self.sys.modify(fd, &mut EpollEvent::new(interest.flags(), token))?)
    }

    /// Stops watching `fd`.
    ///
    /// # Errors
    /// As `epoll_ctl(2)`.
    pub fn remove(&self, fd: impl AsFd) -> io::Result<()> {
        Ok(self.sys.delete(fd)?)
    }

    /// Waits until a descriptor is ready or `timeout` (rounded up to milliseconds) has passed; `None` waits for ever.
    /// An interrupted wait returns nothing.
    ///
    /// # Errors
    /// As `epoll_wait(2)`.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<impl Iterator<Item = Ready> + use<'_>> {
        self.wait_awake(timeout, Duration::ZERO)
    }

    /// As [`Self::wait`], but the first `awake` of it (`timeout` at most) are spent asking again and again: the processor is not given
    /// away, and what comes meanwhile waits neither for it to be given back nor for it to leave its sleep.
    ///
    /// # Errors
    /// As `epoll_wait(2)`.
    pub fn wait_awake(
        &mut self,
        timeout: Option<Duration>,
        awake: Duration,
    ) -> io::Result<impl Iterator<Item = Ready> + use<'_>> {
        let awake = timeout.map_or(awake, |timeout| awake.min(timeout));
        let timeout = match timeout {
            None => EpollTimeout::NONE,
            Some(t) => EpollTimeout::try_from(t.as_nanos().div_ceil(1_000_000)).unwrap_or(EpollTimeout::MAX),
        };
        let mut n = 0;
        if !awake.is_zero() {
            let begin = Instant::now();
            while n == 0 && begin.elapsed() < awake {
                n = self.wait_once(EpollTimeout::ZERO)?;
            }
        }
        if n == 0 {
            n = self.wait_once(timeout)?;
        }
        Ok(self.events[..n].iter().map(|event| {
            let flags = event.events();
            let closed = flags.intersects(EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR);
            Ready {
                token: event.data(),
                readable: flags.contains(EpollFlags::EPOLLIN) || closed,
                writable: flags.contains(EpollFlags::EPOLLOUT),
                closed,
            }
        }))
    }

    fn wait_once(&mut self, timeout: EpollTimeout) -> io::Result<usize> {
        match self.sys.wait(&mut self.events, timeout) {
            Ok(n) => Ok(n),
            Err(nix::Error::EINTR) => Ok(0),
            Err(e) => Err(e.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write, pipe};

    use super::*;

    #[test]
    fn a_descriptor_stays_ready_until_it_is_drained() {
        let (mut rx, mut tx) = pipe().unwrap();
        let mut epoll = Epoll::new().unwrap();
        epoll.add(&rx, 7, Interest::Read).unwrap();
        assert_eq!(epoll.wait(Some(Duration::ZERO)).unwrap().count(), 0);

        tx.write_all(b"ab").unwrap();
        for _ in 0..2 {
            let ready: Vec<Ready> = epoll.wait(Some(Duration::from_secs(5))).unwrap().collect();
            assert!(ready.len() == 1 && ready[0].token == 7 && ready[0].readable && !ready[0].closed);
            rx.read_exact(&mut [0]).unwrap();
        }
        assert_eq!(epoll.wait(Some(Duration::ZERO)).unwrap().count(), 0);

        // What comes while it is awake ends the wait, and no wait is longer than was asked.
        let long = Duration::from_secs(60);
        let writing = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            tx.write_all(b"c").unwrap();
            tx
        });
        assert_eq!(epoll.wait_awake(Some(long), long).unwrap().count(), 1);
        let tx = writing.join().unwrap();
        rx.read_exact(&mut [0]).unwrap();
        assert_eq!(epoll.wait_awake(Some(Duration::ZERO), long).unwrap().count(), 0);

        drop(tx);
        let ready: Vec<Ready> = epoll.wait(None).unwrap().collect();
        assert!(ready[0].closed && ready[0].readable);
    }
}
