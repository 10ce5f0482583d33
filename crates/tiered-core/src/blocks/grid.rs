//! Where a value is cut into blocks.

use std::ops::Range;

use bytes::Bytes;

/// Most bytes of one request for blocks: large enough that a backend far away moves bytes for most of the time, small enough
/// to hold several of them in memory.
pub(crate) const MOST: u64 = 16 << 20;

/// Blocks of a part of a stream: 4 MiB of the usual size, so that a reader who reads two at a time holds 8 MiB.
const PART: u64 = 16;

/// Cuts values at the multiples of a block's size. The last block of a value is as long as what is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grid {
    block: u64,
}

impl Grid {
    /// Blocks of so many bytes, at least 1.
    pub(crate) const fn new(block: u64) -> Self {
        Self { block: if block == 0 { 1 } else { block } }
    }

    /// Bytes of a block.
    pub(crate) const fn block(self) -> u64 {
        self.block
    }

    /// The blocks that hold some byte of `range`.
    pub(crate) const fn indexes(self, range: &Range<u64>) -> Range<u64> {
        let first = range.start / self.block;
        if range.start >= range.end { first..first } else { first..range.end.div_ceil(self.block) }
    }

    /// The block that holds all bytes of `range`, if it is one.
    pub(crate) const fn only(self, range: &Range<u64>) -> Option<u64> {
        let indexes = self.indexes(range);
        if indexes.end - indexes.start == 1 { Some(indexes.start) } else { None }
    }

    /// The bytes of a block of a value of `size` bytes.
    pub(crate) fn bytes(self, index: u64, size: u64) -> Range<u64> {
        let start = index.saturating_mul(self.block).min(size);
        start..start.saturating_add(self.block).min(size)
    }

    /// The bytes of several neighbouring blocks of a value of `size` bytes.
    pub(crate) fn bytes_of(self, run: &Range<u64>, size: u64) -> Range<u64> {
        let (start, end) = (run.start.saturating_mul(self.block), run.end.saturating_mul(self.block));
        start.min(size)..end.min(size)
    }

    /// `range` rounded outwards to blocks, where the size of the value is not known yet: no more than [`MOST`] bytes from its
    /// first block on, at least one block.
    pub(crate) fn first_part(self, range: &Range<u64>) -> Range<u64> {
        let indexes = self.indexes(range);
        let most = (MOST / self.block).max(1);
        let end = indexes.end.min(indexes.start.saturating_add(most));
        indexes.start.saturating_mul(self.block)..end.saturating_mul(self.block)
    }

    /// Blocks that are fetched together: neighbours, of no more than [`MOST`] bytes, at least one block. `indexes` are in order.
    pub(crate) fn runs(self, indexes: impl IntoIterator<Item = u64>) -> Vec<Range<u64>> {
        let most = (MOST / self.block).max(1);
        let mut runs: Vec<Range<u64>> = Vec::new();
        for index in indexes {
            match runs.last_mut() {
                Some(run) if run.end == index && run.end - run.start < most => run.end += 1,
                _ => runs.push(index..index + 1),
            }
        }
        runs
    }

    /// The whole blocks in `part`, a part of a value of `size` bytes that begins at `start`, each with its index. A block of
    /// which the part has only a piece is left out.
    pub(crate) fn cut(self, part: &Bytes, start: u64, size: u64) -> Vec<(u64, Bytes)> {
        let end = start.saturating_add(part.len() as u64);
        let blocks = start.div_ceil(self.block)..end.div_ceil(self.block);
        let whole = blocks.filter_map(|index| {
            let bytes = self.bytes(index, size);
            let from = usize::try_from(bytes.start.checked_sub(start)?).ok()?;
            let to = usize::try_from(bytes.end.checked_sub(start)?).ok()?;
            (from < to && to <= part.len()).then(|| (index, part.slice(from..to)))
        });
        whole.collect()
    }

    /// The piece of block `index` that belongs to `range`, as offsets within the block; empty where they have no byte in common.
    pub(crate) fn piece(self, index: u64, range: &Range<u64>) -> Range<u64> {
        let start = index.saturating_mul(self.block);
        let within = |at: u64| at.saturating_sub(start).min(self.block);
        within(range.start)..within(range.end)
    }

    /// Where the part of a stream ends that holds the byte at `at`.
    pub(crate) const fn end_of_part(self, at: u64) -> u64 {
        let part = self.block.saturating_mul(PART);
        (at / part).saturating_add(1).saturating_mul(part)
    }

    /// `range` cut into parts of a stream, in order. The first and the last may be shorter.
    pub(crate) fn parts(self, range: Range<u64>) -> impl Iterator<Item = Range<u64>> + Send + use<> {
        let next =
            move |start: u64| (start < range.end).then(|| start..range.end.min(self.end_of_part(start)));
        std::iter::successors(next(range.start), move |part| next(part.end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRID: Grid = Grid::new(10);

    #[test]
    fn a_range_touches_the_blocks_that_hold_its_bytes() {
        let table =
            [(0..1, 0..1), (0..10, 0..1), (9..11, 0..2), (10..20, 1..2), (25..25, 2..2), (0..0, 0..0)];
        for (range, indexes) in table {
            assert_eq!(GRID.indexes(&range), indexes, "{range:?}");
        }
        assert_eq!(GRID.indexes(&(u64::MAX - 1..u64::MAX)).count(), 1, "the end of the largest value");
    }

    #[test]
    fn the_last_block_is_what_is_left() {
        assert_eq!(GRID.bytes(0, 25), 0..10);
        assert_eq!(GRID.bytes(2, 25), 20..25);
        assert_eq!(GRID.bytes(3, 25), 25..25);
        assert_eq!(GRID.bytes_of(&(1..3), 25), 10..25);
    }

    #[test]
    fn a_first_part_is_rounded_to_blocks_and_bounded() {
        assert_eq!(GRID.first_part(&(12..13)), 10..20);
        assert_eq!(GRID.first_part(&(5..21)), 0..30);
        let most = MOST / 10 * 10;
        assert_eq!(GRID.first_part(&(10..u64::MAX)), 10..10 + most);
        let large = Grid::new(MOST * 2);
        assert_eq!(large.first_part(&(1..MOST * 6)), 0..MOST * 2, "a block is never divided");
    }

    #[test]
    fn neighbours_are_joined_up_to_the_most() {
        assert_eq!(GRID.runs([0, 1, 2, 5, 7, 8]), [0..3, 5..6, 7..9]);
        assert_eq!(GRID.runs([]), []);
        let quarter = Grid::new(MOST / 4);
        assert_eq!(quarter.runs(0..10), [0..4, 4..8, 8..10]);
    }

    #[test]
    fn a_part_is_cut_into_its_whole_blocks() {
        let value: Bytes = (0_u8..25).collect::<Vec<_>>().into();
        let cut = |range: Range<usize>| GRID.cut(&value.slice(range.clone()), range.start as u64, 25);
        let block = |index: u64| {
            let bytes = GRID.bytes(index, 25);
            let at = |at| usize::try_from(at).expect("small");
            (index, value.slice(at(bytes.start)..at(bytes.end)))
        };
        assert_eq!(cut(0..25), [block(0), block(1), block(2)]);
        assert_eq!(cut(10..20), [block(1)]);
        assert_eq!(cut(5..20), [block(1)], "a piece of the first is no block");
        assert_eq!(cut(10..24), [block(1)], "nor is a piece of the last");
        assert_eq!(cut(25..25), []);
    }

    #[test]
    fn a_stream_is_cut_at_multiples_of_its_parts() {
        let part = 10 * PART;
        assert_eq!(GRID.parts(0..0).count(), 0);
        assert!(GRID.parts(3..7).eq(std::iter::once(3..7)));
        assert_eq!(
            GRID.parts(5..2 * part + 1).collect::<Vec<_>>(),
            [5..part, part..2 * part, 2 * part..2 * part + 1]
        );
        assert_eq!(GRID.end_of_part(part), 2 * part);
        let large = Grid::new(u64::MAX / 2);
        assert!(large.parts(7..u64::MAX).eq(std::iter::once(7..u64::MAX)), "no overflow");
    }

    /// Every range of values around the size of some blocks: the pieces of its blocks are its bytes, in order.
    #[test]
    fn the_pieces_of_its_blocks_are_the_range() {
        for size in 0..35_u64 {
            for start in 0..=size {
                for end in start..=size {
                    let range = start..end;
                    let mut bytes = Vec::new();
                    for index in GRID.indexes(&range) {
                        let (block, piece) = (GRID.bytes(index, size), GRID.piece(index, &range));
                        assert!(piece.start < piece.end && block.start + piece.end <= block.end);
                        bytes.extend(block.start + piece.start..block.start + piece.end);
                    }
                    assert_eq!(bytes, range.collect::<Vec<_>>());
                }
            }
        }
    }
}
