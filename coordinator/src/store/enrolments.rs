//! Enrolment codes: each lets one account be made. Only a tag of the code is kept (a hash under a key of this
//! database, so that the file gives nobody a code to use), and the last day it is good on.

use hmac::{Hmac, Mac};
use proto::{
    token::EnrolCode,
    wire::{Reader, Wire, WireError, Writer},
};
use sha2::Sha256;

use super::{
    Store, StoreError,
    rows::{Change, Reading, Table},
};

/// How long a code is good, in days.
pub const ENROLMENT_DAYS: u32 = 7;

/// A code's row.
#[derive(PartialEq, Eq)]
pub(super) struct Body {
    pub(super) tag: [u8; 32],
    pub(super) last_day: u32,
}

impl Store {
    /// Remembers a new code, and forgets those that ended before `today` (a unix day).
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn add_enrolment(&self, code: &EnrolCode, today: u32) -> Result<(), StoreError> {
        let mut change = self.change().await?;
        for (id, enrolment) in enrolments(&mut change).await? {
            if enrolment.last_day < today {
                change.delete(Table::Enrolments, id).await?;
            }
        }
        let body = Body { tag: self.enrolment_tag(code), last_day: today.saturating_add(ENROLMENT_DAYS) };
        change.insert(Table::Enrolments, &body.to_bytes()).await?;
        self.commit(change).await
    }

    /// Whether a code is unused and good `today`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn has_enrolment(&self, code: &EnrolCode, today: u32) -> Result<bool, StoreError> {
        let mut reading = self.read().await?;
        Ok(self.find_enrolment(&mut reading, code, today).await?.is_some())
    }

    /// The last days of the unused codes.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn enrolment_days(&self) -> Result<Vec<u32>, StoreError> {
        let mut reading = self.read().await?;
        Ok(enrolments(&mut reading).await?.into_iter().map(|(_, body)| body.last_day).collect())
    }

    /// Uses a code up as part of a change; false if it is not good.
    pub(super) async fn take_enrolment(
        &self,
        change: &mut Change,
        code: &EnrolCode,
        today: u32,
    ) -> Result<bool, StoreError> {
        let Some(id) = self.find_enrolment(change, code, today).await? else {
            return Ok(false);
        };
        change.delete(Table::Enrolments, id).await?;
        Ok(true)
    }

    async fn find_enrolment(
        &self,
        reading: &mut Reading,
        code: &EnrolCode,
        today: u32,
    ) -> Result<Option<i64>, StoreError> {
        let tag = self.enrolment_tag(code);
        let found = enrolments(reading).await?;
        let mut good = found.into_iter().filter(|(_, body)| body.tag == tag && body.last_day >= today);
        Ok(good.next().map(|(id, _)| id))
    }

    fn enrolment_tag(&self, code: &EnrolCode) -> [u8; 32] {
        let mut mac =
            <Hmac<Sha256> as Mac>::new_from_slice(&*self.tag_key).expect("HMAC takes a key of any length");
        mac.update(b"tacet tag v1\0enrolment\0");
        mac.update(&code.0);
        mac.finalize().into_bytes().into()
    }
}

async fn enrolments(reading: &mut Reading) -> Result<Vec<(i64, Body)>, StoreError> {
    let rows = reading.rows(Table::Enrolments).await?;
    rows.into_iter().map(|(id, plain)| Ok((id, Body::from_bytes(&plain)?))).collect()
}

/// Version, tag, last day.
impl Wire for Body {
    fn encode(&self, w: &mut Writer) {
        w.version(1);
        w.raw(&self.tag);
        w.u32(self.last_day);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        r.version(1)?;
        Ok(Self { tag: r.array()?, last_day: r.u32()? })
    }
}
