//! What wakes another thread that waits for descriptors: `eventfd(2)`, which never blocks either side.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
};

use nix::{
    sys::eventfd::{EfdFlags, EventFd},
    unistd,
};

/// A descriptor that can be read from when it was rung.
pub struct Bell(EventFd);

impl Bell {
    /// A bell that nobody rang yet, closed on exec.
    ///
    /// # Errors
    /// As `eventfd(2)`.
    pub fn new() -> io::Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        Ok(Self(EventFd::from_value_and_flags(0, flags)?))
    }

    /// Makes it readable. However often it was rung, it is silenced once.
    pub fn ring(&self) {
        // It fails where it was rung 2^64 times, and is readable then.
        let _ = self.0.write(1);
    }

    /// Makes it wait for the next ring.
    pub fn silence(&self) {
        // It fails where nobody rang.
        let _ = unistd::read(&self.0, &mut [0; 8]);
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::epoll::{Epoll, Interest};

    #[test]
    fn a_bell_is_heard_until_it_is_silenced() {
        let (bell, mut epoll) = (Bell::new().unwrap(), Epoll::new().unwrap());
        epoll.add(&bell, 3, Interest::Read).unwrap();
        let mut heard = || epoll.wait(Some(Duration::ZERO)).unwrap().filter(|ready| ready.readable).count();
        assert_eq!(heard(), 0);
        bell.silence();
        bell.ring();
        bell.ring();
        assert_eq!((heard(), heard()), (1, 1));
        bell.silence();
        assert_eq!(heard(), 0);
    }
}
