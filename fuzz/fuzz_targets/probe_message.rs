//! `cargo +nightly fuzz run --features libfuzzer probe_message`

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::probe_message(data));
