//! `cargo +nightly fuzz run --features libfuzzer join_record`

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::join_record(data));
