//! A session: what it seals the other end opens once, in its window.

use crate::mix;

/// Bytes before the sealed packet: type, receiver, counter.
const HEAD: usize = 16;
/// Bytes of the tag behind it.
const TAG: usize = 16;

pub(crate) struct Session {
    pub(crate) ours: u32,
    theirs: u32,
    sends: u64,
    receives: u64,
    counter: u64,
    /// The next counter that has not come, and which of the 128 before it have.
    next: u64,
    window: u128,
}

pub(crate) enum Refusal {
    Replayed,
    Forged,
}

impl Session {
    pub(crate) fn new(ours: u32, theirs: u32, sends: u64, receives: u64) -> Self {
        Self { ours, theirs, sends, receives, counter: 0, next: 0, window: 0 }
    }

    pub(crate) fn seal<'a>(&mut self, packet: &[u8], dst: &'a mut [u8]) -> &'a mut [u8] {
        let len = HEAD + packet.len() + TAG;
        dst[..4].copy_from_slice(&[4, 0, 0, 0]);
        dst[4..8].copy_from_slice(&self.theirs.to_le_bytes());
        dst[8..HEAD].copy_from_slice(&self.counter.to_le_bytes());
        let key = mix::word(self.sends, self.counter);
        self.counter += 1;
        let tag = mix::bytes(key, packet);
        let body = &mut dst[HEAD..HEAD + packet.len()];
        body.copy_from_slice(packet);
        mix::stream(key, body);
        dst[len - TAG..len - TAG + 8].copy_from_slice(&tag.to_le_bytes());
        dst[len - TAG + 8..len].fill(0);
        &mut dst[..len]
    }

    /// Opens what [`seal`](Self::seal) made; `sealed` is what follows the counter.
    pub(crate) fn open<'a>(
        &mut self,
        counter: u64,
        sealed: &[u8],
        dst: &'a mut [u8],
    ) -> Result<&'a mut [u8], Refusal> {
        let behind = self.next.saturating_sub(counter);
        if behind > 128 || (behind > 0 && self.window >> (behind - 1) & 1 == 1) {
            return Err(Refusal::Replayed);
        }
        let Some(len) = sealed.len().checked_sub(TAG) else { return Err(Refusal::Forged) };
        let key = mix::word(self.receives, counter);
        let packet = &mut dst[..len];
        packet.copy_from_slice(&sealed[..len]);
        mix::stream(key, packet);
        if mix::bytes(key, packet).to_le_bytes() != sealed[len..len + 8] {
            return Err(Refusal::Forged);
        }
        if counter >= self.next {
            let shift = counter - self.next + 1;
            self.window = if shift >= 128 { 1 } else { self.window << shift | 1 };
            self.next = counter + 1;
        } else {
            self.window |= 1 << (behind - 1);
        }
        Ok(packet)
    }
}
