//! `cargo +nightly fuzz run --features libfuzzer api_reply`

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::api_reply(data));
