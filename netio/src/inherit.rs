//! Descriptors across `exec`: the parent passes them by number, the child takes them by number.
//!
//! Everything is opened close-on-exec, so a child gets what [`pass`] names and nothing else.

use std::{
    fmt, io,
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
        unix::process::CommandExt,
    },
    process::Command,
    str::FromStr,
    sync::{Mutex, PoisonError},
};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use crate::pipe::set_nonblocking;

/// Why a descriptor given by number cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InheritError {
    /// Standard input, output, error, or a negative number.
    #[error("descriptor {0} cannot be handed over")]
    Reserved(RawFd),
    /// The same number was given twice.
    #[error("descriptor {0} was given twice")]
    Twice(RawFd),
    /// Nothing is open under this number.
    #[error("descriptor {0} is not open: the parent process did not pass it")]
    NotOpen(RawFd),
    /// The system refused.
    #[error("a descriptor could not be prepared: {0}")]
    Io(#[from] io::Error),
}

/// Many numbers on a command line, rows of neighbours as their first and last: `12-259,270`.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Numbers(pub Vec<RawFd>);

impl fmt::Display for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.0.chunk_by(|one, next| one.checked_add(1) == Some(*next));
        for (at, row) in rows.enumerate() {
            let comma = if at == 0 { "" } else { "," };
            match row {
                [first, .., last] => write!(f, "{comma}{first}-{last}")?,
                _ => write!(f, "{comma}{}", row[0])?,
            }
        }
        Ok(())
    }
}

impl FromStr for Numbers {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str = "not a list of descriptors such as 12-259,270";
        let number = |text: &str| text.parse::<u16>().map_err(|_| WRONG);
        let mut all = Vec::new();
        for row in text.split(',') {
            let (first, last) = row.split_once('-').unwrap_or((row, row));
            all.extend((number(first)?..=number(last)?).map(RawFd::from));
        }
        Ok(Self(all))
    }
}

/// Gives descriptors other numbers, one after the other without a gap, in a process that opens nothing meanwhile: so a filter
/// that allows them compares with the first and the last.
///
/// # Errors
/// As `fcntl(2)`: there is no room above the greatest number of a descriptor.
pub fn line_up(fds: Vec<OwnedFd>) -> io::Result<Vec<OwnedFd>> {
    let taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    let numbers = taken.iter().copied().chain(fds.iter().map(AsRawFd::as_raw_fd));
    let first = numbers.max().map_or(0, |most| most + 1);
    let mut row = Vec::with_capacity(fds.len());
    for (next, fd) in (first..).zip(fds) {
        let moved = fcntl(&fd, FcntlArg::F_DUPFD_CLOEXEC(next))?;
        // SAFETY: the kernel made this descriptor just now, for nobody else.
        #[allow(unsafe_code)]
        row.push(unsafe { OwnedFd::from_raw_fd(moved) });
        if moved != next {
            return Err(io::Error::other("another descriptor is in the way"));
        }
    }
    Ok(row)
}

/// Numbers that [`take`] has given an owner.
static TAKEN: Mutex<Vec<RawFd>> = Mutex::new(Vec::new());

/// Takes ownership of the descriptor that the parent passed as number `fd`, and makes it close-on-exec and
/// non-blocking. To be called at the start of the process, before it opens anything itself.
///
/// # Errors
/// [`InheritError`].
pub fn take(fd: RawFd) -> Result<OwnedFd, InheritError> {
    if fd <= libc::STDERR_FILENO {
        return Err(InheritError::Reserved(fd));
    }
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    if taken.contains(&fd) {
        return Err(InheritError::Twice(fd));
    }
    // SAFETY: `fcntl` on a number that is not open fails with EBADF and touches nothing.
    #[allow(unsafe_code)]
    let open = unsafe { libc::fcntl(fd, libc::F_GETFD) } >= 0;
    if !open {
        return Err(InheritError::NotOpen(fd));
    }
    taken.push(fd);
    // SAFETY: the descriptor is open, and `TAKEN` gives every number at most one owner; the parent passed it to be
    // owned here.
    #[allow(unsafe_code)]
    let owned = unsafe { OwnedFd::from_raw_fd(fd) };
    fcntl(&owned, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).map_err(io::Error::from)?;
    set_nonblocking(borrow(&owned))?;
    Ok(owned)
}

fn borrow(fd: &OwnedFd) -> BorrowedFd<'_> {
    std::os::fd::AsFd::as_fd(fd)
}

/// Lets the child of `command` inherit `fds` under the numbers that they have here ([`AsRawFd::as_raw_fd`]). The
/// command owns them: they are closed here when it is dropped.
pub fn pass(command: &mut Command, fds: Vec<OwnedFd>) {
    let prepare = move || {
        for fd in &fds {
            // Between fork and exec: only this process's copy of the flag is cleared.
            fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty()))?;
        }
        Ok(())
    };
    // SAFETY: the closure runs between fork and exec and makes nothing but `fcntl` calls, which are async-signal-safe;
    // it neither allocates nor takes a lock (an error becomes an `io::Error` of a number, which does not allocate).
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(prepare);
    }
}

/// The number of `fd`, as [`take`] will be given it in the child.
#[must_use]
pub fn number(fd: &OwnedFd) -> RawFd {
    fd.as_raw_fd()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_child_gets_the_descriptors_passed_and_no_other() {
        let (passed, _keep) = io::pipe().unwrap();
        let (kept, _keep2) = io::pipe().unwrap();
        let (passed_nr, kept_nr) = (passed.as_raw_fd(), kept.as_raw_fd());
        let mut command = Command::new("sh");
        let script = format!("test -e /proc/self/fd/{passed_nr} && ! test -e /proc/self/fd/{kept_nr}");
        pass(command.args(["-c", &script]), vec![passed.into()]);
        assert!(command.status().unwrap().success());
    }

    #[test]
    fn numbers_are_read_as_they_are_written_and_nonsense_is_refused() {
        for (numbers, text) in [
            (vec![7], "7"),
            (vec![7, 8], "7-8"),
            ((12..=259).chain([270, 272, 273]).collect(), "12-259,270,272-273"),
        ] {
            assert_eq!(Numbers(numbers.clone()).to_string(), text);
            assert_eq!(text.parse(), Ok(Numbers(numbers)));
        }
        for nonsense in ["", "a", "1-", "-3", "1-2-3", "70000", "1,,2"] {
            assert!(nonsense.parse::<Numbers>().is_err(), "{nonsense}");
        }
    }

    #[test]
    fn descriptors_are_lined_up_without_a_gap_and_stay_what_they_are() {
        // Far from where the other tests of this process open theirs.
        let far = |fd: OwnedFd| {
            let moved = fcntl(&fd, FcntlArg::F_DUPFD_CLOEXEC(600)).unwrap();
            // SAFETY: the kernel made this descriptor just now, for nobody else.
            #[allow(unsafe_code)]
            unsafe {
                OwnedFd::from_raw_fd(moved)
            }
        };
        let pipes: Vec<_> = (0..5).map(|_| io::pipe().unwrap()).collect();
        let (ends, mut others): (Vec<OwnedFd>, Vec<_>) =
            pipes.into_iter().map(|(rx, tx)| (far(tx.into()), rx)).unzip();
        let row = line_up(ends).unwrap();
        for (n, (fd, rx)) in row.iter().zip(&mut others).enumerate() {
            assert_eq!(fd.as_raw_fd(), row[0].as_raw_fd() + n as RawFd);
            nix::unistd::write(fd, &[n as u8]).unwrap();
            let mut got = [0];
            rx.read_exact(&mut got).unwrap();
            assert_eq!(got, [n as u8]);
        }
    }

    #[test]
    fn a_number_is_taken_once_and_only_if_it_is_open() {
        assert!(matches!(take(1), Err(InheritError::Reserved(1))));
        assert!(matches!(take(-1), Err(InheritError::Reserved(-1))));
        assert!(matches!(take(9_999), Err(InheritError::NotOpen(9_999))));
        let (mut rx, tx) = io::pipe().unwrap();
        let number = std::os::fd::IntoRawFd::into_raw_fd(tx);
        let tx = take(number).unwrap();
        assert!(matches!(take(number), Err(InheritError::Twice(n)) if n == number));
        nix::unistd::write(&tx, b"x").unwrap();
        rx.read_exact(&mut [0]).unwrap();
    }
}
