//! What measurements on a few processors say of a computer with eight, and what they do not.
//!
//! How much processor time a gigabyte takes of several workers together is measured, even on fewer processors than there are
//! workers. What processors that are busy at once take from each other (caches, memory, the kernel's locks) is measured as far as
//! there are processors here. Nothing is known of the queues of a network card, nor whether the other half of the processors can feed
//! the workers.

use std::array;

use serde_json::{Value, json};

use super::scaling::{Row, WAYS};

/// How many processors the model is for, and the workers that vpnd starts with on so many (docs/decisions/026-workers.md).
const MODEL: usize = 8;
const MODEL_WORKERS: u8 = 4;

/// What was measured of one way that the model is made of, in CPU seconds for a gigabyte.
struct Costs {
    /// One worker, and everything on one processor.
    one: f64,
    /// One worker, and everything on all processors.
    all: f64,
    /// As many workers as the model has, on all processors.
    shared: f64,
}

/// What so many workers may carry with a processor each, in Gbit/s for each way.
pub(super) struct Model([Carried; WAYS.len()]);

struct Carried {
    /// If nothing more is lost than here.
    most: f64,
    /// If each further doubling of processors costs what those here did.
    least: f64,
    /// What a doubling left of what a second of processor time carries.
    efficiency: f64,
}

impl Model {
    /// Of one side; none where an arrangement that it is made of was not measured.
    pub(super) fn of(rows: &[Row], side: &str, present: &[usize]) -> Option<Self> {
        let row = |processors, workers| {
            rows.iter().find(|row| row.side == side && row.layout.shares(processors, workers))
        };
        let count = present.len();
        let (one, all, shared) = (row(1, 1)?, row(count, 1)?, row(count, MODEL_WORKERS)?);
        let costs =
            WAYS.map(|(way, _)| Costs { one: one.cost(way), all: all.cost(way), shared: shared.cost(way) });
        (count > 1).then(|| Self(costs.map(|costs| carried(&costs, count))))
    }

    pub(super) fn table(&self, name: &str) -> String {
        let Self(ways) = self;
        let mut table = format!(
            "\n| {name}: {MODEL_WORKERS} workers with a processor each, of {MODEL}, a model |{}\n|---{}|\n",
            WAYS.map(|(_, head)| format!(" {head}, Gbit/s |")).concat(),
            "|---:".repeat(WAYS.len())
        );
        for (what, value) in [
            ("nothing is lost that is not lost here", ways.each_ref().map(|way| format!("{:.1}", way.most))),
            (
                "every doubling loses what it does here",
                ways.each_ref().map(|way| format!("{:.1}", way.least)),
            ),
            ("of a doubling is left", ways.each_ref().map(|way| format!("{:.2}", way.efficiency))),
        ] {
            table += &format!("| {what} | {} |\n", value.join(" | "));
        }
        table
    }

    pub(super) fn json(&self) -> Value {
        let ways: [_; WAYS.len()] = array::from_fn(|at| {
            let Carried { most, least, efficiency } = self.0[at];
            (WAYS[at].0.to_owned(), json!({ "most": most, "least": least, "efficiency": efficiency }))
        });
        Value::Object(ways.into_iter().collect())
    }
}

/// The model's arithmetic. What a worker's second of processor time carries is known, with as many workers; what more of them
/// busy at once take from each other is known for the processors here alone.
fn carried(costs: &Costs, present: usize) -> Carried {
    let doublings = (present as f64).log2();
    let efficiency = (costs.one / costs.all).min(1.0).powf(doublings.recip());
    let further = ((MODEL as f64).log2() - doublings).max(0.0);
    // A byte has eight bits.
    let most = f64::from(MODEL_WORKERS) * 8.0 / costs.shared;
    Carried { most, least: most * efficiency.powf(further), efficiency }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(one: f64, all: f64, shared: f64, present: usize) -> [f64; 3] {
        let Carried { most, least, efficiency } = carried(&Costs { one, all, shared }, present);
        [most, least, efficiency].map(|value| (value * 1_000.0).round() / 1_000.0)
    }

    #[test]
    fn a_model_has_what_workers_cost_together_and_what_each_doubling_left() {
        // 3.2 s/GB are 2.5 Gbit/s of each of four; from 2 to 8 there are two doublings.
        assert_eq!(of(2.0, 2.5, 3.2, 2), [10.0, 6.4, 0.8]);
        // Two doublings to 4 left 0.64, one of them 0.8; one is to come.
        assert_eq!(of(1.6, 2.5, 3.2, 4), [10.0, 8.0, 0.8]);
        // What was measured is not made less, and nothing becomes cheaper by being more.
        assert_eq!(of(2.0, 2.5, 3.2, 16)[..2], [10.0, 10.0]);
        assert_eq!(of(3.0, 2.5, 3.2, 2), [10.0, 10.0, 1.0]);
    }
}
