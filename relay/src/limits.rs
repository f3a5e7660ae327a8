//! What one network, one connection and all together may use. Over a limit, frames are dropped or a connection is
//! refused; nothing grows.

use std::time::Duration;

/// Connections of one network at once: more machines than a network is meant to have, each connected twice for a
/// moment while it reconnects.
pub const CONNECTIONS_PER_NETWORK: usize = 1_024;

/// Mailboxes open on one connection: at most 8 epochs, of three days each around midnight, with room for the next
/// epoch's.
pub const MAILBOXES_PER_CONNECTION: usize = 32;

/// Openings that a connection may ask for at once; each costs a signature check, some 50 µs. Twice the mailboxes, so
/// that a machine may open all of them anew.
pub const OPENINGS: u64 = 64;

/// How often a connection earns one more opening.
pub const OPENING_EVERY: Duration = Duration::from_secs(5);

/// Pairs that one connection may be part of: every machine of a network several times over. Beyond it a frame to a
/// mailbox that is not paired yet is dropped.
pub const PAIRS_PER_CONNECTION: usize = 4_096;

/// Bytes a second that one network may send: one gigabit, which is what a relay's own link has.
pub const BYTES_PER_SECOND: u64 = 125_000_000;

/// Bytes that a network may send at once after a pause: a quarter of a second's worth.
pub const BURST: u64 = BYTES_PER_SECOND / 4;

/// Bytes waiting for one connection: 80 ms at 100 Mbit/s. More would only add delay, as buffers in routers do.
pub const QUEUE: usize = 1 << 20;

/// What the relay's own frames (answers, goodbyes) may use beyond [`QUEUE`].
pub const QUEUE_RESERVE: usize = 64 << 10;

/// Bytes waiting for all connections together. What comes when a queue is full is dropped, and what waits stays: the order
/// is kept, and tunnels inside slow down.
pub const QUEUED: usize = 256 << 20;

/// The queues of one network may hold this part of what is free of [`QUEUED`], so that machines that do not read leave room
/// for other networks: a quarter of all if there is one such network, and eight of them still leave a tenth.
pub const NETWORK_SHARE: usize = 3;

/// How long an empty queue keeps the room that it had: between two frames of a transfer, and no longer.
pub const QUEUE_WARM: Duration = Duration::from_secs(1);

/// Room in front of each read: one TLS record.
pub const READ: usize = 16 << 10;

/// What the kernel is asked for at once while a connection is busy: two TLS records. More saves nothing that could be
/// measured.
pub const GULP: usize = 32 << 10;

/// What is handled of one connection before the others have their turn: so each gets its share of the processor, and what
/// was forwarded is written before the queues that it goes to are full.
pub const TURN: usize = 128 << 10;

/// A relay that leaves looks so often whether anything was forwarded still: longer than machines need to hear of it and
/// what they sent before needs to arrive.
pub const LEAVE_AFTER: Duration = Duration::from_secs(1);

/// ... and so many times, for machines that have no other relay; then it ends.
pub const LEAVE_LOOKS: u32 = 4;

/// How long a machine may take to show its credential: some round trips.
pub const HELLO_WITHIN: Duration = Duration::from_secs(10);

/// How long a machine may take to accept 64 KiB: less than 10 kbit/s carries no tunnel.
pub const WRITE_WITHIN: Duration = Duration::from_secs(60);

/// How often a connection is looked after: whether its credential and mailboxes are of the day, and whether anything
/// came since.
pub const CHECK_EVERY: Duration = Duration::from_secs(30);

/// A connection silent for so many checks is closed: after 240 s at the earliest. Machines say something every 200 s at least, and
/// every 50 s at the first of their relays.
pub const SILENT_CHECKS: u32 = 8;

/// How long a machine that is being refused may take to read why.
pub const GOODBYE_WITHIN: Duration = Duration::from_secs(5);
