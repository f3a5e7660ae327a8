//! `cargo +nightly fuzz run --features libfuzzer tun_frame`

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::tun_frame(data));
