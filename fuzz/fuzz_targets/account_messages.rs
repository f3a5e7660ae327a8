//! `cargo +nightly fuzz run --features libfuzzer account_messages`

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::account_messages(data));
