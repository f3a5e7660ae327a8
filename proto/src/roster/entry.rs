//! Entries
use crate::wire::{Reader, Wire, WireError, Writer};

/// A roster entry's opaque name: 16 random bytes, the same for its whole life.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryId(pub [u8; 16]);

/// 16 bytes.
impl Wire for EntryId {
    fn encode(&self, w: &mut Writer) {
        w.raw(&self.0);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self(r.array()?))
    }
}
