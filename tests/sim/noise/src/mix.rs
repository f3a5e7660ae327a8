//! What stands for hashes, MACs and ciphers here: 64 bits that depend on all that went in.

const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

#[inline]
pub(crate) fn word(h: u64, value: u64) -> u64 {
    let h = (h ^ value).wrapping_mul(FACTOR);
    h ^ h >> 29
}

/// Four words at a time side by side, for each step waits for the one before it.
pub(crate) fn bytes(h: u64, bytes: &[u8]) -> u64 {
    let mut lanes = [h, !h, h.rotate_left(16), h.rotate_left(32)];
    let (blocks, rest) = bytes.as_chunks::<32>();
    for block in blocks {
        for (lane, chunk) in lanes.iter_mut().zip(block.as_chunks::<8>().0) {
            *lane = word(*lane, u64::from_le_bytes(*chunk));
        }
    }
    let (words, rest) = rest.as_chunks::<8>();
    let h = lanes.into_iter().chain(words.iter().map(|chunk| u64::from_le_bytes(*chunk))).fold(h, word);
    let rest = rest.iter().fold(0, |rest, byte| rest << 8 | u64::from(*byte));
    word(word(h, rest), bytes.len() as u64)
}

/// Adds a key stream, or takes it away again.
pub(crate) fn stream(key: u64, data: &mut [u8]) {
    let pad = |n: usize| word(key, n as u64);
    let (words, rest) = data.as_chunks_mut::<8>();
    let last = pad(words.len());
    for (n, chunk) in words.iter_mut().enumerate() {
        *chunk = (u64::from_le_bytes(*chunk) ^ pad(n)).to_le_bytes();
    }
    rest.iter_mut().zip(last.to_le_bytes()).for_each(|(byte, pad)| *byte ^= pad);
}
