//! Inputs that are kept: each a file of text, with the story that it tells and its bytes.
//!
//! The story is there to be read, and to be checked: if a change of the reading made an input mean something else, the file
//! says so.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::story::tell;

/// Bytes on one line.
const WIDTH: usize = 16;

/// A kept input.
pub struct Kept {
    /// Its file.
    pub path: PathBuf,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Whether its story is still the one that the file tells.
    pub faithful: bool,
}

/// Where the inputs are kept.
#[must_use]
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

/// All kept inputs, by name.
///
/// # Errors
/// A file that cannot be read, or is not of this form.
pub fn all() -> io::Result<Vec<Kept>> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder())?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    paths.sort();
    paths.into_iter().map(|path| read(&path)).collect()
}

/// One input, from text of this form, or as bare bytes.
///
/// # Errors
/// A file that cannot be read.
pub fn read(path: &Path) -> io::Result<Kept> {
    let raw = fs::read(path)?;
    let text = std::str::from_utf8(&raw).ok().filter(|text| text.starts_with('#'));
    let Some(bytes) = text.and_then(parse) else {
        return Ok(Kept { path: path.to_owned(), bytes: raw, faithful: true });
    };
    let stories = text.unwrap_or_default().lines().filter_map(|line| line.strip_prefix("#| "));
    let faithful = stories.eq(tell(&bytes).lines());
    Ok(Kept { path: path.to_owned(), bytes, faithful })
}

/// The text of a file for an input, `why` it is kept on top.
#[must_use]
pub fn write(bytes: &[u8], why: &str) -> String {
    let mut text: String = why.lines().map(|line| format!("# {line}\n")).collect();
    text.extend(tell(bytes).lines().map(|line| format!("#| {line}\n")));
    for row in bytes.chunks(WIDTH) {
        let row: Vec<String> = row.iter().map(|byte| format!("{byte:02x}")).collect();
        text += &row.join(" ");
        text += "\n";
    }
    text
}

fn parse(text: &str) -> Option<Vec<u8>> {
    let rows = text.lines().filter(|line| !line.starts_with('#'));
    rows.flat_map(str::split_whitespace).map(|byte| u8::from_str_radix(byte, 16).ok()).collect()
}
