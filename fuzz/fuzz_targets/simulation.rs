//! `cargo +nightly fuzz run --features libfuzzer simulation`

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::simulation(data));
