//! The filters before the kernel half's sets: bits, set once at load.

use std::collections::BTreeMap;

use aya::Ebpf;
use aya::maps::{Array, MapData};
use breachline_abi::filter::{place, words};

use super::KernelError;

/// Sets the bits of `keys` in the filter that begins at the word `first`.
///
/// # Errors
///
/// [`KernelError::Map`].
pub(super) fn add(ebpf: &mut Ebpf, first: u32, keys: impl Iterator<Item = [u8; 16]>) -> Result<(), KernelError> {
    const NAME: &str = "FILTERS";
    let failed = |reason: String| KernelError::Map { name: NAME, reason };
    let map = ebpf.map_mut(NAME).ok_or_else(|| failed("not in the object".to_owned()))?;
    let mut map: Array<&mut MapData, u64> = Array::try_from(map).map_err(|error| failed(error.to_string()))?;
    for (word, bits) in bits(keys) {
        map.set(first + word, bits, 0).map_err(|error| failed(error.to_string()))?;
    }
    Ok(())
}

/// The words of a filter that are not zero.
fn bits(keys: impl Iterator<Item = [u8; 16]>) -> BTreeMap<u32, u64> {
    keys.map(|key| place(words(key))).fold(BTreeMap::new(), |mut bits, (word, bit)| {
        *bits.entry(word).or_default() |= bit;
        bits
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use breachline_abi::filter::FILTER_WORDS;

    #[test]
    fn a_filter_holds_all_its_keys_and_little_else() {
        let key = |number: u64| (u128::from(number).wrapping_mul(0x1234_5678_9abc_def1_0fed)).to_ne_bytes();
        let filter = bits((0..100).map(key));
        let holds = |key| {
            let (word, bit) = place(words(key));
            filter.get(&word).is_some_and(|bits| bits & bit != 0)
        };
        assert!((0..100).all(|number| holds(key(number))), "what is in the set passes");
        let wrongly = (100..10_100).filter(|number| holds(key(*number))).count();
        assert!(wrongly < 500, "{wrongly} of 10,000 others pass");
        assert!(filter.keys().all(|word| *word < FILTER_WORDS));
    }
}
