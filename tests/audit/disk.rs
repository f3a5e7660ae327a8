//! A component's disk: an ext4 file system in a file, fresh, with nothing on it but what the component wrote.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use ::tests::{Result, Trouble};

use crate::search::{Hit, Searcher};

/// Bytes of a disk. Sparse: it costs what is written.
const SIZE: u64 = 32 << 20;

/// One disk.
pub(crate) struct Disk(PathBuf);

/// Whether loop devices can be had here, without which there are no disks.
///
/// # Errors
/// Why not.
pub(crate) fn available() -> Result<()> {
    let output = Command::new("losetup").arg("-f").output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(Trouble::new(format!(
        "there is no loop device here ({}): what was deleted cannot be looked for",
        String::from_utf8_lossy(&output.stderr).trim()
    )))
}

impl Disk {
    /// An empty one in the file `image`.
    ///
    /// # Errors
    /// What mkfs.ext4 said.
    pub(crate) fn make(image: PathBuf) -> Result<Self> {
        File::create(&image)?.set_len(SIZE)?;
        // Everything is laid out at once: no thread of the kernel writes to it later.
        let options = ["-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard"];
        run(Command::new("mkfs.ext4").args(options).arg(&image))?;
        Ok(Self(image))
    }

    /// A copy as it is now, in the file `image`.
    ///
    /// # Errors
    /// If there is no room for it.
    pub(crate) fn copy(&self, image: PathBuf) -> Result<Self> {
        run(Command::new("cp").arg("--sparse=always").arg(&self.0).arg(&image))?;
        Ok(Self(image))
    }

    /// Mounts it on a folder, which is made.
    ///
    /// # Errors
    /// What mount said.
    pub(crate) fn mount(&self, at: &Path) -> Result<()> {
        fs::create_dir_all(at)?;
        run(Command::new("mount").args(["-t", "ext4", "-o", "loop,nodiscard"]).arg(&self.0).arg(at))
    }

    /// Unmounts it, so that everything is in the file.
    ///
    /// # Errors
    /// What umount said.
    pub(crate) fn unmount(at: &Path) -> Result<()> {
        run(Command::new("umount").arg(at))
    }

    /// Canaries anywhere on it: in files, deleted pages, folders, the journal.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(crate) fn scan(&self, searcher: &Searcher) -> io::Result<Vec<Hit>> {
        searcher.reader(File::open(&self.0)?)
    }
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    let program = command.get_program().to_string_lossy().into_owned();
    Err(Trouble::new(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim())))
}

/// All that is below a folder at one moment.
#[derive(Default)]
pub(crate) struct Snapshot(BTreeMap<PathBuf, Entry>);

#[derive(PartialEq, Eq)]
struct Entry {
    content: Vec<u8>,
    inode: u64,
    mode: u32,
    changed: (i64, i64),
    modified: (i64, i64),
}

impl Snapshot {
    /// Of what is below `folder` now.
    ///
    /// # Errors
    /// If something cannot be read.
    pub(crate) fn of(folder: &Path) -> io::Result<Self> {
        let mut entries = BTreeMap::new();
        let mut folders = vec![folder.to_owned()];
        while let Some(next) = folders.pop() {
            for entry in fs::read_dir(next)? {
                let path = entry?.path();
                let Ok(about) = path.symlink_metadata() else { continue };
                let content = match about.file_type() {
                    kind if kind.is_file() => fs::read(&path).unwrap_or_default(),
                    kind if kind.is_dir() => {
                        folders.push(path.clone());
                        Vec::new()
                    }
                    _ => Vec::new(),
                };
                let entry = Entry {
                    content,
                    inode: about.ino(),
                    mode: about.mode(),
                    changed: (about.ctime(), about.ctime_nsec()),
                    modified: (about.mtime(), about.mtime_nsec()),
                };
                let below = path.strip_prefix(folder).unwrap_or(&path).to_owned();
                entries.insert(below, entry);
            }
        }
        Ok(Self(entries))
    }

    /// Its files and folders, and what is in the files.
    pub(crate) fn contents(&self) -> impl Iterator<Item = (&Path, &[u8])> {
        self.0.iter().map(|(path, entry)| (path.as_path(), entry.content.as_slice()))
    }

    /// What is another way now, to the inode's last bit.
    pub(crate) fn changes(&self, now: &Self) -> Vec<String> {
        self.differences(now, |before, after| {
            if before.content != after.content {
                Some("has another content")
            } else if before.modified != after.modified {
                Some("has another time of modification")
            } else if before != after {
                Some("has another inode, mode or time of change")
            } else {
                None
            }
        })
    }

    /// Files that have another content, or are in one of both only.
    pub(crate) fn other_contents(&self, other: &Self) -> Vec<String> {
        self.differences(other, |one, other| {
            (one.content != other.content || one.mode != other.mode).then_some("has another content")
        })
    }

    fn differences(
        &self,
        other: &Self,
        compare: impl Fn(&Entry, &Entry) -> Option<&'static str>,
    ) -> Vec<String> {
        let paths: BTreeSet<&PathBuf> = self.0.keys().chain(other.0.keys()).collect();
        paths
            .into_iter()
            .filter_map(|path| {
                let what = match (self.0.get(path), other.0.get(path)) {
                    (Some(one), Some(other)) => compare(one, other)?,
                    (None, _) => "is new",
                    (_, None) => "is gone",
                };
                Some(format!("/{} {what}", path.display()))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::canary::{Canary, Kind};

    #[test]
    fn a_changed_byte_time_or_name_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("state");
        fs::write(&file, "one").unwrap();
        let before = Snapshot::of(folder.path()).unwrap();
        assert!(before.changes(&Snapshot::of(folder.path()).unwrap()).is_empty());

        let touched = SystemTime::now() - Duration::from_secs(9);
        File::options().append(true).open(&file).unwrap().set_modified(touched).unwrap();
        let after = Snapshot::of(folder.path()).unwrap();
        assert_eq!(before.changes(&after), ["/state has another time of modification"]);
        assert!(before.other_contents(&after).is_empty());

        fs::write(&file, "two").unwrap();
        fs::write(folder.path().join("note"), "").unwrap();
        let after = Snapshot::of(folder.path()).unwrap();
        assert_eq!(before.changes(&after), ["/note is new", "/state has another content"]);
        assert_eq!(before.other_contents(&after), ["/note is new", "/state has another content"]);
    }

    #[test]
    fn what_was_deleted_is_found_on_the_disk() {
        // Only root can mount; the laboratory's tests run as root.
        if !nix::unistd::geteuid().is_root() || available().is_err() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let (at, image) = (folder.path().join("at"), folder.path().join("image"));
        let disk = Disk::make(image).unwrap();
        disk.mount(&at).unwrap();
        let file = at.join("note");
        fs::write(&file, vec![b'x'; 5_000]).unwrap();
        fs::write(at.join("kestrel-the-file"), "").unwrap();
        fs::write(&file, format!("{}kestrel-the-content", "x".repeat(5_000))).unwrap();
        File::open(&file).unwrap().sync_all().unwrap();
        fs::remove_file(&file).unwrap();
        fs::remove_file(at.join("kestrel-the-file")).unwrap();
        Disk::unmount(&at).unwrap();
        let canaries = ["kestrel-the-content", "kestrel-the-file", "kestrel-of-nobody"]
            .map(|word| Canary::name(Kind::Name, None, word));
        let hits = disk.scan(&Searcher::new(&canaries)).unwrap();
        let seen = |canary| hits.iter().any(|hit| hit.canary == canary);
        assert_eq!([seen(0), seen(1), seen(2)], [true, true, false]);
    }
}
