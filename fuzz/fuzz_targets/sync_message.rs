//! `cargo +nightly fuzz run --features libfuzzer sync_message`

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::sync_message(data));
