//! `cargo +nightly fuzz run --features libfuzzer relay_frames`

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::relay_frames(data));
