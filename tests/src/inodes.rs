//! Every inode beneath some folders, and what became of it: content, size, owner, mode and all of the file system's own
//! times, that of the last reading included.
//!
//! Linux notes a reading only where the note is older than a day or than the last change (`relatime`). So that no reading
//! stays unseen, [`Inodes::before`] sets the notes back to long ago.

use std::{
    collections::{BTreeMap, hash_map::DefaultHasher},
    fmt,
    fs::{self, File, OpenOptions},
    hash::Hasher as _,
    io::{self, Read as _},
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use nix::{
    fcntl::AT_FDCWD,
    libc,
    sys::{
        stat::{UtimensatFlags, utimensat},
        time::TimeSpec,
    },
};

use crate::{Result, Trouble};

/// Older than what `relatime` takes for recent.
const LONG_AGO: Duration = Duration::from_secs(3 * 86_400);

/// The state of every inode beneath some folders.
pub struct Inodes(BTreeMap<PathBuf, Inode>);

#[derive(Clone, PartialEq, Eq)]
struct Inode {
    number: u64,
    mode: u32,
    owner: (u32, u32),
    size: u64,
    written: (i64, i64),
    changed: (i64, i64),
    read: (i64, i64),
    content: u64,
}

/// What became of an inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was not there before.
    Made,
    /// It is there no more.
    Removed,
    /// Another one has its name.
    Replaced,
    /// Its content is another.
    Rewritten,
    /// Its mode, owner or times of writing are others.
    Touched,
    /// The file system noted that it was read.
    Read,
}

/// An inode that is not what it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where it is.
    pub path: PathBuf,
    /// What became of it.
    pub fate: Fate,
    /// Its size in bytes, before and after.
    pub size: (u64, u64),
}

impl Inodes {
    /// All that is beneath `folders`, whose readings are noted from now on.
    ///
    /// # Errors
    /// If a folder cannot be read.
    pub fn before(folders: &[PathBuf]) -> Result<Self> {
        let mut inodes = Self::after(folders)?;
        let long_ago = SystemTime::now()
            .checked_sub(LONG_AGO)
            .and_then(|then| then.duration_since(SystemTime::UNIX_EPOCH).ok())
            .map_or(TimeSpec::new(0, 0), TimeSpec::from_duration);
        for (path, inode) in &mut inodes.0 {
            let omit = TimeSpec::new(0, libc::UTIME_OMIT);
            utimensat(AT_FDCWD, path, &long_ago, &omit, UtimensatFlags::NoFollowSymlink)
                .map_err(|error| Trouble::new(format!("{}: {error}", path.display())))?;
            let content = inode.content;
            *inode = Inode { content, ..Inode::of(path)? };
        }
        Ok(inodes)
    }

    /// All that is beneath `folders`, which may be gone.
    ///
    /// # Errors
    /// If a folder cannot be read.
    pub fn after(folders: &[PathBuf]) -> Result<Self> {
        let mut inodes = BTreeMap::new();
        let mut left = folders.to_vec();
        while let Some(path) = left.pop() {
            // Asked before it is read, which may be noted too.
            let mut inode = match Inode::of(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                inode => inode?,
            };
            let kind = fs::symlink_metadata(&path)?.file_type();
            if kind.is_dir() {
                for entry in fs::read_dir(&path)? {
                    left.push(entry?.path());
                }
            } else if kind.is_file() {
                inode.content = content(&path)?;
            }
            inodes.insert(path, inode);
        }
        Ok(Self(inodes))
    }

    /// What became of them by `after`.
    #[must_use]
    pub fn changes(&self, after: &Self) -> Vec<Change> {
        let mut changes = Vec::new();
        for (path, was) in &self.0 {
            let Some(is) = after.0.get(path) else {
                changes.push(Change { path: path.clone(), fate: Fate::Removed, size: (was.size, 0) });
                continue;
            };
            let fate = if was.number != is.number {
                Fate::Replaced
            } else if (was.content, was.size) != (is.content, is.size) {
                Fate::Rewritten
            } else if (was.mode, was.owner, was.written, was.changed)
                != (is.mode, is.owner, is.written, is.changed)
            {
                Fate::Touched
            } else if was.read != is.read {
                Fate::Read
            } else {
                continue;
            };
            changes.push(Change { path: path.clone(), fate, size: (was.size, is.size) });
        }
        for (path, is) in &after.0 {
            if !self.0.contains_key(path) {
                changes.push(Change { path: path.clone(), fate: Fate::Made, size: (0, is.size) });
            }
        }
        changes.sort_by(|a, b| a.path.cmp(&b.path));
        changes
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

impl Inode {
    fn of(path: &Path) -> io::Result<Self> {
        let meta = fs::symlink_metadata(path)?;
        let kind = meta.file_type();
        Ok(Self {
            number: meta.ino(),
            mode: meta.mode(),
            owner: (meta.uid(), meta.gid()),
            // A folder's size is the file system's affair.
            size: if kind.is_dir() { 0 } else { meta.size() },
            written: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
            // A connection to a unix socket is noted as a reading, in memory where its folder is.
            read: if kind.is_socket() { (0, 0) } else { (meta.atime(), meta.atime_nsec()) },
            content: 0,
        })
    }
}

/// A fingerprint of a file's content, read without a note of it.
fn content(path: &Path) -> io::Result<u64> {
    let unnoted = OpenOptions::new().read(true).custom_flags(libc::O_NOATIME).open(path);
    let mut file = unnoted.or_else(|_| File::open(path))?;
    let (mut hash, mut part) = (DefaultHasher::new(), vec![0; 1 << 16]);
    loop {
        match file.read(&mut part)? {
            0 => return Ok(hash.finish()),
            length => hash.write(&part[..length]),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fate = match self.fate {
            Fate::Made => "made",
            Fate::Removed => "removed",
            Fate::Replaced => "replaced",
            Fate::Rewritten => "rewritten",
            Fate::Touched => "touched",
            Fate::Read => "read",
        };
        write!(f, "{fate:<10}{:>9} -> {:<9}{}", self.size.0, self.size.1, self.path.display())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn each_fate_is_told_from_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["kept", "read", "removed", "replaced", "rewritten", "touched"] {
            fs::write(path(name), name).unwrap();
        }
        let folders = [folder.path().to_owned()];
        let before = Inodes::before(&folders).unwrap();
        assert!(before.changes(&Inodes::after(&folders).unwrap()).is_empty(), "looking changes nothing");
        let before = Inodes::before(&folders).unwrap();
        fs::read(path("read")).unwrap();
        fs::remove_file(path("removed")).unwrap();
        fs::write(path("replaced.new"), "replaced").unwrap();
        fs::rename(path("replaced.new"), path("replaced")).unwrap();
        fs::write(path("rewritten"), "othertext").unwrap();
        fs::set_permissions(path("touched"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(path("made"), "").unwrap();
        let fates: Vec<(String, Fate)> = before
            .changes(&Inodes::after(&folders).unwrap())
            .into_iter()
            .map(|change| (change.path.file_name().unwrap().to_string_lossy().into_owned(), change.fate))
            .filter(|(name, _)| *name != folder.path().file_name().unwrap().to_string_lossy())
            .collect();
        let expected = [
            ("made", Fate::Made),
            ("read", Fate::Read),
            ("removed", Fate::Removed),
            ("replaced", Fate::Replaced),
            ("rewritten", Fate::Rewritten),
            ("touched", Fate::Touched),
        ];
        assert_eq!(fates, expected.map(|(name, fate)| (name.to_owned(), fate)));
    }
}
