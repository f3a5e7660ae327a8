//! What the rules look at: packages, manifests and sources, read once per test.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use cargo_metadata::{CargoOpt, MetadataCommand};

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

pub(crate) struct Workspace {
    pub(crate) packages: Vec<Package>,
    pub(crate) manifests: Vec<File>,
    pub(crate) sources: Vec<File>,
}

impl Workspace {
    pub(crate) fn load() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned();
        let metadata = MetadataCommand::new()
            .manifest_path(root.join("Cargo.toml"))
            .features(CargoOpt::AllFeatures)
            .other_options(["--locked", "--filter-platform", target_triple()].map(str::to_owned))
            .exec()
            .unwrap();
        let graph = metadata.resolve.as_ref().unwrap();
        let packages = graph
            .nodes
            .iter()
            .map(|node| {
                let package = &metadata[&node.id];
                Package {
                    name: package.name.to_string(),
                    ours: metadata.workspace_members.contains(&node.id),
                    licence: package.license.clone(),
                    source: package.source.as_ref().map(ToString::to_string),
                    needs: node
                        .deps
                        .iter()
                        .filter(|dep| {
                            dep.dep_kinds
                                .iter()
                                .any(|kind| kind.kind != cargo_metadata::DependencyKind::Development)
                        })
                        .map(|dep| metadata[&dep.pkg].name.to_string())
                        .collect(),
                }
            })
            .collect();
        let manifests = metadata
            .workspace_packages()
            .iter()
            .map(|package| read(&root, package.manifest_path.as_std_path()))
            .collect();
        let mut sources = Vec::new();
        for package in metadata.workspace_packages() {
            rust_files(package.manifest_path.parent().unwrap().as_std_path(), &mut |path| {
                sources.push(read(&root, path));
            });
        }
        assert!(sources.len() > 20, "the sources are found");
        Self { packages, manifests, sources }
    }
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
