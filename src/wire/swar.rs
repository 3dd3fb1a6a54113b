//! Finds the next byte that means something, eight at a time (SIMD within a register): heads, bodies and streams are
//! mostly bytes that mean nothing. Knows no protocol: which bytes stop is the caller's to say.

const ONES: u64 = u64::from_le_bytes([1; 8]);
const TOPS: u64 = ONES << 7;

/// The first byte at which a line ends.
pub const LINE_END: Set = Set::of(b'\n', b'\r');

/// Two bytes, and all below a bound or above ASCII: each spread over a word.
pub struct Set {
    one: u64,
    other: u64,
    below: u64,
    not_ascii: u64,
}

impl Set {
    pub const fn of(one: u8, other: u8) -> Set {
        Set { one: ONES * one as u64, other: ONES * other as u64, below: 0, not_ascii: 0 }
    }

    /// With all bytes below `bound`, which is at most 0x80.
    #[must_use]
    pub const fn and_below(self, bound: u8) -> Set {
        Set { below: ONES * bound as u64, ..self }
    }

    #[must_use]
    pub const fn and_not_ascii(self) -> Set {
        Set { not_ascii: TOPS, ..self }
    }

    /// The top bit of each byte of `word` that is in the set. Above the lowest one there may be wrong ones.
    // For size alone it would become a call for each word.
    #[allow(clippy::inline_always)]
    #[inline(always)]
    fn marks(&self, word: u64) -> u64 {
        // Taking a bound away borrows into a top bit that was clear only where the byte is below it.
        let below = |word: u64, bound: u64| word.wrapping_sub(bound) & !word;
        let equal = |byte: u64| below(word ^ byte, ONES);
        (equal(self.one) | equal(self.other) | below(word, self.below) | word & self.not_ascii) & TOPS
    }
}

/// How many bytes at the start are not in `set`.
pub fn run(bytes: &[u8], set: &Set) -> usize {
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let marks = set.marks(u64::from_le_bytes(*word));
        if marks != 0 {
            return index * 8 + marks.trailing_zeros() as usize / 8;
        }
    }
    let last = rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
    // What stands for no byte may be marked too; without a mark these are 64 zeros.
    bytes.len().min(words.len() * 8 + set.marks(last).trailing_zeros() as usize / 8)
}

#[cfg(test)]
mod tests {
    use super::super::hostile::Rng;
    use super::*;

    #[test]
    fn equals_the_slow_way() {
        let mut rng = Rng::new(6);
        for _ in 0..20_000 {
            let bytes: Vec<u8> = (0..rng.below(40))
                .map(|_| match rng.below(16) {
                    0 => rng.below(256) as u8,
                    _ => b"a\x80\xff\x01\x0b\x0c\x0e\x21\x8a\x8d"[rng.below(10)],
                })
                .collect();
            let slow = |is: &dyn Fn(u8) -> bool| bytes.iter().position(|byte| is(*byte)).unwrap_or(bytes.len());
            for (one, other) in [(b'\n', b'\r'), (0, 0xff), (b'!', 0x80)] {
                let set = || Set::of(one, other);
                let is_it = |byte| byte == one || byte == other;
                assert_eq!(run(&bytes, &set()), slow(&is_it), "{bytes:x?}");
                assert_eq!(run(&bytes, &set().and_not_ascii()), slow(&|byte| is_it(byte) || byte >= 0x80));
                for bound in [1, 0x0c, 0x20, 0x80] {
                    let is_it = |byte| is_it(byte) || byte < bound;
                    assert_eq!(run(&bytes, &set().and_below(bound)), slow(&is_it), "{bytes:x?}");
                }
            }
        }
    }
}
