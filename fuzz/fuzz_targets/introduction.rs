//! `cargo +nightly fuzz run --features libfuzzer introduction`

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::introduction(data));
