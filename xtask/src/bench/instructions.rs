//! How many instructions a packet costs, counted by valgrind: the same in every run, however busy the machine is.
//!
//! Counted is what compiled code of ours does, with that of the crates under it, along the way of `tests/bench`. What
//! depends on the processor or the system is not: the cipher (ring chooses its code by what the processor has) and the C
//! library (so does its `memcpy`). Of the latter the calls are counted instead: a copy or an allocation more for each packet
//! shows there. So the counts follow from the sources, `Cargo.lock` and the toolchain alone, and from whether the processor has
//! AVX2; neither from the machine otherwise nor from valgrind's version. Another toolchain may generate other code: the baseline
//! says with which it was taken.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result, anyhow, bail};
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::{cargo, packages, root};

/// What is counted against.
const BASELINE: &str = "tests/bench/instructions.toml";

/// How much more than the baseline is a regression: less is what an unrelated change moves by chance, as the compiler
/// inlines other things.
const ALLOWED: f64 = 0.05;

/// Packets that go either way, in `tests/bench`.
const PACKETS: f64 = 744.0;

/// Which way is counted: functions of `tests/bench`.
const WAYS: [&str; 2] = ["outgoing", "incoming"];

#[derive(Args, Clone, Copy, Default)]
pub(crate) struct Options {
    /// Keep these counts: what later ones are compared with.
    #[arg(long)]
    accept: bool,
}

/// What one way costs, for all packets together.
#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Cost {
    /// Instructions outside of cipher and C library.
    instructions: u64,
    /// Calls into the C library.
    calls: u64,
}

/// Counts that were accepted.
#[derive(Serialize, Deserialize)]
struct Baseline {
    /// The processor, as [`architecture`] has it.
    architecture: String,
    /// The compiler.
    toolchain: String,
    outgoing: Cost,
    incoming: Cost,
}

/// A count, and what is left out of it.
#[derive(Default)]
struct Count {
    cost: Cost,
    cipher: u64,
    in_libc: u64,
}

/// Counts, and says whether nothing costs more than it did.
pub(crate) fn run(options: Options) -> Result<bool> {
    packages::prepare_lab()?;
    // Incremental builds are other code.
    let built = cargo()
        .args("build --release --locked --workspace --bin hot-path".split(' '))
        .env("CARGO_INCREMENTAL", "0")
        .status()?;
    if !built.success() {
        bail!("the build failed");
    }
    let program = std::env::current_exe()?.with_file_name("hot-path");
    let mut counts = Vec::new();
    for way in WAYS {
        counts.push(count(&program, way)?);
    }
    let [outgoing, incoming] = &counts[..] else { bail!("there are two ways") };
    let found = Baseline {
        architecture: architecture(),
        toolchain: toolchain()?,
        outgoing: outgoing.cost,
        incoming: incoming.cost,
    };
    let file = root().join(BASELINE);
    if options.accept {
        let note = "# What a packet's way costs: `cargo xtask bench instructions --accept` writes this.\n";
        fs::write(&file, note.to_owned() + &toml::to_string(&found)?)?;
    }
    let text =
        fs::read_to_string(&file).with_context(|| format!("{BASELINE} is not there: --accept makes it"))?;
    let baseline: Baseline = toml::from_str(&text).with_context(|| format!("{BASELINE} cannot be read"))?;
    println!(
        "for each packet{:>15}{:>15}{:>10}{:>15}{:>18}",
        "instructions", "accepted", "", "library calls", "left out: cipher"
    );
    for ((way, count), was) in WAYS.iter().zip(&counts).zip([baseline.outgoing, baseline.incoming]) {
        let each = |total: u64| total as f64 / PACKETS;
        println!(
            "{way:<15}{:>15.1}{:>15.1}{:>+9.1}%{:>15.2}{:>18.0}",
            each(count.cost.instructions),
            each(was.instructions),
            100.0 * (ratio(count.cost.instructions, was.instructions) - 1.0),
            each(count.cost.calls),
            each(count.cipher),
        );
    }
    Ok(judge(&found, &baseline))
}

/// Whether nothing costs noticeably more than it did; says what does.
fn judge(found: &Baseline, baseline: &Baseline) -> bool {
    if found.architecture != baseline.architecture {
        println!(
            "nothing is compared: the baseline is of {}, this is {}",
            baseline.architecture, found.architecture
        );
        return true;
    }
    let mut worse = Vec::new();
    for (way, now, was) in
        [(WAYS[0], found.outgoing, baseline.outgoing), (WAYS[1], found.incoming, baseline.incoming)]
    {
        for (what, now, was) in
            [("instructions", now.instructions, was.instructions), ("library calls", now.calls, was.calls)]
        {
            if ratio(now, was) > 1.0 + ALLOWED {
                worse.push(format!("{way}: {now} {what}, {was} before"));
            }
        }
    }
    for line in &worse {
        println!("{line}");
    }
    if !worse.is_empty() {
        println!(
            "that is more than {:.0} % beyond {BASELINE}: make it cheaper, or accept it with \
             `cargo xtask bench instructions --accept` and say why in the commit",
            100.0 * ALLOWED
        );
        if found.toolchain != baseline.toolchain {
            println!("the baseline is of {}, this is {}", baseline.toolchain, found.toolchain);
        }
    }
    worse.is_empty()
}

fn ratio(now: u64, was: u64) -> f64 {
    now as f64 / was.max(1) as f64
}

/// Counts one way.
fn count(program: &Path, way: &str) -> Result<Count> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("counts");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--compress-strings=no", "--compress-pos=no"])
        .arg(format!("--callgrind-out-file={}", file.display()))
        .arg(format!("--toggle-collect=hot_path::{way}*"))
        .arg(program)
        .output()
        .context("valgrind did not start")?;
    if !output.status.success() {
        bail!("counting failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let count = read(&fs::read_to_string(file)?, &program.to_string_lossy());
    if count.cost.instructions == 0 || count.cipher == 0 {
        bail!("valgrind counted nothing in `hot_path::{way}`");
    }
    Ok(count)
}

/// Reads Callgrind's output, in which each function stands with the object file it is in, its own cost line by line, and
/// its calls, each with the cost of what was called in the line below (Valgrind's manual, "Callgrind Format
/// Specification").
fn read(text: &str, program: &str) -> Count {
    let mut count = Count::default();
    let (mut object, mut function, mut called) = ("", "", None);
    let mut of_call = false;
    for line in text.lines() {
        if let Some((key, value)) = line.split_once('=') {
            match key {
                "ob" => object = value,
                "fn" => function = value,
                "cob" => called = Some(value),
                "calls" => {
                    let times = value.split(' ').next().and_then(|times| times.parse().ok()).unwrap_or(0);
                    if object == program && called.is_some_and(|called| called != program) {
                        count.cost.calls += times;
                    }
                    (called, of_call) = (None, true);
                }
                _ => {}
            }
            continue;
        }
        let own = line.split_once(' ').filter(|(at, _)| at.parse::<u64>().is_ok());
        let Some(instructions) = own.and_then(|(_, cost)| cost.parse::<u64>().ok()) else { continue };
        if std::mem::take(&mut of_call) {
            continue;
        }
        if object != program {
            count.in_libc += instructions;
        } else if is_cipher(function) {
            count.cipher += instructions;
        } else {
            count.cost.instructions += instructions;
        }
    }
    count
}

/// Whether a function is of ring: its assembler, or the Rust around that.
fn is_cipher(function: &str) -> bool {
    ["ring_core_", "poly_hash", "poly1305", "chacha"].iter().any(|start| function.starts_with(start))
        || function.match_indices("ring::").any(|(at, _)| {
            !function[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_')
        })
}

/// The processor as far as our own code asks what it has: checksums do (`netio`).
fn architecture() -> String {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        return "x86_64 with AVX2".to_owned();
    }
    std::env::consts::ARCH.to_owned()
}

fn toolchain() -> Result<String> {
    let output = Command::new("rustc").current_dir(root()).arg("--version").output()?;
    let version = String::from_utf8(output.stdout)?;
    version.split(' ').nth(1).map(str::to_owned).ok_or_else(|| anyhow!("rustc says no version"))
}

#[cfg(test)]
mod tests {
    use super::{Baseline, Cost, judge, read};

    const COUNTS: &str = "\
version: 1
events: Ir
ob=/bin/hot-path
fl=???
fn=hot_path::outgoing
0 100
cob=/lib/libc.so.6
cfi=???
cfn=memcpy
calls=7 0
0 900
cfn=ring_core_0_17_14__chacha20_poly1305_seal_avx2
calls=3 0
0 5000
0 20

fn=ring_core_0_17_14__chacha20_poly1305_seal_avx2
0 5000

fn=alloc::string::String::push
0 4

ob=/lib/libc.so.6
fn=memcpy
0 900
";

    #[test]
    fn own_instructions_are_told_from_the_ciphers_and_the_librarys() {
        let count = read(COUNTS, "/bin/hot-path");
        assert_eq!(count.cost.instructions, 124);
        assert_eq!(count.cost.calls, 7);
        assert_eq!(count.cipher, 5_000);
        assert_eq!(count.in_libc, 900);
    }

    #[test]
    fn more_than_a_twentieth_more_is_a_regression() {
        let of = |instructions, calls| Baseline {
            architecture: "x86_64".to_owned(),
            toolchain: "1".to_owned(),
            outgoing: Cost { instructions: 1_000, calls: 100 },
            incoming: Cost { instructions, calls },
        };
        let was = of(1_000, 100);
        assert!(judge(&of(1_050, 105), &was));
        assert!(judge(&of(500, 50), &was));
        assert!(!judge(&of(1_051, 100), &was));
        assert!(!judge(&of(1_000, 106), &was));
    }
}
