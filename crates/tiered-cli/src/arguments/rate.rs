//! How fast bytes may move.

use tiered::adapter::url::parse_bytes;

/// So many bytes a second; not none.
pub(super) fn bytes_per_second(text: &str) -> Result<u64, String> {
    let parsed = parse_bytes(text).map_err(|error| error.message().to_owned())?;
    if parsed == 0 { Err("nothing would ever be copied".to_owned()) } else { Ok(parsed) }
}
