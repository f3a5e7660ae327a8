//! Tacet end to end: the release build in a laboratory of network namespaces.
//!
//! These tests need root and the release programs: `cargo xtask test` sees to both.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "the whole program is a test")]

mod boot;
mod chaos;
mod congestion;
mod device;
mod dice;
mod doctor;
mod egress;
mod epochs;
mod hard_nat;
mod laboratory;
mod lan;
mod life;
mod log_texts;
mod many;
mod matrix;
mod memory;
mod mtu;
mod netcheck;
mod outage;
mod port_mapping;
mod privacy;
mod proxy;
mod reach;
mod recovery;
mod refusal;
mod relays;
mod roaming;
mod rollback;
mod service;
mod silence;
mod start;
mod storage;
mod sync;
mod tarball;
mod trust;
mod units;
mod workers;
mod world;
