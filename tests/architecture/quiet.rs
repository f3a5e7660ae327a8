//! Where traffic passes nothing is printed, logged, opened or timed by the wall clock; elsewhere programs say only what
//! docs/messages.md lists.

use crate::workspace::File;

/// Where packets and frames pass.
const ROOMS: [&str; 3] = ["mesh/src/", "relay/src/", "vpnd/src/data_path/"];

/// The relay's program: it reads its key file, and says where it met a fault.
const PROGRAM: &str = "relay/src/main.rs";

/// Reads the certificate that an operator gave, before anybody connects.
const CERTIFICATES: &str = "relay/src/certificate.rs";

/// What has no place there.
const FORBIDDEN: [&str; 14] = [
    "SystemTime",
    "println!",
    "print!(",
    "eprint!",
    "dbg!",
    "log::",
    "tracing::",
    "io::stderr",
    "io::stdout",
    "std::fs",
    "fs::",
    "File::",
    "OpenOptions",
    "syslog",
];

/// Crates whose code runs in a service.
const SERVICES: [&str; 7] =
    ["vpnd/src/", "coordinator/src/", "relay/src/", "mesh/src/", "netio/src/", "proto/src/", "sandbox/src/"];

/// Where a service says something; each sentence is in docs/messages.md.
const MOUTHS: [&str; 6] = [
    "vpnd/src/main.rs",
    "vpnd/src/message.rs",
    "vpnd/src/harden.rs",
    "coordinator/src/main.rs",
    "coordinator/src/message.rs",
    "relay/src/main.rs",
];

pub(crate) fn rooms(sources: &[File]) -> Vec<String> {
    let inside = |file: &&File| {
        ROOMS.iter().any(|room| file.path.starts_with(room))
            && file.path != PROGRAM
            && file.path != CERTIFICATES
    };
    sources.iter().filter(inside).flat_map(|file| found(file, &FORBIDDEN)).collect()
}

pub(crate) fn mouths(sources: &[File]) -> Vec<String> {
    let mute = |file: &&File| {
        SERVICES.iter().any(|service| file.path.starts_with(service)) && !MOUTHS.contains(&file.path.as_str())
    };
    sources
        .iter()
        .filter(mute)
        .flat_map(|file| found(file, &["io::stderr", "eprint", "println!", "syslog"]))
        .collect()
}

/// What servers say while they serve, which must be in the catalogue.
pub(crate) fn sentences(sources: &[File], catalogue: &str) -> Vec<String> {
    let mut broken = Vec::new();
    for (path, sentence) in [
        ("coordinator/src/main.rs", "coordinator: a fault at {}:{}"),
        ("relay/src/main.rs", "a fault at {}:{}"),
        ("relay/src/main.rs", "relay: this kernel lacks Landlock or seccomp, the relay is not locked down"),
        ("relay/src/main.rs", "the relay cannot start: {error:#}"),
    ] {
        let says =
            sources.iter().any(|file| file.path == path && file.text.contains(&format!("\"{sentence}\"")));
        if !says {
            broken.push(format!("{path} does not say: {sentence}"));
        }
        if !catalogue
            .contains(&format!("`{}`", sentence.replace("{}:{}", "FILE:LINE").replace("{error:#}", "WHY")))
        {
            broken.push(format!("docs/messages.md does not have: {sentence}"));
        }
    }
    broken
}

/// The words of `forbidden` in a file's code, tests left out.
fn found(file: &File, forbidden: &[&str]) -> Vec<String> {
    let code = file.text.split("#[cfg(test)]").next().unwrap_or_default();
    let code: Vec<&str> = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let has = |word: &&&str| code.iter().any(|line| line.contains(**word));
    forbidden.iter().filter(has).map(|word| format!("{}: {word}", file.path)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> File {
        File { path: path.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn each_rule_can_fail() {
        let clock = file("mesh/src/a.rs", "// SystemTime\nuse std::time::SystemTime;\n");
        assert_eq!(rooms(&[clock]), ["mesh/src/a.rs: SystemTime"]);
        let print = file("vpnd/src/data_path/a.rs", "fn f() { eprintln!(\"x\"); }");
        assert_eq!(rooms(&[print]).len(), 1);
        assert!(rooms(&[file("relay/src/a.rs", "//! SystemTime\n#[cfg(test)]\nuse std::fs;")]).is_empty());
        assert_eq!(mouths(&[file("vpnd/src/a.rs", "writeln!(std::io::stderr(), \"x\")")]).len(), 1);
        assert_eq!(sentences(&[], "").len(), 8);
    }
}
