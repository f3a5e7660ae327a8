//! From an older format of the state directory to the present one: all of it or nothing, whenever the program is killed.
//!
//! A format differs from the one before by a [`Step`]. The steps that are missing work, one after the other, on a copy:
//!
//! 1. everything is copied into `to-N.new`, the steps change the copy, and it is renamed to `to-N`;
//! 2. the file `format` is replaced: from then on the directory is of format N, and an older vpnd refuses it;
//! 3. what was there is moved aside into `was.new`, `to-N` is renamed to `taking`, and what is in it is moved up;
//! 4. `was.new` is overwritten and removed.
//!
//! What a start finds tells how far the one before came. Before the second point the old content is whole, and a copy that
//! lies beside it is thrown away; after it the rest is done before anything is read. A name that ends in `.new` is of
//! something unfinished or given up, and is erased at every start.

use std::{fs, io, path::Path};

use super::{
    Folder, StateError,
    folder::{UNFINISHED, erase, sync},
};

/// Changes a directory of one format into one of the next. It works on a copy, so it need not be safe against anything.
pub(super) type Step = fn(&Folder) -> Result<(), StateError>;

/// The step at index *n* leads from format *n* + 1 to *n* + 2. Format 1 is the first one.
pub(super) const STEPS: &[Step] = &[];

/// The file with the number of the format, one byte.
const FORMAT: &str = "format";

/// Held by the process that works on the directory: never moved.
const LOCK: &str = "lock";

/// What was there before, once the migrated copy counts.
const WAS: &str = "was.new";

/// The migrated copy, while it takes the place of what was there.
const TAKING: &str = "taking";

/// Begins the name of the migrated copy, before it counts.
const COPY: &str = "to-";

/// Called before each change of the disk; a test ends the migration there, as a kill would.
pub(super) type Pause<'a> = &'a mut dyn FnMut() -> Result<(), StateError>;

/// The format that these steps lead to.
pub(super) fn newest(steps: &[Step]) -> u8 {
    u8::try_from(steps.len() + 1).expect("there are few formats")
}

/// The format of a directory, `None` for one that is empty so far. Changes nothing.
///
/// # Errors
/// [`StateError::Newer`], [`StateError::Damaged`], [`StateError::Unreadable`].
pub(super) fn format(root: &Folder, steps: &[Step]) -> Result<Option<u8>, StateError> {
    let damaged = || StateError::Damaged(root.file(FORMAT));
    let Some(bytes) = root.read(FORMAT)? else {
        // It is the first file of all.
        return if root.file("networks").exists() { Err(damaged()) } else { Ok(None) };
    };
    match bytes[..] {
        // One byte is all that any version writes there.
        [found] if found > newest(steps) => Err(StateError::Newer { found, known: newest(steps) }),
        [found] if found > 0 => Ok(Some(found)),
        _ => Err(damaged()),
    }
}

/// Brings a directory, whose lock is held, to the newest format.
///
/// # Errors
/// [`StateError`]; it is of the old format then, or of the new one, which another start makes whole.
pub(super) fn run(root: &Folder, steps: &[Step], pause: Pause<'_>) -> Result<(), StateError> {
    let newest = newest(steps);
    match format(root, steps)? {
        None => root.replace(FORMAT, &[newest])?,
        Some(found) => {
            take(root, found, pause)?;
            if found < newest {
                prepare(root, &steps[usize::from(found) - 1..], newest, pause)?;
                pause()?;
                root.replace(FORMAT, &[newest])?;
                take(root, newest, pause)?;
            }
        }
    }
    forget_copies(root)?;
    root.remove_unfinished()
}

/// Whether a directory is of the newest format, with nothing of a migration to be done. Changes nothing.
///
/// # Errors
/// As [`format()`].
pub(super) fn is_whole(root: &Folder, steps: &[Step]) -> Result<bool, StateError> {
    let waits = |name: &str| root.file(name).exists();
    Ok(format(root, steps)? == Some(newest(steps)) && !waits(TAKING) && !waits(&copy_of(newest(steps))))
}

fn copy_of(format: u8) -> String {
    format!("{COPY}{format}")
}

#[expect(clippy::needless_pass_by_value, reason = "as `map_err` hands it over")]
fn disk(e: io::Error) -> StateError {
    StateError::writing(&e)
}

/// Erases copies that never came to count.
fn forget_copies(root: &Folder) -> Result<(), StateError> {
    for name in root.folders()?.iter().filter(|name| name.starts_with(COPY)) {
        erase(&root.file(name)).map_err(disk)?;
    }
    Ok(())
}

/// Makes the migrated copy.
fn prepare(root: &Folder, steps: &[Step], to: u8, pause: Pause<'_>) -> Result<(), StateError> {
    let (copy, unfinished) = (root.file(&copy_of(to)), root.file(&(copy_of(to) + UNFINISHED)));
    forget_copies(root)?;
    let made = copy_files(root, content(root.path()), &unfinished, pause)?;
    for step in steps {
        pause()?;
        step(&made)?;
    }
    pause()?;
    fs::rename(unfinished, copy).map_err(disk)?;
    sync(root.path()).map_err(disk)
}

/// Copies what has these names, each file on the disk when this returns, and whole the folders among them.
fn copy_files(
    from: &Folder,
    names: io::Result<Vec<String>>,
    to: &Path,
    pause: Pause<'_>,
) -> Result<Folder, StateError> {
    pause()?;
    let made = Folder::open(to)?;
    for name in names.map_err(|e| StateError::reading(&e))? {
        if from.file(&name).is_dir() {
            let inner = Folder::open(from.file(&name))?;
            copy_files(&inner, finished(inner.path()), &made.file(&name), pause)?;
        } else if let Some(bytes) = from.read(&name)? {
            pause()?;
            made.replace(&name, &bytes)?;
        }
    }
    Ok(made)
}

/// Puts the migrated copy in the place of what was there, as far as that is not done yet.
fn take(root: &Folder, format: u8, pause: Pause<'_>) -> Result<(), StateError> {
    let (copy, taking, was) = (root.file(&copy_of(format)), root.file(TAKING), root.file(WAS));
    if copy.exists() {
        pause()?;
        Folder::open(&was)?;
        for name in content(root.path()).map_err(disk)? {
            pause()?;
            fs::rename(root.file(&name), was.join(&name)).map_err(disk)?;
        }
        sync(&was).map_err(disk)?;
        sync(root.path()).map_err(disk)?;
        pause()?;
        fs::rename(copy, &taking).map_err(disk)?;
        sync(root.path()).map_err(disk)?;
    }
    if taking.exists() {
        for name in content(&taking).map_err(disk)? {
            pause()?;
            fs::rename(taking.join(&name), root.file(&name)).map_err(disk)?;
        }
        sync(root.path()).map_err(disk)?;
        pause()?;
        fs::remove_dir(taking).map_err(disk)?;
    }
    pause()?;
    erase(&was).map_err(disk)?;
    sync(root.path()).map_err(disk)
}

/// The names of what a directory holds, without what steers it and what is unfinished.
fn content(directory: &Path) -> io::Result<Vec<String>> {
    let mut names = finished(directory)?;
    names.retain(|name| ![FORMAT, LOCK, TAKING].contains(&name.as_str()) && !name.starts_with(COPY));
    Ok(names)
}

/// The names of what a folder holds, without what is unfinished.
fn finished(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name =
            entry?.file_name().into_string().map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
        if !name.ends_with(UNFINISHED) {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, os::unix::fs::DirBuilderExt};

    use super::*;

    type Files = BTreeMap<String, Vec<u8>>;

    /// Every file below a folder, by its path.
    fn files(folder: &Path) -> Files {
        let mut found = Files::new();
        let mut folders = vec![folder.to_owned()];
        while let Some(next) = folders.pop() {
            for entry in fs::read_dir(next).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
                    found.insert(name, fs::read(path).unwrap());
                }
            }
        }
        found
    }

    /// A directory of format 1.
    fn old() -> (tempfile::TempDir, Folder, Files) {
        let tmp = tempfile::tempdir().unwrap();
        let root = Folder::open(tmp.path().join("state")).unwrap();
        root.replace(FORMAT, &[1]).unwrap();
        root.replace("account", b"url").unwrap();
        let networks = Folder::open(root.file("networks")).unwrap();
        for network in ["one", "two"] {
            let folder = Folder::open(networks.file(network)).unwrap();
            folder.replace("keys", network.as_bytes()).unwrap();
            folder.replace("settings", b"up").unwrap();
        }
        let files = files(root.path());
        (tmp, root, files)
    }

    /// To format 2: the account is called by another name, and each network has its name in a file.
    fn rename(root: &Folder) -> Result<(), StateError> {
        let account = root.read("account")?.unwrap();
        root.replace("login", &account)?;
        root.remove("account")?;
        let networks = Folder::open(root.file("networks"))?;
        for name in networks.folders()? {
            Folder::open(networks.file(&name))?.replace("name", name.as_bytes())?;
        }
        Ok(())
    }

    /// To format 3: the networks lie at the top.
    fn flatten(root: &Folder) -> Result<(), StateError> {
        let networks = Folder::open(root.file("networks"))?;
        for name in networks.folders()? {
            fs::rename(networks.file(&name), root.file(&format!("network-{name}"))).unwrap();
        }
        fs::remove_dir(networks.path()).unwrap();
        Ok(())
    }

    const TO_TWO: &[Step] = &[rename];
    const TO_THREE: &[Step] = &[rename, flatten];

    fn migrated(format: u8) -> Files {
        let mut files =
            Files::from([(FORMAT.to_owned(), vec![format]), ("login".to_owned(), b"url".to_vec())]);
        for network in ["one", "two"] {
            let folder =
                if format == 2 { format!("networks/{network}") } else { format!("network-{network}") };
            files.insert(format!("{folder}/keys"), network.into());
            files.insert(format!("{folder}/name"), network.into());
            files.insert(format!("{folder}/settings"), b"up".to_vec());
        }
        files
    }

    fn go_on() -> Result<(), StateError> {
        Ok(())
    }

    /// Ends a migration before its change number `changes`. Whether it got that far.
    fn killed_after(root: &Folder, steps: &[Step], changes: usize) -> bool {
        let mut left = changes;
        let mut pause = || match left.checked_sub(1) {
            Some(fewer) => {
                left = fewer;
                Ok(())
            }
            None => Err(StateError::InUse),
        };
        run(root, steps, &mut pause).is_err()
    }

    #[test]
    fn a_directory_of_an_older_format_is_brought_up_step_by_step() {
        for (steps, format) in [(TO_TWO, 2), (TO_THREE, 3)] {
            let (_tmp, root, _) = old();
            run(&root, steps, &mut go_on).unwrap();
            assert_eq!(files(root.path()), migrated(format));
            run(&root, steps, &mut go_on).unwrap();
            assert_eq!(files(root.path()), migrated(format), "a second time");
        }
        let (_tmp, root, _) = old();
        run(&root, TO_TWO, &mut go_on).unwrap();
        run(&root, TO_THREE, &mut go_on).unwrap();
        assert_eq!(files(root.path()), migrated(3));
    }

    #[test]
    fn a_kill_at_any_point_leaves_the_old_directory_or_the_new_one() {
        for changes in 0.. {
            let (_tmp, root, before) = old();
            let killed = killed_after(&root, TO_THREE, changes);

            if is_whole(&root, TO_THREE) == Ok(true) {
                let mut now = files(root.path());
                now.retain(|name, _| !name.starts_with(WAS));
                assert_eq!(now, migrated(3), "after {changes}");
            }
            // What the older program finds: all that it had, or a directory that it refuses.
            if format(&root, &[]).is_ok() {
                let mut now = files(root.path());
                now.retain(|name, _| !name.starts_with("to-"));
                assert_eq!(now, before, "after {changes}");
                run(&root, &[], &mut go_on).unwrap();
            } else {
                assert_eq!(
                    format(&root, &[]),
                    Err(StateError::Newer { found: 3, known: 1 }),
                    "after {changes}"
                );
            }
            // The newer one goes on from there, and may be killed again.
            for again in 0..4 {
                killed_after(&root, TO_THREE, again);
            }
            run(&root, TO_THREE, &mut go_on).unwrap();
            assert_eq!(files(root.path()), migrated(3), "after {changes}");
            if !killed {
                assert!(changes > 20, "only {changes} changes");
                return;
            }
        }
    }

    #[test]
    fn a_copy_that_did_not_come_to_count_is_not_taken_for_a_later_state() {
        let (_tmp, root, _) = old();
        let prepared = (0..).find(|changes| {
            let killed = killed_after(&root, TO_TWO, *changes);
            assert!(killed, "it came to count");
            root.file("to-2").exists()
        });
        assert!(prepared.is_some());
        // The older program goes on, and the account changes.
        run(&root, &[], &mut go_on).unwrap();
        root.replace("account", b"another").unwrap();

        run(&root, TO_TWO, &mut go_on).unwrap();

        assert_eq!(files(root.path())["login"], b"another");
    }

    #[test]
    fn a_file_of_a_network_is_not_lost_for_what_it_is_called() {
        let (_tmp, root, _) = old();
        let network = Folder::open(root.file("networks/one")).unwrap();
        for name in [FORMAT, LOCK, TAKING, "to-do"] {
            network.replace(name, b"kept").unwrap();
        }
        run(&root, TO_TWO, &mut go_on).unwrap();
        for name in [FORMAT, LOCK, TAKING, "to-do"] {
            assert_eq!(
                network.read(name).unwrap().as_deref().map(Vec::as_slice),
                Some(&b"kept"[..]),
                "{name}"
            );
        }
    }

    #[test]
    fn a_step_that_fails_leaves_the_old_directory() {
        let fails: Step = |root| {
            root.remove("account")?;
            Err(StateError::Full)
        };
        let (_tmp, root, before) = old();
        assert_eq!(run(&root, &[rename, fails], &mut go_on), Err(StateError::Full));
        root.remove_unfinished().unwrap();
        assert_eq!(files(root.path()), before);
    }

    #[test]
    fn what_the_old_directory_held_is_overwritten() {
        use std::io::Read as _;
        let (_tmp, root, _) = old();
        let mut keys = fs::File::open(root.file("networks/one/keys")).unwrap();
        run(&root, TO_TWO, &mut go_on).unwrap();
        let mut bytes = Vec::new();
        keys.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, [0; 3]);
    }

    #[test]
    fn a_directory_without_its_format_is_empty_or_damaged() {
        let (_tmp, root, _) = old();
        fs::remove_file(root.file(FORMAT)).unwrap();
        assert_eq!(format(&root, &[]), Err(StateError::Damaged(root.file(FORMAT))));
        let tmp = tempfile::tempdir().unwrap();
        fs::DirBuilder::new().mode(0o700).create(tmp.path().join("new")).unwrap();
        let empty = Folder::open(tmp.path().join("new")).unwrap();
        run(&empty, TO_TWO, &mut go_on).unwrap();
        assert_eq!(format(&empty, TO_TWO), Ok(Some(2)));
    }
}
