//! The rules, each from the model to a list of what breaks it.

use crate::{
    licence,
    workspace::{File, Package},
};

/// Which of our crates each of our crates may need. Those not named here may need any.
const ARROWS: [(&str, &[&str]); 8] = [
    ("proto", &[]),
    ("netio", &[]),
    ("sandbox", &[]),
    ("mesh", &["proto"]),
    ("vpnctl", &["proto"]),
    ("relay", &["proto", "sandbox"]),
    ("coordinator", &["proto", "relay", "sandbox"]),
    ("vpnd", &["proto", "mesh", "netio", "sandbox"]),
];

/// Crates that test, fuzz or package the others.
const FREE: [&str; 8] = ["tests", "sim", "sim-core", "sim-curve", "sim-noise", "hot-path", "xtask", "fuzz"];

/// Crates that may be nowhere in the graph; `deny.toml` says why each.
const BANNED: [&str; 16] = [
    "openssl",
    "openssl-sys",
    "native-tls",
    "rsa",
    "tor-llcrypto",
    "tracing-subscriber",
    "tracing-log",
    "env_logger",
    "simple_logger",
    "fern",
    "log4rs",
    "tower-http",
    "sentry",
    "opentelemetry",
    "metrics",
    "prometheus",
];

/// The programs name the logging crates for one purpose: to build them with every level off.
const SILENCERS: [&str; 2] = ["vpnd", "coordinator"];

/// Lines of a source file. Longer ones hold more than one idea.
const LONGEST: usize = 600;

/// Where `unsafe` is allowed: the system calls that no safe crate wraps, and those by which a test tries to break out.
const UNSAFE_ROOMS: [&str; 3] = ["netio/src/", "sandbox/src/", "tests/escape/kernel.rs"];

pub(crate) fn arrows(packages: &[Package]) -> Vec<String> {
    let ours: Vec<&Package> = packages.iter().filter(|package| package.ours).collect();
    let mut broken = Vec::new();
    for package in &ours {
        if FREE.contains(&package.name.as_str()) {
            continue;
        }
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == package.name) else {
            broken.push(format!("{} has no place in the table of arrows", package.name));
            continue;
        };
        for other in &ours {
            if package.needs.contains(&other.name) && !allowed.contains(&other.name.as_str()) {
                broken.push(format!("{} must not need {}", package.name, other.name));
            }
        }
    }
    broken
}

pub(crate) fn banned(packages: &[Package]) -> Vec<String> {
    packages
        .iter()
        .filter(|package| BANNED.contains(&package.name.as_str()))
        .map(|package| {
            let by: Vec<&str> = packages
                .iter()
                .filter(|other| other.needs.contains(&package.name))
                .map(|other| other.name.as_str())
                .collect();
            format!("{} is banned; {} brings it in", package.name, by.join(", "))
        })
        .collect()
}

pub(crate) fn licences(packages: &[Package]) -> Vec<String> {
    packages
        .iter()
        .filter(|package| !package.licence.as_deref().is_some_and(licence::allowed))
        .map(|package| {
            format!(
                "{}: the licence {} is not on the list",
                package.name,
                package.licence.as_deref().unwrap_or("(none)")
            )
        })
        .collect()
}

pub(crate) fn sources(packages: &[Package]) -> Vec<String> {
    packages
        .iter()
        .filter(|package| match &package.source {
            Some(source) => source != "registry+https://github.com/rust-lang/crates.io-index",
            None => !package.ours,
        })
        .map(|package| format!("{} does not come from crates.io", package.name))
        .collect()
}

pub(crate) fn logging(packages: &[Package]) -> Vec<String> {
    packages
        .iter()
        .filter(|package| package.ours && !SILENCERS.contains(&package.name.as_str()))
        .filter(|package| package.needs.contains("log") || package.needs.contains("tracing"))
        .map(|package| format!("{} must not need a logging crate", package.name))
        .collect()
}

pub(crate) fn inheritance(manifests: &[File]) -> Vec<String> {
    let mut broken = Vec::new();
    for manifest in manifests {
        let document: toml::Table = manifest.text.parse().unwrap();
        let inherits = |table: &str, key: &str| {
            document.get(table).and_then(|value| value.get(key)).is_some_and(|value| match value {
                toml::Value::Table(table) => {
                    table.get("workspace").and_then(toml::Value::as_bool) == Some(true)
                }
                other => table == "lints" && other.as_bool() == Some(true),
            })
        };
        for key in ["edition", "license", "publish", "rust-version", "version"] {
            if !inherits("package", key) {
                broken.push(format!("{}: `{key}` is not the workspace's", manifest.path));
            }
        }
        if !inherits("lints", "workspace") {
            broken.push(format!("{}: the lints are not the workspace's", manifest.path));
        }
    }
    broken
}

pub(crate) fn lengths(sources: &[File]) -> Vec<String> {
    sources
        .iter()
        .filter_map(|file| {
            let lines = file.text.lines().count();
            (lines > LONGEST).then(|| format!("{}: {lines} lines, more than {LONGEST}", file.path))
        })
        .collect()
}

pub(crate) fn unsafe_code(sources: &[File]) -> Vec<String> {
    // The lint denies `unsafe`; only a file that lifts the lint can hold any.
    let lint = concat!("unsafe", "_code");
    sources
        .iter()
        .filter(|file| !UNSAFE_ROOMS.iter().any(|room| file.path.starts_with(room)))
        .filter(|file| code_lines(&file.text).any(|line| line.contains(lint) && line.contains("#")))
        .map(|file| format!("{}: lifts the ban on unsafe code", file.path))
        .collect()
}

pub(crate) fn log_macros(sources: &[File]) -> Vec<String> {
    let mut broken = Vec::new();
    for file in sources {
        for line in code_lines(&file.text) {
            for family in ["log", "tracing"] {
                for level in ["error", "warn", "info", "debug", "trace", "event", "span"] {
                    if line.contains(&format!("{family}::{level}!")) {
                        broken.push(format!("{}: {family}::{level}", file.path));
                    }
                }
            }
            if line.contains(concat!("#[", "instrument")) || line.contains(concat!("tracing::", "instrument"))
            {
                broken.push(format!("{}: instruments a function", file.path));
            }
        }
    }
    broken
}

pub(crate) fn metadata_derives(sources: &[File]) -> Vec<String> {
    const ROOM: &str = "proto/src/metadata.rs";
    let Some(file) = sources.iter().find(|file| file.path == ROOM) else {
        return vec![format!("{ROOM} is gone: say in this rule where the metadata types live now")];
    };
    code_lines(&file.text)
        .filter(|line| {
            let derives = line.contains("derive(");
            let implements = line.starts_with("impl") && line.contains(" for ");
            (derives || implements)
                && ["Debug", "Display", "Serialize"].iter().any(|name| line.contains(name))
        })
        .map(|line| format!("{ROOM}: {line}"))
        .collect()
}

pub(crate) fn unfinished(sources: &[File]) -> Vec<String> {
    let marks = [
        concat!("to", "do!("),
        concat!("unimple", "mented!("),
        concat!("#[ig", "nore"),
        concat!("FIX", "ME"),
    ];
    sources
        .iter()
        .flat_map(|file| {
            marks.iter().filter(|mark| file.text.contains(*mark)).map(|mark| format!("{}: {mark}", file.path))
        })
        .collect()
}

/// A function of `fuzz/src/` that takes bytes is a target: it has a program of its name, listed in the manifest.
pub(crate) fn fuzz_targets(sources: &[File], manifests: &[File]) -> Vec<String> {
    let manifest = manifests.iter().find(|file| file.path == "fuzz/Cargo.toml").map_or("", |file| &file.text);
    sources
        .iter()
        .filter(|file| file.path.starts_with("fuzz/src/"))
        .flat_map(|file| file.text.lines())
        .filter_map(|line| line.strip_prefix("pub fn ")?.split_once("(data: &[u8])"))
        .map(|(name, _)| name)
        .filter(|name| {
            let path = format!("fuzz_targets/{name}.rs");
            let there = sources.iter().any(|file| file.path.strip_prefix("fuzz/") == Some(&path));
            !there || !manifest.contains(&format!("path = \"{path}\""))
        })
        .map(|name| format!("fuzz::{name} has no fuzz/fuzz_targets/{name}.rs in fuzz/Cargo.toml"))
        .collect()
}

fn code_lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.starts_with("//"))
}

#[cfg(test)]
mod each_rule_can_fail {
    use std::collections::BTreeSet;

    use super::*;

    const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

    fn ours(name: &str, needs: &[&str]) -> Package {
        Package {
            name: name.to_owned(),
            ours: true,
            licence: Some("MIT OR Apache-2.0".to_owned()),
            source: None,
            needs: needs.iter().map(|need| (*need).to_owned()).collect(),
        }
    }

    fn theirs(name: &str) -> Package {
        Package {
            name: name.to_owned(),
            ours: false,
            licence: Some("MIT".to_owned()),
            source: Some(CRATES_IO.to_owned()),
            needs: BTreeSet::new(),
        }
    }

    #[test]
    fn an_arrow_from_the_command_line_to_the_core_is_refused() {
        let good = [
            ours("proto", &[]),
            ours("mesh", &["proto"]),
            ours("vpnctl", &["proto"]),
            ours("tests", &["mesh"]),
        ];
        assert!(arrows(&good).is_empty());
        let bad = [ours("proto", &[]), ours("mesh", &["proto"]), ours("vpnctl", &["proto", "mesh"])];
        assert_eq!(arrows(&bad), ["vpnctl must not need mesh"]);
    }

    #[test]
    fn a_crate_without_a_place_in_the_table_is_refused() {
        assert_eq!(arrows(&[ours("helpers", &[])]), ["helpers has no place in the table of arrows"]);
    }

    #[test]
    fn a_banned_crate_is_named_with_who_brings_it_in() {
        assert!(banned(&[ours("vpnd", &["rustls"]), theirs("rustls")]).is_empty());
        assert_eq!(banned(&[ours("vpnd", &["rsa"]), theirs("rsa")]), ["rsa is banned; vpnd brings it in"]);
    }

    #[test]
    fn a_missing_or_strange_licence_is_refused() {
        assert!(licences(&[theirs("good")]).is_empty());
        assert_eq!(licences(&[Package { licence: None, ..theirs("bare") }]).len(), 1);
        assert_eq!(
            licences(&[Package { licence: Some("AGPL-3.0-only".to_owned()), ..theirs("strong") }]).len(),
            1
        );
    }

    #[test]
    fn a_git_dependency_or_a_path_outside_is_refused() {
        assert!(sources(&[theirs("good"), ours("proto", &[])]).is_empty());
        let git = Package { source: Some("git+https://example.org/x".to_owned()), ..theirs("forked") };
        assert_eq!(sources(&[git]).len(), 1);
        assert_eq!(sources(&[Package { source: None, ..theirs("elsewhere") }]).len(), 1);
    }

    #[test]
    fn a_logging_crate_in_the_core_is_refused() {
        assert!(logging(&[ours("vpnd", &["tracing"]), theirs("boringtun")]).is_empty());
        assert_eq!(logging(&[ours("mesh", &["tracing"])]).len(), 1);
    }

    #[test]
    fn a_manifest_with_its_own_edition_or_lints_is_refused() {
        let good = "[package]\nname = 'x'\nedition.workspace = true\nlicense.workspace = true\n\
            publish.workspace = true\nrust-version.workspace = true\nversion.workspace = true\n[lints]\nworkspace = true";
        assert!(inheritance(&[File::of("x/Cargo.toml", good)]).is_empty());
        let old = good.replace("edition.workspace = true", "edition = '2018'");
        assert_eq!(
            inheritance(&[File::of("x/Cargo.toml", &old)]),
            ["x/Cargo.toml: `edition` is not the workspace's"]
        );
        let lax = good.replace("[lints]\nworkspace = true", "");
        assert_eq!(
            inheritance(&[File::of("x/Cargo.toml", &lax)]),
            ["x/Cargo.toml: the lints are not the workspace's"]
        );
    }

    #[test]
    fn a_file_of_601_lines_is_refused() {
        assert!(lengths(&[File::of("a.rs", &"\n".repeat(600))]).is_empty());
        assert_eq!(lengths(&[File::of("a.rs", &"\n".repeat(601))]).len(), 1);
    }

    #[test]
    fn lifting_the_ban_on_unsafe_outside_the_system_call_layer_is_refused() {
        let lifted = format!("#[allow(unsafe{})]\nfn f() {{}}", "_code");
        assert!(
            unsafe_code(&[File::of("netio/src/tun.rs", &lifted), File::of("mesh/src/lib.rs", "fn f() {}")])
                .is_empty()
        );
        assert_eq!(unsafe_code(&[File::of("mesh/src/lib.rs", &lifted)]).len(), 1);
        let whole = lifted.replace("#[", "#![");
        assert_eq!(unsafe_code(&[File::of("vpnd/src/main.rs", &whole)]).len(), 1);
    }

    #[test]
    fn a_log_line_is_refused() {
        assert!(log_macros(&[File::of("a.rs", "// log::\u{77}arn! is never used")]).is_empty());
        assert_eq!(log_macros(&[File::of("a.rs", &format!("log::{}!(\"x\")", "warn"))]).len(), 1);
        assert_eq!(log_macros(&[File::of("a.rs", &format!("#[{}]", "instrument"))]).len(), 1);
    }

    #[test]
    fn a_printable_endpoint_is_refused() {
        let path = "proto/src/metadata.rs";
        assert!(
            metadata_derives(&[File::of(path, "#[derive(Clone, Copy)]\npub struct Endpoint;")]).is_empty()
        );
        assert_eq!(
            metadata_derives(&[File::of(path, "#[derive(Clone, Debug)]\npub struct Endpoint;")]).len(),
            1
        );
        assert_eq!(metadata_derives(&[File::of(path, "impl fmt::Display for Endpoint {")]).len(), 1);
        assert_eq!(metadata_derives(&[]).len(), 1);
    }

    #[test]
    fn a_parser_without_a_fuzzing_program_is_refused() {
        let parser = File::of("fuzz/src/api.rs", "pub fn api_request(data: &[u8]) {");
        let program = File::of("fuzz/fuzz_targets/api_request.rs", "");
        let listed = File::of("fuzz/Cargo.toml", "path = \"fuzz_targets/api_request.rs\"");
        assert_eq!(fuzz_targets(&[], &[]).len(), 0);
        assert_eq!(fuzz_targets(&[parser], &[]).len(), 1);
        let parser = File::of("fuzz/src/api.rs", "pub fn api_request(data: &[u8]) {");
        assert!(fuzz_targets(&[parser, program], &[listed]).is_empty());
    }

    #[test]
    fn unfinished_work_is_refused() {
        assert!(unfinished(&[File::of("a.rs", "fn f() {}")]).is_empty());
        assert_eq!(unfinished(&[File::of("a.rs", &format!("fn f() {{ {}!() }}", "todo"))]).len(), 1);
        assert_eq!(unfinished(&[File::of("a.rs", &format!("#[{}]", "ignore = \"slow\""))]).len(), 1);
    }
}
