//! The internet checksum (RFC 1071).
//!
//! Sums are kept in the machine's byte order: the ones' complement sum of swapped words is the swapped sum, so what is
//! read in native order may be written in native order.

/// A sum not yet folded to 16 bits.
#[derive(Clone, Copy, Default)]
pub(super) struct Sum(u64);

/// From so many bytes on wider registers are worth the question whether there are any.
#[cfg(target_arch = "x86_64")]
const WIDE: usize = 128;

/// The same loop, for the compiler to make of it what AVX2 can: half the time for a full packet.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn of_avx2(bytes: &[u8]) -> Sum {
    of_words(bytes)
}

/// Two registers of four 64-bit numbers under AVX2. A plain loop over an array, and no iterator's `sum`: that is a function
/// of its own wherever the compiler does not inline it, and then made for processors without AVX2.
#[inline(always)]
fn of_words(bytes: &[u8]) -> Sum {
    const LANES: usize = 8;
    let mut lanes = [0_u64; LANES];
    let (blocks, rest) = bytes.as_chunks::<{ 4 * LANES }>();
    for block in blocks {
        let (words, _) = block.as_chunks::<4>();
        for lane in 0..LANES {
            lanes[lane] += u64::from(u32::from_ne_bytes(words[lane]));
        }
    }
    let mut sum = 0;
    for lane in lanes {
        sum += lane;
    }
    let (words, tail) = rest.as_chunks::<4>();
    for word in words {
        sum += u64::from(u32::from_ne_bytes(*word));
    }
    let tail = match *tail {
        [] => [0; 4],
        [a] => [a, 0, 0, 0],
        [a, b] => [a, b, 0, 0],
        [a, b, c, ..] => [a, b, c, 0],
    };
    Sum(sum).add(Sum(u64::from(u32::from_ne_bytes(tail))))
}

impl Sum {
    /// The sum of `bytes`, the last of an odd number padded with zero.
    pub(super) fn of(bytes: &[u8]) -> Self {
        #[cfg(target_arch = "x86_64")]
        if bytes.len() >= WIDE && std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has just been asked for AVX2.
            #[allow(unsafe_code)]
            return unsafe { of_avx2(bytes) };
        }
        of_words(bytes)
    }

    /// The sum of one 16-bit number, as it stands in a packet.
    pub(super) fn of_u16(value: u16) -> Self {
        Self(u64::from(u16::from_ne_bytes(value.to_be_bytes())))
    }

    /// Both sums together. (No overflow: a packet has fewer than 2^16 words of 2^32.)
    pub(super) fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }

    /// This sum without one 16-bit number that is in it.
    pub(super) fn without_u16(self, value: u16) -> Self {
        self.add(Self::of_u16(!value))
    }

    fn folded(self) -> u16 {
        let mut sum = self.0;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    /// The bytes of the sum itself, as the kernel wants it where the checksum is left to it.
    pub(super) fn partial(self) -> [u8; 2] {
        self.folded().to_ne_bytes()
    }

    /// The bytes of the checksum: the sum's complement.
    pub(super) fn checksum(self) -> [u8; 2] {
        (!self.folded()).to_ne_bytes()
    }

    /// Whether this is the sum of bytes that include their own right checksum.
    pub(super) fn is_right(self) -> bool {
        self.folded() == 0xffff
    }
}

/// The pseudo header of TCP (RFC 9293, section 3.1) and UDP over either IP: `addresses` are source and destination
/// as they lie in the IP header, `len` the bytes from the TCP or UDP header to the end.
pub(super) fn pseudo(addresses: &[u8], protocol: u8, len: usize) -> Sum {
    Sum::of(addresses).add(Sum::of_u16(u16::from(protocol))).add(Sum::of_u16(len as u16))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 1071's definition, word by word.
    fn plain(bytes: &[u8]) -> u16 {
        let mut sum = 0_u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    proptest! {
        #[test]
        fn the_sum_agrees_with_the_definition(bytes in proptest::collection::vec(any::<u8>(), 0..3_000)) {
            prop_assert_eq!(Sum::of(&bytes).partial(), plain(&bytes).to_be_bytes());
            prop_assert_eq!(Sum::of(&bytes).checksum(), (!plain(&bytes)).to_be_bytes());
        }

        #[test]
        fn a_number_taken_out_leaves_the_sum_of_the_rest(mut bytes in proptest::collection::vec(1_u8.., 4..100)) {
            let first = u16::from_be_bytes([bytes[0], bytes[1]]);
            let without = Sum::of(&bytes).without_u16(first);
            bytes[..2].fill(0);
            prop_assert_eq!(without.partial(), plain(&bytes).to_be_bytes());
        }
    }

    #[test]
    fn the_largest_packet_does_not_overflow() {
        assert_eq!(Sum::of(&[0xff; 65_535]).partial(), plain(&[0xff; 65_535]).to_be_bytes());
    }
}
