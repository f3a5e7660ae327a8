//! `cargo xtask bench`: what things cost, as ratios between what ran side by side.

mod crowd;
mod fairness;
mod flow;
mod instructions;
mod link;
mod load;
mod lockdown;
mod machine;
mod model;
mod peers;
mod relay;
mod scaling;
mod table;
mod transfer;
mod turn;
mod wireguard;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::cargo;

#[derive(Subcommand)]
pub(crate) enum Bench {
    /// What the walls around vpnd cost: throughput and processor time with them and without.
    ///
    /// Two pairs of machines of one network, from one build: one pair behind its walls, one without them. They are
    /// measured in turn. Needs root; takes two minutes and the build.
    Lockdown(Rounds),
    /// What a relay on the way costs: throughput beside a direct path, and the relay's processor time beside coturn's.
    ///
    /// Machines whose UDP is blocked send over a relay, the same on other machines without it, and datagrams of the same
    /// size go through coturn on the relay's host. All live at once and are measured in turn. Needs root; Debian's
    /// package coturn is not installed by itself. Takes a minute or two.
    Relay(Relay),
    /// Beside every other implementation found here: boringtun-cli, wireguard-go, gotatun-cli, nebula.
    ///
    /// Ours as a plain WireGuard interface and as two machines of a mesh, all in turn in each round. Searched for in PATH,
    /// in Cargo's folder and in --tools. Needs root, and a quiet machine: with all of them, and five rounds, an hour.
    Wireguard(wireguard::Options),
    /// Gigabytes through the tunnel, both directions at once, every byte compared: fails if one is lost or wrong.
    ///
    /// TCP, then UDP; nothing may be lost, out of its order inside a flow or changed, and the kernel may find no checksum
    /// wrong. Needs root; with 10 GB each way, some minutes.
    Transfer(transfer::Options),
    /// Round trips of a flow that waits for answers, beside a bulk transfer to the same machine and to another.
    ///
    /// Three machines of a mesh, four TCP streams, a ping every 20 ms. Needs root; takes two minutes.
    Fairness {
        /// How often each case is measured.
        #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
        rounds: u32,
        /// Seconds of each measurement.
        #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
        seconds: u32,
        /// Print one JSON document in place of the table.
        #[arg(long)]
        json: bool,
    },
    /// Many peers: memory of each that is configured and of each that is active, speed among them, wake-ups.
    ///
    /// A plain interface, and the data path of a machine in a network, with 10,000 peers of which up to 1,000 are active at
    /// once, all on this computer. Needs root; takes three minutes.
    Peers(peers::Options),
    /// Several workers: what they carry and cost on the processors here, and a model of a computer with eight.
    ///
    /// A plain interface, and the data path of a machine in a network, with 64 active peers: on one processor with everything,
    /// on one beside everything else, and on all with 1, 2, 4 and 8 workers. Needs root; takes three minutes.
    Scaling(scaling::Options),
    /// Micro-benchmarks: splitting and joining packets, sealing and opening them, finding whose an address is.
    ///
    /// Options after `--` go to divan: a part of a name, or --help. As root it measures joining too, into a TUN device.
    Micro {
        /// Options of divan.
        #[arg(last = true)]
        options: Vec<String>,
    },
    /// How many instructions a packet costs on its way, counted by valgrind: fails if more than a twentieth more than before.
    ///
    /// Part of `cargo xtask test`. Needs root; takes some seconds and the build.
    Instructions(instructions::Options),
}

/// What the relay is measured with.
#[derive(Args)]
pub(crate) struct Relay {
    #[command(flatten)]
    rounds: Rounds,
    /// A folder with programs of another build, such as the one before a change, to be measured beside.
    #[arg(long, value_name = "DIR")]
    beside: Option<PathBuf>,
}

/// How long is measured.
#[derive(Args, Clone, Copy)]
pub(crate) struct Rounds {
    /// How often each pair is measured.
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Seconds of each measurement.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// Print one JSON document in place of the table.
    #[arg(long)]
    json: bool,
}

/// Runs one. True unless it judges and found something: most measure alone.
pub(crate) fn run(bench: &Bench) -> Result<bool> {
    match bench {
        Bench::Lockdown(rounds) => lockdown::run(*rounds),
        Bench::Wireguard(options) => wireguard::run(options),
        Bench::Transfer(options) => transfer::run(options),
        Bench::Fairness { rounds, seconds, json } => {
            fairness::run(Rounds { rounds: *rounds, seconds: *seconds, json: *json })
        }
        Bench::Peers(options) => peers::run(options),
        Bench::Scaling(options) => scaling::run(options),
        Bench::Micro { options } => micro(options),
        Bench::Instructions(options) => instructions::run(*options),
        Bench::Relay(relay) => relay::run(relay.rounds, relay.beside.as_deref()),
    }
}

fn micro(options: &[String]) -> Result<bool> {
    let arguments = "bench --profile release --locked --workspace --bench core --bench offload --";
    Ok(cargo().args(arguments.split(' ')).args(options).status()?.success())
}

/// Everything arrives as it was sent, for longer than a session lives, through a mesh and through a plain interface.
pub(crate) fn transfers() -> Result<bool> {
    use transfer::{Options, Through, run};
    let through = [Through::Mesh, Through::Device].map(|through| run(&Options::beyond_a_session(through)));
    through.into_iter().try_fold(true, |all, clean| Ok(clean? && all))
}

/// The check of instructions that `cargo xtask test` makes.
pub(crate) fn instructions() -> Result<bool> {
    instructions::run(instructions::Options::default())
}

/// The middle of the samples, the mean of the two in the middle where they are even; 0 of none.
fn median(samples: impl IntoIterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = samples.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    match (sorted.get(half.wrapping_sub(1)), sorted.get(half)) {
        (Some(below), Some(above)) if sorted.len().is_multiple_of(2) => f64::midpoint(*below, *above),
        (_, Some(middle)) => *middle,
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn a_median_is_in_the_middle() {
        assert!((median([3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median([4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
        assert!((median([7.0]) - 7.0).abs() < 1e-9);
    }
}
