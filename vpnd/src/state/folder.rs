//! A folder whose files change all at once or not at all, and leave nothing behind.
//!
//! What is replaced or removed is overwritten before its blocks are given back, so that keys of epochs that ended, and
//! invites that were used, are not in the free blocks of the disk. There is one copy of each file, so that suffices on
//! file systems that write in place (docs/decisions/010).

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, RenameFlags, renameat2},
};
use zeroize::Zeroizing;

use super::StateError;

/// Ends the name of a file that is being written, or that was replaced and is being overwritten. One that a crash left
/// is overwritten and removed at the next start.
pub(super) const UNFINISHED: &str = ".new";

/// What is overwritten is overwritten by pieces of this many bytes.
const PIECE: usize = 1 << 14;

/// Larger files are not ours: the coordinator takes no state of this size.
const MAX_FILE: u64 = 64 << 20;

/// A folder of small files, for its owner alone.
pub struct Folder {
    path: PathBuf,
}

/// A folder that was given up, and whose content is still on the disk.
pub struct Retired(PathBuf);

/// A folder whose content is on the disk and which is not there yet. Dropping it removes it.
pub struct Unfinished {
    now: PathBuf,
    then: PathBuf,
}

impl Folder {
    /// Opens a folder, or makes it, and the folders above it.
    ///
    /// # Errors
    /// [`StateError::Exposed`] if others have access to it, [`StateError::Unreadable`], [`StateError::Unwritable`].
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, StateError> {
        let path = path.into();
        let made = match DirBuilder::new().mode(0o700).create(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                DirBuilder::new().mode(0o700).recursive(true).create(&path)
            }
            made => made,
        };
        match made {
            Ok(()) => sync(path.parent().unwrap_or(Path::new("/"))).map_err(|e| StateError::writing(&e))?,
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(StateError::writing(&e)),
        }
        let meta = fs::metadata(&path).map_err(|e| StateError::reading(&e))?;
        if !meta.is_dir() {
            return Err(StateError::Unreadable(io::ErrorKind::NotADirectory));
        }
        if meta.mode() & 0o077 != 0 || meta.uid() != nix::unistd::geteuid().as_raw() {
            return Err(StateError::Exposed);
        }
        Ok(Self { path })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where a file of it is.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The content of a file, `None` if there is no such file.
    ///
    /// # Errors
    /// [`StateError::Unreadable`].
    pub fn read(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, StateError> {
        let file = match File::open(self.path.join(name)) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(StateError::reading(&e)),
        };
        let len = file.metadata().map_err(|e| StateError::reading(&e))?.len();
        if len > MAX_FILE {
            return Err(StateError::Unreadable(io::ErrorKind::FileTooLarge));
        }
        // Room for all of it at once: a buffer that grows leaves copies of secrets behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(len as usize + 1));
        file.take(MAX_FILE).read_to_end(&mut bytes).map_err(|e| StateError::reading(&e))?;
        Ok(Some(bytes))
    }

    /// Replaces a file: whatever happens, the old content or the new one is there, and once this returns it is the
    /// new one, power cut or not. The other one is overwritten.
    ///
    /// # Errors
    /// [`StateError::Full`], [`StateError::Unwritable`]; the old content stands.
    pub fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), StateError> {
        let outcome = self.prepare(name, bytes).and_then(|()| self.commit(name));
        // What is replaced, or what did not come to replace it. If that fails, the next change is refused.
        let _ = erase(&self.unfinished(name));
        outcome.map_err(|e| StateError::writing(&e))
    }

    /// Removes a file, and overwrites what was in it; one that is not there is no error.
    ///
    /// # Errors
    /// [`StateError::Unwritable`].
    pub fn remove(&self, name: &str) -> Result<(), StateError> {
        let removed = match fs::rename(self.path.join(name), self.unfinished(name)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(e),
            Ok(()) => sync(&self.path).and_then(|()| erase(&self.unfinished(name))),
        };
        removed.map_err(|e| StateError::writing(&e))
    }

    /// Writes a folder that is to be inside this one, with all of its files. It is there once it is committed.
    ///
    /// # Errors
    /// [`StateError::Full`], [`StateError::Unwritable`]; nothing is left then.
    pub fn prepare_folder(&self, name: &str, files: &[(&str, &[u8])]) -> Result<Unfinished, StateError> {
        let unfinished = Unfinished { now: self.unfinished(name), then: self.path.join(name) };
        // Of one that was given up and could not be erased then.
        erase(&unfinished.now).map_err(|e| StateError::writing(&e))?;
        let folder = Self::open(&unfinished.now)?;
        for (file, bytes) in files {
            folder.replace(file, bytes)?;
        }
        Ok(unfinished)
    }

    /// Gives the folder up in one step: whatever happens, it is not read again. Its files are there still
    /// ([`Retired::erase`]).
    ///
    /// # Errors
    /// [`StateError::Unwritable`]; the folder stands then.
    pub fn retire(&self) -> Result<Retired, StateError> {
        let mut name = self.path.as_os_str().to_owned();
        name.push(UNFINISHED);
        let retired = PathBuf::from(name);
        fs::rename(&self.path, &retired).map_err(|e| StateError::writing(&e))?;
        sync(self.path.parent().unwrap_or(Path::new("/"))).map_err(|e| StateError::writing(&e))?;
        Ok(Retired(retired))
    }

    /// The names of the folders inside, sorted.
    ///
    /// # Errors
    /// [`StateError::Unreadable`].
    pub fn folders(&self) -> Result<Vec<String>, StateError> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(|e| StateError::reading(&e))? {
            let entry = entry.map_err(|e| StateError::reading(&e))?;
            if entry.file_type().is_ok_and(|t| t.is_dir())
                && let Ok(name) = entry.file_name().into_string()
            {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    /// Removes what an interrupted change left here. Only who holds the lock may: another one's change may be under
    /// way.
    ///
    /// # Errors
    /// [`StateError::Unreadable`], [`StateError::Unwritable`].
    pub fn remove_unfinished(&self) -> Result<(), StateError> {
        for entry in fs::read_dir(&self.path).map_err(|e| StateError::reading(&e))? {
            let entry = entry.map_err(|e| StateError::reading(&e))?;
            if entry.file_name().to_str().is_some_and(|name| name.ends_with(UNFINISHED)) {
                erase(&entry.path()).map_err(|e| StateError::writing(&e))?;
            }
        }
        Ok(())
    }

    /// The first half of a change: the new content, whole and on the disk, beside the old one.
    fn prepare(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        erase(&self.unfinished(name))?;
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(nix::libc::O_NOFOLLOW)
            .open(self.unfinished(name))?;
        file.write_all(bytes)?;
        file.sync_all()
    }

    /// The second half: the new content takes the old one's name, and the old one, if there is one, the new one's.
    fn commit(&self, name: &str) -> io::Result<()> {
        let (new, old) = (self.unfinished(name), self.path.join(name));
        match renameat2(AT_FDCWD, &new, AT_FDCWD, &old, RenameFlags::RENAME_EXCHANGE) {
            Ok(()) => {}
            // There is no old one, or the file system cannot do it.
            Err(Errno::ENOENT | Errno::EINVAL | Errno::ENOSYS) => fs::rename(new, old)?,
            Err(e) => return Err(e.into()),
        }
        sync(&self.path)
    }

    fn unfinished(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}{UNFINISHED}"))
    }
}

impl Retired {
    /// Overwrites and removes its files. What a crash leaves of them goes at the next start.
    ///
    /// # Errors
    /// [`StateError::Unwritable`].
    pub fn erase(self) -> Result<(), StateError> {
        erase(&self.0).map_err(|e| StateError::writing(&e))?;
        sync(self.0.parent().unwrap_or(Path::new("/"))).map_err(|e| StateError::writing(&e))
    }
}

impl Unfinished {
    /// Gives the folder its name: whole, and in one step.
    ///
    /// # Errors
    /// [`StateError::Unwritable`], also if there is a folder of that name; nothing is left then.
    pub fn commit(self) -> Result<Folder, StateError> {
        fs::rename(&self.now, &self.then).map_err(|e| StateError::writing(&e))?;
        sync(self.then.parent().unwrap_or(Path::new("/"))).map_err(|e| StateError::writing(&e))?;
        Folder::open(&self.then)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // After a commit there is nothing under this name.
        let _ = erase(&self.now);
    }
}

/// Overwrites a file in place and removes it, or a folder and all that is in it; nothing there is no error.
pub(super) fn erase(path: &Path) -> io::Result<()> {
    let meta = match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        meta => meta?,
    };
    if meta.is_dir() {
        for entry in fs::read_dir(path)? {
            erase(&entry?.path())?;
        }
        return fs::remove_dir(path);
    }
    if meta.is_file() {
        let mut file = OpenOptions::new().write(true).open(path)?;
        let mut left = meta.len();
        while left > 0 {
            let piece = left.min(PIECE as u64);
            file.write_all(&[0; PIECE][..piece as usize])?;
            left -= piece;
        }
        file.sync_all()?;
    }
    fs::remove_file(path)
}

/// Makes a rename or a removal in a folder survive a power cut.
pub(super) fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn folder() -> (tempfile::TempDir, Folder) {
        let tmp = tempfile::tempdir().unwrap();
        let folder = Folder::open(tmp.path().join("state")).unwrap();
        (tmp, folder)
    }

    fn content(folder: &Folder, name: &str) -> Option<Vec<u8>> {
        folder.read(name).unwrap().map(|bytes| bytes.to_vec())
    }

    #[test]
    fn a_crash_between_write_and_rename_keeps_the_old_content_and_leaves_nothing() {
        let (_tmp, folder) = folder();
        folder.replace("roster", b"old").unwrap();
        folder.prepare("roster", b"new").unwrap();

        let after_crash = Folder::open(folder.path()).unwrap();
        after_crash.remove_unfinished().unwrap();

        assert_eq!(content(&after_crash, "roster"), Some(b"old".to_vec()));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_change_that_fails_keeps_the_old_content() {
        let (_tmp, folder) = folder();
        folder.replace("roster", b"old").unwrap();
        // A file cannot be exchanged for, or renamed to, a folder that has something in it.
        let name = "a".repeat(255 - UNFINISHED.len() + 1);
        assert!(folder.replace(&name, b"new").is_err());
        fs::create_dir_all(folder.path().join("keys/more")).unwrap();
        assert!(folder.remove("roster/none").is_err());
        assert_eq!(content(&folder, "roster"), Some(b"old".to_vec()));
        assert!(!folder.path().join("roster.new").exists());
    }

    #[test]
    fn what_is_replaced_removed_or_left_over_is_overwritten() {
        let (_tmp, folder) = folder();
        let overwritten = |mut file: File| {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).unwrap();
            !bytes.is_empty() && bytes.iter().all(|&byte| byte == 0)
        };
        let open = |name: &str| File::open(folder.path().join(name)).unwrap();
        let secret = vec![7; 3 * PIECE + 5];
        folder.replace("roster", &secret).unwrap();
        let was = open("roster");
        folder.replace("roster", b"new").unwrap();
        assert!(overwritten(was));
        assert_eq!(content(&folder, "roster"), Some(b"new".to_vec()));

        folder.replace("membership", &secret).unwrap();
        let was = open("membership");
        folder.remove("membership").unwrap();
        assert!(overwritten(was) && content(&folder, "membership").is_none());

        folder.prepare("roster", &secret).unwrap();
        let crashed =
            std::mem::ManuallyDrop::new(folder.prepare_folder("joined", &[("keys", &secret)]).unwrap());
        assert!(crashed.now.exists());
        let (file, inner) = (open("roster.new"), open("joined.new/keys"));
        folder.remove_unfinished().unwrap();
        assert!(overwritten(file) && overwritten(inner));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_appears_with_all_of_its_files_or_not_at_all() {
        let (_tmp, folder) = folder();
        let files: [(&str, &[u8]); 2] = [("keys", b"k"), ("roster", b"r")];
        // A crash is a drop that does not run.
        let crashed = std::mem::ManuallyDrop::new(folder.prepare_folder("crashed", &files).unwrap());
        assert!(crashed.now.exists() && !crashed.then.exists());
        drop(folder.prepare_folder("given-up", &files).unwrap());
        folder.remove_unfinished().unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);

        let inner = folder.prepare_folder("whole", &files).unwrap().commit().unwrap();
        assert_eq!(content(&inner, "keys"), Some(b"k".to_vec()));
        assert_eq!(folder.folders().unwrap(), vec!["whole".to_owned()]);
    }

    #[test]
    fn a_folder_that_is_given_up_is_not_seen_again_and_leaves_nothing() {
        let (_tmp, folder) = folder();
        let inner = || folder.prepare_folder("left", &[("keys", b"k")]).unwrap().commit().unwrap();
        drop(inner().retire().unwrap());
        let crashed_before_it_was_erased = folder.path().join("left.new/keys");
        assert!(crashed_before_it_was_erased.exists() && !folder.path().join("left").exists());
        folder.remove_unfinished().unwrap();
        assert!(!crashed_before_it_was_erased.exists());

        let left = folder.prepare_folder("left", &[("keys", b"k"), ("membership", b"m")]).unwrap();
        drop(left.commit().unwrap().retire().unwrap());
        assert!(content(&inner(), "membership").is_none(), "of the one that was given up");
        Folder::open(folder.path().join("left")).unwrap().retire().unwrap().erase().unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_directory_that_others_may_read_is_refused() {
        let (_tmp, folder) = folder();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o750)).unwrap();
        assert_eq!(Folder::open(folder.path()).err(), Some(StateError::Exposed));
    }

    #[test]
    fn files_are_for_their_owner_alone() {
        let (_tmp, folder) = folder();
        folder.replace("keys", b"secret").unwrap();
        let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(folder.path().join("keys")), 0o600);
        assert_eq!(mode(folder.path().to_owned()), 0o700);
    }

    #[test]
    fn a_file_where_the_directory_should_be_is_a_clear_error() {
        let tmp = tempfile::tempdir().unwrap();
        fs::write(tmp.path().join("state"), b"").unwrap();
        let err = Folder::open(tmp.path().join("state")).err();
        assert_eq!(err, Some(StateError::Unreadable(io::ErrorKind::NotADirectory)));
    }

    #[test]
    fn a_full_disk_is_told_apart_from_a_missing_permission() {
        assert_eq!(StateError::writing(&io::ErrorKind::StorageFull.into()), StateError::Full);
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        assert_eq!(StateError::writing(&denied), StateError::Unwritable(io::ErrorKind::PermissionDenied));
    }
}
