//! Whether SQLite's log has lost what was synced: SQLite reads it up to the first frame that is not right, and says nothing.
//! Pure. Source: `sqlite.org/fileformat2.html` §4.
//!
//! A power cut leaves at most one transaction half written, as each is synced before the next is begun. Frames carry a
//! check sum over all before them, so two transactions that follow each other behind a frame that is not right were both
//! written whole upon it: what is wrong with it came later. Damage to the last transaction looks like a power cut.

/// What a log begins with, but for the lowest bit, which says how words of check sums are read.
const MAGIC: u32 = 0x377f_0682;
const HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 24;

type Sum = [u32; 2];

/// Whether what was synced is lost.
pub(super) fn is_damaged(wal: &[u8]) -> bool {
    let Some((header, frames)) = wal.split_at_checked(HEADER_BYTES) else { return false };
    let word = if header[3] & 1 == 1 { u32::from_be_bytes } else { u32::from_le_bytes };
    let is_whole = number(u32::from_be_bytes, &header[..4]) & !1 == MAGIC
        && add(word, [0, 0], &header[..24]) == sum_at(&header[24..]);
    if !is_whole {
        // It is written in one piece. One of zeros was not written at all.
        return !frames.is_empty() && *header != [0; HEADER_BYTES];
    }
    let page_bytes = usize::try_from(number(u32::from_be_bytes, &header[8..12])).unwrap_or(usize::MAX);
    let mut before = sum_at(&header[24..32]);
    let mut is_broken = false;
    let mut commits = 0;
    for frame in frames.chunks_exact(page_bytes.saturating_add(FRAME_HEADER_BYTES)) {
        let sum = add(word, add(word, before, &frame[..8]), &frame[FRAME_HEADER_BYTES..]);
        before = sum_at(&frame[16..24]);
        let is_right = sum == before && frame[8..16] == header[16..24];
        is_broken |= !is_right;
        // The last frame of a transaction says how large the database is then.
        let is_last = frame[4..8] != [0; 4];
        commits = if is_right { commits + u32::from(is_broken && is_last) } else { 0 };
        if commits > 1 {
            return true;
        }
    }
    false
}

fn add(word: fn([u8; 4]) -> u32, sum: Sum, bytes: &[u8]) -> Sum {
    bytes.chunks_exact(8).fold(sum, |[first, second], pair| {
        let first = first.wrapping_add(number(word, &pair[..4])).wrapping_add(second);
        [first, second.wrapping_add(number(word, &pair[4..])).wrapping_add(first)]
    })
}

fn sum_at(bytes: &[u8]) -> Sum {
    [number(u32::from_be_bytes, &bytes[..4]), number(u32::from_be_bytes, &bytes[4..8])]
}

fn number(word: fn([u8; 4]) -> u32, bytes: &[u8]) -> u32 {
    word(bytes.try_into().expect("whoever calls gives four bytes"))
}
