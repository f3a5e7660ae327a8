//! `cargo +nightly fuzz run --features libfuzzer proxy_answer`

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::proxy_answer(data));
