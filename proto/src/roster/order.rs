//! Which state of a network is the newer one.

use crate::wire::{Reader, Wire, WireError, Writer};

/// A state's place: recovery count first, then generation, then version. It never goes backwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Order {
    /// How often the paper was used; only the root raises it.
    pub recovery: u64,
    /// The signers' generation under that recovery count, from 1.
    pub generation: u64,
    /// The header's version under that generation, from 1.
    pub version: u64,
}

/// The least state that a newcomer accepts: what the token's maker saw.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Floor {
    /// Its place.
    pub order: Order,
    /// Its header's hash.
    pub header: [u8; 32],
}

/// 24 bytes.
impl Wire for Order {
    fn encode(&self, w: &mut Writer) {
        w.u64(self.recovery);
        w.u64(self.generation);
        w.u64(self.version);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self { recovery: r.u64()?, generation: r.u64()?, version: r.u64()? })
    }
}

/// Order, header hash: 56 bytes.
impl Wire for Floor {
    fn encode(&self, w: &mut Writer) {
        self.order.encode(w);
        w.raw(&self.header);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self { order: Order::decode(r)?, header: r.array()? })
    }
}
