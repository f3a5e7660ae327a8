//! The coordinator's client.
