//! As many keys as are just above the sizes of pages that stores are likely to use.

use tiered_core::{Applied, Batch, Delete, Entry, Existed, Feature, Key, Lookup, ReadOptions};

use crate::bench::Bench;
use crate::case::{Verdict, check, check_equal, declare};
use crate::run::Effort;

declare! {
    list_above_page_sizes ["list.complete", "list.limit", "list.after"];
    read_many_above_page_sizes ["read.many"];
    batch_above_page_sizes ["batch.atomic", "delete.existed"];
}

/// One more than pages of 64, 100, 1,000, 1,024 and 4,096.
const JUST_ABOVE: [usize; 5] = [65, 101, 1_001, 1_025, 4_097];

/// The numbers up to `most`, or up to 101 where each key costs a request.
fn numbers(bench: &Bench, most: usize) -> impl Iterator<Item = usize> + use<> {
    let most = if bench.effort == Effort::Brief || !bench.has(Feature::AtomicBatch) { 101 } else { most };
    JUST_ABOVE.into_iter().filter(move |number| *number <= most)
}

fn batch(bench: &Bench) -> Batch {
    if bench.has(Feature::AtomicBatch) { Batch::new() } else { Batch::new().best_effort() }
}

/// Puts so many keys, named by their number, and returns their names.
async fn fill(bench: &Bench, count: usize) -> Verdict<Vec<String>> {
    let names: Vec<String> = (0..count).map(|index| format!("{index:04}")).collect();
    for some in names.chunks(500) {
        let mut puts = batch(bench);
        for name in some {
            puts = puts.put(bench.key(name)?, bench.of(name.clone()));
        }
        for outcome in bench.store.apply(puts).await? {
            outcome?;
        }
    }
    Ok(names)
}

async fn list_above_page_sizes(bench: Bench) -> Verdict {
    let count = numbers(&bench, 4_097).max().unwrap_or(101);
    let names = fill(&bench, count).await?;
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    bench.expect_names("list.complete", bench.everything(), &all).await?;
    for number in numbers(&bench, 4_097) {
        let first: Vec<&str> = all.iter().copied().take(number).collect();
        bench.expect_names("list.limit", bench.everything().limit(number), &first).await?;
        if let Some(after) = count.checked_sub(number + 1).and_then(|index| all.get(index)) {
            let last: Vec<&str> = all.iter().copied().skip(count - number).collect();
            let options = bench.everything().start_after(bench.key(after)?);
            bench.expect_names("list.after", options, &last).await?;
        }
    }
    Ok(())
}

async fn read_many_above_page_sizes(bench: Bench) -> Verdict {
    let count = numbers(&bench, 1_025).max().unwrap_or(101);
    let names = fill(&bench, count).await?;
    let keys: Vec<Key> = names.iter().map(|name| bench.key(name)).collect::<Verdict<_>>()?;
    for number in numbers(&bench, 1_025) {
        // Backwards, so that no order of the store's own passes for the one asked for.
        let asked: Vec<Key> = keys.iter().take(number).rev().cloned().collect();
        let reads = bench.get_many(&asked, &ReadOptions::new()).await?;
        check_equal("read.many", "the number of answers", &number, &reads.len())?;
        for (name, read) in names.iter().take(number).rev().zip(&reads) {
            let right =
                read.entry().map(Entry::value).is_some_and(|value| *value == bench.fit(name.as_bytes()));
            let evicted = bench.evicts && read.lookup == Lookup::Absent;
            check("read.many", right || evicted, || {
                format!("{name} of {number} keys: expected its own value, saw {:?}", read.lookup)
            })?;
        }
    }
    Ok(())
}

async fn batch_above_page_sizes(bench: Bench) -> Verdict {
    for number in numbers(&bench, 4_097) {
        let names: Vec<String> = (0..number).map(|index| format!("{index:04}")).collect();
        let (mut puts, mut deletes) = (batch(&bench), batch(&bench));
        for name in &names {
            puts = puts.put(bench.key(name)?, bench.of(name.clone()));
            deletes = deletes.delete(bench.key(name)?, Delete::new().report_existed());
        }
        let outcomes = bench.store.apply(puts).await?;
        check_equal("batch.atomic", "the number of outcomes", &number, &outcomes.len())?;
        for outcome in outcomes {
            outcome?;
        }
        let all: Vec<&str> = names.iter().map(String::as_str).collect();
        bench.expect_names("batch.atomic", bench.everything(), &all).await?;
        for outcome in bench.store.apply(deletes).await? {
            let Applied::Delete(gone) = outcome? else { continue };
            check("delete.existed", gone.existed == Existed::Yes || bench.evicts, || {
                format!("a batch of {number} deletes: expected every key to exist, saw {:?}", gone.existed)
            })?;
        }
        bench.expect_names("batch.atomic", bench.everything(), &[]).await?;
    }
    Ok(())
}
