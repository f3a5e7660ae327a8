//! `cargo +nightly fuzz run --features libfuzzer kept_keys`

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::kept_keys(data));
