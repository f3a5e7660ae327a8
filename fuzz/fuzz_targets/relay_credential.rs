//! `cargo +nightly fuzz run --features libfuzzer relay_credential`

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::relay_credential(data));
