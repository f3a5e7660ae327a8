//! The laboratory and the processes in it, for tests and the demonstration.

/// Environment variable of a long run: tests that take samples take all of them.
pub const LONG: &str = "TACET_LONG";
