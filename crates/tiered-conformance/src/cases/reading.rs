//! Reading whole values, metadata, several keys, and parts of a stream.

use std::sync::Arc;

use bytes::Bytes;

use tiered_core::adapter::Checksum;
use tiered_core::{Delete, Entry, ErrorKind, Feature, Key, Known, Lookup, Read, ReadOptions, StoreExt as _};

use crate::bench::{Bench, describe, same_metadata};
use crate::case::{Need, Verdict, check, check_equal, declare, fail};
use crate::dice::bytes;

declare! {
    read_whole ["read.whole"];
    read_absent ["read.whole"];
    read_sizes ["read.whole"];
    read_key_longest ["read.whole", "put.limits"];
    read_key_shortest ["read.whole", "put.limits"] needs [Need::Place];
    read_head ["read.head"];
    read_checksum ["read.checksum", "read.whole"];
    read_keys ["read.whole", "put.limits"];
    read_unless_unchanged ["read.unless"];
    read_unless_changed ["read.unless"];
    read_if_version ["read.if"];
    read_if_version_changed ["read.if"];
    read_if_version_race ["read.if"];
    read_many ["read.many"];
    read_many_range ["read.many", "read.range"];
    read_many_independent ["read.many", "read.range"];
    read_peek ["read.peek"] needs [Need::Has(Feature::Peeks)] else read_peek_refused;
}

/// How many of the cases read whole values, or their metadata.
pub(super) const WHOLE: usize = 7;

/// Sizes around the chunks of 64 KiB in which adapters store values, in bytes.
const SIZES: [usize; 12] =
    [0, 1, 2, 4096, 65_279, 65_280, 65_281, 65_535, 65_536, 65_537, 200 * 1024, 1024 * 1024];

async fn read_whole(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    let every_byte: Vec<u8> = (0..=255).collect();
    for value in [b"hello".to_vec(), every_byte, vec![0; 100], b"null".to_vec(), b"false".to_vec()] {
        bench.put(&key, bench.of(value.clone())).await?;
        bench.expect("read.whole", &key, &value).await?;
        let gotten = bench.store.get(&key).await?;
        if let Some(entry) = gotten {
            bench.same_value("read.whole", &key, &value, &entry)?;
        }
    }
    Ok(())
}

async fn read_absent(bench: Bench) -> Verdict {
    let key = bench.key("never")?;
    bench.put(&bench.key("never2")?, "x").await?;
    for _ in 0..2 {
        bench.expect_absent("read.whole", &key).await?;
        let gotten = bench.store.get(&key).await?;
        check("read.whole", gotten.is_none(), || format!("expected no entry, get saw {gotten:?}"))?;
        let many = bench.get_many(std::slice::from_ref(&key), &ReadOptions::new()).await?;
        let absent = matches!(many.as_slice(), [Read { lookup: Lookup::Absent, .. }]);
        check("read.many", absent, || format!("expected one absent answer, saw {many:?}"))?;
        let stream = bench.store.read_stream(&key, &ReadOptions::new()).await?;
        check("read.stream", stream.is_none(), || "expected no stream for an absent key".to_owned())?;
    }
    Ok(())
}

async fn read_sizes(bench: Bench) -> Verdict {
    let limit = bench.capabilities.max_value();
    for size in SIZES.into_iter().filter(|size| *size as u64 <= limit) {
        let key = bench.key(&format!("size-{size}"))?;
        let value = bytes(size, bench.seed);
        bench.put(&key, value.clone()).await?;
        bench.expect("read.whole", &key, &value).await?;
    }
    Ok(())
}

async fn read_keys(bench: Bench) -> Verdict {
    let names = [
        "a", "a/b", "a/", "a//b", "ab", "A", "%", "%2F", "%00", " ", "a b", " a", "a ", "+", "?q=1&r#f",
        "\\", "'\"", ".", "..", "../x", "~", "é", "e\u{301}", "ключ", "鍵", "🔑", "\u{ffff}", "\u{feff}",
        "LIKE_%", "{}[]*", "CON", "x\u{a0}y",
    ];
    for (index, name) in names.iter().enumerate() {
        bench.put(&bench.key(name)?, format!("value {index}")).await?;
    }
    for (index, name) in names.iter().enumerate() {
        bench.expect("read.whole", &bench.key(name)?, format!("value {index}").as_bytes()).await?;
    }
    let mut sorted = names.to_vec();
    sorted.sort_unstable();
    bench.expect_names("list.order", bench.everything(), &sorted).await?;
    for name in names {
        bench.store.delete(&bench.key(name)?, Delete::new()).await?;
        bench.expect_absent("delete.existed", &bench.key(name)?).await?;
    }
    Ok(())
}

async fn read_key_longest(bench: Bench) -> Verdict {
    let room = bench.capabilities.max_key() - bench.prefix.len();
    let (key, other) = (bench.key(&"k".repeat(room))?, bench.key(&"k".repeat(room - 1))?);
    bench.put(&key, "longest").await?;
    bench.put(&other, "one less").await?;
    bench.expect("put.limits", &key, b"longest").await?;
    bench.expect("put.limits", &other, b"one less").await?;
    // Two bytes per character: limits are in bytes.
    let wide = bench.key(&"é".repeat(room / 2))?;
    bench.put(&wide, "wide").await?;
    bench.expect("put.limits", &wide, b"wide").await
}

async fn read_key_shortest(bench: Bench) -> Verdict {
    let store = bench.place()?.open().await?;
    let bench = Bench { store, ..bench };
    for name in ["a", "0", "~", "/", "%", " "] {
        let key = Key::new(name)?;
        bench.put(&key, name.to_owned()).await?;
        bench.expect("put.limits", &key, name.as_bytes()).await?;
    }
    Ok(bench.store.close().await?)
}

async fn read_unless_unchanged(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    bench.put(&key, "value").await?;
    let Some(entry) = bench.present("read.whole", &key).await? else { return Ok(()) };
    let options = ReadOptions::new().unless(Known::of(&entry));
    let read = bench.store.load(&key, &options).await?;
    let evicted = bench.evicts && read.lookup == Lookup::Absent;
    check("read.unless", read.lookup == Lookup::Unchanged || evicted, || {
        format!("expected Unchanged for the known version, saw {:?}", read.lookup)
    })?;
    // A range does not matter where nothing is read.
    let read = bench.store.load(&key, &options.range(1..2)).await?;
    let evicted = bench.evicts && read.lookup == Lookup::Absent;
    check("read.unless", read.lookup == Lookup::Unchanged || evicted, || {
        format!("expected Unchanged for the known version with a range, saw {:?}", read.lookup)
    })
}

async fn read_unless_changed(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    bench.put(&key, "old").await?;
    let Some(entry) = bench.present("read.whole", &key).await? else { return Ok(()) };
    let options = ReadOptions::new().unless(Known::of(&entry));
    bench.put(&key, "new").await?;
    match bench.store.load(&key, &options).await?.lookup {
        Lookup::Found(entry) => bench.same_value("read.unless", &key, b"new", &entry)?,
        Lookup::Absent if bench.evicts => {}
        other => return fail("read.unless", format!("expected the new entry, saw {other:?}")),
    }
    bench.store.delete(&key, Delete::new()).await?;
    let read = bench.store.load(&key, &options).await?;
    check_equal("read.unless", "a known entry that was deleted", &Lookup::Absent, &read.lookup)
}

fn of_range(options: &ReadOptions, range: Option<std::ops::Range<u64>>) -> ReadOptions {
    range.map_or_else(|| options.clone(), |range| options.clone().range(range))
}

/// Whether `found`, which came without the rest of the value, is this part of it: its metadata may lack the checksum.
fn is_part(part: &Entry, found: &Entry) -> bool {
    part.value() == found.value() && found.metadata().agrees_with(part.metadata())
}

async fn read_if_version(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    bench.put(&key, "value").await?;
    let Some(entry) = bench.present("read.whole", &key).await? else { return Ok(()) };
    // Whether the validator is known or the version alone.
    for known in [Known::of(&entry), Known::from(entry.version().clone())] {
        let options = ReadOptions::new().if_version(known.clone());
        let size = entry.size();
        for range in [None, Some(0..size / 2), Some(size / 2..size + 9), Some(size..size + 1)] {
            let part = range.as_ref().map_or_else(|| Ok(entry.clone()), |range| entry.slice(range))?;
            let read = bench.store.load(&key, &of_range(&options, range.clone())).await?;
            let evicted = bench.evicts && read.lookup == Lookup::Absent;
            let found = read.entry().is_some_and(|found| is_part(&part, found));
            check("read.if", found || evicted, || {
                format!("{range:?}: expected this part of the version, saw {:?}", read.lookup)
            })?;
        }
        match bench.store.load(&key, &options.clone().range(size + 1..size + 2)).await {
            Err(error) if error.kind() == ErrorKind::InvalidRange => {}
            Ok(read) if bench.evicts && read.lookup == Lookup::Absent => {}
            other => return fail("read.range", format!("expected an invalid range, saw {other:?}")),
        }
        let read = bench.store.load(&key, &options.unless(known)).await?;
        check("read.if", read.lookup == Lookup::Unchanged || bench.evicts, || {
            format!("expected Unchanged for the known version, saw {:?}", read.lookup)
        })?;
    }
    Ok(())
}

async fn read_if_version_changed(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    bench.put(&key, "the old value").await?;
    let Some(old) = bench.present("read.whole", &key).await? else { return Ok(()) };
    bench.put(&key, "new").await?;
    let Some(new) = bench.present("read.whole", &key).await? else { return Ok(()) };
    for known in [Known::of(&old), Known::from(old.version().clone())] {
        let options = ReadOptions::new().if_version(known);
        // No range is judged against another version, and none of its bytes are given; nor is what the reader has.
        let ranges = [None, Some(0..2), Some(0..0), Some(2..9), Some(10..12)];
        let asked = ranges.map(|range| of_range(&options, range));
        for options in asked.into_iter().chain([options.clone().unless(Known::of(&new))]) {
            let read = bench.store.load(&key, &options).await?;
            let evicted = bench.evicts && read.lookup == Lookup::Absent;
            check("read.if", read.lookup == Lookup::Changed || evicted, || {
                format!("{:?}: expected Changed for a replaced version, saw {:?}", options.range, read.lookup)
            })?;
        }
    }
    bench.store.delete(&key, Delete::new()).await?;
    for options in [ReadOptions::new(), ReadOptions::new().range(0..2)] {
        let read = bench.store.load(&key, &options.if_version(Known::of(&new))).await?;
        check_equal("read.if", "a version that was deleted", &Lookup::Absent, &read.lookup)?;
    }
    Ok(())
}

/// While one writer replaces the value, no part of another version passes for a part of the one that is asked for.
async fn read_if_version_race(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    let rounds = bench.rounds(100);
    let value = |round: u64| format!("{round:08}").repeat(64);
    bench.put(&key, value(0)).await?;
    let (writer, target) = (bench.clone(), key.clone());
    let writing = Bench::part(async move {
        for round in 1..=rounds {
            writer.put(&target, value(round)).await?;
        }
        Ok(())
    });
    let reader = bench.clone();
    let reading = Bench::part(async move {
        for _ in 0..rounds {
            let Some(first) = reader.load(&key).await? else { continue };
            let range = first.size() / 2..first.size();
            let part = first.slice(&range)?;
            let options = ReadOptions::new().range(range).if_version(Known::of(&first));
            match reader.store.load(&key, &options).await?.lookup {
                Lookup::Found(found) => {
                    check("read.if", is_part(&part, &found), || {
                        format!("expected {part:?} of a version that is being replaced, saw {found:?}")
                    })?;
                }
                Lookup::Changed => {}
                Lookup::Absent if reader.evicts => {}
                other => return fail("read.if", format!("expected a part or Changed, saw {other:?}")),
            }
        }
        Ok(())
    });
    bench.all(vec![writing, reading]).await.map(drop)
}

/// A whole value has its checksum; what comes without the value has the same, or none.
async fn read_checksum(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    bench.put(&key, "value").await?;
    let Some(entry) = bench.present("read.whole", &key).await? else { return Ok(()) };
    let right = Some(Checksum::of(entry.value()));
    check_equal("read.whole", "the checksum of a whole value", &right, &entry.metadata().checksum)?;
    let head = bench.store.head(&key, &ReadOptions::new()).await?;
    let part = bench.store.load(&key, &ReadOptions::new().range(0..1)).await?.into_entry();
    let stream = bench.store.read_stream(&key, &ReadOptions::new()).await?;
    let parts = [part.map(|part| Arc::clone(part.metadata())), stream.map(|(metadata, _)| metadata)];
    for metadata in parts.into_iter().chain([head]).flatten() {
        check("read.checksum", metadata.checksum.is_none() || metadata.checksum == right, || {
            format!("expected {right:?} or none without the value, saw {:?}", metadata.checksum)
        })?;
    }
    Ok(())
}

async fn read_head(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    for value in ["value", "", "longer value"] {
        bench.put(&key, value).await?;
        let Some(entry) = bench.present("read.head", &key).await? else { continue };
        match bench.store.head(&key, &ReadOptions::new()).await? {
            Some(head) => same_metadata("read.head", "metadata", entry.metadata(), &head)?,
            None if bench.evicts => {}
            None => return fail("read.head", "expected metadata, saw none"),
        }
    }
    Ok(())
}

/// Each of `reads` has the expected value; `None` stands for absent.
fn same_reads(bench: &Bench, keys: &[Key], expected: &[Option<Bytes>], reads: &[Read]) -> Verdict {
    check_equal("read.many", "the number of answers", &expected.len(), &reads.len())?;
    for ((key, expected), read) in keys.iter().zip(expected).zip(reads) {
        let seen = read.entry().map(Entry::value);
        match (expected, seen) {
            (Some(_), None) if bench.evicts => {}
            (Some(expected), Some(seen)) if seen == expected => {}
            (None, None) if read.lookup == Lookup::Absent => {}
            _ => {
                let words = |value: Option<&[u8]>| value.map_or_else(|| "absent".to_owned(), describe);
                let (expected, seen) = (words(expected.as_deref()), words(seen.map(AsRef::as_ref)));
                return fail("read.many", format!("{key:?}: expected {expected}, saw {seen}"));
            }
        }
    }
    Ok(())
}

async fn read_many(bench: Bench) -> Verdict {
    let (a, b, c) = (bench.key("a")?, bench.key("b")?, bench.key("c")?);
    let absent = bench.key("absent")?;
    for (key, value) in [(&a, "1"), (&b, "22"), (&c, "")] {
        bench.put(key, value).await?;
    }
    // Not the same read backwards, so that no other order passes for this one.
    let keys = [c.clone(), absent.clone(), a.clone(), b, a.clone(), a, absent, c];
    let reads = bench.get_many(&keys, &ReadOptions::new()).await?;
    let [empty, one, two] = ["", "1", "22"].map(|value| Some(bench.fit(value.as_bytes())));
    let expected = [empty.clone(), None, one.clone(), two, one.clone(), one, None, empty];
    same_reads(&bench, &keys, &expected, &reads)?;
    let none = bench.get_many(&[], &ReadOptions::new()).await?;
    check("read.many", none.is_empty(), || format!("expected no answers for no keys, saw {none:?}"))
}

async fn read_many_range(bench: Bench) -> Verdict {
    let (a, b, absent) = (bench.key("a")?, bench.key("b")?, bench.key("absent")?);
    bench.put(&a, "abcdef").await?;
    bench.put(&b, "bcd").await?;
    let keys = [b, absent, a];
    let start = bench.largest(1);
    let reads = bench.get_many(&keys, &ReadOptions::new().range(start as u64..4)).await?;
    let part = |value: &[u8]| {
        let value = bench.fit(value);
        Some(value.slice(start..value.len().min(4)))
    };
    let expected = [part(b"bcd"), None, part(b"abcdef")];
    same_reads(&bench, &keys, &expected, &reads)
}

/// A key that cannot be read as asked fails alone.
async fn read_many_independent(bench: Bench) -> Verdict {
    let (short, long, absent) = (bench.key("short")?, bench.key("long")?, bench.key("absent")?);
    bench.put(&short, "a").await?;
    bench.put(&long, "abcdef").await?;
    let (start, size) = (bench.largest(2) as u64, bench.fit(b"abcdef").len() as u64);
    let keys = [short.clone(), long.clone(), absent, short];
    let reads = bench.store.get_many(&keys, &ReadOptions::new().range(start..6)).await;
    let beyond = |read: &tiered_core::Result<Read>| {
        let is_absent = bench.evicts && read.as_ref().is_ok_and(|read| read.lookup == Lookup::Absent);
        is_absent || read.as_ref().is_err_and(|error| error.kind() == ErrorKind::InvalidRange)
    };
    let found = |read: &tiered_core::Result<Read>, size: u64| match read {
        Ok(read) => match read.entry() {
            Some(entry) => entry.value().len() as u64 == size.min(6).saturating_sub(start),
            None => bench.evicts,
        },
        Err(_) => false,
    };
    let apart = match reads.as_slice() {
        // Values of one byte at most leave no range that fits one key and not the other.
        [one, two, none, again] if size > start && start > 1 => {
            beyond(one)
                && found(two, size)
                && none.as_ref().is_ok_and(|read| read.lookup == Lookup::Absent)
                && beyond(again)
        }
        reads => reads.len() == keys.len(),
    };
    check("read.many", apart, || {
        format!("expected an invalid range for the short values alone, saw {reads:?}")
    })
}

async fn read_peek(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    let peek = |what: &str, value: Option<&[u8]>| {
        let Some(entry) = bench.store.peek(&key) else { return Ok(()) };
        match value {
            Some(value) => bench.same_value("read.peek", &key, value, &entry),
            None => fail("read.peek", format!("{what}: expected nothing, saw {entry:?}")),
        }
    };
    peek("before any put", None)?;
    for value in ["one", "two", ""] {
        bench.put(&key, value).await?;
        peek("after a put", Some(value.as_bytes()))?;
        let loaded = bench.load(&key).await?;
        if let (Some(loaded), Some(peeked)) = (loaded, bench.store.peek(&key)) {
            check_equal("read.peek", "the peeked entry", &loaded, &peeked)?;
        }
        let range = ReadOptions::new().range(0..1);
        bench.store.load(&key, &range).await?;
        peek("after a range was read", Some(value.as_bytes()))?;
    }
    bench.store.delete(&key, Delete::new()).await?;
    peek("after the delete", None)
}

pub(super) async fn read_peek_refused(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    bench.put(&key, "value").await?;
    bench.load(&key).await?;
    let peek = bench.store.peek(&key);
    check("read.peek", peek.is_none(), || {
        "expected nothing, since Peeks is not declared; saw an entry".to_owned()
    })
}
