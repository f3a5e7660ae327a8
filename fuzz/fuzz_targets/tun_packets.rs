//! `cargo +nightly fuzz run --features libfuzzer tun_packets`

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::tun_packets(data));
