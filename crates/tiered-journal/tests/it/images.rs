//! Journals cut at every byte, and with every bit flipped.

use tiered_core::ErrorKind;
use tiered_core::adapter::journal::{Journal as _, JournalRecord, Sequence};
use tiered_journal::{JournalConfig, MemoryFolder};

use crate::{BACKEND, assert_same, batch, delete, plain, put};

const SEGMENT: &str = "0000000000000001.segment";
const HEADER: usize = 512;

/// A journal of one segment, the groups in it, and where each ends.
struct Image {
    content: Vec<u8>,
    groups: Vec<Vec<JournalRecord>>,
    ends: Vec<usize>,
}

async fn image(groups: Vec<Vec<JournalRecord>>) -> Image {
    let folder = MemoryFolder::new();
    let journal = JournalConfig::new("").segment_size(64 << 10).open_in(folder.attach()).expect("opens");
    journal.recover(BACKEND).await.expect("new");
    // A group's last byte that is not zero is its value's: the groups of these tests end with one.
    let mut ends = Vec::new();
    for group in &groups {
        journal.append(group).await.expect("appends");
        let content = folder.content(SEGMENT).expect("a segment");
        let zeros = content.iter().rev().take_while(|byte| **byte == 0).count();
        ends.push((content.len() - zeros).next_multiple_of(8));
    }
    Image { content: folder.content(SEGMENT).expect("a segment"), groups, ends }
}

/// What is recovered of `content`.
async fn recover(content: &[u8], image: &Image) -> Result<Vec<(Sequence, JournalRecord)>, ErrorKind> {
    let folder = MemoryFolder::new();
    // A file of that name, with that content.
    folder.attach().create(SEGMENT, 0).expect("creates");
    folder.set_content(SEGMENT, content);
    let journal = JournalConfig::new("").segment_size(64 << 10).open_in(folder.attach()).expect("opens");
    let recovered = journal.recover(BACKEND).await.map_err(|error| error.kind())?.records;
    // Whole groups, from the first on.
    let expected: Vec<JournalRecord> = image.groups.iter().flatten().take(recovered.len()).cloned().collect();
    assert_same(&recovered, 1, &expected);
    assert!(
        (0..=image.groups.len())
            .any(|whole| records(image.groups.get(..whole).unwrap_or_default()) == recovered.len())
    );
    Ok(recovered)
}

fn records(groups: &[Vec<JournalRecord>]) -> usize {
    groups.iter().map(Vec::len).sum()
}

#[tokio::test]
async fn a_truncated_journal_keeps_the_groups_before_the_cut() {
    let groups = vec![vec![delete("b"), put("a", "1")], vec![put("c", vec![1; 700])], vec![put("a", "2")]];
    let image = image(groups).await;
    for cut in 0..image.ends[2] + 16 {
        let recovered = recover(&image.content[..cut], &image).await;
        if cut < HEADER {
            // A segment appears with its header: this is no torn end.
            assert_eq!(recovered.expect_err("no header"), ErrorKind::Corrupt, "{cut}");
            continue;
        }
        let recovered = recovered.expect("an end like any other");
        let whole = image.ends.iter().filter(|end| **end <= cut).count();
        assert_eq!(recovered.len(), records(&image.groups[..whole]), "{cut}");
    }
}

#[tokio::test]
async fn a_truncated_journal_accepts_new_records() {
    let image = image(vec![vec![put("a", "1")], vec![put("b", vec![1; 700])]]).await;
    let folder = MemoryFolder::new();
    folder.attach().create(SEGMENT, 0).expect("creates");
    let mut torn = image.content.clone();
    torn[image.ends[0] + 300] ^= 1;
    folder.set_content(SEGMENT, &torn);
    let open = || JournalConfig::new("").segment_size(64 << 10).open_in(folder.attach()).expect("opens");
    let journal = open();
    assert_eq!(journal.recover(BACKEND).await.expect("recovers").records.len(), 1);
    assert!(journal.report().expect("recovered").cut_bytes > 700);
    assert_eq!(journal.append(&[put("c", "3")]).await.expect("appends"), 2);
    drop(journal);
    let journal = open();
    let recovered = journal.recover(BACKEND).await.expect("recovers");
    assert_eq!(recovered.records.len(), 2);
    assert_eq!(plain(&recovered.records[1].1).0, "c");
    assert_eq!(journal.report().expect("recovered").cut_bytes, 0, "the damage was cut off");
}

/// Each bit of a journal of 64 KiB: it is refused, or its last group is missing, or nothing is.
#[tokio::test]
async fn a_flipped_bit_is_never_returned_as_data() {
    let mut groups = Vec::new();
    for index in 0..12 {
        groups.push(vec![delete("d"), put(&format!("k{index}"), vec![index + 1; 4_900])]);
    }
    groups.push(vec![put("last", vec![9; 2_000])]);
    let image = std::sync::Arc::new(image(groups).await);
    let end = *image.ends.last().expect("groups");
    assert!(end > 60 << 10, "{end}");
    let threads = (0..2).map(|half| {
        let image = std::sync::Arc::clone(&image);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            let (all, last) = (records(&image.groups), records(&image.groups[..image.groups.len() - 1]));
            let mut content = image.content.clone();
            let (mut refused, mut cut) = (0_u64, 0_u64);
            for bit in (half..content.len() * 8).step_by(2) {
                content[bit / 8] ^= 1 << (bit % 8);
                match runtime.block_on(recover(&content, &image)) {
                    // Behind the last group, where nothing is.
                    Ok(found) if found.len() == all => assert!(bit / 8 >= end, "bit {bit} goes unnoticed"),
                    Ok(found) => {
                        assert!(
                            found.len() == last && bit / 8 >= image.ends[image.ends.len() - 2],
                            "bit {bit}"
                        );
                        cut += 1;
                    }
                    Err(kind) => {
                        assert!(
                            matches!(kind, ErrorKind::Corrupt | ErrorKind::Foreign | ErrorKind::Config),
                            "{kind}"
                        );
                        refused += 1;
                    }
                }
                content[bit / 8] ^= 1 << (bit % 8);
            }
            (refused, cut)
        })
    });
    let threads: Vec<_> = threads.collect();
    for thread in threads {
        let (refused, cut) = thread.join().expect("holds");
        assert!(refused > 200_000 && cut > 7_000, "{refused} refused, {cut} cut");
    }
}

#[tokio::test]
async fn a_missing_segment_is_detected() {
    let folder = MemoryFolder::new();
    let open = || JournalConfig::new("").segment_size(64 << 10).open_in(folder.attach()).expect("opens");
    let journal = open();
    journal.recover(BACKEND).await.expect("new");
    for _ in 0..20 {
        journal.append(&[put("k", vec![7; 10 << 10])]).await.expect("appends");
    }
    drop(journal);
    let names = folder.attach().names().expect("lists");
    let second = names.iter().filter(|name| name.ends_with(".segment")).nth(1).expect("several segments");
    folder.attach().remove(second).expect("removes");
    let error = open().recover(BACKEND).await.expect_err("a hole");
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("are missing before this segment"), "{error}");
}

/// A journal of several segments, each with batches, and what was appended to it.
async fn several() -> (MemoryFolder, Vec<String>, Vec<JournalRecord>) {
    let folder = MemoryFolder::new();
    let journal = JournalConfig::new("").segment_size(64 << 10).open_in(folder.attach()).expect("opens");
    journal.recover(BACKEND).await.expect("new");
    let mut all = Vec::new();
    for index in 0..33 {
        let records = vec![put("a", vec![index + 1; 4_000]), delete("b"), put("c", vec![index + 1; 1_000])];
        let records = batch(records);
        journal.append(&records).await.expect("appends");
        all.extend(records);
    }
    let mut names = folder.attach().names().expect("lists");
    names.retain(|name| name.ends_with(".segment"));
    (folder, names, all)
}

/// How many records are recovered, all of them as they were and each batch whole; or why it does not open.
async fn whole_batches(folder: &MemoryFolder, all: &[JournalRecord]) -> Result<usize, ErrorKind> {
    let journal = JournalConfig::new("").segment_size(64 << 10).open_in(folder.attach()).expect("opens");
    let recovered = journal.recover(BACKEND).await.map_err(|error| error.kind())?.records;
    assert_same(&recovered, 1, all.get(..recovered.len()).expect("no more than were appended"));
    assert!(recovered.last().is_none_or(|(_, last)| !last.continues), "half a batch");
    Ok(recovered.len())
}

#[tokio::test]
async fn damage_in_any_segment_but_the_last_is_refused() {
    let (folder, names, all) = several().await;
    assert!(names.len() >= 3, "{names:?}");
    for (index, name) in names.iter().enumerate() {
        let is_last = index + 1 == names.len();
        let good = folder.content(name).expect("a segment");
        let end = good.len() - good.iter().rev().take_while(|byte| **byte == 0).count();
        // Each bit of the header and of the last group's end, and 2,000 others spread over the rest.
        let near_end = (end - 64) * 8..end * 8;
        let spread = (0..2_000_u64).map(|flip| flip.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 16);
        let spread = spread.map(|flip| usize::try_from(flip).expect("fits") % (good.len() * 8));
        for bit in (0..HEADER * 8).chain(near_end).chain(spread) {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            folder.set_content(name, &bad);
            match whole_batches(&folder, &all).await {
                Ok(found) if found == all.len() => {
                    assert!(bit / 8 >= end, "{name}: bit {bit} goes unnoticed");
                }
                Ok(_) => assert!(is_last, "{name}: bit {bit} loses records"),
                Err(kind) => assert!(
                    matches!(kind, ErrorKind::Corrupt | ErrorKind::Foreign | ErrorKind::Config),
                    "{name}: bit {bit}: {kind}"
                ),
            }
        }
        for cut in 0..end + 64 {
            folder.set_content(name, &good[..cut]);
            let found = whole_batches(&folder, &all).await;
            let is_whole = found == Ok(all.len());
            match found {
                Err(kind) => assert_eq!(kind, ErrorKind::Corrupt, "{name}: cut at {cut}"),
                Ok(_) => assert!(is_last || is_whole, "{name}: cut at {cut} loses records"),
            }
            assert!(is_whole || cut < end.next_multiple_of(8), "{name}: cut at {cut}, behind the end");
        }
        folder.set_content(name, &good);
    }
    assert_eq!(whole_batches(&folder, &all).await, Ok(all.len()));
}

#[tokio::test]
async fn a_batch_truncated_anywhere_is_recovered_whole_or_not_at_all() {
    let torn_batch = batch(vec![put("a", vec![1; 300]), delete("b"), put("c", vec![2; 300])]);
    let image = image(vec![vec![put("before", "1")], torn_batch]).await;
    for cut in HEADER..image.ends[1] + 16 {
        let mut torn = image.content.clone();
        torn[cut..].fill(0);
        let recovered = recover(&torn, &image).await.expect("an end like any other");
        assert!(recovered.last().is_none_or(|(_, last)| !last.continues), "{cut}");
        let whole = image.ends.iter().filter(|end| **end <= cut).count();
        assert!(recovered.len() >= records(&image.groups[..whole]), "{cut}");
    }
}
