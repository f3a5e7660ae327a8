//! No text that a dependency would log is in the programs. The texts are taken from the dependencies' own sources, whatever
//! their versions: each literal of each log macro, cut at what would be filled in.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use tests::binaries;

/// What log macros are called, in `log`, `tracing` and what wraps them.
const MACROS: [&str; 9] =
    ["trace!(", "debug!(", "info!(", "warn!(", "error!(", "event!(", "log!(", "span!(", "debug_span!("];

/// Shorter texts are parts of others by chance.
const LONG_ENOUGH: usize = 14;

#[test]
fn no_text_that_a_dependency_would_log_is_in_the_programs() {
    let folder = binaries::folder().unwrap();
    let programs = ["vpnd", "coordinator", "relay"].map(|name| (name, fs::read(folder.join(name)).unwrap()));
    let mut counts = BTreeMap::new();
    // By how they begin, so that each program is gone through once.
    let mut texts: HashMap<Vec<u8>, Vec<(String, String)>> = HashMap::new();
    for (package, source) in sources() {
        let logged = logged(&source);
        counts.insert(package.clone(), logged.len());
        for text in logged {
            texts.entry(text.as_bytes()[..LONG_ENOUGH].to_vec()).or_default().push((package.clone(), text));
        }
    }
    let mut found = Vec::new();
    for (name, program) in &programs {
        for (at, window) in program.windows(LONG_ENOUGH).enumerate() {
            let Some(begun) = texts.get(window) else { continue };
            let there = begun.iter().filter(|(_, text)| program[at..].starts_with(text.as_bytes()));
            found.extend(there.map(|(package, text)| format!("{name}: {package} would log `{text}`")));
        }
    }
    assert!(found.is_empty(), "\n  {}\n", found.join("\n  "));
    // It does look: the crates that log most are among them, and vpnd holds what it says itself.
    for package in ["boringtun", "rustls", "hyper", "tokio", "mio", "sqlx-core", "netlink-proto"] {
        assert!(counts.get(package).is_some_and(|count| *count > 0), "{package} logs nothing?");
    }
    assert!(programs[0].1.windows(11).any(|window| window == b"vpnd: ready"));
    println!("{} texts of {} packages, none in the programs", counts.values().sum::<usize>(), counts.len());
}

/// The literals of all log macros in a source, as far as they are nowhere else in it: what is an error's text too says
/// nothing of logging.
fn logged(source: &str) -> BTreeSet<String> {
    let mut inside = Vec::new();
    for name in MACROS {
        for (at, _) in source.match_indices(name) {
            let part = |letter: char| letter.is_alphanumeric() || letter == '_';
            if name.starts_with("span") || !source[..at].chars().next_back().is_some_and(part) {
                inside.extend(literals(&source[at + name.len()..]));
            }
        }
    }
    let pieces = inside.iter().flat_map(|literal| literal.split(['{', '}', '\\', '\n'])).map(str::trim);
    let texts: BTreeSet<&str> = pieces.filter(|piece| piece.len() >= LONG_ENOUGH).collect();
    texts
        .into_iter()
        .filter(|text| {
            let logged: usize = inside.iter().map(|literal| literal.matches(text).count()).sum();
            source.matches(text).count() <= logged
        })
        .map(str::to_owned)
        .collect()
}

/// The string literals up to the bracket that closes the macro.
fn literals(text: &str) -> Vec<String> {
    let (mut depth, mut literals, mut letters) = (1, Vec::new(), text.chars());
    while let Some(letter) = letters.next() {
        match letter {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            '"' => {
                let mut literal = String::new();
                while let Some(letter) = letters.next() {
                    match letter {
                        '"' => break,
                        '\\' => literal.extend(letters.next().map(|_| '\\')),
                        letter => literal.push(letter),
                    }
                }
                literals.push(literal);
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    literals
}

/// All sources of every dependency, those for other systems left out.
fn sources() -> BTreeMap<String, String> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline"])
        .args(["--filter-platform", &format!("{}-unknown-linux-gnu", std::env::consts::ARCH)])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut sources: BTreeMap<String, String> = BTreeMap::new();
    let packages: BTreeMap<&str, &Value> = metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| (package["id"].as_str().unwrap(), package))
        .collect();
    for node in metadata["resolve"]["nodes"].as_array().unwrap() {
        let package = packages[node["id"].as_str().unwrap()];
        if package["source"].is_null() {
            continue;
        }
        let manifest = Path::new(package["manifest_path"].as_str().unwrap());
        let name = package["name"].as_str().unwrap().to_owned();
        rust_files(&manifest.parent().unwrap().join("src"), sources.entry(name).or_default());
    }
    sources
}

fn rust_files(folder: &Path, text: &mut String) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    for path in paths {
        if path.is_dir() {
            rust_files(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            *text += &fs::read_to_string(&path).unwrap_or_default();
        }
    }
}

#[test]
fn texts_are_taken_from_log_macros_alone() {
    let source = r#"
        debug!(target: "x", "Received handshake from {}, \"quoted\" and more of it", peer);
        let error = "a text that an error has too"; warn!("a text that an error has too");
        my_info!("not a macro of logging"); info!(name = "a field of it", "short");
    "#;
    let texts: Vec<String> = logged(source).into_iter().collect();
    assert_eq!(texts, ["Received handshake from", "and more of it"]);
}
