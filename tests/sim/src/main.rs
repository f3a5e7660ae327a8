//! `cargo run --release -p sim [--features real] -- …`: new seeds, kept ones, one of them in words, one of them smaller.

#![allow(clippy::print_stdout, reason = "this program talks to a person")]

mod tally;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use clap::Parser;
use sim::{Report, corpus, seeds, shrink, tell};
use tally::Tally;

/// Simulations of the data path's core: machines, NATs, lines and relays in virtual time, against an oracle.
#[derive(Parser)]
#[command(name = "sim", disable_version_flag = true)]
struct Arguments {
    /// Run new seeds for so long.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Begin with this seed; without it anywhere.
    #[arg(long)]
    seed: Option<u64>,
    /// No more than so many.
    #[arg(long, default_value_t = u64::MAX)]
    count: u64,
    /// On so many cores; without it on all.
    #[arg(long)]
    threads: Option<usize>,
    /// Run the kept inputs first.
    #[arg(long)]
    corpus: bool,
    /// Print one document instead of text.
    #[arg(long)]
    json: bool,
    /// Run this input alone (a kept one, or bare bytes) and tell what happens.
    #[arg(long, value_name = "FILE", conflicts_with = "corpus")]
    replay: Option<PathBuf>,
    /// Write the kept inputs as bare bytes into this folder, for cargo-fuzz.
    #[arg(long, value_name = "FOLDER")]
    export: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match (&arguments.replay, &arguments.export) {
        (Some(file), _) => replay(file),
        (None, Some(folder)) => export(folder),
        (None, None) => run(&arguments),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Kept inputs, then new ones.
fn run(arguments: &Arguments) -> std::io::Result<bool> {
    let mut holds = true;
    let mut kept = 0;
    for input in if arguments.corpus { corpus::all()? } else { Vec::new() } {
        kept += 1;
        if !input.faithful {
            println!("{}: its story is not what its bytes say now", input.path.display());
            holds = false;
        }
        if let Some(broken) = sim::run(&input.bytes).broken {
            println!("{}: {broken}", input.path.display());
            holds = false;
        }
    }
    let first = arguments.seed.unwrap_or_else(anywhere);
    let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = arguments.threads.unwrap_or(cores).max(1);
    let began = Instant::now();
    let until = began + Duration::from_secs(arguments.seconds);
    let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let work = || {
        let mut tally = Tally::default();
        while Instant::now() < until && !stop.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= arguments.count {
                break;
            }
            let seed = first.wrapping_add(number);
            let report = sim::run(&seeds::input(seed));
            if report.broken.is_some() {
                stop.store(true, Ordering::Relaxed);
            }
            tally.add(seed, report);
        }
        tally
    };
    let mut total = Tally::default();
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            total.merge(worker.join().unwrap_or_default());
        }
    });
    let took = began.elapsed();
    if arguments.json {
        println!("{}", total.json(first, kept, took, threads));
    } else {
        print!("{}", total.text(first, kept, took, threads));
    }
    if let Some((seed, _)) = total.broken {
        println!("{}", explained(&seeds::input(seed), &format!("Seed {seed}.")));
    }
    Ok(holds && total.broken.is_none())
}

/// A broken input, made smaller, as the file in which it would be kept.
fn explained(input: &[u8], why: &str) -> String {
    let smaller = shrink::shrink(input, |bytes| sim::run(bytes).broken.is_some());
    let broken = sim::run(&smaller).broken.unwrap_or_default();
    format!(
        "To be kept in {} while it is mended:\n\n{}",
        corpus::folder().display(),
        corpus::write(&smaller, &format!("{why}\n{broken}"))
    )
}

fn replay(file: &Path) -> std::io::Result<bool> {
    let kept = corpus::read(file)?;
    print!("{}", tell(&kept.bytes));
    let (Report { broken, time, datagrams, packets, .. }, notes) = sim::run_with_notes(&kept.bytes);
    for note in notes {
        println!("{note}");
    }
    println!("{time:?}: {datagrams} datagrams, {packets} packets arrived");
    match &broken {
        None => println!("all holds"),
        Some(broken) => println!("{broken}\n\n{}", explained(&kept.bytes, "Smaller:")),
    }
    Ok(broken.is_none())
}

fn export(folder: &Path) -> std::io::Result<bool> {
    fs::create_dir_all(folder)?;
    for input in corpus::all()? {
        let name = input.path.file_stem().unwrap_or_default();
        fs::write(folder.join(name), input.bytes)?;
    }
    Ok(true)
}

/// A first seed that nobody had before.
fn anywhere() -> u64 {
    rand_core::RngCore::next_u64(&mut rand_core::OsRng) >> 16
}
