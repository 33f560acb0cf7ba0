//! The two ways a column of unsigned numbers is laid down: pco, and bits of one width.

use pco::data_types::Number;
use pco::wrapped::{FileCompressor, FileDecompressor};
use pco::{ChunkConfig, DeltaSpec, ModeSpec, PagingSpec};

use super::DecodeError;
use super::cursor::Cursor;

/// pco's own format version. It is part of ours and not repeated in every column; a test says when pco moves on.
pub(super) const PCO_FORMAT: [u8; 2] = [4, 1];

/// Which ways of looking at the numbers pco tries before it packs them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effort {
    /// None: the caller has taken the differences, and the bins are all that is wanted.
    Bins,
    /// All that [`admissible`] lets through on the way back.
    Search,
}

/// Packs the numbers, of which there is at least one.
pub(super) fn put_pco<T: Number>(out: &mut Vec<u8>, numbers: &[T], effort: Effort, level: usize) {
    let config = ChunkConfig::default()
        .with_compression_level(level)
        .with_enable_8_bit(true)
        .with_paging_spec(PagingSpec::Exact(vec![numbers.len()]));
    let config = match effort {
        Effort::Bins => config.with_mode_spec(ModeSpec::Classic).with_delta_spec(DeltaSpec::NoOp),
        Effort::Search => config.with_mode_spec(ModeSpec::Auto).with_delta_spec(DeltaSpec::TryConsecutive(1)),
    };
    let mut chunk = FileCompressor::default()
        .chunk_compressor(numbers, &config)
        .expect("between one and ROWS_MAX numbers, and a configuration without arguments out of range");
    chunk.write_meta(&mut *out).expect("writing to a vector does not fail");
    chunk.write_page(0, &mut *out).expect("writing to a vector does not fail");
}

/// Unpacks `count` numbers, at least one.
pub(super) fn take_pco<T: Number + Default>(
    cursor: &mut Cursor<'_>,
    count: usize,
) -> Result<Vec<T>, DecodeError> {
    if !admissible(cursor.rest) {
        return Err(DecodeError::Invalid { what: "form of a column" });
    }
    let (file, _) = FileDecompressor::new(PCO_FORMAT.as_slice()).map_err(DecodeError::Numbers)?;
    let (mut chunk, rest) = file.chunk_decompressor::<T, _>(cursor.rest).map_err(DecodeError::Numbers)?;
    let mut numbers = vec![T::default(); count];
    let mut page = chunk.page_decompressor(rest, count).map_err(DecodeError::Numbers)?;
    page.read(&mut numbers).map_err(DecodeError::Numbers)?;
    cursor.rest = page.into_src();
    Ok(numbers)
}

/// Whether a chunk uses only what [`put_pco`] asks for: plain numbers, multiples of a float or floats of few bits, and
/// no differences other than those between neighbours. The rest (dictionaries, look-back windows, convolutions) would let
/// a few bytes claim hundreds of megabytes. Mode and delta are the nibbles pco begins a chunk with; the argument of the
/// mode stands between them.
fn admissible(chunk: &[u8]) -> bool {
    let nibble = |index: usize| chunk.get(index).map(|byte| byte >> 4);
    let delta = match chunk.first().map(|byte| byte & 0xf) {
        Some(0) => nibble(0),
        Some(2) => nibble(8),
        Some(3) => nibble(1),
        _ => None,
    };
    matches!(delta, Some(0 | 1))
}

/// Bytes that `count` numbers of `width` bits take.
pub(super) fn bits_size(count: usize, width: u32) -> usize {
    (count * width as usize).div_ceil(8)
}

/// Writes the lowest `width` bits of every number, which must be all it has.
pub(super) fn put_bits(out: &mut Vec<u8>, numbers: &[u64], width: u32) {
    let mut pending = 0u128;
    let mut held = 0;
    for &number in numbers {
        debug_assert!(width == 64 || number >> width == 0, "number wider than its column");
        pending |= u128::from(number) << held;
        held += width;
        while held >= 8 {
            out.push(pending as u8);
            pending >>= 8;
            held -= 8;
        }
    }
    if held > 0 {
        out.push(pending as u8);
    }
}

/// Reads `count` numbers of `width` bits, 1 to 64.
pub(super) fn take_bits(cursor: &mut Cursor<'_>, count: usize, width: u32) -> Result<Vec<u64>, DecodeError> {
    let mut bytes = cursor.slice(bits_size(count, width))?.iter();
    let mask = u64::MAX >> (64 - width);
    let mut pending = 0u128;
    let mut held = 0;
    let mut numbers = Vec::with_capacity(count);
    for _ in 0..count {
        while held < width {
            let byte = bytes.next().ok_or(DecodeError::Truncated)?;
            pending |= u128::from(*byte) << held;
            held += 8;
        }
        numbers.push(pending as u64 & mask);
        pending >>= width;
        held -= width;
    }
    Ok(numbers)
}
