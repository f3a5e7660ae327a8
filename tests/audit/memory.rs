//! What processes hold: their memory, and what the kernel tells anybody about them.

use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom},
    os::unix::ffi::OsStrExt as _,
    path::Path,
};

use crate::search::{Hit, Searcher};

/// A part of a process's memory, as `/proc/PID/maps` has it.
struct Region {
    from: u64,
    to: u64,
    /// What it is called there: a file, `[heap]`, `[stack]`, or nothing.
    name: String,
}

/// Canaries in all memory that the process can write, with what the region is called.
///
/// # Errors
/// If the process is gone, or its memory cannot be read.
pub(crate) fn scan(pid: u32, searcher: &Searcher) -> io::Result<Vec<(String, Hit)>> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let mut memory = File::open(format!("/proc/{pid}/mem"))?;
    let (mut hits, mut read) = (Vec::new(), 0);
    for region in writable(&maps) {
        memory.seek(SeekFrom::Start(region.from))?;
        // A region may go while it is read.
        let Ok(found) = searcher.reader((&mut memory).take(region.to - region.from)) else { continue };
        read += region.to - region.from;
        hits.extend(found.into_iter().map(|hit| (region.name.clone(), hit)));
    }
    if read == 0 {
        return Err(io::Error::other(format!("the memory of process {pid} cannot be read")));
    }
    Ok(hits)
}

fn writable(maps: &str) -> Vec<Region> {
    maps.lines()
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            let (from, to) = words.next()?.split_once('-')?;
            let wanted = words.next()?.starts_with("rw");
            let name = words.nth(3).unwrap_or("anonymous memory");
            let [from, to] = [from, to].map(|end| u64::from_str_radix(end, 16));
            wanted.then(|| Some(Region { from: from.ok()?, to: to.ok()?, name: name.to_owned() }))?
        })
        .collect()
}

/// Canaries in what `ps` and its like show to anybody: names of threads, arguments, environment, open files.
///
/// # Errors
/// If the process is gone.
pub(crate) fn shown(pid: u32, searcher: &Searcher) -> io::Result<Vec<(String, Hit)>> {
    let folder = Path::new("/proc").join(pid.to_string());
    let mut texts = vec![
        ("arguments (cmdline)".to_owned(), fs::read(folder.join("cmdline"))?),
        ("environment (environ)".to_owned(), fs::read(folder.join("environ"))?),
    ];
    for task in fs::read_dir(folder.join("task"))?.flatten() {
        texts.push(("name of a thread (comm)".to_owned(), fs::read(task.path().join("comm"))?));
    }
    for descriptor in fs::read_dir(folder.join("fd"))?.flatten() {
        // It may be closed by now.
        let Ok(target) = fs::read_link(descriptor.path()) else { continue };
        let target = target.as_os_str().as_bytes();
        if numbered(target) {
            continue;
        }
        let number = descriptor.file_name().to_string_lossy().into_owned();
        texts.push((format!("open file {number}"), target.to_vec()));
    }
    Ok(texts
        .into_iter()
        .flat_map(|(place, text)| searcher.bytes(&text).into_iter().map(move |hit| (place.clone(), hit)))
        .collect())
}

/// Whether an open file has no name but the number that the kernel gave it: `socket:[18425]` says nothing, though it may
/// be as long as a port.
fn numbered(target: &[u8]) -> bool {
    let number = target.strip_prefix(b"socket:[").or_else(|| target.strip_prefix(b"pipe:["));
    number
        .and_then(|number| number.strip_suffix(b"]"))
        .is_some_and(|number| number.iter().all(u8::is_ascii_digit))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;
    use crate::canary::{Canary, Kind};

    #[test]
    fn a_word_in_memory_arguments_and_environment_of_a_process_is_found() {
        let [stored, given, inherited] = ["kestrel-memory", "kestrel-argument", "kestrel-environment"];
        let canaries = [stored, given, inherited].map(|word| Canary::name(Kind::Name, None, word));
        let searcher = Searcher::new(&canaries);
        // The shell puts the word together, so that it is in none of its arguments.
        let mut child = Command::new("sh")
            .args(["-c", "word=kestrel-; word=${word}memory; echo; read -r line", given])
            .env("WORD", inherited)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        let (held, shown) = (scan(child.id(), &searcher).unwrap(), shown(child.id(), &searcher).unwrap());
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(held.iter().any(|(place, hit)| place == "[heap]" && hit.canary == 0));
        let places = |canary| -> Vec<&str> {
            let of = shown.iter().filter(|(_, hit)| hit.canary == canary);
            of.map(|(place, _)| place.as_str()).collect()
        };
        assert_eq!(places(0), Vec::<&str>::new());
        assert_eq!(places(1), ["arguments (cmdline)"]);
        assert_eq!(places(2), ["environment (environ)"]);
    }

    #[test]
    fn a_socket_s_own_number_is_no_port_and_a_file_s_name_may_have_one() {
        for target in ["socket:[18425]", "pipe:[18425]"] {
            assert!(numbered(target.as_bytes()), "{target}");
        }
        for target in ["/tmp/18425", "/tmp/socket:[18425]", "/memfd:18425 (deleted)", "socket:[to 18425]"] {
            assert!(!numbered(target.as_bytes()), "{target}");
        }
    }
}
