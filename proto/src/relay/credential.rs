//! Admission to a relay.
//!
//! The coordinator issues one credential per network and month; every machine of the network shows the same one,
//! so a relay can tell networks' shares of its capacity apart and nothing else. The pseudonym in it is made from
//! the network's name under a secret that never leaves the coordinator: two months' pseudonyms of one network
//! cannot be linked, and relays cannot compute them. The tag is made under a key that the coordinator shares with
//! its relays, so a relay checks it without asking anybody.

use hmac::{Hmac, Mac};
use rand_core::CryptoRngCore;
use sha2::Sha256;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::wire::{Reader, Wire, WireError, Writer};

const PSEUDONYM_DOMAIN: &[u8] = b"tacet relay pseudonym v1\0";
const CREDENTIAL_DOMAIN: &[u8] = b"tacet relay credential v1\0";
const VERSION: u8 = 1;

/// What a relay knows a network by, for a month.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pseudonym(pub [u8; 16]);

/// The right of one network to use the coordinator's relays for one month. Whoever holds it may use it.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Credential {
    pseudonym: [u8; 16],
    month: u32,
    tag: [u8; 32],
}

/// The key that the coordinator shares with its relays.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct AdmissionKey([u8; 32]);

/// What the coordinator issues credentials with.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct CredentialIssuer {
    secret: [u8; 32],
    key: AdmissionKey,
}

/// The month that holds a unix day, as year * 12 + month, January being 0. Gregorian, UTC.
#[must_use]
pub fn month_of(day: u32) -> u32 {
    // Counted in years that begin in March, so that the leap day comes last: 400 years have 146,097 days, and day
    // 0 of the count is 1 March of the year 0, 719,468 days before 1970.
    let days = u64::from(day) + 719_468;
    let cycle = days / 146_097;
    let day_of_cycle = days % 146_097;
    let year_of_cycle =
        (day_of_cycle - day_of_cycle / 1_460 + day_of_cycle / 36_524 - day_of_cycle / 146_096) / 365;
    let day_of_year = day_of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let months_since_march = (5 * day_of_year + 2) / 153;
    let months = (cycle * 400 + year_of_cycle) * 12 + months_since_march + 2;
    u32::try_from(months).expect("a 32-bit day lies within 12 million years")
}

impl Credential {
    /// The name of the network at the relay for this month.
    #[must_use]
    pub fn pseudonym(&self) -> Pseudonym {
        Pseudonym(self.pseudonym)
    }

    /// The month it is good for, as [`month_of`] counts.
    #[must_use]
    pub fn month(&self) -> u32 {
        self.month
    }

    /// Whether a relay or machine whose clock says `day` should take the month as begun and not over: the month of
    /// that day or, for clocks a little off, of the day before or after.
    #[must_use]
    pub fn is_current(&self, day: u32) -> bool {
        [day.saturating_sub(1), day, day.saturating_add(1)].iter().any(|day| month_of(*day) == self.month)
    }
}

impl AdmissionKey {
    /// A fresh key.
    #[must_use]
    pub fn generate(rng: &mut impl CryptoRngCore) -> Self {
        let mut key = [0; 32];
        rng.fill_bytes(&mut key);
        Self(key)
    }

    /// Whether the coordinator that shares this key issued `credential`. Says nothing of its month.
    #[must_use]
    pub fn verify(&self, credential: &Credential) -> bool {
        self.mac(credential.month, &credential.pseudonym).verify(&credential.tag.into()).is_ok()
    }

    fn mac(&self, month: u32, pseudonym: &[u8; 16]) -> Hmac<Sha256> {
        let mut mac = keyed(&self.0);
        mac.update(CREDENTIAL_DOMAIN);
        mac.update(&month.to_be_bytes());
        mac.update(pseudonym);
        mac
    }
}

impl CredentialIssuer {
    /// A fresh issuer with a fresh shared key.
    #[must_use]
    pub fn generate(rng: &mut impl CryptoRngCore) -> Self {
        let mut secret = [0; 32];
        rng.fill_bytes(&mut secret);
        Self { secret, key: AdmissionKey::generate(rng) }
    }

    /// The key to share with relays.
    #[must_use]
    pub fn admission_key(&self) -> &AdmissionKey {
        &self.key
    }

    /// The credential of `network` for `month`: always the same one.
    #[must_use]
    pub fn issue(&self, network: &[u8; 32], month: u32) -> Credential {
        let mut mac = keyed(&self.secret);
        mac.update(PSEUDONYM_DOMAIN);
        mac.update(network);
        mac.update(&month.to_be_bytes());
        let full: [u8; 32] = mac.finalize().into_bytes().into();
        let mut pseudonym = [0; 16];
        pseudonym.copy_from_slice(&full[..16]);
        let tag = self.key.mac(month, &pseudonym).finalize().into_bytes().into();
        Credential { pseudonym, month, tag }
    }
}

fn keyed(key: &[u8; 32]) -> Hmac<Sha256> {
    <Hmac<Sha256> as Mac>::new_from_slice(key).expect("HMAC takes a key of any length")
}

/// Version, month (4), pseudonym (16), tag (32): 53 bytes.
impl Wire for Credential {
    fn encode(&self, w: &mut Writer) {
        w.version(VERSION);
        w.u32(self.month);
        w.raw(&self.pseudonym);
        w.raw(&self.tag);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        r.version(VERSION)?;
        Ok(Self { month: r.u32()?, pseudonym: r.array()?, tag: r.array()? })
    }
}

/// 32 bytes.
impl Wire for AdmissionKey {
    fn encode(&self, w: &mut Writer) {
        w.raw(&self.0);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self(r.array()?))
    }
}

/// Version, secret (32), shared key (32): 65 bytes.
impl Wire for CredentialIssuer {
    fn encode(&self, w: &mut Writer) {
        w.version(VERSION);
        w.raw(&self.secret);
        self.key.encode(w);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        r.version(VERSION)?;
        Ok(Self { secret: r.array()?, key: AdmissionKey::decode(r)? })
    }
}

#[cfg(test)]
mod tests {
    use rand_core::OsRng;

    use super::*;

    #[test]
    fn months_follow_the_calendar() {
        // `date -u -d DAY +%s`, divided by 86,400.
        for (day, year, month) in [
            (0, 1970, 1),
            (30, 1970, 1),
            (31, 1970, 2),
            (58, 1970, 2),
            (59, 1970, 3),
            (11_015, 2000, 2),
            (11_016, 2000, 2),
            (11_017, 2000, 3),
            (20_453, 2025, 12),
            (20_454, 2026, 1),
            (47_540, 2100, 2),
            (47_541, 2100, 3),
        ] {
            assert_eq!(month_of(day), year * 12 + month - 1, "day {day}");
        }
        assert!(month_of(u32::MAX) > 12_000_000);
    }

    #[test]
    fn a_credential_counts_under_the_key_that_it_was_made_with() {
        let issuer = CredentialIssuer::generate(&mut OsRng);
        let credential = issuer.issue(&[1; 32], 24_311);
        assert!(issuer.admission_key().verify(&credential));
        assert!(!AdmissionKey::generate(&mut OsRng).verify(&credential));
        assert!(issuer.admission_key().verify(&Credential::from_bytes(&credential.to_bytes()).unwrap()));
    }

    #[test]
    fn no_byte_of_a_credential_can_be_changed() {
        let issuer = CredentialIssuer::generate(&mut OsRng);
        let bytes = issuer.issue(&[1; 32], 24_311).to_bytes();
        for i in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[i] ^= 1;
            let accepted = Credential::from_bytes(&changed).is_ok_and(|c| issuer.admission_key().verify(&c));
            assert!(!accepted, "byte {i}");
        }
    }

    #[test]
    fn pseudonyms_differ_by_network_month_and_coordinator_and_repeat_otherwise() {
        let issuer = CredentialIssuer::generate(&mut OsRng);
        let of = |network: u8, month| issuer.issue(&[network; 32], month).pseudonym;
        assert_eq!(of(1, 24_311), of(1, 24_311));
        assert_ne!(of(1, 24_311), of(1, 24_312));
        assert_ne!(of(1, 24_311), of(2, 24_311));
        assert_ne!(of(1, 24_311), CredentialIssuer::generate(&mut OsRng).issue(&[1; 32], 24_311).pseudonym);
    }

    #[test]
    fn a_credential_is_current_in_its_month_and_a_day_around_it() {
        let january = month_of(20_454);
        let credential = CredentialIssuer::generate(&mut OsRng).issue(&[1; 32], january);
        assert!(!credential.is_current(20_452));
        assert!(credential.is_current(20_453));
        assert!(credential.is_current(20_454));
        assert!(credential.is_current(20_454 + 31));
        assert!(!credential.is_current(20_454 + 32));
    }
}
