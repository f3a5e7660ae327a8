//! What the rules look at: packages, manifests and sources, read once per test.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

/// A package of the dependency graph, ours or not.
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) ours: bool,
    /// SPDX expression of the manifest.
    pub(crate) licence: Option<String>,
    /// As Cargo writes it: `registry+…`, `git+…`; none for a path.
    pub(crate) source: Option<String>,
    /// Names of what it depends on to be built and run, tests left out.
    pub(crate) needs: BTreeSet<String>,
}

/// One file, by its path below the workspace's root.
pub(crate) struct File {
    pub(crate) path: String,
    pub(crate) text: String,
}

impl File {
    /// One with this text.
    pub(crate) fn of(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }
}

pub(crate) struct Workspace {
    pub(crate) packages: Vec<Package>,
    pub(crate) manifests: Vec<File>,
    pub(crate) sources: Vec<File>,
}

impl Workspace {
    pub(crate) fn load() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned();
        let metadata = metadata(&root);
        let members: BTreeSet<&str> = texts(&metadata["workspace_members"]).collect();
        let described: BTreeMap<&str, &Value> =
            items(&metadata["packages"]).map(|package| (text(&package["id"]), package)).collect();
        let name = |id: &str| text(&described[id]["name"]).to_owned();
        let packages = items(&metadata["resolve"]["nodes"])
            .map(|node| {
                let id = text(&node["id"]);
                let needed = |dep: &&Value| items(&dep["dep_kinds"]).any(|kind| kind["kind"] != "dev");
                Package {
                    name: name(id),
                    ours: members.contains(id),
                    licence: described[id]["license"].as_str().map(str::to_owned),
                    source: described[id]["source"].as_str().map(str::to_owned),
                    needs: items(&node["deps"]).filter(needed).map(|dep| name(text(&dep["pkg"]))).collect(),
                }
            })
            .collect();
        let manifest_paths: Vec<&Path> =
            members.iter().map(|id| Path::new(text(&described[id]["manifest_path"]))).collect();
        let manifests = manifest_paths.iter().map(|path| read(&root, path)).collect();
        let mut sources = Vec::new();
        for path in manifest_paths {
            rust_files(path.parent().unwrap(), &mut |path| sources.push(read(&root, path)));
        }
        assert!(sources.len() > 20, "the sources are found");
        Self { packages, manifests, sources }
    }
}

/// The graph with every feature on, for the system that Tacet is for.
fn metadata(root: &Path) -> Value {
    let output = Command::new(env!("CARGO"))
        .args("metadata --format-version 1 --locked --all-features --filter-platform".split(' '))
        .arg(target_triple())
        .current_dir(root)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().unwrap().iter()
}

fn texts(list: &Value) -> impl Iterator<Item = &str> {
    items(list).map(text)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn target_triple() -> &'static str {
    if cfg!(target_arch = "aarch64") { "aarch64-unknown-linux-gnu" } else { "x86_64-unknown-linux-gnu" }
}

fn read(root: &Path, path: &Path) -> File {
    File {
        path: path.strip_prefix(root).unwrap().to_string_lossy().into_owned(),
        text: fs::read_to_string(path).unwrap(),
    }
}

fn rust_files(folder: &Path, each: &mut dyn FnMut(&Path)) {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() && !path.ends_with("target") {
            rust_files(&path, each);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            each(&path);
        }
    }
}
