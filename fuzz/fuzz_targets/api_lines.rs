//! `cargo +nightly fuzz run --features libfuzzer api_lines`

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::api_lines(data));
