//! Where traffic passes nothing is printed, logged, opened or timed by the wall clock; elsewhere programs say only what
//! docs/messages.md lists.

use crate::workspace::File;

/// Where packets and frames pass.
const ROOMS: [&str; 3] = ["mesh/src/", "relay/src/", "vpnd/src/data_path/"];

/// The relay's program: it reads its key file, and says where it met a fault.
const PROGRAM: &str = "relay/src/main.rs";

/// Reads the certificate that an operator gave, before anybody connects.
const CERTIFICATES: &str = "relay/src/certificate.rs";

/// Leaks on purpose, which the canary audit must catch. Only a feature that no release has compiles them ([`leaks`]).
const LEAKS: [&str; 3] = ["vpnd/src/leaks.rs", "relay/src/leaks.rs", "coordinator/src/store/leaks.rs"];

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
pub(crate) const SERVICES: [&str; 7] =
    ["vpnd/src/", "coordinator/src/", "relay/src/", "mesh/src/", "netio/src/", "proto/src/", "sandbox/src/"];

/// Where a service says something; each sentence is in docs/messages.md.
pub(crate) const MOUTHS: [&str; 6] = [
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
            && !LEAKS.contains(&file.path.as_str())
    };
    sources.iter().filter(inside).flat_map(|file| found(file, &FORBIDDEN)).collect()
}

pub(crate) fn mouths(sources: &[File]) -> Vec<String> {
    let mute = |file: &&File| {
        let path = file.path.as_str();
        SERVICES.iter().any(|service| path.starts_with(service))
            && !MOUTHS.contains(&path)
            && !LEAKS.contains(&path)
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
        (
            "relay/src/message.rs",
            "relay: this kernel lacks Landlock or seccomp, the relay is not locked down",
        ),
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

/// Where something of the leaks is used without the feature that they are behind: the line, or one of the two before it,
/// must say so.
pub(crate) fn leaks(sources: &[File]) -> Vec<String> {
    const FEATURE: &str = "#[cfg(feature = \"leaks\")]";
    let mut broken = Vec::new();
    let programs = |file: &&File| {
        SERVICES.iter().any(|service| file.path.starts_with(service)) && !LEAKS.contains(&file.path.as_str())
    };
    for file in sources.iter().filter(programs) {
        let lines: Vec<&str> = file.text.lines().collect();
        for (number, line) in lines.iter().enumerate() {
            let used = ["leaks::", "mod leaks;", ".leak_address("].iter().any(|use_| line.contains(use_));
            let behind = lines[number.saturating_sub(2)..=number].iter().any(|line| line.contains(FEATURE));
            if used && !behind {
                broken.push(format!("{}:{}: not behind the feature `leaks`", file.path, number + 1));
            }
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

    #[test]
    fn each_rule_can_fail() {
        let clock = File::of("mesh/src/a.rs", "// SystemTime\nuse std::time::SystemTime;\n");
        assert_eq!(rooms(&[clock]), ["mesh/src/a.rs: SystemTime"]);
        let print = File::of("vpnd/src/data_path/a.rs", "fn f() { eprintln!(\"x\"); }");
        assert_eq!(rooms(&[print]).len(), 1);
        assert!(
            rooms(&[File::of("relay/src/a.rs", "//! SystemTime\n#[cfg(test)]\nuse std::fs;")]).is_empty()
        );
        assert_eq!(mouths(&[File::of("vpnd/src/a.rs", "writeln!(std::io::stderr(), \"x\")")]).len(), 1);
        assert_eq!(sentences(&[], "").len(), 8);
        let behind = "#[cfg(feature = \"leaks\")]\ncrate::leaks::peer();";
        assert!(leaks(&[File::of("vpnd/src/a.rs", behind)]).is_empty());
        assert_eq!(leaks(&[File::of("vpnd/src/a.rs", "f();\ncrate::leaks::peer();")]).len(), 1);
        assert!(mouths(&[File::of("vpnd/src/leaks.rs", "stderr(); eprintln!()")]).is_empty());
    }
}
