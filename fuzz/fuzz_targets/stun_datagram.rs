//! `cargo +nightly fuzz run --features libfuzzer stun_datagram`

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::stun_datagram(data));
