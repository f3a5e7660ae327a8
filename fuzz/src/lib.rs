//! Fuzz targets: one function per parser of untrusted bytes, which a fuzzer and a test call alike.

mod api;
mod relay;

pub use api::{api_lines, api_reply, api_request};
pub use relay::{relay_credential, relay_frames, relay_key_file, stun_datagram};
