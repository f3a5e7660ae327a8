//! `cargo +nightly fuzz run --features libfuzzer gateway_text`

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::gateway_text(data));
