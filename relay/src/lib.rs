//! The relay: forwards ciphertext between mailboxes, and tells machines the address they are seen at.
//!
//! Everything is in memory and dies with the connection it belongs to. Nothing is logged, printed or written; no
//! wall clock is read but the day, which the caller passes in.
//!
//! | room | what is in it |
//! |---|---|
//! | [`listener`] | TCP, TLS 1.3 and HTTP, shared with the coordinator |
//! | [`tls`] | the server's certificate: self-made under a long-lived key, or loaded |
pub mod listener;
pub mod tls;
