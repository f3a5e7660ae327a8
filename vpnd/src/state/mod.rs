//! The state directory: all that a machine stores.
