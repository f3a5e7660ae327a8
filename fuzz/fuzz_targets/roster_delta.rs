//! `cargo +nightly fuzz run --features libfuzzer roster_delta`

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::roster_delta(data));
