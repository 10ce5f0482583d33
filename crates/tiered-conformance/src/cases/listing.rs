//! Listings: order, completeness, options, metadata.

use std::collections::BTreeSet;

use tiered_core::{Batch, Delete, Feature, Key, ListOptions, ReadOptions};

use crate::bench::{Bench, same_metadata};
use crate::case::{Need, Verdict, check, check_equal, declare, fail};

declare! {
    list_order ["list.order"];
    list_none ["list.prefix"];
    list_prefix ["list.prefix"];
    list_after ["list.after"];
    list_limit ["list.limit"];
    list_combined ["list.prefix", "list.after", "list.limit"];
    list_pages ["list.complete", "list.order", "list.limit"];
    list_current ["list.complete", "list.order"];
    list_interleaved ["list.complete"];
    list_sizes ["list.complete"];
    list_metadata ["list.metadata"] needs [Need::Has(Feature::ListsMetadata)] else list_metadata_partly;
    list_values ["list.values"];
    list_dropped ["cancel"];
}

async fn fill(bench: &Bench, names: &[&str]) -> Verdict {
    for name in names {
        bench.put(&bench.key(name)?, (*name).to_owned()).await?;
    }
    Ok(())
}

async fn list_order(bench: Bench) -> Verdict {
    // The last two have the opposite order in UTF-16, and collations put "a" beside "A".
    let sorted = ["!", "10", "9", "A", "B", "a", "a b", "a/b", "ab", "b", "~", "é", "\u{ffff}", "🔑"];
    let mut shuffled = sorted;
    shuffled.reverse();
    shuffled.rotate_left(5);
    fill(&bench, &shuffled).await?;
    bench.expect_names("list.order", bench.everything(), &sorted).await
}

async fn list_none(bench: Bench) -> Verdict {
    bench.expect_names("list.prefix", bench.everything(), &[]).await?;
    fill(&bench, &["a", "c"]).await?;
    let prefix = format!("{}b", bench.prefix);
    bench.expect_names("list.prefix", ListOptions::new().prefix(prefix), &[]).await
}

async fn list_prefix(bench: Bench) -> Verdict {
    fill(&bench, &["%x", "A", "a", "a/b", "a/c", "a_", "aa", "b", "b_", "é", "éa"]).await?;
    let cases: [(&str, &[&str]); 8] = [
        ("a", &["a", "a/b", "a/c", "a_", "aa"]),
        ("a/", &["a/b", "a/c"]),
        ("a/b", &["a/b"]),
        ("a/b/", &[]),
        // Characters that mean something to SQL patterns and to URLs.
        ("a_", &["a_"]),
        ("%", &["%x"]),
        ("é", &["é", "éa"]),
        ("b", &["b", "b_"]),
    ];
    for (prefix, expected) in cases {
        let options = ListOptions::new().prefix(format!("{}{prefix}", bench.prefix));
        bench.expect_names("list.prefix", options, expected).await?;
    }
    Ok(())
}

async fn list_after(bench: Bench) -> Verdict {
    fill(&bench, &["a", "b", "b/c", "c", "d"]).await?;
    let cases: [(&str, &[&str]); 5] = [
        ("a", &["b", "b/c", "c", "d"]),
        ("b", &["b/c", "c", "d"]),
        // It need not exist.
        ("bb", &["c", "d"]),
        ("d", &[]),
        ("!", &["a", "b", "b/c", "c", "d"]),
    ];
    for (after, expected) in cases {
        let options = bench.everything().start_after(bench.key(after)?);
        bench.expect_names("list.after", options, expected).await?;
    }
    // Nor begin with the prefix: one that lies before all of it, and one behind.
    let prefix = ListOptions::new().prefix(format!("{}b", bench.prefix));
    bench.expect_names("list.after", prefix.clone().start_after(bench.key("a")?), &["b", "b/c"]).await?;
    bench.expect_names("list.after", prefix.start_after(bench.key("c")?), &[]).await
}

async fn list_limit(bench: Bench) -> Verdict {
    let names = ["a", "b", "c", "d"];
    fill(&bench, &names).await?;
    for (limit, expected) in [(0, 0), (1, 1), (3, 3), (4, 4), (5, 4), (usize::MAX, 4)] {
        let expected: Vec<&str> = names.into_iter().take(expected).collect();
        bench.expect_names("list.limit", bench.everything().limit(limit), &expected).await?;
    }
    Ok(())
}

async fn list_combined(bench: Bench) -> Verdict {
    let mut dice = bench.dice();
    let letters = ["a", "b", "/"];
    let mut word = |longest: u64| {
        let length = 1 + dice.below(longest);
        (0..length).filter_map(|_| dice.pick(&letters).copied()).collect::<String>()
    };
    let names: BTreeSet<String> = (0..40).map(|_| word(5)).collect();
    for name in &names {
        bench.put(&bench.key(name)?, name.clone()).await?;
    }
    for round in 0..usize::try_from(bench.rounds(60)).unwrap_or(60) {
        let (prefix, after) = (word(2), word(4));
        let mut options = ListOptions::new().prefix(format!("{}{prefix}", bench.prefix));
        if round % 3 > 0 {
            options = options.start_after(bench.key(&after)?);
        }
        let limit = if round % 2 > 0 { round % 7 } else { usize::MAX };
        if limit < usize::MAX {
            options = options.limit(limit);
        }
        let contained = |name: &&String| bench.key(name).is_ok_and(|key| options.contains(&key));
        let expected: Vec<&str> = names.iter().filter(contained).take(limit).map(String::as_str).collect();
        bench.expect_names("list.after", options.clone(), &expected).await?;
    }
    Ok(())
}

async fn list_pages(bench: Bench) -> Verdict {
    // More than a page of any store: 256 here, 1,000 in S3.
    let count = usize::try_from(bench.rounds(1050)).unwrap_or(1050).max(300);
    let names: Vec<String> = (0..count).map(|index| format!("{index:05}")).collect();
    for some in names.chunks(150) {
        let mut batch = Batch::new().best_effort();
        for name in some {
            batch = batch.put(bench.key(name)?, bench.of(name.clone()));
        }
        for outcome in bench.store.apply(batch).await? {
            outcome?;
        }
    }
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    bench.expect_names("list.complete", bench.everything(), &all).await?;
    for limit in [255, 256, 257, 999, 1000, 1001, 1050, 2000] {
        let expected: Vec<&str> = all.iter().copied().take(limit).collect();
        bench.expect_names("list.limit", bench.everything().limit(limit), &expected).await?;
    }
    let options = bench.everything().start_after(bench.key("00300")?).limit(600);
    let expected: Vec<&str> = all.iter().copied().skip(301).take(600).collect();
    bench.expect_names("list.after", options, &expected).await?;
    // The end of one page is the beginning of the next.
    let (mut seen, mut after) = (Vec::new(), None::<Key>);
    loop {
        let mut options = bench.everything().limit(97);
        options.start_after.clone_from(&after);
        let page = bench.list(options).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.key.clone());
        seen.extend(page.into_iter().map(|listed| listed.key));
    }
    let ordered = seen.is_sorted_by(|a, b| a < b);
    check("list.order", ordered, || "expected pages in strictly rising order, saw otherwise".to_owned())?;
    check("list.complete", seen.len() == count || bench.evicts, || {
        format!("expected {count} keys in pages of 97, saw {}", seen.len())
    })
}

async fn list_current(bench: Bench) -> Verdict {
    fill(&bench, &["a", "b", "c"]).await?;
    fill(&bench, &["b"]).await?;
    bench.expect_names("list.order", bench.everything(), &["a", "b", "c"]).await?;
    bench.store.delete(&bench.key("b")?, Delete::new()).await?;
    bench.expect_names("list.complete", bench.everything(), &["a", "c"]).await?;
    fill(&bench, &["b", "d"]).await?;
    bench.expect_names("list.complete", bench.everything(), &["a", "b", "c", "d"]).await
}

/// Two listings at once have nothing in common, and a read in between disturbs neither.
async fn list_interleaved(bench: Bench) -> Verdict {
    use futures_util::StreamExt as _;
    let names = ["a/1", "a/2", "a/3", "b/1", "b/2", "b/3"];
    fill(&bench, &names).await?;
    let of = |part: &str| ListOptions::new().prefix(format!("{}{part}", bench.prefix));
    let mut listings = ["a/", "b/", ""].map(|part| bench.store.list(of(part)).fuse());
    let mut seen: [Vec<String>; 3] = Default::default();
    for _ in 0..names.len() {
        for (listing, seen) in listings.iter_mut().zip(&mut seen) {
            if let Some(listed) = listing.next().await.transpose()? {
                seen.push(listed.key.as_str().strip_prefix(&bench.prefix).unwrap_or_default().to_owned());
            }
        }
        bench.load(&bench.key("b/2")?).await?;
    }
    let expected: [&[&str]; 3] = [&["a/1", "a/2", "a/3"], &["b/1", "b/2", "b/3"], &names];
    for (expected, seen) in expected.into_iter().zip(&seen) {
        if let Some(difference) = crate::text::first_difference(expected, seen).filter(|_| !bench.evicts) {
            return fail("list.complete", format!("one of three listings at once: {difference}"));
        }
    }
    Ok(())
}

async fn list_sizes(bench: Bench) -> Verdict {
    let limit = bench.capabilities.max_value();
    for size in [0, 1, 65_281, 200_000].into_iter().filter(|size| *size <= limit) {
        let value = crate::dice::bytes(usize::try_from(size).unwrap_or(0), bench.seed);
        bench.put(&bench.key(&format!("{size}"))?, value).await?;
    }
    for listed in bench.list(bench.everything()).await? {
        let name = listed.key.as_str().strip_prefix(&bench.prefix).unwrap_or_default();
        check_equal("list.complete", "the listed size", &name, &listed.size.to_string().as_str())?;
        if let Some(head) = bench.store.head(&listed.key, &ReadOptions::new()).await?
            && let Some(version) = &listed.version
        {
            check_equal("list.metadata", "the listed version", &head.version, version)?;
        }
    }
    Ok(())
}

async fn list_values(bench: Bench) -> Verdict {
    let mut limits = vec![0, 4, 64, 4096];
    limits.retain(|limit| *limit <= bench.capabilities.max_value());
    for (index, limit) in limits.iter().enumerate() {
        for more in [0, 1] {
            let size = bench.largest(usize::try_from(limit + more).unwrap_or(0));
            bench.put(&bench.key(&format!("{index}-{more}"))?, crate::dice::bytes(size, bench.seed)).await?;
        }
    }
    for up_to in limits.into_iter().map(Some).chain([None]) {
        let options = up_to.map_or_else(|| bench.everything(), |up_to| bench.everything().values(up_to));
        for listed in bench.list(options).await? {
            let Some(value) = listed.value else { continue };
            check("list.values", up_to.is_some_and(|up_to| value.len() as u64 <= up_to), || {
                format!("{:?}: {} bytes were listed where {up_to:?} were asked for", listed.key, value.len())
            })?;
            let Some(entry) = bench.present("read.whole", &listed.key).await? else { continue };
            check("list.values", value == *entry.value(), || {
                format!("{:?}: expected the listed value to be the entry's, saw {value:?}", listed.key)
            })?;
        }
    }
    Ok(())
}

async fn list_metadata(bench: Bench) -> Verdict {
    let put = |value: &'static str| bench.of(value);
    let attributes = Bench::attributes(&[("a", "b")])?;
    bench.put(&bench.key("a")?, put("one").attributes(attributes)).await?;
    bench.put(&bench.key("b")?, put("")).await?;
    for listed in bench.list(bench.everything()).await? {
        let Some(head) = bench.store.head(&listed.key, &ReadOptions::new()).await? else { continue };
        let Some(metadata) = &listed.metadata else {
            return fail("list.metadata", "expected metadata, since ListsMetadata is declared; saw none");
        };
        same_metadata("list.metadata", "the listed metadata", &head, metadata)?;
        check_equal("list.metadata", "the listed version", &Some(&head.version), &listed.version.as_ref())?;
        check_equal("list.metadata", "the listed size", &head.size, &listed.size)?;
    }
    Ok(())
}

/// What a listing carries of the metadata is true, also where it is not all.
async fn list_metadata_partly(bench: Bench) -> Verdict {
    fill(&bench, &["a", "b"]).await?;
    for listed in bench.list(bench.everything()).await? {
        let Some(head) = bench.store.head(&listed.key, &ReadOptions::new()).await? else { continue };
        check_equal("list.metadata", "the listed size", &head.size, &listed.size)?;
        if let Some(version) = &listed.version {
            check_equal("list.metadata", "the listed version", &head.version, version)?;
        }
        if let Some(metadata) = &listed.metadata {
            check_equal("list.metadata", "the listed metadata", &head, metadata)?;
        }
    }
    Ok(())
}

async fn list_dropped(bench: Bench) -> Verdict {
    use futures_util::StreamExt as _;
    fill(&bench, &["a", "b", "c"]).await?;
    for polls in 0..3 {
        let mut listing = bench.store.list(bench.everything());
        for _ in 0..polls {
            listing.next().await.transpose()?;
        }
        drop(listing);
        let key = bench.key("b")?;
        let put = bench.store.put(&key, bench.of("after"));
        Bench::in_time("cancel", "a put after a dropped listing", put).await??;
    }
    bench.expect("cancel", &bench.key("b")?, b"after").await
}
