//! What stands for hashes, MACs and ciphers here: 64 bits that depend on all that went in.

const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

pub(crate) fn word(h: u64, value: u64) -> u64 {
    let h = (h ^ value).wrapping_mul(FACTOR);
    h ^ h >> 29
}

pub(crate) fn bytes(mut h: u64, bytes: &[u8]) -> u64 {
    let mut words = bytes.chunks_exact(8);
    for chunk in &mut words {
        h = word(h, u64::from_le_bytes(chunk.try_into().expect("a chunk of eight")));
    }
    let rest = words.remainder().iter().fold(0, |rest, byte| rest << 8 | u64::from(*byte));
    word(word(h, rest), bytes.len() as u64)
}

/// Adds a key stream, or takes it away again.
pub(crate) fn stream(key: u64, data: &mut [u8]) {
    let mut h = key;
    let mut words = data.chunks_exact_mut(8);
    for chunk in &mut words {
        h = word(h, FACTOR);
        let mixed = u64::from_le_bytes((&*chunk).try_into().expect("a chunk of eight")) ^ h;
        chunk.copy_from_slice(&mixed.to_le_bytes());
    }
    for (byte, pad) in words.into_remainder().iter_mut().zip(word(h, FACTOR).to_le_bytes()) {
        *byte ^= pad;
    }
}
