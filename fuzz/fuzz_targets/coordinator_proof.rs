//! `cargo +nightly fuzz run --features libfuzzer coordinator_proof`

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::coordinator_proof(data));
