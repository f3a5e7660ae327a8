//! A state directory that this vpnd cannot know: it says so, ends, and has changed nothing.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that cannot go on fails")]

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    process::Command,
};

const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/formats/1");

/// A directory as it was left by a vpnd that ended.
fn directory() -> (tempfile::TempDir, PathBuf) {
    let tmp = tempfile::tempdir().unwrap();
    let path = tmp.path().join("state");
    copy(Path::new(FIXTURE), &path);
    (tmp, path)
}

fn copy(from: &Path, to: &Path) {
    fs::DirBuilder::new().mode(0o700).create(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let there = to.join(path.file_name().unwrap());
        if path.is_dir() { copy(&path, &there) } else { fs::copy(path, there).map(drop).unwrap() }
    }
}

/// Every file and folder with its mode and content.
fn everything(root: &Path) -> BTreeMap<PathBuf, (u32, Option<Vec<u8>>)> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            found.insert(path.clone(), (mode, fs::read(&path).ok()));
            folders.extend(path.is_dir().then_some(path));
        }
    }
    found
}

/// Starts vpnd on it, which must refuse; returns what it said.
fn refused(path: &Path) -> String {
    let before = everything(path);
    let output = Command::new(env!("CARGO_BIN_EXE_vpnd"))
        .arg("--state-dir")
        .arg(path)
        .arg("--socket")
        .arg(path.with_extension("sock"))
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(everything(path) == before, "the directory was changed");
    said
}

#[test]
fn a_newer_directory_is_refused_with_both_formats_and_what_to_do_and_not_touched() {
    for newer in [2, 3, 255] {
        let (_tmp, path) = directory();
        fs::write(path.join("format"), [newer]).unwrap();
        // What a later version may have left there is its own.
        fs::write(path.join("later.new"), "of a later version").unwrap();
        let said = refused(&path);
        let (found, known) = (format!("format {newer};"), "knows formats up to 1");
        assert!(said.contains(&found) && said.contains(known), "{said}");
        assert!(said.contains(concat!("vpnd ", env!("CARGO_PKG_VERSION"))), "{said}");
        assert!(said.contains("nothing was changed: install a newer version of Tacet"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

#[test]
fn a_directory_whose_format_is_damaged_or_lost_is_refused_by_the_files_name_and_not_touched() {
    for damage in [Some(&b""[..]), Some(b"\0"), Some(b"1\n"), None] {
        let (_tmp, path) = directory();
        let format = path.join("format");
        match damage {
            Some(bytes) => fs::write(&format, bytes).unwrap(),
            None => fs::remove_file(&format).unwrap(),
        }
        let said = refused(&path);
        assert!(said.contains(format.to_str().unwrap()) && said.contains("damaged: restore it"), "{said}");
    }
}
