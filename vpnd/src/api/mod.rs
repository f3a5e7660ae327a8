//! The local API on a unix socket.
