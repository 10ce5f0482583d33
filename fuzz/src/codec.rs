//! `codec`: metadata as bytes, as embedded engines and the journal keep them.

use tiered_core::Metadata;
use tiered_core::adapter::codec::{decode_metadata, encode_metadata, put_text, take_text};

use crate::allocation;

/// Any bytes as metadata, and as a text.
pub fn codec(data: &[u8]) {
    let mut rest = data;
    if let Some(metadata) =
        allocation::bounded(data.len() * allocation::FACTOR, || decode_metadata(&mut rest))
    {
        assert!(data.ends_with(rest), "what is behind stays as it is");
        let mut again = Vec::new();
        encode_metadata(&metadata, &mut again);
        assert!(again.len() <= data.len() - rest.len());
        again.extend_from_slice(b"behind");
        let mut behind = again.as_slice();
        let decoded = decode_metadata(&mut behind).expect("what is encoded is decoded");
        assert_same(&decoded, &metadata);
        assert_eq!(behind, b"behind");
        let version = metadata.version.to_string();
        assert_eq!(version.parse().ok(), Some(metadata.version));
    }
    let mut rest = data;
    if let Some(text) = take_text(&mut rest) {
        let mut again = Vec::new();
        put_text(text, &mut again);
        assert_eq!(again, data[..data.len() - rest.len()]);
    }
}

/// Equality leaves the note out.
fn assert_same(one: &Metadata, other: &Metadata) {
    assert_eq!(one, other);
    let note = |of: &Metadata| {
        let note = &of.note;
        (note.session, note.validated, note.origin, note.validator.clone())
    };
    assert_eq!(note(one), note(other));
}
