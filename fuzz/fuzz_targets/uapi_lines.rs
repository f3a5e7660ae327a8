//! `cargo +nightly fuzz run --features libfuzzer uapi_lines`

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::uapi_lines(data));
