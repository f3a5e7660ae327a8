//! Why a coordinator did not do what it was asked.

use crate::wire::{Reader, Wire, WireError, Writer};

/// The reason of a [`Refusal`]: what the asker can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// The request is not one that this coordinator understands.
    #[error("the coordinator did not understand the request")]
    BadRequest,
    /// The request is in a newer format than this coordinator knows.
    #[error("the coordinator runs an older version of Tacet than this machine: update the coordinator")]
    Older,
    /// There is nothing under that name, or no such request.
    #[error("the coordinator does not know this network")]
    NotFound,
    /// The proof is missing or does not give this right.
    #[error("the coordinator did not accept this machine's proof of membership")]
    NotPermitted,
    /// There is no such session (any more).
    #[error("not logged in, or the login has expired")]
    LoginNeeded,
    /// The name or the password is wrong.
    #[error("wrong account name or password")]
    WrongPassword,
    /// The enrolment code was never given out, is used up, or has expired.
    #[error(
        "this enrolment code is not valid: it was used already, has expired, or is not of this coordinator"
    )]
    BadCode,
    /// The account's name is taken.
    #[error("an account of this name exists already")]
    NameTaken,
    /// The account's name is not allowed.
    #[error("this account name is not allowed")]
    BadName,
    /// The network exists already.
    #[error("this network exists already")]
    NetworkExists,
    /// The account has as many networks as it may.
    #[error("this account has as many networks as the coordinator allows")]
    TooManyNetworks,
    /// The body, the roster or the join list is larger than allowed.
    #[error("this is larger than the coordinator allows")]
    TooLarge,
    /// The invite is not in the roster (any more).
    #[error("this invite is not valid any more")]
    InviteUnknown,
    /// The invite has expired.
    #[error("this invite has expired")]
    InviteExpired,
    /// The invite has as many records waiting as it has uses.
    #[error("this invite is used up")]
    InviteUsedUp,
    /// The roster is not signed as its network demands, or does not fit its parent.
    #[error("the coordinator did not accept the roster's signatures")]
    BadRoster,
    /// Another change came first; the present head is in the refusal.
    #[error("another change came first")]
    Conflict,
    /// Too many requests or connections from here.
    #[error("too many attempts: wait a minute and try again")]
    TooMany,
    /// The coordinator cannot write to its database.
    #[error("the coordinator cannot store anything at the moment")]
    Storage,
    /// A reason from a later version.
    #[error("the coordinator refused for a reason that this version of Tacet does not know: update it")]
    Unknown,
}

/// Codes are part of the format and never change their meaning.
const CODES: [(u16, Reason, u16); 20] = [
    (1, Reason::BadRequest, 400),
    (2, Reason::Older, 400),
    (3, Reason::NotFound, 404),
    (4, Reason::NotPermitted, 403),
    (5, Reason::LoginNeeded, 401),
    (6, Reason::WrongPassword, 403),
    (7, Reason::BadCode, 403),
    (8, Reason::NameTaken, 409),
    (9, Reason::BadName, 400),
    (10, Reason::NetworkExists, 409),
    (11, Reason::TooManyNetworks, 403),
    (12, Reason::TooLarge, 413),
    (13, Reason::InviteUnknown, 403),
    (14, Reason::InviteExpired, 403),
    (15, Reason::InviteUsedUp, 403),
    (16, Reason::BadRoster, 403),
    (17, Reason::Conflict, 409),
    (18, Reason::TooMany, 429),
    (19, Reason::Storage, 503),
    (20, Reason::Unknown, 400),
];

impl Reason {
    /// The HTTP status that goes with it.
    #[must_use]
    pub fn status(self) -> u16 {
        self.row().2
    }

    fn row(self) -> (u16, Self, u16) {
        CODES.into_iter().find(|row| row.1 == self).expect("a test walks the table")
    }
}

/// The body of every answer that is not a success.
#[derive(Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// With [`Reason::Conflict`]: the present head (roster's `Head`), unverified.
    pub head: Option<Vec<u8>>,
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self { reason, head: None }
    }
}

/// Version, code, optional head (tag 1).
impl Wire for Refusal {
    fn encode(&self, w: &mut Writer) {
        w.version(1);
        w.u16(self.reason.row().0);
        if let Some(head) = &self.head {
            w.optional(1, head);
        }
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        r.version(1)?;
        let code = r.u16()?;
        let reason = CODES.into_iter().find(|row| row.0 == code).map_or(Reason::Unknown, |row| row.1);
        let mut head = None;
        while let Some((tag, value)) = r.optional()? {
            if tag == 1 {
                head = Some(value.to_vec());
            }
        }
        Ok(Self { reason, head })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_code_of_its_own_and_reads_back() {
        for (i, (code, reason, _)) in CODES.into_iter().enumerate() {
            assert_eq!(usize::from(code), i + 1);
            let back =
                Refusal::from_bytes(&Refusal::from(reason).to_bytes()).unwrap_or(Reason::BadRequest.into());
            assert_eq!(back.reason, reason);
        }
        // Rows are in the order of the enum, so one that is missing in the table shows in the last number.
        assert_eq!(CODES.len(), Reason::Unknown as usize + 1);
    }

    #[test]
    fn a_conflict_brings_the_present_head() {
        let refusal = Refusal { reason: Reason::Conflict, head: Some(b"head".to_vec()) };
        assert!(Refusal::from_bytes(&refusal.to_bytes()) == Ok(refusal));
    }
}
