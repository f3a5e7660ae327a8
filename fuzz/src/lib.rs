//! Fuzz targets: one function per parser of untrusted bytes, and one for the simulator, which a fuzzer and a test call
//! alike.

mod api;
mod coordinator;
mod device;
mod gateway;
mod lan;
mod offload;
mod pipe;
mod proxy;
mod relay;
mod roster;
mod simulation;

pub use api::{api_lines, api_reply, api_request};
pub use coordinator::{account_messages, coordinator_body, coordinator_events, coordinator_proof};
pub use device::uapi_lines;
pub use gateway::{gateway_datagram, gateway_text};
pub use lan::beacon_datagram;
pub use offload::{tun_frame, tun_packets};
pub use pipe::{pipe_frames, probe_message};
pub use proxy::proxy_answer;
pub use relay::{relay_credential, relay_frames, relay_key_file, stun_datagram};
pub use roster::{
    introduction, join_record, kept_keys, roster_delta, roster_entry, roster_head, roster_state,
    sync_message, tokens,
};
pub use simulation::simulation;
