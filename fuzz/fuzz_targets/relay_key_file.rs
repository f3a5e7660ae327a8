//! `cargo +nightly fuzz run --features libfuzzer relay_key_file`

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::relay_key_file(data));
