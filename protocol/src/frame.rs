//! Frames: how reliable messages and stored records lie one behind another in a stream of bytes.
//!
//! | part | bytes | meaning |
//! |---|---|---|
//! | kind | 2 | little-endian; bit 15 set: a receiver that does not know the kind must refuse |
//! | length | 1-4 | of the body, LEB128: 7 bits a byte, low bits first, bit 7 set on all but the last |
//! | body | length | laid out as its kind says |
//!
//! Nothing here knows what the kinds mean.

/// The bit of a kind that forbids skipping it unread.
pub const REQUIRED: u16 = 0x8000;

/// Bytes of the longest header: kind and a length below 2^28.
const HEADER_BYTES_MAX: usize = 6;

/// A kind and its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What the body is.
    pub kind: u16,
    /// The body's bytes, not yet validated.
    pub body: &'a [u8],
}

/// Bytes that are no frame of at most the allowed size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadFrame {
    /// The body is longer than allowed here.
    #[error(
        "frame of kind {kind:#06x} says it is {length} bytes long, at most {length_max} allowed"
    )]
    TooLong {
        /// The frame's kind.
        kind: u16,
        /// What its header says.
        length: usize,
        /// What is allowed.
        length_max: usize,
    },
    /// The length's encoding does not end.
    #[error("frame of kind {kind:#06x} has a length of more than four bytes")]
    BadLength {
        /// The frame's kind.
        kind: u16,
    },
}

/// Appends a frame to `out`.
///
/// # Panics
/// If the body is 2^28 bytes or longer; every sender bounds its bodies far below.
pub fn write(kind: u16, body: &[u8], out: &mut Vec<u8>) {
    assert!(body.len() < 1 << 28, "senders bound their bodies");
    out.extend_from_slice(&kind.to_le_bytes());
    let mut length = body.len();
    while length >= 0x80 {
        out.push(low_byte(length) | 0x80);
        length >>= 7;
    }
    out.push(low_byte(length));
    out.extend_from_slice(body);
}

#[expect(clippy::cast_possible_truncation, reason = "the low seven bits are what is asked for")]
const fn low_byte(length: usize) -> u8 {
    (length & 0x7F) as u8
}

/// Splits the first frame off `bytes`; nothing while it is not complete.
///
/// Returns the frame and how many bytes it takes up.
///
/// # Errors
/// [`BadFrame`] if the sender breaks the format or `length_max`; the stream is then useless.
pub fn split(bytes: &[u8], length_max: usize) -> Result<Option<(Frame<'_>, usize)>, BadFrame> {
    let Some((&[low, high], rest)) = bytes.split_first_chunk() else { return Ok(None) };
    let kind = u16::from_le_bytes([low, high]);
    let mut length = 0_usize;
    for (index, &byte) in rest.iter().take(HEADER_BYTES_MAX - 2).enumerate() {
        length |= usize::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 != 0 {
            continue;
        }
        if length > length_max {
            return Err(BadFrame::TooLong { kind, length, length_max });
        }
        let start = 3 + index;
        let end = start + length;
        return Ok(bytes.get(start..end).map(|body| (Frame { kind, body }, end)));
    }
    if rest.len() >= HEADER_BYTES_MAX - 2 { Err(BadFrame::BadLength { kind }) } else { Ok(None) }
}

/// Collects bytes as they arrive and yields whole frames.
#[derive(Debug, Default)]
pub struct Assembler {
    bytes: Vec<u8>,
    read: usize,
}

impl Assembler {
    /// Takes in the next bytes of the stream.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.read);
        self.read = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// Returns the next whole frame, nothing until more bytes arrive.
    ///
    /// Holds at most one frame of `length_max` and what was last taken in.
    ///
    /// # Errors
    /// As [`split`].
    pub fn next(&mut self, length_max: usize) -> Result<Option<Frame<'_>>, BadFrame> {
        let unread = self.bytes.get(self.read..).unwrap_or_default();
        match split(unread, length_max)? {
            Some((frame, taken)) => {
                self.read += taken;
                Ok(Some(frame))
            }
            None => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_layout_is_as_the_table_says() {
        let mut out = Vec::new();
        write(0x8102, &[7; 200], &mut out);
        assert_eq!(out[..4], [0x02, 0x81, 0xC8, 0x01]);
        assert_eq!(out.len(), 204);
    }

    #[test]
    fn too_long_is_said_before_the_body_arrives() {
        let error = split(&[1, 0, 0xFF, 0xFF, 0x03], 1_000);
        assert_eq!(error, Err(BadFrame::TooLong { kind: 1, length: 65_535, length_max: 1_000 }));
        assert_eq!(split(&[1, 0, 0x80, 0x80, 0x80, 0x80], 9), Err(BadFrame::BadLength { kind: 1 }));
    }

    proptest! {
        #[test]
        fn frames_survive_any_cutting(
            bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..8),
            cut in 1_usize..50,
        ) {
            let mut stream = Vec::new();
            for (kind, body) in bodies.iter().enumerate() {
                write(kind as u16, body, &mut stream);
            }
            let (mut assembler, mut seen) = (Assembler::default(), Vec::new());
            for part in stream.chunks(cut) {
                assembler.extend(part);
                while let Some(frame) = assembler.next(300).expect("well formed") {
                    prop_assert_eq!(usize::from(frame.kind), seen.len());
                    seen.push(frame.body.to_vec());
                }
            }
            prop_assert_eq!(seen, bodies);
        }

        #[test]
        fn rubbish_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut assembler = Assembler::default();
            assembler.extend(&bytes);
            while let Ok(Some(_)) = assembler.next(40) {}
        }
    }
}
