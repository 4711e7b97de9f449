//! Searches within a line, sixteen bytes at a time and without a call: a field is as a rule found within a step or two, less
//! than what a call to `memchr` costs.

use wide::{u8x16, u8x32};

/// Where the first of `bytes` stands in `text`.
#[inline(always)]
pub(in crate::edge) fn first_of<const N: usize>(bytes: [u8; N], text: &[u8]) -> Option<usize> {
    let (steps, rest) = text.as_chunks::<16>();
    let wanted = bytes.map(u8x16::splat);
    for (at, step) in steps.iter().enumerate() {
        let step = u8x16::new(*step);
        let found = wanted.iter().fold(u8x16::ZERO, |found, byte| found | step.simd_eq(*byte)).to_bitmask();
        if found != 0 {
            return Some(at * 16 + found.trailing_zeros() as usize);
        }
    }
    let read = text.len() - rest.len();
    rest.iter().position(|byte| bytes.contains(byte)).map(|at| read + at)
}

/// Where the `N`th `byte` stands within the first 32 bytes of `text`.
#[inline(always)]
pub(in crate::edge) fn nth<const N: usize>(byte: u8, text: &[u8]) -> Option<usize> {
    let mut found = u8x32::new(*text.first_chunk()?).simd_eq(u8x32::splat(byte)).to_bitmask();
    for _ in 1..N {
        found &= found.wrapping_sub(1);
    }
    (found != 0).then_some(found.trailing_zeros() as usize)
}

/// A bit for every one of sixteen bytes that is no digit, the first in the lowest place.
#[inline(always)]
pub(in crate::edge) fn no_digits(text: &[u8; 16]) -> u32 {
    // Digits differ from '0' in the low four bits alone, by at most nine.
    let values = u8x16::new(*text) ^ u8x16::splat(b'0');
    !values.min(u8x16::splat(9)).simd_eq(values).to_bitmask() & 0xFFFF
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_some_bytes_is_found_wherever_it_stands() {
        for length in 0..60 {
            let mut text = vec![b'a'; length];
            assert_eq!(first_of(*b"/?#\\", &text), None);
            for at in 0..length {
                for byte in *b"/?#\\" {
                    text[at..].fill(byte.wrapping_add(1));
                    text[at] = byte;
                    assert_eq!(first_of(*b"/?#\\", &text), Some(at), "{}", text.escape_ascii());
                }
                text[at..].fill(b'a');
            }
        }
    }

    #[test]
    fn the_nth_is_counted_from_the_front() {
        let check = |text: &[u8], expected: Option<usize>| assert_eq!(nth::<3>(b' ', text), expected);
        check(b"0.001 0.248 0.000 200 200 512 2048 ", Some(17));
        check(b"                                   ", Some(2));
        check(b"a b                 x             c", Some(4));
        check(b"a b cdefghijklmnopqrstuvwxyz0123456 ", None);
        check(b"a b c d", None);
    }

    #[test]
    fn every_byte_that_is_no_digit_has_its_bit() {
        for byte in 0..=u8::MAX {
            let mut text = *b"0123456789012345";
            text[5] = byte;
            assert_eq!(no_digits(&text) != 0, !byte.is_ascii_digit(), "{byte}");
        }
        assert_eq!(no_digits(b"192.0.2.7:80 200"), 1 << 3 | 1 << 5 | 1 << 7 | 1 << 9 | 1 << 12);
    }
}
