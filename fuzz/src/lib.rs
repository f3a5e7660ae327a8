//! Fuzz targets: one function per parser of untrusted bytes, which a fuzzer and a test call alike.

mod api;

pub use api::{api_lines, api_reply, api_request};
