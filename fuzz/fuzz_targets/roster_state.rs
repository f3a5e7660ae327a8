//! `cargo +nightly fuzz run --features libfuzzer roster_state`

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::roster_state(data));
