//! The directory itself: its version, its lock, its networks.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::ErrorKind,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use proto::{
    identity::{NetworkId, Pin},
    wire::{Reader, Wire, WireError, Writer},
};

use super::{
    Contents, DamagedNetwork, Folder, NetworkFolder, StateError, Unfinished,
    migrate::{self, STEPS},
};

/// How many bytes of a network's id name its folder; 128 bits do not collide.
const NAME_BYTES: usize = 16;

/// Longest URL that is kept.
const MAX_URL: usize = 512;

/// The networks in the directory.
pub struct Stored {
    /// Those that can be read.
    pub networks: Vec<(NetworkFolder, Contents)>,
    /// Those that cannot.
    pub damaged: Vec<DamagedNetwork>,
}

/// The open state directory. Only one daemon has it at a time.
pub struct StateDir {
    root: Folder,
    networks: Folder,
    writable: bool,
    _lock: File,
}

/// Where a coordinator is and how it proves to be itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Coordinator {
    /// Its public URL.
    pub url: String,
    /// The hash of its long-lived key; `None` if it has a certificate that the system trusts.
    pub pin: Option<Pin>,
}

impl Coordinator {
    /// Whether it is the one at `url`; a slash at the end makes no difference.
    #[must_use]
    pub fn is_at(&self, url: &str) -> bool {
        self.url.trim_end_matches('/') == url.trim_end_matches('/')
    }
}

impl StateDir {
    /// Opens the directory, or makes it. One on a file system that is read-only is read all the same: networks that are
    /// kept there must not be down for it.
    ///
    /// # Errors
    /// [`StateError`]: in use, exposed, unreadable, full, or of a newer version.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let root = Folder::open(path)?;
        // Before anything is changed, be it the lock.
        migrate::format(&root, STEPS)?;
        let (lock, writable) = lock(&root)?;
        if writable {
            root.remove_unfinished()?;
            migrate::run(&root, STEPS, &mut || Ok(()))?;
        } else if !migrate::is_whole(&root, STEPS)? {
            return Err(StateError::Unwritable(ErrorKind::ReadOnlyFilesystem));
        }
        let networks = Folder::open(root.path().join("networks"))?;
        if writable {
            networks.remove_unfinished()?;
        }
        // On a file system that cannot leave it, the day of the last start stays with the files (docs/PRIVACY.md).
        let _ = sandbox::readings::forget_all(root.path());
        Ok(Self { root, networks, writable, _lock: lock })
    }

    /// Whether it was on a file system that can be written when it was opened.
    #[must_use]
    pub fn writable(&self) -> bool {
        self.writable
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.root.path()
    }

    /// All networks of this machine. One that cannot be read keeps no other from being read, and is left as it is.
    ///
    /// # Errors
    /// [`StateError`] if the directory cannot be read.
    pub fn networks(&self) -> Result<Stored, StateError> {
        let mut stored = Stored { networks: Vec::new(), damaged: Vec::new() };
        for name in self.networks.folders()? {
            let path = self.networks.path().join(name);
            match open_network(&path, self.writable) {
                Ok(network) => stored.networks.push(network),
                Err(error) => stored.damaged.push(DamagedNetwork::new(&path, error)),
            }
        }
        Ok(stored)
    }

    /// Where a network is kept, or would be.
    #[must_use]
    pub fn network(&self, id: &NetworkId) -> PathBuf {
        self.networks.path().join(folder_name(id))
    }

    /// Writes all that is to be kept of a network that this machine is about to make or join. It is kept once it is
    /// committed: so a full disk is noticed before anybody else hears of the network.
    ///
    /// # Errors
    /// [`StateError`]; nothing is left then.
    pub fn prepare(&self, contents: &Contents) -> Result<Unfinished, StateError> {
        let name = folder_name(&contents.settings.network);
        let files = contents.files();
        let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (*name, bytes.as_slice())).collect();
        self.networks.prepare_folder(&name, &files)
    }

    /// The coordinator of the account last used here.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn account(&self) -> Result<Option<Coordinator>, StateError> {
        let Some(bytes) = self.root.read("account")? else { return Ok(None) };
        let read = || -> Result<Coordinator, WireError> {
            let mut r = Reader::new(&bytes);
            r.version(1)?;
            let coordinator = Coordinator::decode(&mut r)?;
            while r.optional()?.is_some() {}
            Ok(coordinator)
        };
        read().map(Some).map_err(|_| StateError::DamagedAccount(self.root.file("account")))
    }

    /// Remembers the coordinator of the account that is used here, so that a login need not name it.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn set_account(&self, coordinator: &Coordinator) -> Result<(), StateError> {
        let mut w = Writer::new();
        w.version(1);
        coordinator.encode(&mut w);
        self.root.replace("account", &w.finish())
    }
}

fn open_network(path: &Path, writable: bool) -> Result<(NetworkFolder, Contents), StateError> {
    let folder = NetworkFolder::open(path)?;
    if writable {
        folder.remove_unfinished()?;
    }
    let contents = folder.load()?;
    if !path.ends_with(folder_name(&contents.settings.network)) {
        return Err(StateError::Misplaced(path.to_owned()));
    }
    Ok((folder, contents))
}

/// The name of a network's folder.
fn folder_name(network: &NetworkId) -> String {
    network.0.iter().take(NAME_BYTES).map(|byte| format!("{byte:02x}")).collect()
}

/// Takes the lock, and tells whether its file could be opened to write; the kernel gives it back when the process ends,
/// however it ends.
fn lock(root: &Folder) -> Result<(File, bool), StateError> {
    let path = root.path().join("lock");
    let opened = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let (file, writable) = match opened {
        Ok(file) => (file, true),
        Err(e) if e.kind() == ErrorKind::ReadOnlyFilesystem => match File::open(&path) {
            Ok(file) => (file, false),
            // Nothing was ever kept here.
            Err(_) => return Err(StateError::writing(&e)),
        },
        Err(e) => return Err(StateError::writing(&e)),
    };
    match file.try_lock() {
        Ok(()) => Ok((file, writable)),
        Err(TryLockError::WouldBlock) => Err(StateError::InUse),
        Err(TryLockError::Error(e)) => Err(StateError::writing(&e)),
    }
}

/// URL, then the pin: none or 32 bytes as a byte string.
impl Wire for Coordinator {
    fn encode(&self, w: &mut Writer) {
        w.text(&self.url);
        w.bytes(self.pin.as_ref().map_or(&[], |pin| &pin.0[..]));
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        let url = r.text(MAX_URL)?.to_owned();
        let pin = match r.bytes(32)? {
            [] => None,
            bytes => Some(Pin(bytes.try_into().map_err(|_| WireError::Invalid("pin"))?)),
        };
        Ok(Self { url, pin })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_daemon_is_refused_while_the_first_one_runs() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("state");
        let first = StateDir::open(&path).unwrap();
        assert_eq!(StateDir::open(&path).err(), Some(StateError::InUse));
        drop(first);
        assert!(StateDir::open(&path).is_ok());
    }

    #[test]
    fn a_directory_of_a_newer_version_is_refused_in_plain_words_and_left_alone() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("state");
        drop(StateDir::open(&path).unwrap());
        let known = migrate::newest(STEPS);
        std::fs::write(path.join("format"), [known + 1]).unwrap();

        let err = StateDir::open(&path).err().unwrap();

        assert_eq!(err, StateError::Newer { found: known + 1, known });
        assert!(err.to_string().contains("install a newer"));
        assert_eq!(std::fs::read(path.join("format")).unwrap(), [known + 1]);
    }

    #[test]
    fn a_directory_wide_file_that_is_damaged_is_named() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("state");
        let state = StateDir::open(&path).unwrap();
        std::fs::write(path.join("account"), b"garbage").unwrap();
        let err = state.account().err().unwrap().to_string();
        assert!(err.contains(path.join("account").to_str().unwrap()) && err.contains("damaged"), "{err}");
        drop(state);

        for garbage in [&b"garbage"[..], b"", &[0]] {
            std::fs::write(path.join("format"), garbage).unwrap();
            let err = StateDir::open(&path).err().unwrap().to_string();
            assert!(err.contains(path.join("format").to_str().unwrap()) && err.contains("damaged"), "{err}");
            assert_eq!(std::fs::read(path.join("format")).unwrap(), garbage, "left as it is");
        }
    }

    #[test]
    fn the_account_remembers_its_coordinator() {
        let tmp = tempfile::tempdir().unwrap();
        let state = StateDir::open(&tmp.path().join("state")).unwrap();
        assert!(state.account().unwrap().is_none());
        let pinned = Coordinator { url: "https://c.example".into(), pin: Some(Pin([7; 32])) };
        state.set_account(&pinned).unwrap();
        assert!(state.account().unwrap() == Some(pinned));
    }
}
