//! Bits: packing numbers of any width into bytes and reading them back.
//!
//! The hot datagrams are bit streams: the first bit is the lowest bit of the first byte, and a
//! number's lowest bit comes first. Nothing here knows what the numbers mean.
//!
//! Three codes beside plain fields of a fixed width:
//!
//! | code          | layout                                                          | for          |
//! |---------------|-----------------------------------------------------------------|--------------|
//! | zigzag        | 0, -1, 1, -2, 2 .. become 0, 1, 2, 3, 4 ..                      | signed       |
//! | sized(L)      | L bits: how many bits n follow, then the number in n bits       | rare, wide   |
//! | rice(k)       | q ones, a zero, k bits r: the number is q x 2^k + r             | gaps         |

/// Returns `number` with its sign moved to the lowest bit, so that small magnitudes stay small.
#[must_use]
pub const fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)).cast_unsigned()
}

/// Returns the number that [`zigzag`] turned into `code`.
#[must_use]
pub const fn unzigzag(code: u64) -> i64 {
    (code >> 1).cast_signed() ^ -((code & 1).cast_signed())
}

/// Returns how many bits `number` needs: 0 for 0, 64 at most.
#[must_use]
pub const fn width(number: u64) -> u32 {
    u64::BITS - number.leading_zeros()
}

/// Returns the lowest `bits` bits set (`bits` at most 64).
const fn mask(bits: u32) -> u64 {
    match u64::MAX.checked_shr(u64::BITS.saturating_sub(bits)) {
        Some(mask) => mask,
        None => 0,
    }
}

/// Returns `number` as rice(`k`) and how many bits that takes, 64 at most; its quotient must be
/// below [`RICE_ONES`] and `k` at most 32.
#[inline]
pub(crate) const fn rice(number: u64, k: u32) -> (u64, u32) {
    // Ones, the zero that ends them, and the rest above.
    let ones = number >> k;
    let end = (ones & (RICE_ONES - 1)) as u32 + 1;
    (((1 << (end - 1)) - 1) | ((number & mask(k)) << end), end + k)
}

/// Ones that are written at a time: with 32 bits of a rest they fill a word.
pub(crate) const RICE_ONES: u64 = 32;

/// Appends bits to a buffer of the caller, up to a length of that buffer.
///
/// A write past the limit changes nothing but [`BitWriter::fits`], so an entry of many fields is
/// checked once, at its end, and taken back with [`BitWriter::rewind`] when it did not fit.
#[derive(Debug)]
pub struct BitWriter<'a> {
    bytes: &'a mut Vec<u8>,
    /// Bits not yet in `bytes`, lowest first; bits above `filled` are zero.
    pending: u64,
    /// How many bits of `pending` count, always below 64.
    filled: u32,
    limit_bits: usize,
    overflowed: bool,
}

/// A place in a [`BitWriter`] to return to.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    bytes: usize,
    pending: u64,
    filled: u32,
}

impl<'a> BitWriter<'a> {
    /// Returns a writer behind what `bytes` holds, which lets it grow to `len_max` bytes in all.
    pub const fn new(bytes: &'a mut Vec<u8>, len_max: usize) -> Self {
        let limit_bits = len_max.saturating_mul(8);
        Self { bytes, pending: 0, filled: 0, limit_bits, overflowed: false }
    }

    /// Returns the length of the buffer in bits, with what is still to be flushed.
    #[must_use]
    pub fn bits(&self) -> usize {
        self.bytes.len() * 8 + self.filled as usize
    }

    /// Returns how many more bits fit.
    #[must_use]
    pub fn bits_left(&self) -> usize {
        self.limit_bits.saturating_sub(self.bits())
    }

    /// Returns whether everything written since the start or the last rewind did fit.
    #[must_use]
    pub const fn fits(&self) -> bool {
        !self.overflowed
    }

    /// Returns this place, to come back to with [`Self::rewind`].
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark { bytes: self.bytes.len(), pending: self.pending, filled: self.filled }
    }

    /// Takes back everything written since `mark`.
    pub fn rewind(&mut self, mark: Mark) {
        self.bytes.truncate(mark.bytes);
        self.pending = mark.pending;
        self.filled = mark.filled;
        self.overflowed = false;
    }

    /// Writes the lowest `bits` bits of `number` (`bits` at most 64).
    #[inline]
    pub fn write(&mut self, number: u64, bits: u32) {
        if self.bits_left() < bits as usize {
            self.overflowed = true;
            return;
        }
        let number = number & mask(bits);
        self.pending |= number << self.filled;
        self.filled += bits;
        if self.filled >= u64::BITS {
            self.filled -= u64::BITS;
            self.bytes.extend_from_slice(&self.pending.to_le_bytes());
            // Shifting by the whole width means that nothing is left over.
            self.pending = number.checked_shr(bits - self.filled).unwrap_or(0);
        }
    }

    /// Writes one bit.
    #[inline]
    pub fn write_bool(&mut self, bit: bool) {
        self.write(u64::from(bit), 1);
    }

    /// Writes `number` as sized(`length_bits`): its width must be below 2^`length_bits`.
    pub fn write_sized(&mut self, number: u64, length_bits: u32) {
        let bits = width(number);
        self.write(u64::from(bits), length_bits);
        self.write(number, bits);
    }

    /// Writes `number` as rice(`k`), `k` at most 32.
    pub fn write_rice(&mut self, number: u64, k: u32) {
        let mut ones = number >> k;
        while ones >= RICE_ONES {
            self.write(mask(32), 32);
            ones -= RICE_ONES;
        }
        let (code, bits) = rice(ones << k | number & mask(k), k);
        self.write(code, bits);
    }

    /// Flushes the last bits, the last byte filled up with zeros, and returns the whole buffer.
    pub fn finish(self) -> &'a [u8] {
        let bytes = self.pending.to_le_bytes();
        let count = self.filled.div_ceil(8) as usize;
        self.bytes.extend_from_slice(bytes.get(..count).unwrap_or_default());
        self.bytes
    }
}

/// Reads bits; whatever lies past the end is nothing, never a panic.
#[derive(Clone, Debug)]
pub struct BitReader<'a> {
    bytes: &'a [u8],
    /// The next bit.
    at: usize,
}

impl<'a> BitReader<'a> {
    /// Bits that [`Self::peek`] always shows of a stream that is long enough.
    pub const PEEK_BITS: u32 = 57;

    /// Returns a reader at the first bit of `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Returns a reader at bit `at` of `bytes`.
    #[must_use]
    pub const fn starting_at(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    /// Returns how many bits were read.
    #[must_use]
    pub const fn position(&self) -> usize {
        self.at
    }

    /// Returns how many bits are left.
    #[must_use]
    pub const fn bits_left(&self) -> usize {
        (self.bytes.len() * 8).saturating_sub(self.at)
    }

    /// Returns the next [`Self::PEEK_BITS`] bits or more without taking them, zeros past the end.
    #[must_use]
    #[inline]
    pub fn peek(&self) -> u64 {
        let rest = self.bytes.get(self.at / 8..).unwrap_or_default();
        let word = match rest.first_chunk::<8>() {
            Some(chunk) => u64::from_le_bytes(*chunk),
            None => rest.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte)),
        };
        word >> (self.at % 8)
    }

    /// Takes `bits` bits, nothing if fewer are left.
    #[inline]
    pub const fn skip(&mut self, bits: u32) -> Option<()> {
        if self.bits_left() < bits as usize {
            return None;
        }
        self.at += bits as usize;
        Some(())
    }

    /// Returns the next `bits` bits as a number (`bits` at most 64), nothing past the end.
    #[inline]
    pub fn read(&mut self, bits: u32) -> Option<u64> {
        if bits > Self::PEEK_BITS {
            let low = self.read(32)?;
            return Some(low | self.read(bits - 32)? << 32);
        }
        let number = self.peek() & mask(bits);
        self.skip(bits)?;
        Some(number)
    }

    /// Returns the next bit.
    #[inline]
    pub fn read_bool(&mut self) -> Option<bool> {
        self.read(1).map(|bit| bit == 1)
    }

    /// Returns a number written as sized(`length_bits`) (`length_bits` at most 6).
    pub fn read_sized(&mut self, length_bits: u32) -> Option<u64> {
        let bits = self.read(length_bits)?;
        self.read(u32::try_from(bits).ok()?)
    }

    /// Returns a number written as rice(`k`) (`k` at most 32), nothing if it exceeds `max`.
    pub fn read_rice(&mut self, k: u32, max: u64) -> Option<u64> {
        let mut quotient = 0_u64;
        loop {
            let ones = self.peek().trailing_ones();
            if ones < Self::PEEK_BITS {
                self.skip(ones + 1)?;
                quotient += u64::from(ones);
                break;
            }
            self.skip(Self::PEEK_BITS)?;
            quotient += u64::from(Self::PEEK_BITS);
        }
        if quotient > max >> k {
            return None;
        }
        let number = quotient << k | self.read(k)?;
        (number <= max).then_some(number)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_bit_is_the_lowest_of_the_first_byte() {
        let mut bytes = vec![0xEE];
        let mut writer = BitWriter::new(&mut bytes, 64);
        writer.write_bool(true);
        writer.write(0b101, 3);
        writer.write(0xABCD, 16);
        writer.finish();
        assert_eq!(bytes, [0xEE, 0xDB, 0xBC, 0x0A]);
    }

    #[test]
    fn codes_have_the_documented_layout() {
        let mut bytes = Vec::new();
        let mut writer = BitWriter::new(&mut bytes, 64);
        writer.write_sized(5, 6);
        writer.write_rice(5, 1);
        writer.finish();
        // 000011 101 | 110 1, each number lowest bit first.
        assert_eq!(bytes, [0b0100_0011, 0b0001_0111]);
        assert_eq!([0, -1, 1, -2, 2].map(zigzag), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn what_does_not_fit_can_be_taken_back() {
        let mut bytes = Vec::new();
        let mut writer = BitWriter::new(&mut bytes, 9);
        writer.write(u64::MAX, 60);
        let mark = writer.mark();
        writer.write(u64::MAX, 12);
        assert!(writer.fits() && writer.bits_left() == 0);
        writer.write_bool(true);
        assert!(!writer.fits());
        writer.rewind(mark);
        assert_eq!((writer.fits(), writer.bits(), writer.bits_left()), (true, 60, 12));
        writer.write(0b10, 2);
        writer.finish();
        assert_eq!(bytes, [255, 255, 255, 255, 255, 255, 255, 0b10_1111]);
    }

    #[test]
    fn nothing_lies_past_the_end() {
        let mut reader = BitReader::new(&[0xFF, 0x01]);
        assert_eq!(reader.read(15), Some(0x1FF));
        assert_eq!((reader.read(2), reader.bits_left()), (None, 1));
        assert_eq!(BitReader::starting_at(&[1], 99).read_bool(), None);
        assert_eq!(BitReader::new(&[0xFF; 200]).read_rice(0, 70_000), None);
        assert_eq!(BitReader::new(&[0xFF, 0, 0]).read_rice(0, 7), None);
    }

    proptest! {
        #[test]
        fn numbers_read_back_as_written(
            fields in prop::collection::vec((any::<u64>(), 0..=64_u32), 0..200)
        ) {
            let mut bytes = Vec::new();
            let mut writer = BitWriter::new(&mut bytes, 2_000);
            for &(number, bits) in &fields {
                writer.write(number, bits);
                writer.write_sized(number & mask(bits.min(63)), 6);
                writer.write_rice(number & 0xFFF, bits % 16);
            }
            prop_assert!(writer.fits() || writer.bits_left() < 4_096);
            if writer.fits() {
                writer.finish();
                let mut reader = BitReader::new(&bytes);
                for &(number, bits) in &fields {
                    prop_assert_eq!(reader.read(bits), Some(number & mask(bits)));
                    prop_assert_eq!(reader.read_sized(6), Some(number & mask(bits.min(63))));
                    prop_assert_eq!(reader.read_rice(bits % 16, 0xFFF), Some(number & 0xFFF));
                }
                prop_assert!(reader.bits_left() < 8);
            }
        }

        #[test]
        fn zigzag_keeps_every_number(number: i64) {
            prop_assert_eq!(unzigzag(zigzag(number)), number);
        }
    }
}
