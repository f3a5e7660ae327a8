//! `cargo +nightly fuzz run --features libfuzzer beacon_datagram`

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::beacon_datagram(data));
