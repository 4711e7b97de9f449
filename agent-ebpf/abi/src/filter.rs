//! What stands before a set that is searched often and nearly never holds what is looked for: a bit for each of its keys'
//! hashes. A key whose bit is not set is not in the set; that costs one load in place of a search.

/// Words of one filter. 4,096 bits for about 100 keys: two or three keys in a hundred that are not in the set are searched
/// for all the same.
pub const FILTER_WORDS: u32 = 64;
/// First word of the filter of the programs that take the priority ring.
pub const FILTER_PROGRAMS: u32 = 0;
/// First word of the filter of the metadata endpoints' addresses.
pub const FILTER_METADATA: u32 = FILTER_WORDS;
/// Words of all filters.
pub const FILTERS_WORDS: u32 = 2 * FILTER_WORDS;

/// The golden ratio's digits: multiplication carries every bit upward.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// Where a key of 16 bytes has its bit: the word, and the bit alone.
#[inline]
#[must_use]
pub const fn place(key: [u64; 2]) -> (u32, u64) {
    let [low, high] = key;
    let hash = (low ^ high.rotate_left(29)).wrapping_mul(SPREAD);
    // The upper bits are the best mixed: 6 choose the word, 6 the bit in it.
    ((hash >> 58) as u32, 1 << (hash >> 52 & 63))
}

/// A key's two words.
#[inline]
#[must_use]
pub const fn words(key: [u8; 16]) -> [u64; 2] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = key;
    [u64::from_ne_bytes([a, b, c, d, e, f, g, h]), u64::from_ne_bytes([i, j, k, l, m, n, o, p])]
}

const _: () = assert!(FILTER_WORDS == 1 << 6);
