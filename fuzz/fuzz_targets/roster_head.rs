//! `cargo +nightly fuzz run --features libfuzzer roster_head`

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::roster_head(data));
