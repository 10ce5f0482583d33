//! The names of blocks in the frontend.

use crate::error::Result;
use crate::key::Key;
use crate::version::Version;

/// What the names of all blocks begin with, and no key of a user.
const BLOCKS: &str = ".tiered/block/";

/// Greater than each name: they go on with a hexadecimal digit.
const AFTER: &str = ".tiered/block/~";

/// Bytes that the names of all blocks of a value begin with.
const STEM: usize = BLOCKS.len() + 32 + 1;

/// Bytes of the longest name.
pub(crate) const LONGEST: usize = STEM + 16;

/// Whether this is the name of a block, which no user may write.
pub(crate) fn is_block(key: &Key) -> bool {
    key.as_str().starts_with(BLOCKS)
}

/// The key after which a listing goes on that has met a block: no block comes after it.
pub(crate) fn past_blocks() -> Result<Key> {
    Key::new(AFTER)
}

/// The names of the blocks of one version of a value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Names {
    /// What they begin with: that of all blocks, the hash as 32 digits, and `/`.
    stem: [u8; STEM],
}

impl Names {
    /// What all of them begin with.
    pub(crate) const PREFIX: &str = BLOCKS;

    /// Those of `version` of `key`, cut into blocks of so many bytes.
    ///
    /// The hash is part of what is on disk. It need not resist an adversary: a block is used only if its version is the
    /// value's, so that two values with one hash are a miss to each other.
    pub(crate) fn of(key: &Key, version: &Version, block: u64) -> Self {
        let hash = Fnv::new().with(key.as_str().as_bytes()).with(&[0]);
        let hash = match version.as_u128() {
            Some(id) => hash.with(&id.to_le_bytes()),
            None => hash.with(version.as_token().unwrap_or_default().as_bytes()),
        };
        let digits = digits(hash.with(&[0]).with(&block.to_le_bytes()).0);
        let mut stem = [b'/'; STEM];
        for (room, byte) in stem.iter_mut().zip(BLOCKS.bytes().chain(digits)) {
            *room = byte;
        }
        Self { stem }
    }

    /// What tells them from those of other versions and values.
    pub(crate) fn hash(&self) -> u128 {
        let digits = self.stem.get(BLOCKS.len()..STEM - 1).and_then(|digits| str::from_utf8(digits).ok());
        digits.and_then(|digits| u128::from_str_radix(digits, 16).ok()).unwrap_or_default()
    }

    /// The [`hash`](Self::hash) in the name of a block.
    pub(crate) fn hash_of(name: &Key) -> Option<u128> {
        let (hash, _) = name.as_str().strip_prefix(BLOCKS)?.split_once('/')?;
        u128::from_str_radix(hash, 16).ok()
    }

    /// The name of one block: what they begin with, and its index in hexadecimal.
    ///
    /// # Errors
    /// None: a name is a valid key.
    pub(crate) fn block(&self, index: u64) -> Result<Key> {
        // Made on the stack: a hit makes one.
        let mut name = [0; LONGEST];
        let (stem, rest) = name.split_at_mut(STEM);
        stem.copy_from_slice(&self.stem);
        let count = (u64::BITS - index.leading_zeros()).div_ceil(4).max(1);
        let mut len = STEM;
        for (room, at) in rest.iter_mut().zip((0..count).rev()) {
            *room = digit((index >> (4 * at)).to_le_bytes()[0] & 15);
            len += 1;
        }
        Key::new(name.get(..len).and_then(|name| str::from_utf8(name).ok()).unwrap_or_default())
    }
}

/// The 32 hexadecimal digits of a number.
fn digits(number: u128) -> [u8; 32] {
    let mut digits = [b'0'; 32];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(number.to_be_bytes()) {
        pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
    }
    digits
}

const fn digit(nibble: u8) -> u8 {
    if nibble < 10 { b'0' + nibble } else { b'a' - 10 + nibble }
}

/// FNV-1a of 128 bits.
struct Fnv(u128);

impl Fnv {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;

    const fn new() -> Self {
        Self(Self::OFFSET)
    }

    fn with(self, bytes: &[u8]) -> Self {
        let step = |hash: u128, byte: &u8| (hash ^ u128::from(*byte)).wrapping_mul(Self::PRIME);
        Self(bytes.iter().fold(self.0, step))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(key: &str, version: u128, block: u64, index: u64) -> String {
        let names = Names::of(&Key::new(key).expect("valid"), &Version::from_u128(version), block);
        names.block(index).expect("valid").as_str().to_owned()
    }

    /// The published test vectors of the hash.
    #[test]
    fn the_hash_is_the_published_one() {
        assert_eq!(Fnv::new().0, 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d);
        assert_eq!(Fnv::new().with(b"a").0, 0xd228_cb69_6f1a_8caf_7891_2b70_4e4a_8964);
        assert_eq!(Fnv::new().with(b"foobar").0, 0x343e_1662_793c_64bf_6f0d_3597_ba44_6f18);
    }

    #[test]
    fn names_differ_by_key_version_size_and_index() {
        let names = [
            name("k", 1, 10, 1),
            name("l", 1, 10, 1),
            name("k", 2, 10, 1),
            name("k", 1, 20, 1),
            name("k", 1, 10, 2),
        ];
        let distinct: std::collections::BTreeSet<&String> = names.iter().collect();
        assert_eq!(distinct.len(), names.len());
        assert_eq!(name("k", 1, 10, 1), names[0]);
    }

    #[test]
    fn a_name_is_made_of_hexadecimal_digits() {
        let names = Names::of(&Key::new("k").expect("valid"), &Version::from_u128(1), 10);
        for index in [0, 1, 15, 16, 0x0bad_cafe, u64::MAX] {
            let expected = format!("{BLOCKS}{:032x}/{index:x}", names.hash());
            assert_eq!(names.block(index).expect("valid").as_str(), expected);
        }
        assert_eq!(digits(0xfedc_ba98), *b"000000000000000000000000fedcba98");
    }

    /// Disks have them.
    #[test]
    fn a_name_does_not_change_between_releases() {
        assert_eq!(name("films/42", 7, 256 << 10, 26), ".tiered/block/5b1d2162a2417a8422b5d941080df9e6/1a");
        let token = Version::from_token("\"etag\"").expect("valid");
        let names = Names::of(&Key::new("films/42").expect("valid"), &token, 256 << 10);
        assert_eq!(
            names.block(0).expect("valid").as_str(),
            ".tiered/block/8c70dd10b7c70078fe3fb062d30dd35a/0"
        );
    }

    #[test]
    fn a_name_tells_whose_block_it_is() {
        let names = Names::of(&Key::new("k").expect("valid"), &Version::from_u128(1), 10);
        assert_eq!(Names::hash_of(&names.block(77).expect("valid")), Some(names.hash()));
        assert_eq!(Names::hash_of(&Key::new("k/1").expect("valid")), None);
        assert_eq!(Names::hash_of(&Key::new(".tiered/block/no/1").expect("valid")), None);
    }

    #[test]
    fn all_names_lie_in_one_range_that_a_listing_can_pass() {
        let longest = name(&"k".repeat(Key::MAX_LEN), u128::MAX, 10, u64::MAX);
        assert_eq!(longest.len(), LONGEST);
        let longest = Key::new(longest).expect("valid");
        assert!(is_block(&longest) && longest < past_blocks().expect("valid"));
        assert!(past_blocks().expect("valid") < Key::new(".tiered/block0").expect("valid"));
        assert!(!is_block(&Key::new(".tiered/owner").expect("valid")));
    }
}
