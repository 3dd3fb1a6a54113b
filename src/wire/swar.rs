//! Finds the next byte that means something, eight at a time (SIMD within a register): heads, bodies and streams are
//! mostly bytes that mean nothing. Knows no protocol: which bytes stop is the caller's to say.

const ONES: u64 = u64::from_ne_bytes([1; 8]);
const TOPS: u64 = ONES << 7;

/// How many bytes at the start stop nobody. `stops` marks, in the top bit of each byte, where one stops; marks above the
/// lowest may be wrong.
pub fn run(bytes: &[u8], stops: impl Fn(u64) -> u64) -> usize {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let (mut words, mut last, mut at) = (words.iter(), Some(last), 0);
    while let Some(word) = words.next().copied().or_else(|| last.take()) {
        let marks = stops(u64::from_le_bytes(word));
        if marks != 0 {
            // One behind the end comes from what the last word was filled up with.
            return bytes.len().min(at + marks.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    bytes.len()
}

/// Bytes below `bound`, which is at most 0x80: only from these does subtracting it borrow into a top bit that was clear.
pub fn below(word: u64, bound: u8) -> u64 {
    word.wrapping_sub(ONES * u64::from(bound)) & !word & TOPS
}

pub fn equal(word: u64, byte: u8) -> u64 {
    below(word ^ (ONES * u64::from(byte)), 1)
}

#[cfg(test)]
mod tests {
    use super::super::hostile::Rng;
    use super::*;

    #[test]
    fn the_same_as_byte_by_byte() {
        let alphabet = b"\0\x01\x09\x0a\x0b\x0d\x1f\x20\x21\"#\\]\x7f\x80\x8a\x8d\xff";
        let mut rng = Rng::new(7);
        for _ in 0..20_000 {
            let plain = rng.below(24);
            let mut bytes = vec![b'x'; plain];
            bytes.extend((0..rng.below(12)).map(|_| alphabet[rng.below(alphabet.len())]));
            let slow = |stop: &dyn Fn(u8) -> bool| bytes.iter().take_while(|&&byte| !stop(byte)).count();
            assert_eq!(
                run(&bytes, |word| equal(word, b'\n') | equal(word, b'\r')),
                slow(&|b| b == b'\n' || b == b'\r')
            );
            assert_eq!(run(&bytes, |word| below(word, 0x20)), slow(&|b| b < 0x20), "{bytes:?}");
            assert_eq!(run(&bytes, |word| equal(word, 0)), slow(&|b| b == 0), "{bytes:?}");
        }
    }
}
