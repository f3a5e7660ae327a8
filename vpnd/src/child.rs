//! Starts the data path and keeps it running.
