//! Enrolment codes: each lets one account be made. Only a tag of the code is kept, and the last day it is good on.

use proto::token::EnrolCode;
use sqlx::SqliteConnection;

use super::{Store, StoreError};

/// How long a code is good, in days.
pub const ENROLMENT_DAYS: u32 = 7;

impl Store {
    /// Remembers a new code, and forgets those that ended before `today` (a unix day).
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn add_enrolment(&self, code: &EnrolCode, today: u32) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        sqlx::query("DELETE FROM enrolments WHERE last_day < ?")
            .bind(today)
            .execute(&mut *transaction)
            .await?;
        sqlx::query("INSERT INTO enrolments (tag, last_day) VALUES (?, ?)")
            .bind(self.enrolment_tag(code))
            .bind(today.saturating_add(ENROLMENT_DAYS))
            .execute(&mut *transaction)
            .await?;
        Ok(transaction.commit().await?)
    }

    /// Whether a code is unused and good `today`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn has_enrolment(&self, code: &EnrolCode, today: u32) -> Result<bool, StoreError> {
        let row = sqlx::query("SELECT 1 FROM enrolments WHERE tag = ? AND last_day >= ?")
            .bind(self.enrolment_tag(code))
            .bind(today)
            .fetch_optional(&self.pool)
            .await?;
        Ok(row.is_some())
    }

    /// Uses a code up inside a transaction; false if it is not good.
    pub(super) async fn take_enrolment(
        &self,
        transaction: &mut SqliteConnection,
        code: &EnrolCode,
        today: u32,
    ) -> Result<bool, StoreError> {
        let taken = sqlx::query("DELETE FROM enrolments WHERE tag = ? AND last_day >= ?")
            .bind(self.enrolment_tag(code))
            .bind(today)
            .execute(transaction)
            .await?;
        Ok(taken.rows_affected() == 1)
    }

    fn enrolment_tag(&self, code: &EnrolCode) -> Vec<u8> {
        self.tag("enrolment", &code.0)
    }
}
