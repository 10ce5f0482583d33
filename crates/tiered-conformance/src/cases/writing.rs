//! Puts: what is stored, under which version, within which limits.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tiered_core::adapter::{Checksum, Note, Origin, Stamp, Validator};
use tiered_core::{
    Attributes, Entry, ErrorKind, Feature, Key, Metadata, Put, ReadOptions, Timestamp, Version, adapter,
};

use crate::bench::{Bench, same_metadata};
use crate::case::{Need, Stop, Verdict, check, check_equal, declare};
use crate::dice::bytes;

declare! {
    put_replace ["put.replace"];
    put_visible ["put.replace"];
    put_empty ["put.limits"];
    put_version ["put.version"];
    put_version_own ["put.version"] needs [Need::Has(Feature::KeepsMetadata)] else put_metadata_refused;
    put_version_token ["put.version"] needs [Need::Has(Feature::KeepsMetadata)] else put_metadata_refused;
    put_versions_differ ["put.version"];
    put_metadata ["put.replace"] needs [Need::Has(Feature::KeepsMetadata)] else put_metadata_refused;
    put_attributes ["put.replace"] needs [Need::Has(Feature::KeepsMetadata)] else put_metadata_refused;
    put_note ["put.replace"] needs [Need::Has(Feature::KeepsNotes)] else put_note_refused;
    put_copy ["put.replace"] needs [Need::Has(Feature::KeepsNotes)] else put_note_refused;
    put_stamped ["put.replace"];
    put_max_key ["put.limits"];
    put_max_value ["put.limits"];
}

async fn put_replace(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    let long = bytes(bench.largest(150_000), bench.seed);
    let far = bench.now().saturating_add(Duration::from_secs(1 << 32));
    let mut first = bench.of(long);
    if bench.has(Feature::KeepsMetadata) {
        first = first.attributes(Bench::attributes(&[("colour", "red")])?).expires_at(far);
    }
    bench.put(&key, first).await?;
    for value in ["short", "", "longer than short"] {
        bench.put(&key, value).await?;
        bench.expect("put.replace", &key, value.as_bytes()).await?;
    }
    let Some(entry) = bench.present("put.replace", &key).await? else { return Ok(()) };
    check_equal(
        "put.replace",
        "attributes of the replaced entry",
        &Attributes::new(),
        &entry.metadata().attributes,
    )?;
    check_equal("put.replace", "expiry of the replaced entry", &None, &entry.metadata().expires_at)
}

async fn put_visible(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    for round in 0..bench.rounds(60) {
        let value = format!("value {round}");
        bench.put(&key, value.clone()).await?;
        bench.expect("put.replace", &key, value.as_bytes()).await?;
    }
    Ok(())
}

async fn put_empty(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    bench.put(&key, Bytes::new()).await?;
    bench.expect("put.limits", &key, b"").await?;
    bench.expect_names("list.complete", bench.everything(), &["k"]).await?;
    let head = bench.store.head(&key, &ReadOptions::new()).await?;
    check("put.limits", head.is_some() || bench.evicts, || {
        "expected metadata of an empty value, saw none".to_owned()
    })
}

async fn shown(bench: &Bench, key: &Key, expected: &Version) -> Verdict {
    let Some(entry) = bench.present("put.version", key).await? else { return Ok(()) };
    check_equal("put.version", "the version that load shows", expected, entry.version())?;
    if let Some(head) = bench.store.head(key, &ReadOptions::new()).await? {
        check_equal("put.version", "the version that head shows", expected, &head.version)?;
    }
    for listed in bench.list(bench.everything()).await?.iter().filter(|listed| listed.key == *key) {
        if let Some(version) = &listed.version {
            check_equal("put.version", "the version that the listing shows", expected, version)?;
        }
    }
    Ok(())
}

async fn put_version(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    for value in ["one", "two"] {
        let written = bench.put(&key, value).await?;
        shown(&bench, &key, &written.version).await?;
    }
    Ok(())
}

async fn put_version_own(bench: Bench) -> Verdict {
    for (name, version) in [("k", Bench::version()), ("max", Version::from_u128(u128::MAX))] {
        let key = bench.key(name)?;
        let written = bench.put(&key, adapter::with_version(bench.of("value"), version.clone())).await?;
        check_equal("put.version", "the version returned", &version, &written.version)?;
        shown(&bench, &key, &version).await?;
    }
    Ok(())
}

async fn put_version_token(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    for token in ["\"etag-of-another\"", "W/\"ütf\"", &"t".repeat(Version::MAX_TOKEN_LEN)] {
        let version = Version::from_token(token)?;
        let written = bench.put(&key, adapter::with_version(bench.of("value"), version.clone())).await?;
        check_equal("put.version", "the version returned", &version, &written.version)?;
        shown(&bench, &key, &version).await?;
    }
    Ok(())
}

async fn put_versions_differ(bench: Bench) -> Verdict {
    let (a, b) = (bench.key("a")?, bench.key("b")?);
    let mut seen = HashSet::new();
    for _ in 0..20 {
        for key in [&a, &b] {
            // Equal bytes: the version is of the write, not of the value.
            let written = bench.put(key, "same").await?;
            let version = written.version;
            check("put.version", seen.insert(version.clone()), || {
                format!("expected a version of its own for each write, saw {version} twice")
            })?;
        }
    }
    Ok(())
}

async fn kept(bench: &Bench, key: &Key, put: Put) -> Verdict<Option<Metadata>> {
    bench.put(key, put).await?;
    let Some(entry) = bench.present("put.replace", key).await? else { return Ok(None) };
    if let Some(head) = bench.store.head(key, &ReadOptions::new()).await? {
        same_metadata("read.head", "metadata", entry.metadata(), &head)?;
    }
    Ok(Some((**entry.metadata()).clone()))
}

async fn put_metadata(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    let expires_at = bench.now().saturating_add(Duration::from_secs(1 << 33));
    let modified = Timestamp::from_millis(981_173_106_123);
    let attributes = Bench::attributes(&[("content-type", "text/plain"), ("a.b_c-1", "")])?;
    let put = bench.of("value").attributes(attributes.clone()).expires_at(expires_at);
    let entry = Stamp::system().entry(&put);
    let stamped = Arc::new((**entry.metadata()).clone().with_modified(modified));
    let version = stamped.version.clone();
    let copy = adapter::verbatim(&Entry::from_parts(entry.into_value(), stamped));
    let Some(metadata) = kept(&bench, &key, copy).await? else { return Ok(()) };
    check_equal("put.replace", "the version", &version, &metadata.version)?;
    check_equal("put.replace", "the time of modification", &modified, &metadata.modified)?;
    check_equal("put.replace", "the expiry", &Some(expires_at), &metadata.expires_at)?;
    check_equal("put.replace", "the attributes", &attributes, &metadata.attributes)?;
    let value = bench.fit(b"value");
    check_equal("put.replace", "the size", &(value.len() as u64), &metadata.size)?;
    check_equal("put.replace", "the checksum", &Some(Checksum::of(&value)), &metadata.checksum)
}

async fn put_attributes(bench: Bench) -> Verdict {
    let largest = "x".repeat(Attributes::MAX_SIZE - 1);
    let name = "n".repeat(Attributes::MAX_NAME);
    let sets: [&[(&str, &str)]; 5] = [
        &[("n", &largest)],
        &[(&name, "value")],
        &[("unicode", "größe 鍵 🔑"), ("spaces", "  a  b "), ("quotes", "\"'=%;,")],
        &[("z", "1"), ("a", "2"), ("m", "3")],
        &[],
    ];
    let key = bench.key("k")?;
    for pairs in sets {
        let attributes = Bench::attributes(pairs)?;
        let put = bench.of("value").attributes(attributes.clone());
        let Some(metadata) = kept(&bench, &key, put).await? else { continue };
        check_equal("put.replace", "the attributes", &attributes, &metadata.attributes)?;
    }
    Ok(())
}

async fn put_note(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    let notes = [
        Note::default()
            .with_session(7, u64::MAX)
            .with_origin(Origin::Local)
            .with_validator(Some(Validator::new("\"v\"")?)),
        Note::default().with_session(u64::MAX, 1),
        Note::default().with_validator(Some(Validator::new(&"v".repeat(Validator::MAX_LEN))?)),
    ];
    for note in notes {
        let Some(seen) = kept(&bench, &key, Bench::noted(&bench.of("value"), note.clone())).await? else {
            continue;
        };
        same_note(&note, &seen.note)?;
    }
    Ok(())
}

fn same_note(expected: &Note, seen: &Note) -> Verdict {
    let fields = |note: &Note| (note.session, note.validated, note.origin, note.validator.clone());
    check_equal("put.replace", "the note", &fields(expected), &fields(seen))
}

async fn put_copy(bench: Bench) -> Verdict {
    let (from, to) = (bench.key("from")?, bench.key("to")?);
    let far = bench.now().saturating_add(Duration::from_secs(1 << 32));
    let validator = Some(Validator::new("v")?);
    let note = Note::default().with_session(3, 4).with_origin(Origin::Local).with_validator(validator);
    let put = bench.of("value").attributes(Bench::attributes(&[("a", "b")])?).expires_at(far);
    bench.put(&from, Bench::noted(&put, note)).await?;
    let Some(entry) = bench.present("put.replace", &from).await? else { return Ok(()) };
    let written = bench.put(&to, adapter::verbatim(&entry)).await?;
    check_equal("put.version", "the version of a copy", entry.version(), &written.version)?;
    let Some(copy) = bench.present("put.replace", &to).await? else { return Ok(()) };
    check_equal("put.replace", "the copied entry", &entry, &copy)?;
    same_note(&entry.metadata().note, &copy.metadata().note)
}

/// A store that does not keep metadata refuses them, or stores the value without them; what it answers is true.
pub(super) async fn put_metadata_refused(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    bench.put(&key, "old").await?;
    let put = adapter::with_version(
        bench.of("new").attributes(Bench::attributes(&[("a", "b")])?),
        Bench::version(),
    );
    match bench.store.put(&key, put).await {
        Ok(written) => {
            bench.expect("put.replace", &key, b"new").await?;
            shown(&bench, &key, &written.version).await
        }
        Err(error) => {
            crate::bench::refusal("put.replace", ErrorKind::Unsupported, &error)?;
            bench.expect("put.replace", &key, b"old").await
        }
    }
}

/// A store that does not keep notes may drop them, so that an entry with one is like any other; it may hide those that
/// stand for an absence. It is a write either way: it replaces the entry that was there before.
pub(super) async fn put_note_refused(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    for origin in [Origin::Local, Origin::Tombstone, Origin::Absence, Origin::Part] {
        bench.put(&key, "old").await?;
        let validator = Some(Validator::new("\"v\"")?);
        let note = Note::default().with_session(7, 1).with_origin(origin).with_validator(validator);
        let written = bench.put(&key, Bench::noted(&Put::new(""), note)).await?;
        if !origin.is_hidden() || bench.load(&key).await?.is_some() {
            bench.expect("put.replace", &key, b"").await?;
            shown(&bench, &key, &written.version).await?;
        }
    }
    Ok(())
}

async fn put_stamped(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    let before = bench.now();
    bench.put(&key, "value").await?;
    let Some(entry) = bench.present("put.replace", &key).await? else { return Ok(()) };
    let after = bench.now();
    let metadata = entry.metadata();
    let value = bench.fit(b"value");
    check_equal("put.replace", "the size", &(value.len() as u64), &metadata.size)?;
    check_equal("put.replace", "the checksum", &Some(Checksum::of(&value)), &metadata.checksum)?;
    check_equal("put.replace", "the expiry", &None, &metadata.expires_at)?;
    if bench.clock.is_none() {
        return Ok(());
    }
    check("put.replace", (before..=after).contains(&metadata.modified), || {
        format!("expected modified within {before:?}..={after:?}, saw {:?}", metadata.modified)
    })
}

async fn put_max_key(bench: Bench) -> Verdict {
    let limit = bench.capabilities.max_key();
    if limit >= Key::MAX_LEN {
        // The type itself keeps longer keys away.
        let long = Key::new("k".repeat(Key::MAX_LEN + 1));
        return check("put.limits", long.is_err(), || {
            "expected a key of 1025 bytes to be refused".to_owned()
        });
    }
    let key = bench.key(&"k".repeat(limit + 1 - bench.prefix.len()))?;
    bench.refused("put.limits", ErrorKind::InvalidKey, bench.store.put(&key, bench.of("value")).await)?;
    bench.expect_names("put.limits", bench.everything(), &[]).await
}

/// Largest value that the suite tries to exceed, in bytes: it has to be held in memory, possibly several times.
pub(crate) const LARGEST_TRIED: u64 = 64 << 20;

pub(crate) fn tried_limit(bench: &Bench) -> Verdict<usize> {
    let limit = bench.capabilities.max_value();
    let why = || {
        Stop::Skipped(format!("a limit of {limit} bytes is too large to try; the suite tries up to 64 MiB"))
    };
    usize::try_from(limit).ok().filter(|_| limit <= LARGEST_TRIED).ok_or_else(why)
}

async fn put_max_value(bench: Bench) -> Verdict {
    let limit = tried_limit(&bench)?;
    let (key, other) = (bench.key("k")?, bench.key("other")?);
    let largest = bytes(limit, bench.seed);
    bench.put(&key, largest.clone()).await?;
    bench.expect("put.limits", &key, &largest).await?;
    for key in [&key, &other] {
        let put = Put::new(bytes(limit + 1, bench.seed));
        bench.refused("put.limits", ErrorKind::TooLarge, bench.store.put(key, put).await)?;
    }
    bench.expect("put.limits", &key, &largest).await?;
    bench.expect_absent("put.limits", &other).await
}
