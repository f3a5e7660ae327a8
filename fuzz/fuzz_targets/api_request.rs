//! `cargo +nightly fuzz run --features libfuzzer api_request`

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::api_request(data));
