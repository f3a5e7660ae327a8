//! How much a machine sends that no packet asks for, whatever number of workers it has.

use std::time::Instant;

use crate::path::{Birthday, Budget};

/// Senders are told that a packet is too large so often in a second, and at once. One answer lasts a sender for minutes,
/// but a burst has many packets; what goes unanswered goes in pieces.
const TOLD_PER_SECOND: u32 = 100;
const TOLD_AT_ONCE: u32 = 20;

/// The budgets of a machine. Workers get clones of one, which are one.
#[derive(Clone)]
pub struct Budgets {
    /// Of probes.
    pub(crate) probes: Budget,
    /// Of probes to and from many ports.
    pub(crate) seeking: Budget,
    /// Of ICMP to senders.
    pub(crate) telling: Budget,
}

impl Budgets {
    /// All of them full.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            probes: Budget::probes(now),
            seeking: Birthday::budget(now),
            telling: Budget::new(now, TOLD_PER_SECOND, TOLD_AT_ONCE),
        }
    }
}
