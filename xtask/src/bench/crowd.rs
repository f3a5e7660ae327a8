//! The crowd that `peers` and `scaling` measure with (`tests/bench/src/bin/crowd`), and what becomes of its documents.

use std::{
    env, fs,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde_json::{Value, json};
use tests::turn::Turn;

use super::machine::{self, Machine};
use crate::{cargo, packages, root};

/// Where results are kept.
const KEPT: &str = "docs/benchmarks";

/// What is measured, as the crowd calls it and as tables do.
pub(super) const SIDES: [(&str, &str); 2] = [("device", "plain interface"), ("mesh", "mesh")];

/// What becomes of the results.
#[derive(Args)]
pub(super) struct Output {
    /// Write the tables and the document to docs/benchmarks, where they have this benchmark's name.
    #[arg(long)]
    save: bool,
    /// Print one JSON document in place of the tables.
    #[arg(long)]
    json: bool,
}

impl Output {
    /// Prints tables or the document, to which machine and version are added, and keeps both if that is asked for.
    pub(super) fn publish(&self, name: &str, title: &str, tables: &str, mut document: Value) -> Result<()> {
        let (machine, version) = (Machine::here(), machine::own_version());
        let head = format!(
            "# {title}\n\n`cargo xtask bench {name}`; [README.md](README.md) says what is measured.\n\n{}; vpnd {version}.\n\n",
            machine.line()
        );
        document["machine"] = json!(machine);
        document["version"] = json!(version);
        if self.json {
            println!("{document:#}");
        } else {
            println!("{tables}");
        }
        if self.save {
            let folder = root().join(KEPT);
            fs::write(folder.join(format!("{name}.md")), head + tables)?;
            fs::write(folder.join(format!("{name}.json")), document.to_string() + "\n")?;
        }
        Ok(())
    }

    /// Whether a person reads what is printed.
    pub(super) fn is_read(&self) -> bool {
        !self.json
    }
}

/// The program, built, with nobody else measuring.
pub(super) struct Crowd {
    program: PathBuf,
    vpnd: PathBuf,
    _alone: Turn,
}

impl Crowd {
    pub(super) fn prepare() -> Result<Self> {
        packages::prepare_lab()?;
        let built = cargo()
            .args("build --release --locked --workspace --bin crowd --bin vpnd".split(' '))
            .status()?
            .success();
        if !built {
            bail!("the build failed");
        }
        let program = |name: &str| -> Result<_> { Ok(env::current_exe()?.with_file_name(name)) };
        Ok(Self { program: program("crowd")?, vpnd: program("vpnd")?, _alone: Turn::alone()? })
    }

    /// What it measured, by its document.
    pub(super) fn measure(&self, what: &str, options: impl IntoIterator<Item = String>) -> Result<Value> {
        let output = Command::new(&self.program)
            .arg(what)
            .arg(&self.vpnd)
            .args(options)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()?;
        if !output.status.success() {
            bail!("the crowd could not be measured");
        }
        serde_json::from_slice(&output.stdout).context("the crowd printed no document")
    }
}

pub(super) fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(0.0)
}
