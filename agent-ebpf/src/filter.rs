//! Whether a set may hold a key at all: see `breachline_abi::filter`.

use breachline_abi::filter::place;

use crate::maps::FILTERS;

/// Whether the set whose filter begins at the word `first` is worth a search for `key`.
#[inline(always)]
pub fn may_hold(first: u32, key: [u64; 2]) -> bool {
    let (word, bit) = place(key);
    // SAFETY: a valid map value, filled before the programs are attached.
    FILTERS.get_ptr(first + word).is_none_or(|word| unsafe { *word } & bit != 0)
}
