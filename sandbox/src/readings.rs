//! The file system's notes of when a file was last read.
//!
//! With each file Linux keeps when it was last read; in the usual way of mounting (`relatime`) at most once a day and after
//! each change. On a disk that would tell on which day, and when, a program was in use. A flag of the file itself turns it
//! off, without root and whatever the mount says; what is made in a folder that has the flag gets it too.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::{fd::AsRawFd as _, unix::fs::OpenOptionsExt as _},
    path::Path,
};

/// `FS_NOATIME_FL`, ioctl_iflags(2).
const UNNOTED: libc::c_int = 0x80;

/// `FS_IOC_GETFLAGS` and `FS_IOC_SETFLAGS`. Their numbers say `long`; what is read and written is an `int`.
const GET: libc::c_ulong = nix::request_code_read!(b'f', 1, size_of::<libc::c_long>());
const SET: libc::c_ulong = nix::request_code_write!(b'f', 2, size_of::<libc::c_long>());

/// Turns the notes off for a file or a folder, and so for what is made in the folder later. What has none already is not
/// touched, nor are links, sockets and devices.
///
/// # Errors
/// If it cannot be read, is another user's, or the file system has no such flag (NFS, FUSE, an old tmpfs).
pub fn forget(path: &Path) -> io::Result<()> {
    let kind = fs::symlink_metadata(path)?.file_type();
    if !kind.is_dir() && !kind.is_file() {
        return Ok(());
    }
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    let flags = flags(&file)?;
    if flags & UNNOTED == 0 { set_flags(&file, flags | UNNOTED) } else { Ok(()) }
}

/// The same for a folder and all that is in it.
///
/// # Errors
/// As [`forget`].
pub fn forget_all(folder: &Path) -> io::Result<()> {
    forget(folder)?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() { forget_all(&entry.path())? } else { forget(&entry.path())? }
    }
    Ok(())
}

fn flags(file: &File) -> io::Result<libc::c_int> {
    let mut flags: libc::c_int = 0;
    // SAFETY: the kernel writes one `int` to the pointer, which outlives the call.
    #[allow(unsafe_code)]
    let done = unsafe { libc::ioctl(file.as_raw_fd(), GET, &raw mut flags) };
    if done == 0 { Ok(flags) } else { Err(io::Error::last_os_error()) }
}

fn set_flags(file: &File, flags: libc::c_int) -> io::Result<()> {
    // SAFETY: the kernel reads one `int` from the pointer, which outlives the call.
    #[allow(unsafe_code)]
    let done = unsafe { libc::ioctl(file.as_raw_fd(), SET, &raw const flags) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::FileTimes,
        os::unix::fs::MetadataExt as _,
        time::{Duration, SystemTime},
    };

    use super::*;

    /// The time of the last reading, after one of a file that was last read three days ago.
    fn noted(path: &Path) -> bool {
        let long_ago = SystemTime::now() - Duration::from_secs(3 * 86_400);
        File::open(path).unwrap().set_times(FileTimes::new().set_accessed(long_ago)).unwrap();
        let before = path.metadata().unwrap().atime();
        fs::read(path).unwrap();
        path.metadata().unwrap().atime() != before
    }

    #[test]
    fn readings_are_noted_no_more_of_what_is_there_and_of_what_is_made_later() {
        // Beside the programs: a build folder is on a disk, the folder for temporary files may be in memory.
        let own = std::env::current_exe().unwrap();
        let folder = tempfile::tempdir_in(own.parent().unwrap()).unwrap();
        let (there, within) = (folder.path().join("there"), folder.path().join("within"));
        fs::create_dir(&within).unwrap();
        fs::write(&there, "x").unwrap();
        if !noted(&there) {
            return; // mounted without notes at all
        }
        forget_all(folder.path()).unwrap();
        assert!(!noted(&there));
        fs::write(within.join("later"), "x").unwrap();
        assert!(!noted(&within.join("later")));
        forget_all(folder.path()).unwrap();
    }

    #[test]
    fn a_link_out_of_the_folder_is_not_followed() {
        let own = std::env::current_exe().unwrap();
        let folder = tempfile::tempdir_in(own.parent().unwrap()).unwrap();
        let outside = tempfile::NamedTempFile::new_in(own.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(outside.path(), folder.path().join("link")).unwrap();
        forget_all(folder.path()).unwrap();
        assert_eq!(flags(outside.as_file()).unwrap() & UNNOTED, 0);
    }
}
