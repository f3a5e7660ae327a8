//! Logins that are under way, and sessions. Both are in RAM alone and end with the process.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use proto::{
    account::{PendingLogin, SessionKey},
    coordinator::{Proof, Reason, RequestParts},
};
use rand_core::{OsRng, RngCore};

/// From the first step of a login to the second: two round trips and the stretching of the password.
const LOGIN: Duration = Duration::from_secs(60);

/// How long a login is good.
const SESSION: Duration = Duration::from_secs(12 * 3600);

/// Entries at most; the one that ends first gives way.
const MOST: usize = 4096;

/// What is kept for a time under a random name.
pub(super) struct Kept<T>(Mutex<HashMap<[u8; 16], (T, Instant)>>, Duration);

/// Logins that wait for their second step.
pub(super) type Attempts = Kept<PendingLogin>;

/// A login that succeeded.
#[derive(Clone)]
pub(super) struct Session {
    pub(super) account: i64,
    pub(super) key: SessionKey,
}

/// The sessions.
pub(super) type Sessions = Kept<Session>;

impl Attempts {
    pub(super) fn attempts() -> Self {
        Self(Mutex::default(), LOGIN)
    }
}

impl Sessions {
    pub(super) fn sessions() -> Self {
        Self(Mutex::default(), SESSION)
    }

    /// Whether a proof names a session that there is. It says nothing of whether the proof is good.
    pub(super) fn seems_open(&self, proof: Option<&Proof>) -> bool {
        matches!(proof, Some(Proof::Session { id, .. }) if self.get(id, Instant::now()).is_some())
    }

    /// The account in whose name a request is made, and the session's id.
    ///
    /// # Errors
    /// [`Reason::LoginNeeded`].
    pub(super) fn account(
        &self,
        proof: Option<&Proof>,
        request: &RequestParts<'_>,
        now: Instant,
    ) -> Result<(i64, [u8; 16]), Reason> {
        let Some(proof @ Proof::Session { id, .. }) = proof else {
            return Err(Reason::LoginNeeded);
        };
        let session = self.get(id, now).ok_or(Reason::LoginNeeded)?;
        if !proof.maced_by(&session.key, request) {
            return Err(Reason::LoginNeeded);
        }
        Ok((session.account, *id))
    }
}

impl<T> Kept<T> {
    /// Keeps `value` and says under which name.
    pub(super) fn put(&self, value: T, now: Instant) -> [u8; 16] {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|_, (_, until)| *until > now);
        if kept.len() >= MOST {
            let first = kept.iter().min_by_key(|(_, (_, until))| *until).map(|(id, _)| *id);
            first.and_then(|id| kept.remove(&id));
        }
        let mut id = [0; 16];
        OsRng.fill_bytes(&mut id);
        kept.insert(id, (value, now + self.1));
        id
    }

    /// Takes what is kept under `id`.
    pub(super) fn take(&self, id: &[u8; 16], now: Instant) -> Option<T> {
        let (value, until) = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id)?;
        (until > now).then_some(value)
    }

    /// What is kept under `id`.
    pub(super) fn get(&self, id: &[u8; 16], now: Instant) -> Option<T>
    where
        T: Clone,
    {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(id).filter(|(_, until)| *until > now).map(|(value, _)| value.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_ends_with_its_time_and_is_taken_once() {
        let (kept, now) = (Kept(Mutex::default(), LOGIN), Instant::now());
        let (early, late) = (kept.put("early", now), kept.put("late", now + LOGIN / 2));
        assert_eq!(kept.get(&early, now + LOGIN), None);
        assert_eq!(kept.take(&late, now + LOGIN), Some("late"));
        assert_eq!(kept.take(&late, now + LOGIN), None);
    }

    #[test]
    fn the_one_that_ends_first_gives_way_when_there_are_too_many() {
        let (kept, now) = (Kept(Mutex::default(), LOGIN), Instant::now());
        let first = kept.put(0, now);
        for i in 1..MOST {
            kept.put(i, now + Duration::from_millis(1));
        }
        assert_eq!(kept.get(&first, now), Some(0));
        kept.put(MOST, now + Duration::from_millis(1));
        assert_eq!(kept.get(&first, now), None);
        assert_eq!(kept.0.lock().unwrap().len(), MOST);
    }
}
