//! The choice among a peer's paths.

use std::time::Duration;

use super::{Path, Via};

/// A path of the same kind takes over only if its round trip is shorter by this part of the present one's…
const BETTER_BY: u32 = 5;
/// …and by this much, so that jitter on a fast network moves nothing.
const BETTER_BY_AT_LEAST: Duration = Duration::from_millis(3);

/// The place of the path that should carry data; `present` carries it now.
///
/// In this order: a direct path in trust; a relay in trust, if possible one where the peer was heard; a silent relay;
/// a direct path that once was valid. A direct path that was never validated is none of these.
pub(super) fn best(table: &[Path], present: Option<Via>) -> Option<usize> {
    let rank = |path: &Path| match (path.is_relay(), path.trusted) {
        (false, true) => Some(0),
        (true, true) => Some(1),
        (false, false) if path.rtt.is_some() => Some(3),
        (false, false) => None,
        (true, false) => Some(2),
    };
    let usable = |at: &usize| rank(&table[*at]).is_some();
    let class =
        |at: usize| (rank(&table[at]), table[at].kind, table[at].is_relay() && table[at].heard.is_none());
    let key = |at: &usize| (class(*at), table[*at].rtt.unwrap_or(Duration::MAX));
    let first = (0..table.len()).filter(usable).min_by_key(key)?;
    let Some(now) = (0..table.len()).filter(usable).find(|at| Some(table[*at].via) == present) else {
        return Some(first);
    };
    let same = class(now) == class(first);
    let faster = match (table[first].rtt, table[now].rtt) {
        (Some(new), Some(old)) => new + (old / BETTER_BY).max(BETTER_BY_AT_LEAST) < old,
        (new, old) => new.is_some() && old.is_none(),
    };
    Some(if same && !faster { now } else { first })
}
