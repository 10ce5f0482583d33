//! Objects and references of git as entries.
//!
//! | key | value |
//! |---|---|
//! | the id of an object, in hexadecimal | as git keeps a loose object, uncompressed: kind, size in decimal, a zero byte, content |
//! | the whole name of a reference, such as `refs/heads/main` | as git keeps a loose reference: an id, or `ref: ` and another name, and a line feed |

#[cfg(feature = "git")]
use gix::objs::{CommitRefIter, Kind, TagRefIter, TreeRefIter};
use tiered::{Error, ErrorKind, Key, Result};

/// What the value of a git object or reference refers to.
#[cfg(feature = "git")]
pub(crate) fn references(value: &[u8]) -> Result<Vec<Key>> {
    let Ok((kind, size, before)) = gix::objs::decode::loose_header(value) else {
        let name = named(value).ok_or_else(|| malformed("no object and no reference of git"))?;
        return Ok(vec![name]);
    };
    let content = value.get(before..).unwrap_or_default();
    if content.len() as u64 != size {
        return Err(malformed(&format!(
            "an object of git that has {} bytes instead of {size}",
            content.len()
        )));
    }
    let ids = match kind {
        Kind::Blob => Vec::new(),
        Kind::Commit => of_commit(content)?,
        Kind::Tree => of_tree(content)?,
        Kind::Tag => {
            vec![TagRefIter::from_bytes(content, HASH).target_id().map_err(|error| invalid(kind, error))?]
        }
    };
    ids.iter().map(|id| Key::new(id.to_string())).collect()
}

#[cfg(not(feature = "git"))]
pub(crate) fn references(_: &[u8]) -> Result<Vec<Key>> {
    Err(Error::new(ErrorKind::Unsupported, LACKING))
}

/// Said where the feature is missing.
#[cfg(not(feature = "git"))]
pub(crate) const LACKING: &str = "this build cannot read git; build the command with the feature git";

#[cfg(feature = "git")]
const HASH: gix::hash::Kind = gix::hash::Kind::Sha1;

#[cfg(feature = "git")]
fn malformed(what: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, format!("the value is {what}"))
}

#[cfg(feature = "git")]
fn invalid(kind: Kind, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    malformed(&format!("no valid {kind} of git")).with_source(error)
}

#[cfg(feature = "git")]
fn of_commit(content: &[u8]) -> Result<Vec<gix::ObjectId>> {
    let tree = CommitRefIter::from_bytes(content, HASH).tree_id();
    let tree = tree.map_err(|error| invalid(Kind::Commit, error))?;
    Ok(std::iter::once(tree).chain(CommitRefIter::from_bytes(content, HASH).parent_ids()).collect())
}

/// What is in a tree, but for commits of other repositories.
#[cfg(feature = "git")]
fn of_tree(content: &[u8]) -> Result<Vec<gix::ObjectId>> {
    let mut ids = Vec::new();
    for entry in TreeRefIter::from_bytes(content, HASH) {
        let entry = entry.map_err(|error| invalid(Kind::Tree, error))?;
        if !entry.mode.is_commit() {
            ids.push(entry.oid.to_owned());
        }
    }
    Ok(ids)
}

/// What the value of a reference names.
#[cfg(feature = "git")]
fn named(value: &[u8]) -> Option<Key> {
    let line = std::str::from_utf8(value).ok()?.strip_suffix('\n')?;
    match line.strip_prefix("ref: ") {
        Some(name) => Key::new(name).ok(),
        None => is_id(line).then(|| Key::new(line).ok()).flatten(),
    }
}

/// Whether it is the id of an object.
pub(crate) fn is_id(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// The keys that a name of a reference may mean, in the order of git.
pub(crate) fn names(name: &str) -> impl Iterator<Item = String> {
    ["", "refs/", "refs/tags/", "refs/heads/", "refs/remotes/"]
        .into_iter()
        .map(move |before| format!("{before}{name}"))
}

#[cfg(all(test, feature = "git"))]
mod tests {
    use super::*;

    fn of(value: &[u8]) -> Result<Vec<String>> {
        Ok(references(value)?.iter().map(|key| key.as_str().to_owned()).collect())
    }

    #[test]
    fn objects_and_references_are_read_or_refused() {
        let id = "0123456789abcdef0123456789abcdef01234567";
        assert_eq!(of(format!("{id}\n").as_bytes()).expect("a reference"), [id]);
        assert_eq!(of(b"ref: refs/heads/main\n").expect("a reference"), ["refs/heads/main"]);
        assert_eq!(of(b"blob 3\0abc").expect("a blob"), [""; 0]);
        assert_eq!(of(b"tree 0\0").expect("an empty tree"), [""; 0]);
        // A submodule is of another repository.
        let tree = b"tree 58\x00100644 a\x00aaaaaaaaaaaaaaaaaaaa160000 b\x00bbbbbbbbbbbbbbbbbbbb";
        assert_eq!(of(tree).expect("a tree"), ["61".repeat(20)]);
        let tag = format!("object {id}\ntype commit\ntag v1\ntagger A <a@b> 1 +0000\n\nm\n");
        assert_eq!(of(format!("tag {}\0{tag}", tag.len()).as_bytes()).expect("a tag"), [id]);
        for wrong in [
            &b"blob 4\0abc"[..],
            b"",
            b"lines",
            b"commit 3\0abc",
            b"tree 3\0abc",
            b"tag 1\0a",
            b"0123\n",
            &[0xff],
        ] {
            let error = of(wrong).expect_err("refused");
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        }
    }
}
