//! Versions, values and keys that are nearly equal.

use tiered_core::{ErrorKind, Feature, Key, Known, Lookup, Put, ReadOptions, Version, adapter};

use super::preconditions::put_retry_refused;
use crate::bench::Bench;
use crate::case::{Need, Verdict, check, check_equal, declare};
use crate::dice::bytes;

declare! {
    put_same_value ["put.replace", "put.version"];
    put_values_one_bit_apart ["put.replace", "read.whole"];
    put_versions_similar ["put.matches", "read.unless"] needs [Need::Has(Feature::ConditionalPut), Need::Has(Feature::KeepsMetadata)] else put_retry_refused;
    put_max_key_in_bytes ["put.limits"];
    read_keys_similar ["read.whole", "list.order", "delete.existed"];
}

/// A put of the bytes that are there already is a write like any other.
async fn put_same_value(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    let kept = bench.has(Feature::KeepsMetadata);
    let put = |colour: &str| {
        let put = bench.of("same");
        Ok::<Put, crate::case::Stop>(if kept {
            put.attributes(Bench::attributes(&[("colour", colour)])?)
        } else {
            put
        })
    };
    let first = bench.put(&key, put("red")?).await?.version;
    let second = bench.put(&key, put("blue")?).await?.version;
    check("put.version", first != second, || {
        format!("expected a version of its own for equal bytes, saw {first} twice")
    })?;
    let Some(entry) = bench.present("put.replace", &key).await? else { return Ok(()) };
    check_equal("put.version", "the version that load shows", &second, entry.version())?;
    if kept {
        let colour = entry.metadata().attributes.get("colour");
        check_equal("put.replace", "the attribute of the later put of equal bytes", &Some("blue"), &colour)?;
    }
    let known = Known::from(first);
    let read = bench.store.load(&key, &ReadOptions::new().unless(known)).await?;
    let changed = matches!(read.lookup, Lookup::Found(_)) || (bench.evicts && read.lookup == Lookup::Absent);
    check("read.unless", changed, || {
        format!("equal bytes under another version: expected the new entry, saw {:?}", read.lookup)
    })
}

async fn put_values_one_bit_apart(bench: Bench) -> Verdict {
    for size in [5, 70_000].map(|size| bench.largest(size)) {
        let value = bytes(size, bench.seed).to_vec();
        // One bit differs, at either end and in the middle.
        let near = [0, size / 2, size.saturating_sub(1)].map(|at| {
            let mut near = value.clone();
            if let Some(byte) = near.get_mut(at) {
                *byte ^= 1;
            }
            near
        });
        let [first, ..] = &near;
        for (index, value) in near.iter().chain([&value]).enumerate() {
            bench.put(&bench.key(&format!("{size}-{index}"))?, value.clone()).await?;
        }
        for (index, value) in near.iter().chain([&value]).enumerate() {
            bench.expect("read.whole", &bench.key(&format!("{size}-{index}"))?, value).await?;
        }
        // And as successive values of one key.
        let key = bench.key("k")?;
        for value in near.iter().chain([&value, first]) {
            bench.put(&key, value.clone()).await?;
            bench.expect("put.replace", &key, value).await?;
        }
    }
    Ok(())
}

async fn put_versions_similar(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    let own = 0x0123_4567_89ab_cdef_8421_8421_8421_8421_u128;
    let bits = [0, 7, 31, 32, 63, 64, 96, 127].map(|bit| Version::from_u128(own ^ 1 << bit));
    differ(&bench, &key, &Version::from_u128(own), &bits).await?;
    let token = Version::from_token("\"abcdef-1\"")?;
    let mut others = Vec::new();
    for other in ["\"abcdef-2\"", "\"ABCDEF-1\"", "\"abcdef-1", "abcdef-1", "W/\"abcdef-1\"", "\"abcdef-1\" "]
    {
        // What is no token at all need not be told from one.
        others.extend(Version::from_token(other));
    }
    differ(&bench, &key, &token, &others).await
}

/// An entry under `own` is not the one under any of `others`.
async fn differ(bench: &Bench, key: &Key, own: &Version, others: &[Version]) -> Verdict {
    bench.put(key, adapter::with_version(bench.of("value"), own.clone())).await?;
    for other in others {
        let result = bench.store.put(key, bench.of("lost update").if_version(other.clone())).await;
        bench.refused("put.matches", ErrorKind::PreconditionFailed, result)?;
        let known = Known::from(other.clone());
        let read = bench.store.load(key, &ReadOptions::new().unless(known)).await?;
        check("read.unless", read.lookup != Lookup::Unchanged, || {
            format!("the entry has the version {own}: expected it to differ from {other}, saw Unchanged")
        })?;
    }
    bench.expect("put.matches", key, b"value").await
}

/// Limits of keys are in bytes, not in characters.
async fn put_max_key_in_bytes(bench: Bench) -> Verdict {
    let limit = bench.capabilities.max_key();
    if limit >= Key::MAX_LEN {
        // The type itself keeps longer keys away.
        let long = Key::new("é".repeat(Key::MAX_LEN / 2 + 1));
        return check("put.limits", long.is_err(), || {
            "expected a key of 1026 bytes to be refused".to_owned()
        });
    }
    // As many characters as bytes are allowed, some of them of two bytes: no more of those than the type takes.
    let characters = limit - bench.prefix.len();
    let wide = characters.min(Key::MAX_LEN - limit);
    let key = bench.key(&("é".repeat(wide) + &"e".repeat(characters - wide)))?;
    bench.refused("put.limits", ErrorKind::InvalidKey, bench.store.put(&key, bench.of("value")).await)?;
    bench.expect_names("put.limits", bench.everything(), &[]).await
}

async fn read_keys_similar(bench: Bench) -> Verdict {
    let mut names = [
        "a b",
        "a%20b",
        "a+b",
        "a%2Bb",
        "a%2bb",
        "a_b",
        "a%b",
        "%41",
        "A",
        "a",
        "a ",
        "a.",
        "a\u{a0}",
        "a\u{200b}",
        "K",
        "k",
        "\u{212a}",
        "ss",
        "ß",
        "ſs",
        "fi",
        "\u{fb01}",
        "é",
        "e\u{301}",
        "0",
        "00",
        "1e1",
        "10",
        "..a",
        "a..",
        "true",
        "True",
    ];
    for name in names {
        bench.put(&bench.key(name)?, format!("value of {name}")).await?;
    }
    for name in names {
        bench.expect("read.whole", &bench.key(name)?, format!("value of {name}").as_bytes()).await?;
    }
    names.sort_unstable();
    bench.expect_names("list.order", bench.everything(), &names).await?;
    // Every second one goes; its neighbours stay.
    for name in names.iter().step_by(2) {
        bench.store.delete(&bench.key(name)?, tiered_core::Delete::new()).await?;
    }
    let rest: Vec<&str> = names.into_iter().skip(1).step_by(2).collect();
    bench.expect_names("delete.existed", bench.everything(), &rest).await
}
