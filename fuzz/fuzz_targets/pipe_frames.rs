//! `cargo +nightly fuzz run --features libfuzzer pipe_frames`

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::pipe_frames(data));
