//! The file that makes a program a relay of a coordinator.
//!
//! `coordinator relay-key` writes it, `relay serve --coordinator-key` reads it. It holds the relay's own Ed25519 key,
//! whose public half the coordinator offers to networks, and the key that credentials are checked with. One line of
//! text: a prefix that says what it is, then base32 with a checksum, so that a damaged copy is told apart from a
//! file of another kind.

use data_encoding::{BASE32_NOPAD, Encoding};
use ed25519_dalek::SigningKey;
use rand_core::CryptoRngCore;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::AdmissionKey;
use crate::wire::{Reader, Wire, WireError, Writer};

const PREFIX: &str = "tacet-relay-key1";
const FAMILY: &str = "tacet-relay-key";
const CHECKSUM_DOMAIN: &[u8] = b"tacet relay key file v1\0";
const VERSION: u8 = 1;

/// Bytes of checksum: a slip passes unseen once in four thousand million.
const CHECKSUM: usize = 4;

/// A relay's two secrets.
#[derive(Clone)]
pub struct RelayKeyFile {
    /// The relay's own key, its name in rosters.
    pub relay: SigningKey,
    /// The key shared with the coordinator.
    pub admission: AdmissionKey,
}

/// Why a file is not a relay's key file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFileError {
    /// Another kind of file.
    #[error("this is not a relay key file; `tacet-coordinator relay-key` on the coordinator writes one")]
    Kind,
    /// A later version wrote it.
    #[error("this relay key file was written by a newer version of Tacet: update the relay")]
    Newer,
    /// A damaged copy.
    #[error("this relay key file is damaged; copy it again from the coordinator")]
    Damaged,
}

impl RelayKeyFile {
    /// A fresh relay key beside the coordinator's shared key.
    #[must_use]
    pub fn generate(admission: &AdmissionKey, rng: &mut impl CryptoRngCore) -> Self {
        Self { relay: SigningKey::generate(rng), admission: admission.clone() }
    }

    /// The file's text, ending in a newline.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new(self.to_bytes());
        let sum = checksum(&bytes);
        bytes.extend_from_slice(&sum);
        let mut text = Zeroizing::new(String::from(PREFIX));
        text.push_str(&Zeroizing::new(base32().encode(&bytes)));
        text.push('\n');
        text
    }

    /// Reads the file's text; white space around it does not matter.
    ///
    /// # Errors
    /// [`KeyFileError`].
    pub fn from_text(text: &str) -> Result<Self, KeyFileError> {
        let text = text.trim();
        let Some(body) = text.strip_prefix(PREFIX) else {
            return Err(if text.starts_with(FAMILY) { KeyFileError::Newer } else { KeyFileError::Kind });
        };
        let bytes = base32().decode(body.as_bytes()).map_err(|_| KeyFileError::Damaged)?;
        let bytes = Zeroizing::new(bytes);
        let (value, sum) = bytes.split_last_chunk::<CHECKSUM>().ok_or(KeyFileError::Damaged)?;
        if checksum(value) != *sum {
            return Err(KeyFileError::Damaged);
        }
        Self::from_bytes(value).map_err(|error| match error {
            WireError::Newer { .. } => KeyFileError::Newer,
            _ => KeyFileError::Damaged,
        })
    }
}

fn base32() -> Encoding {
    let mut specification = BASE32_NOPAD.specification();
    specification.symbols.make_ascii_lowercase();
    specification.encoding().expect("lower-case base32 is an encoding")
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM] {
    let digest = Sha256::new().chain_update(CHECKSUM_DOMAIN).chain_update(bytes).finalize();
    let mut sum = [0; CHECKSUM];
    sum.copy_from_slice(&digest[..CHECKSUM]);
    sum
}

/// Version, relay seed (32), shared key (32): 65 bytes.
impl Wire for RelayKeyFile {
    fn encode(&self, w: &mut Writer) {
        w.version(VERSION);
        w.raw(&Zeroizing::new(self.relay.to_bytes())[..]);
        self.admission.encode(w);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        r.version(VERSION)?;
        let seed = Zeroizing::new(r.array()?);
        Ok(Self { relay: SigningKey::from_bytes(&seed), admission: AdmissionKey::decode(r)? })
    }
}

#[cfg(test)]
mod tests {
    use rand_core::OsRng;

    use super::*;

    fn file() -> RelayKeyFile {
        RelayKeyFile::generate(&AdmissionKey::generate(&mut OsRng), &mut OsRng)
    }

    #[test]
    fn a_key_file_is_one_line_that_reads_back() {
        let file = file();
        let text = file.to_text();
        assert_eq!(text.lines().count(), 1);
        let again = RelayKeyFile::from_text(&format!("  {}\r\n", text.trim())).unwrap();
        assert!(again.to_bytes() == file.to_bytes());
    }

    #[test]
    fn a_damaged_a_newer_and_a_foreign_file_are_told_apart() {
        let text = file().to_text();
        let damaged = format!("{}a", text.trim());
        assert_eq!(RelayKeyFile::from_text(&damaged).err(), Some(KeyFileError::Damaged));
        let newer = text.replace(PREFIX, "tacet-relay-key2");
        assert_eq!(RelayKeyFile::from_text(&newer).err(), Some(KeyFileError::Newer));
        assert_eq!(RelayKeyFile::from_text("tacet-invite1abc").err(), Some(KeyFileError::Kind));
    }

    #[test]
    fn a_changed_letter_is_noticed() {
        let text = file().to_text();
        for i in PREFIX.len()..text.trim().len() {
            let mut changed = text.trim().as_bytes().to_vec();
            changed[i] = if changed[i] == b'a' { b'b' } else { b'a' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(RelayKeyFile::from_text(&changed).is_err(), "letter {i}");
        }
    }
}
