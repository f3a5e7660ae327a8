//! `cargo xtask test`: every check in turn, all of them even when one fails, and one line each at the end.

use std::{
    fs,
    io::{BufRead as _, BufReader, IsTerminal as _, Write as _},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use crate::{audit, bench, cargo, matrix, outcome::Outcome, packages, root};

/// How much is checked.
pub(crate) struct Scope {
    /// The end-to-end tests too.
    pub(crate) lab: bool,
    /// Every sample of what CI samples.
    pub(crate) long: bool,
}

/// The name of the one test program that needs root and a laboratory.
const END_TO_END: &str = "e2e";

struct Check {
    name: &'static str,
    outcome: Outcome,
    took: Duration,
    hint: String,
}

impl Check {
    /// A check that could not be made, which is no success.
    fn impossible(name: &'static str, hint: &str) -> Self {
        let outcome = Outcome { passed: 0, failed: 1 };
        Self { name, outcome, took: Duration::ZERO, hint: hint.to_owned() }
    }
}

/// Runs all checks and prints the summary. True if all of them hold.
///
/// # Errors
/// Where Cargo itself cannot be run.
pub(crate) fn test(scope: &Scope) -> Result<bool> {
    let began = Instant::now();
    // First: tests of single crates make network devices too, where they may.
    let laboratory = if scope.lab { packages::prepare_lab() } else { Ok(()) };
    let mut checks = vec![
        yes_or_no("format", cargo().args(["fmt", "--all", "--check"]), "cargo fmt --all")?,
        yes_or_no(
            "lints",
            cargo().args("clippy --release --locked --workspace --all-targets -- -D warnings".split(' ')),
            "cargo clippy --release --workspace --all-targets",
        )?,
        yes_or_no(
            "build",
            cargo().args("build --release --locked --workspace".split(' ')),
            "cargo build --release --workspace",
        )?,
        yes_or_no(
            "documentation",
            cargo()
                .args("doc --release --locked --workspace --no-deps --document-private-items".split(' '))
                .env("RUSTDOCFLAGS", "-D warnings -A rustdoc::private_intra_doc_links"),
            "cargo doc --workspace --no-deps --document-private-items",
        )?,
    ];
    let nextest =
        cargo().args(["nextest", "--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
    let runner = if nextest.success() { Runner::Nextest } else { Runner::Cargo };
    checks.push(counted("unit tests", &mut runner.unit_tests()?, scope)?);
    checks.push(yes_or_no_quiet(
        "examples in the documentation",
        cargo().args("test --release --locked --workspace --doc --quiet".split(' ')),
    )?);
    checks.push(simulated("simulator", &[], scope)?);
    checks.push(simulated("simulator with real Noise", &["--features", "real"], scope)?);
    if scope.lab {
        checks.push(judged(
            "instructions of a packet's way",
            bench::instructions,
            "cargo xtask bench instructions",
        ));
        checks.push(match &laboratory {
            Ok(()) => counted("end to end", &mut runner.end_to_end(), scope)?,
            Err(error) => Check::impossible("end to end", &format!("{error:#}")),
        });
        checks.push(audited("canary audit", audit::Options::default(), &laboratory));
    }
    if scope.long {
        nightly(runner, scope, &laboratory, &mut checks)?;
    }
    Ok(summary(&checks, began.elapsed()))
}

/// What is too slow for every change, or needs the network.
fn nightly(runner: Runner, scope: &Scope, laboratory: &Result<()>, checks: &mut Vec<Check>) -> Result<()> {
    if laboratory.is_ok() {
        let mut natlab = Command::new(tests::binaries::lab_file("natlab.sh"));
        checks.push(yes_or_no(
            "the laboratory itself",
            natlab.arg("selftest"),
            "tests/lab/natlab.sh selftest",
        )?);
        checks.push(judged(
            "every NAT against every other, and bad days",
            matrix::whole,
            "cargo xtask matrix",
        ));
        checks.push(judged("gigabytes, byte by byte", bench::transfers, "cargo xtask bench transfer"));
        let mut hour = runner.end_to_end_of("silence::");
        hour.env("TACET_SILENCE", "3600");
        checks.push(counted("an hour without a byte written", &mut hour, scope)?);
        let mut many = runner.end_to_end_of("many::");
        many.env("TACET_MACHINES", "64");
        checks.push(counted("64 machines in one network", &mut many, scope)?);
    }
    let mut model = runner.unit_tests_of("vpnd", "trial::model");
    model.env("TACET_TRIALS", "100000");
    checks.push(counted("trust: 100,000 sequences", &mut model, scope)?);
    let shipped = audit::Options { dist: true, ..audit::Options::default() };
    checks.push(audited("canary audit of what is shipped", shipped, laboratory));
    let deny = cargo().args(["deny", "--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
    checks.push(if deny.success() {
        yes_or_no("advisories, bans, licences, sources", cargo().args(["deny", "check"]), "cargo deny check")?
    } else {
        Check::impossible("advisories, bans, licences, sources", "cargo install --locked cargo-deny")
    });
    Ok(())
}

/// The kept inputs of the simulator, and new seeds on all cores: half of CI's minute (of two processors' time) in each of its
/// modes. A call of its own, for with real Noise boringtun's clock is not the one of everything else.
///
/// Where the seeds begin follows from the sources of `mesh`: a change of it meets seeds that nobody tried, a change of
/// anything else cannot fail by chance. The nightly run begins anywhere.
fn simulated(name: &'static str, features: &[&str], scope: &Scope) -> Result<Check> {
    let mut command = cargo();
    command.args("run --release --locked --package sim".split(' ')).args(features);
    command.args(["--", "--corpus", "--seconds", if scope.long { "600" } else { "15" }]);
    if !scope.long {
        command.args(["--seed", &digest(&root().join("mesh/src"))?.to_string()]);
    }
    yes_or_no(name, &mut command, "keep the input printed above in tests/sim/corpus, and mend what it shows")
}

/// A number that follows from all files in a folder (FNV-1a).
fn digest(folder: &Path) -> Result<u64> {
    let mut digest = 0xcbf2_9ce4_8422_2325;
    let mut left = vec![folder.to_owned()];
    while let Some(path) = left.pop() {
        if path.is_dir() {
            let mut entries: Vec<_> =
                fs::read_dir(&path)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
            entries.sort();
            left.extend(entries);
        } else {
            for byte in fs::read(&path)? {
                digest = (digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
    }
    Ok(digest)
}

/// The canary audit; without a laboratory there is none.
fn audited(name: &'static str, options: audit::Options, laboratory: &Result<()>) -> Check {
    if let Err(error) = laboratory {
        return Check::impossible(name, &format!("{error:#}"));
    }
    judged(name, || audit::run(options), "cargo xtask audit --keep")
}

/// A check that says itself whether all holds.
fn judged(name: &'static str, run: impl FnOnce() -> Result<bool>, hint: &str) -> Check {
    heading(name);
    let began = Instant::now();
    let holds = run().unwrap_or_else(|error| {
        println!("{error:#}");
        false
    });
    let outcome = Outcome { passed: u32::from(holds), failed: u32::from(!holds) };
    Check { name, outcome, took: began.elapsed(), hint: hint.to_owned() }
}

/// Which program runs the tests.
#[derive(Clone, Copy)]
enum Runner {
    Nextest,
    Cargo,
}

impl Runner {
    fn unit_tests(self) -> Result<Command> {
        let mut arguments = vec!["--workspace", "--lib", "--bins"];
        let programs = test_programs()?;
        for name in programs.iter().filter(|name| *name != END_TO_END) {
            arguments.extend(["--test", name]);
        }
        Ok(self.command(&format!("not binary({END_TO_END})"), &arguments))
    }

    /// Those unit tests of a crate whose names hold `part`.
    fn unit_tests_of(self, package: &str, part: &str) -> Command {
        let filter = format!("package({package}) & kind(lib) & test({part})");
        self.command(&filter, &["--package", package, "--lib", "--", part])
    }

    /// Those end-to-end tests whose names hold `part`.
    fn end_to_end_of(self, part: &str) -> Command {
        let filter = format!("binary({END_TO_END}) & test({part})");
        self.command(&filter, &["--workspace", "--test", END_TO_END, "--", part])
    }

    fn end_to_end(self) -> Command {
        let arguments = ["--workspace", "--test", END_TO_END, "--", "--test-threads=2"];
        let mut command = self.command(&format!("binary({END_TO_END})"), &arguments);
        if let Self::Nextest = self {
            // Two that work and one that waits; `.config/nextest.toml` says which.
            command.args(["--test-threads", "3"]);
        }
        command
    }

    /// The tests that nextest finds by `filter`, and cargo by `arguments`.
    fn command(self, filter: &str, arguments: &[&str]) -> Command {
        let mut command = cargo();
        match self {
            Self::Nextest => {
                command.args("nextest run --release --locked --workspace --color never -E".split(' '));
                command.arg(filter);
            }
            Self::Cargo => {
                command.args("test --release --locked --no-fail-fast".split(' ')).args(arguments);
            }
        }
        command
    }
}

/// Names of all test programs of the workspace.
fn test_programs() -> Result<Vec<String>> {
    let output = cargo()
        .args(["metadata", "--format-version", "1", "--no-deps", "--locked"])
        .stderr(Stdio::inherit())
        .output()
        .context("cargo metadata did not start")?;
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).context("cargo metadata printed no JSON")?;
    let targets = metadata["packages"].as_array().into_iter().flatten();
    Ok(targets
        .flat_map(|package| package["targets"].as_array().into_iter().flatten())
        .filter(|target| {
            target["kind"].as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == "test"))
        })
        .filter_map(|target| target["name"].as_str().map(str::to_owned))
        .collect())
}

/// A check that holds or does not: one test of ours.
fn yes_or_no(name: &'static str, command: &mut Command, hint: &str) -> Result<Check> {
    heading(name);
    let began = Instant::now();
    let holds = command.status().with_context(|| format!("{name}: cargo did not start"))?.success();
    let outcome = Outcome { passed: u32::from(holds), failed: u32::from(!holds) };
    Ok(Check { name, outcome, took: began.elapsed(), hint: hint.to_owned() })
}

/// The same for a command whose output matters only when it fails.
fn yes_or_no_quiet(name: &'static str, command: &mut Command) -> Result<Check> {
    heading(name);
    let began = Instant::now();
    let output = command.output().with_context(|| format!("{name}: cargo did not start"))?;
    let holds = output.status.success();
    if !holds {
        std::io::stdout().write_all(&output.stdout)?;
        std::io::stdout().write_all(&output.stderr)?;
    }
    let outcome = Outcome { passed: u32::from(holds), failed: u32::from(!holds) };
    Ok(Check {
        name,
        outcome,
        took: began.elapsed(),
        hint: "cargo test --release --workspace --doc".to_owned(),
    })
}

/// A check made of tests that the runner counts. What it prints is shown as it comes.
fn counted(name: &'static str, command: &mut Command, scope: &Scope) -> Result<Check> {
    heading(name);
    let began = Instant::now();
    if scope.long {
        // With room for the long ones (.config/nextest.toml).
        command.env(tests::LONG, "1").env("NEXTEST_PROFILE", "nightly");
    }
    // Both runners' output in one stream: nextest summarises on stderr, cargo test on stdout.
    let (reader, writer) = std::io::pipe()?;
    command.stdout(writer.try_clone()?).stderr(writer);
    let mut child = command.spawn().with_context(|| format!("{name}: cargo did not start"))?;
    command.stdout(Stdio::null()).stderr(Stdio::null()); // drops our ends, so that the stream ends with the child
    let mut outcome = Outcome::default();
    for line in BufReader::new(reader).split(b'\n') {
        let line = line?;
        std::io::stdout().write_all(&line)?;
        println!();
        outcome.read(&String::from_utf8_lossy(&line));
    }
    if !child.wait()?.success() && outcome.failed == 0 {
        outcome.failed = 1; // it did not compile, or a test program died
    } else if outcome.passed + outcome.failed == 0 {
        outcome.failed = 1; // nothing ran: that is no success
    }
    let hint = "the failures above; one of them alone: cargo test --release --workspace NAME".to_owned();
    Ok(Check { name, outcome, took: began.elapsed(), hint })
}

fn heading(name: &str) {
    if std::io::stdout().is_terminal() {
        println!("\n\x1b[1m== {name}\x1b[0m");
    } else {
        println!("\n== {name}");
    }
}

fn summary(checks: &[Check], took: Duration) -> bool {
    println!("\n== summary, {} s", took.as_secs());
    for check in checks {
        let Outcome { passed, failed } = check.outcome;
        let verdict = if failed == 0 { "ok" } else { "FAILED" };
        println!(
            "{:<36} {verdict:<7} {passed:>5} passed {failed:>3} failed {:>5} s",
            check.name,
            check.took.as_secs()
        );
        if failed > 0 {
            println!("    {}", check.hint);
        }
    }
    let passed: u32 = checks.iter().map(|check| check.outcome.passed).sum();
    let failed: u32 = checks.iter().map(|check| check.outcome.failed).sum();
    println!("\n{passed} passed, {failed} failed");
    failed == 0
}
