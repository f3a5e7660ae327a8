//! `cargo +nightly fuzz run --features libfuzzer gateway_datagram`

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::gateway_datagram(data));
