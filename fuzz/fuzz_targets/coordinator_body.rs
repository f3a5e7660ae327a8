//! `cargo +nightly fuzz run --features libfuzzer coordinator_body`

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::coordinator_body(data));
