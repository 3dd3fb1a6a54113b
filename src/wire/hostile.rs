//! What the tests of this layer share: a small generator, a mutator, and the check that a cut changes nothing.
//! Compiled for tests only.

use super::Malformed;
use std::fmt::Debug;

/// xorshift64*: the same numbers on every machine, so a failing round can be repeated by its seed.
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Rng {
        Rng(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number in `0..bound`; 0 when `bound` is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 33) as usize % bound.max(1)
    }
}

/// One to four edits of `seed`: a flipped bit, a removed, doubled or moved stretch, a word of the vocabulary.
pub fn mutate(rng: &mut Rng, seed: &[u8], words: &[&[u8]]) -> Vec<u8> {
    let mut text = seed.to_vec();
    for _ in 0..=rng.below(4) {
        let at = rng.below(text.len() + 1);
        let end = (at + rng.below(9)).min(text.len());
        match rng.below(6) {
            0 if at < text.len() => text[at] ^= 1 << rng.below(8),
            1 => drop(text.drain(at..end)),
            2 => {
                let piece = text[at..end].to_vec();
                text.splice(at..at, piece);
            }
            3 => text.truncate(at),
            _ => {
                let word = words.get(rng.below(words.len())).copied().unwrap_or(b"");
                text.splice(at..end.min(at + word.len() * rng.below(2)), word.iter().copied());
            }
        }
    }
    text
}

/// Parses `input` cut at every byte: nothing may be taken early, taken differently, or refused only when cut.
pub fn same_when_cut<T: PartialEq + Debug>(
    input: &[u8],
    parse: impl Fn(&[u8]) -> Result<Option<(usize, T)>, Malformed>,
) {
    let whole = parse(input);
    if let Ok(Some((used, _))) = &whole {
        assert!(*used <= input.len(), "{used} bytes of {}", input.len());
    }
    for cut in 0..input.len() {
        match (parse(&input[..cut]), &whole) {
            (Ok(None), Ok(Some((used, _)))) => assert!(cut < *used, "cut at {cut}: nothing of {used} bytes"),
            (Ok(None), _) | (Err(_), Err(_)) => {}
            (part, whole) => assert_eq!(&part, whole, "cut at {cut}"),
        }
    }
}

/// Cuts `input` into pieces of random length, the empty one included.
pub fn pieces<'a>(rng: &mut Rng, mut input: &'a [u8]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    while !input.is_empty() {
        let bound = [1, 2, 4, 64][rng.below(4)];
        let (piece, rest) = input.split_at(rng.below(bound + 1).min(input.len()));
        pieces.push(piece);
        input = rest;
    }
    pieces
}
