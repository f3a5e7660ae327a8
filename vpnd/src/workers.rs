//! How many workers carry an interface's packets.

use std::thread;

use clap::{builder::RangedI64ValueParser, value_parser};
use mesh::MAX_WORKERS;
use netio::udp::Choice;

/// Of this many processors one worker is as fast as several: the kernel and the programs whose packets these are take the rest.
const FEW: usize = 2;

/// More than this are used where it is said that they are to be.
const USUAL: usize = 8;

/// How the kernel finds the worker that a datagram is for.
pub(crate) const CHOICE: Choice = Choice {
    start: [4, 0, 0, 0],
    byte: mesh::WORKER_BYTE,
    shift: mesh::WORKER_SHIFT,
    mask: mesh::WORKER_MASK,
};

/// What `--workers` takes.
#[must_use]
pub fn number() -> RangedI64ValueParser<u8> {
    value_parser!(u8).range(1..=i64::from(MAX_WORKERS))
}

/// What suits the processors that this process may use: half of them.
#[must_use]
pub fn of_this_machine() -> u8 {
    suiting(thread::available_parallelism().map_or(1, usize::from))
}

fn suiting(processors: usize) -> u8 {
    if processors <= FEW { 1 } else { processors.div_ceil(2).min(USUAL) as u8 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_worker_for_few_processors_and_half_as_many_as_there_are_for_more() {
        let numbers = [0, 1, 2, 3, 4, 6, 8, 16, 128].map(suiting);
        assert_eq!(numbers, [1, 1, 1, 2, 2, 3, 4, 8, 8]);
    }
}
