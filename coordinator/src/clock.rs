//! The only reading of the wall clock. It serves expiry and the month of a credential; no time is stored.

use std::time::{SystemTime, UNIX_EPOCH};

/// Unix seconds. A clock before 1970 reads as 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The unix day.
pub(crate) fn today() -> u32 {
    u32::try_from(now() / 86_400).unwrap_or(u32::MAX)
}
