//! Damage to a journal's files, and what may be recovered of them then.

use arbitrary::Arbitrary;
use tiered_journal::MemoryFolder;

use super::script::Written;
use super::{ASIDE, assert_says_where, goes_on, image, place, plain, plain_aside, recover};

/// Damages that are done.
const DAMAGES: usize = 4;

/// Places are taken modulo what is written of the file, and a little more.
#[derive(Arbitrary, Debug)]
pub(super) enum Damage {
    Flip {
        file: u8,
        at: u32,
        mask: u8,
    },
    Cut {
        file: u8,
        at: u32,
    },
    /// Copies bytes of a file over others of it.
    Splice {
        file: u8,
        from: u32,
        at: u32,
        len: u16,
    },
    Zero {
        file: u8,
        at: u32,
        len: u16,
    },
}

impl Damage {
    fn done_to(&self, files: &mut [(String, Vec<u8>)]) {
        let (Self::Flip { file, .. }
        | Self::Cut { file, .. }
        | Self::Splice { file, .. }
        | Self::Zero { file, .. }) = self;
        let index = usize::from(*file) % files.len().max(1);
        let Some((_, content)) = files.get_mut(index) else { return };
        let used = content.len() - content.iter().rev().take_while(|byte| **byte == 0).count();
        let place = |at: u32| (at as usize % (used + 64)).min(content.len());
        let behind = |at: u32, len: u16| place(at)..(place(at) + usize::from(len)).min(content.len());
        match self {
            Self::Flip { at, mask, .. } => {
                let at = place(*at);
                if let Some(byte) = content.get_mut(at) {
                    *byte ^= mask;
                }
            }
            Self::Cut { at, .. } => {
                let at = place(*at);
                content.truncate(at);
            }
            // Groups begin at multiples of eight: only there one can be taken for another.
            Self::Splice { from, at, len, .. } => {
                let from = behind(*from & !7, *len);
                let at = place(*at & !7).min(content.len() - from.len());
                content.copy_within(from, at);
            }
            Self::Zero { at, len, .. } => {
                let range = behind(*at, *len);
                content[range].fill(0);
            }
        }
    }
}

/// Recovers what is left of the journal in `folder` after it was damaged.
pub(super) fn recovers(folder: &MemoryFolder, written: &Written, damages: &[Damage]) {
    let names = folder.attach().names().expect("a folder in memory");
    let mut names: Vec<_> =
        names.into_iter().filter(|name| name == ASIDE || name.ends_with(".segment")).collect();
    names.sort_unstable();
    let whole: Vec<(String, Vec<u8>)> =
        names.into_iter().filter_map(|name| Some((name.clone(), folder.content(&name)?))).collect();
    let mut left = whole.clone();
    for damage in damages.iter().take(DAMAGES) {
        damage.done_to(&mut left);
    }
    let folder = MemoryFolder::new();
    for (name, content) in &left {
        place(&folder, name, content);
    }
    let (journal, recovered) = match recover(&folder) {
        Ok(recovered) => recovered,
        Err(error) => {
            assert!(whole != left, "nothing is damaged: {error}");
            return assert_says_where(&error);
        }
    };
    let intact = intact(&whole, &left);
    let sequences: Vec<u64> = recovered.records.iter().map(|(sequence, _)| *sequence).collect();
    for sequence in written.trimmed..intact {
        assert!(
            sequences.contains(&sequence),
            "record {sequence} is lost, and {intact} is the first damaged"
        );
    }
    for (sequence, record) in &recovered.records {
        assert_eq!(written.from(*sequence).first().map(plain), Some(plain(record)), "record {sequence}");
    }
    let first = sequences.first().copied().unwrap_or(u64::MAX);
    let mut aside = written.aside.clone();
    aside.dropped.retain(|sequence| recovered.aside.dropped.contains(sequence) || *sequence >= first);
    assert_eq!(plain_aside(&recovered.aside), plain_aside(&aside));
    goes_on(&folder, journal, &recovered);
}

/// The sequence of the first record that may be damaged.
fn intact(whole: &[(String, Vec<u8>)], damaged: &[(String, Vec<u8>)]) -> u64 {
    let mut next = 1;
    for ((name, before), (_, after)) in whole.iter().zip(damaged).filter(|((name, _), _)| name != ASIDE) {
        let differs = before.iter().zip(after).position(|(one, other)| one != other);
        let differs = differs.or((before.len() != after.len()).then_some(after.len()));
        assert!(differs.is_none_or(|at| at >= image::HEADER), "a damaged header of {name} is accepted");
        for group in image::groups(before) {
            if differs.is_some_and(|at| at < group.end) {
                return next;
            }
            next = group.next;
        }
    }
    next
}
