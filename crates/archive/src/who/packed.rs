//! How Parquet packs numbers: runs and bits (`RLE`), and distances (`DELTA_BINARY_PACKED`).
//!
//! Pure: bytes in, numbers out. Never reads beyond its bytes; what is torn or contradicts itself is a fault.

use parquet::errors::ParquetError;

/// Some numbers that stand together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// One number, so many times.
    Same(u32, usize),
    /// So many numbers, each of the width.
    Packed(&'a [u8], usize),
}

/// Numbers of one width, in runs and bits.
#[derive(Clone, Debug)]
pub(super) struct Hybrid<'a> {
    bytes: &'a [u8],
    width: u32,
    left: usize,
}

impl<'a> Hybrid<'a> {
    /// So many numbers.
    pub(super) fn new(bytes: &'a [u8], width: u32, count: usize) -> Result<Self, ParquetError> {
        if width > 32 {
            return Err(torn("a number's width"));
        }
        Ok(Self {
            bytes,
            width,
            left: count,
        })
    }

    /// The next ones; `None` after the last.
    pub(super) fn next(&mut self) -> Result<Option<Piece<'a>>, ParquetError> {
        while self.left > 0 {
            let head = varint(&mut self.bytes)?;
            let count = usize::try_from(head >> 1).map_err(|_| torn("a run"))?;
            if head & 1 == 0 {
                let length = self.width.div_ceil(8) as usize;
                let value = take(&mut self.bytes, length)?;
                let value = value
                    .iter()
                    .rev()
                    .fold(0, |all, byte| all << 8 | u32::from(*byte));
                let count = count.min(self.left);
                self.left -= count;
                if count > 0 {
                    return Ok(Some(Piece::Same(value, count)));
                }
            } else {
                let length = count
                    .checked_mul(self.width as usize)
                    .ok_or_else(|| torn("a run"))?;
                // The last of a page's may be cut to what it needs.
                let length = length.min(self.bytes.len());
                let packed = take(&mut self.bytes, length)?;
                let count = count.saturating_mul(8).min(self.left);
                if packed.len() * 8 < count * self.width as usize {
                    return Err(torn("a run"));
                }
                self.left -= count;
                if count > 0 {
                    return Ok(Some(Piece::Packed(packed, count)));
                }
            }
        }
        Ok(None)
    }
}

/// One of some numbers of a width up to 32 bits; there are as many bytes.
pub(super) fn one(bytes: &[u8], width: u32, n: usize) -> u32 {
    if width == 0 {
        return 0;
    }
    let bit = n * width as usize;
    let word = match bytes.get(bit / 8..).and_then(<[u8]>::first_chunk) {
        Some(word) => u64::from_le_bytes(*word),
        None => end(bytes, bit / 8) as u64,
    };
    (word >> (bit % 8) & ((1 << width) - 1)) as u32
}

/// Adds numbers of a width up to 32 bits; there are as many bytes.
pub(super) fn unpack(bytes: &[u8], width: u32, count: usize, out: &mut Vec<u32>) {
    macro_rules! by_width {
        ($($width:literal)*) => {
            match width {
                0 => out.resize(out.len() + count, 0),
                $($width => unpack_of::<$width>(bytes, count, out),)*
                _ => out.extend((0..count).map(|n| one(bytes, width, n))),
            }
        };
    }
    by_width!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28);
}

/// Of a width that is known when this is compiled: eight numbers at once, and then the rest.
fn unpack_of<const WIDTH: usize>(bytes: &[u8], count: usize, out: &mut Vec<u32>) {
    out.reserve(count);
    let eights = (count / 8).min(bytes.len() / WIDTH);
    for eight in bytes.chunks_exact(WIDTH).take(eights) {
        let mut padded = [0; 40];
        padded[..WIDTH].copy_from_slice(eight);
        out.extend_from_slice(&std::array::from_fn::<u32, 8, _>(|n| {
            let bit = n * WIDTH;
            let word = padded[bit / 8..].first_chunk().expect("it is padded");
            (u64::from_le_bytes(*word) >> (bit % 8) & ((1 << WIDTH) - 1)) as u32
        }));
    }
    let width = WIDTH as u32;
    out.extend((eights * 8..count).map(|n| one(bytes, width, n)));
}

/// What is left of bytes from there on, as a number.
fn end(bytes: &[u8], from: usize) -> u128 {
    let rest = bytes.get(from..).unwrap_or_default();
    let rest = rest.iter().take(16).rev();
    rest.fold(0, |all, byte| all << 8 | u128::from(*byte))
}

/// Reads all of a page's numbers, by their distances.
pub(super) fn distances(
    mut bytes: &[u8],
    count_max: usize,
    out: &mut Vec<i64>,
) -> Result<(), ParquetError> {
    let block = small(varint(&mut bytes)?)?;
    let parts = small(varint(&mut bytes)?)?;
    let count = small(varint(&mut bytes)?)?;
    let mut last = zigzag(varint(&mut bytes)?);
    if count == 0 {
        return Ok(());
    }
    if parts == 0 || block == 0 || block % parts != 0 || block / parts % 8 != 0 || count > count_max
    {
        return Err(torn("distances"));
    }
    let in_part = block / parts;
    let mut words = Vec::with_capacity(in_part);
    out.push(last);
    let mut left = count - 1;
    while left > 0 {
        let least = zigzag(varint(&mut bytes)?);
        let widths = take(&mut bytes, parts)?;
        for width in widths {
            if left == 0 {
                break;
            }
            let width = usize::from(*width);
            if width > 64 {
                return Err(torn("distances"));
            }
            let length = (in_part / 8 * width).min(bytes.len());
            let packed = take(&mut bytes, length)?;
            let count = in_part.min(left);
            if packed.len() * 8 < count * width {
                return Err(torn("distances"));
            }
            if width <= 32 {
                // Nearly all are.
                words.clear();
                unpack(packed, width as u32, count, &mut words);
                for word in &words {
                    last = last.wrapping_add(i64::from(*word)).wrapping_add(least);
                    out.push(last);
                }
                left -= count;
                continue;
            }
            let mask = u64::MAX
                .checked_shr(64 - u32::try_from(width).unwrap_or(64))
                .unwrap_or(0);
            for n in 0..count {
                let bit = n * width;
                let rest = packed.get(bit / 8..).unwrap_or_default();
                let word = match rest.first_chunk() {
                    Some(word) if width <= 56 => u64::from_le_bytes(*word) >> (bit % 8),
                    _ => (end(packed, bit / 8) >> (bit % 8)) as u64,
                };
                let distance = (word & mask).cast_signed().wrapping_add(least);
                last = last.wrapping_add(distance);
                out.push(last);
            }
            left -= count;
        }
    }
    Ok(())
}

/// The next bytes.
pub(super) fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Result<&'a [u8], ParquetError> {
    let (taken, rest) = bytes
        .split_at_checked(length)
        .ok_or_else(|| torn("a page"))?;
    *bytes = rest;
    Ok(taken)
}

fn varint(bytes: &mut &[u8]) -> Result<u64, ParquetError> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = take(bytes, 1)?[0];
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(torn("a number"))
}

fn small(number: u64) -> Result<usize, ParquetError> {
    u32::try_from(number)
        .map(|number| number as usize)
        .map_err(|_| torn("distances"))
}

const fn zigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -((number & 1).cast_signed())
}

/// Bytes that say what they cannot.
pub(super) fn torn(what: &str) -> ParquetError {
    ParquetError::General(format!("{what} in a page is torn, or contradicts itself"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(bytes: &[u8], width: u32, count: usize) -> Result<Vec<u32>, ParquetError> {
        let mut out = Vec::new();
        let mut hybrid = Hybrid::new(bytes, width, count)?;
        while let Some(piece) = hybrid.next()? {
            match piece {
                Piece::Same(value, count) => out.resize(out.len() + count, value),
                Piece::Packed(bytes, count) => unpack(bytes, width, count, &mut out),
            }
        }
        Ok(out)
    }

    #[test]
    fn runs_and_bits_are_read_and_nothing_beyond_them() {
        // Five times 300, then 1 to 8 in 3 bits each would not fit: two widths, two streams.
        assert_eq!(all(&[10, 44, 1], 9, 5).unwrap(), [300; 5]);
        let bits = [3, 0b1000_1000, 0b1100_0110, 0b1111_1010];
        assert_eq!(all(&bits, 3, 8).unwrap(), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(all(&bits, 3, 5).unwrap(), [0, 1, 2, 3, 4]);
        assert_eq!(all(&[9], 0, 4).unwrap(), [0; 4]);
        for (torn, width, count) in [
            (&bits[..3], 3, 8),
            (&[10, 44][..], 9, 5),
            (&[0x80][..], 1, 1),
            (&[10, 44, 1][..], 9, 6),
        ] {
            assert!(all(torn, width, count).is_err(), "{torn:?}");
        }
        assert!(all(&[2, 1], 33, 1).is_err());
    }

    #[test]
    fn numbers_of_any_width_and_count_are_those_one_by_one() {
        let bytes: Vec<u8> = (0..=255_u32).map(|n| (n * 167 + 13) as u8).collect();
        for width in 0..=32 {
            for count in [0, 1, 7, 8, 9, 30, 60] {
                let length = (count * width as usize).div_ceil(8);
                let mut out = vec![9];
                unpack(&bytes[..length], width, count, &mut out);
                let due = (0..count).map(|n| one(&bytes, width, n));
                assert_eq!(out[1..], due.collect::<Vec<_>>(), "{width} {count}");
                for n in 0..count {
                    let bit = n * width as usize;
                    let due = (0..width as usize)
                        .filter(|at| bytes[(bit + at) / 8] >> ((bit + at) % 8) & 1 == 1)
                        .fold(0_u64, |all, at| all | 1 << at);
                    assert_eq!(u64::from(out[n + 1]), due, "{width} {count} {n}");
                }
            }
        }
    }

    #[test]
    fn distances_are_added_up() {
        // 7, 5, 3, 1, 2, 3, 4, 5: the example of the format's description, as one block of 128.
        let mut bytes = vec![0x80, 1, 4, 8, 14, 3, 2, 0, 0, 0];
        bytes.extend([0b1100_0000, 0b0011_1111, 0, 0, 0, 0, 0, 0]);
        let mut out = Vec::new();
        distances(&bytes, 8, &mut out).unwrap();
        assert_eq!(out, [7, 5, 3, 1, 2, 3, 4, 5]);
        for length in 0..bytes.len() - 8 {
            assert!(distances(&bytes[..length], 8, &mut Vec::new()).is_err());
        }
        assert!(distances(&bytes, 7, &mut Vec::new()).is_err());
        assert!(distances(&[8, 0, 8, 0, 0, 0], 8, &mut Vec::new()).is_err());
    }
}
