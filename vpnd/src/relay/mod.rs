//! The relays' client.
