//! That Clippy refuses, in every room where traffic passes, what has no place there: each room's own configuration is tried
//! on a program that does all of it. What the rooms' lists name and what is tried here are the same, both ways.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Where packets and frames pass, and the file in which the lints are denied.
const ROOMS: [(&str, &str); 4] =
    [("mesh", "src/lib.rs"), ("relay", "src/lib.rs"), ("netio", "src/lib.rs"), ("vpnd", "src/lib.rs")];

const LINTS: [&str; 3] =
    ["clippy::disallowed_macros", "clippy::disallowed_methods", "clippy::disallowed_types"];

/// What nobody may do there.
const STD: [(&str, &str); 8] = [
    ("std::print", "print!(\"x\")"),
    ("std::println", "println!(\"x\")"),
    ("std::eprint", "eprint!(\"x\")"),
    ("std::eprintln", "eprintln!(\"x\")"),
    ("std::dbg", "let _ = dbg!(1)"),
    ("std::io::stdout", "let _ = std::io::stdout()"),
    ("std::io::stderr", "let _ = std::io::stderr()"),
    ("std::time::SystemTime", "let _ = std::time::SystemTime::now()"),
];
const LOG: [&str; 6] = ["log", "error", "warn", "info", "debug", "trace"];
const TRACING: [&str; 12] = [
    "event",
    "span",
    "error",
    "warn",
    "info",
    "debug",
    "trace",
    "error_span",
    "warn_span",
    "info_span",
    "debug_span",
    "trace_span",
];

/// In the core alone, which has no files at all.
const FILES: [(&str, &str); 2] = [
    ("std::fs::File", "let _ = std::fs::File::open(\"/x\")"),
    ("std::fs::OpenOptions", "let _ = std::fs::OpenOptions::new()"),
];

#[test]
fn clippy_refuses_printing_logging_and_the_wall_clock_where_traffic_passes() {
    let folder = tempfile::tempdir().unwrap();
    let logs = [stub(folder.path(), "log", &LOG), stub(folder.path(), "tracing", &TRACING)];
    for (room, _) in ROOMS {
        let mut tried = attempts();
        if room == "mesh" {
            tried.extend(FILES.map(|(path, code)| (path.to_owned(), code.to_owned())));
        }
        let said = refused(folder.path(), room, &logs, &tried);
        for (path, _) in &tried {
            assert!(said.contains(&format!("`{path}`\n")), "{room}: Clippy lets {path} pass:\n{said}");
        }
        let names: BTreeSet<String> = tried.into_iter().map(|(path, _)| path).collect();
        assert_eq!(listed(room), names, "{room}/clippy.toml lists what is tried here");
        // It refuses these and not just everything.
        let said = refused(folder.path(), room, &logs, &[(String::new(), "let _ = 1 + 1".to_owned())]);
        assert!(!said.contains("error"), "{said}");
    }
}

#[test]
fn the_lints_are_denied_and_not_only_warned_of() {
    for (room, file) in ROOMS {
        let text = fs::read_to_string(root().join(room).join(file)).unwrap();
        let denied = text.split("#![deny(").nth(1).and_then(|rest| rest.split_once(")]"));
        let denied = denied.map_or("", |(lints, _)| lints);
        for lint in LINTS {
            assert!(denied.contains(lint), "{room}/{file} does not deny {lint}");
        }
    }
}

fn attempts() -> Vec<(String, String)> {
    let std = STD.map(|(path, code)| (path.to_owned(), code.to_owned()));
    let log = LOG.map(|name| (format!("log::{name}"), format!("log::{name}!(\"x\")")));
    let tracing = TRACING.map(|name| (format!("tracing::{name}"), format!("tracing::{name}!(\"x\")")));
    std.into_iter().chain(log).chain(tracing).collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// A crate of that name whose macros do something, as the real one's do.
fn stub(folder: &Path, name: &str, macros: &[&str]) -> PathBuf {
    let mut text = "pub fn said() {}\n".to_owned();
    for name in macros {
        text += &format!("#[macro_export] macro_rules! {name} {{ ($($any:tt)*) => {{ $crate::said() }} }}\n");
    }
    let source = folder.join(format!("{name}.rs"));
    fs::write(&source, text).unwrap();
    let mut rustc = Command::new("rustc");
    rustc.args([
        "--edition",
        "2024",
        "--crate-type",
        "lib",
        "--crate-name",
        name,
        "--emit",
        "metadata",
        "--out-dir",
    ]);
    let done = rustc.arg(folder).arg(&source).current_dir(root()).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    folder.join(format!("lib{name}.rmeta"))
}

/// What Clippy says of a program under a room's configuration.
fn refused(folder: &Path, room: &str, logs: &[PathBuf], attempts: &[(String, String)]) -> String {
    let mut text = "//! Tries.\n".to_owned();
    for (number, (_, code)) in attempts.iter().enumerate() {
        text += &format!("/// Tries.\npub fn attempt_{number}() {{ {code}; }}\n");
    }
    let source = folder.join("attempts.rs");
    fs::write(&source, text).unwrap();
    let mut clippy = Command::new("clippy-driver");
    clippy.args([
        "--edition",
        "2024",
        "--crate-type",
        "lib",
        "--crate-name",
        "attempts",
        "--emit",
        "metadata",
    ]);
    for lint in LINTS {
        clippy.args(["-D", lint]);
    }
    for (name, file) in ["log", "tracing"].iter().zip(logs) {
        clippy.arg("--extern").arg(format!("{name}={}", file.display()));
    }
    clippy.arg("--out-dir").arg(folder).arg(&source);
    clippy.env("CLIPPY_CONF_DIR", root().join(room)).current_dir(root());
    String::from_utf8(clippy.output().unwrap().stderr).unwrap()
}

/// The paths that a room's configuration names.
fn listed(room: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(root().join(room).join("clippy.toml")).unwrap();
    let document: toml::Table = text.parse().unwrap();
    let lists = ["disallowed-macros", "disallowed-methods", "disallowed-types"];
    let items = lists.iter().flat_map(|list| document[*list].as_array().unwrap());
    items.map(|item| item["path"].as_str().unwrap().to_owned()).collect()
}
