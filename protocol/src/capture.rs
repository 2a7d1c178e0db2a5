//! Recorded sessions: how the bytes of one client lie in a file, to be explained later.
//!
//! Only layout is here; who records and what the bytes mean is decided elsewhere.
//! `docs/wire.md` has the table.

/// How a file begins.
pub const MAGIC: &[u8; 8] = b"ECWIRE1\n";

/// Bytes of one record: the largest asset.
pub const RECORD_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Bytes in front of a record's own.
pub const HEAD_BYTES: usize = 21;

/// The bit of the head that says that the client spoke.
const FROM_CLIENT: u8 = 0x80;

/// On which way bytes went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Channel {
    /// The control stream, cut anywhere.
    Control = 0,
    /// One datagram.
    Datagram = 1,
    /// A whole chunk's stream.
    Ground = 2,
    /// No bytes of the wire: words of whoever recorded, with which a connection ends.
    Note = 3,
}

impl Channel {
    /// Every channel by its number.
    pub const ALL: [Self; 4] = [Self::Control, Self::Datagram, Self::Ground, Self::Note];
}

/// Some bytes, where they went, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Whether the client sent them.
    pub from_client: bool,
    /// On which way.
    pub channel: Channel,
    /// Which chunk's stream, 0 for all else.
    pub stream: u64,
    /// Microseconds since the recording began.
    pub at_us: u64,
    /// The bytes.
    pub bytes: &'a [u8],
}

/// Bytes that are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadCapture {
    /// The file is something else.
    #[error("not a recorded session: it must begin with ECWIRE1")]
    Magic,
    /// A channel of a later version, or damage.
    #[error("record on channel {number}; this version knows 0 to 3")]
    Channel {
        /// Its number.
        number: u8,
    },
    /// A record is longer than any can be.
    #[error("record says it is {length} bytes long, at most {RECORD_BYTES_MAX}")]
    TooLong {
        /// What it says.
        length: u32,
    },
}

/// Appends a record to `out`; bytes beyond [`RECORD_BYTES_MAX`] are left out.
pub fn write(record: &Record<'_>, out: &mut Vec<u8>) {
    let bytes = record.bytes.get(..RECORD_BYTES_MAX).unwrap_or(record.bytes);
    let from = if record.from_client { FROM_CLIENT } else { 0 };
    out.push(record.channel as u8 | from);
    out.extend_from_slice(&record.stream.to_le_bytes());
    out.extend_from_slice(&record.at_us.to_le_bytes());
    out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(0).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// Splits the first record off `bytes`, which begin behind the magic; nothing while it is not
/// complete. Returns it and how many bytes it takes up.
///
/// # Errors
/// [`BadCapture`] if the file is damaged; what follows is useless then.
pub fn split(bytes: &[u8]) -> Result<Option<(Record<'_>, usize)>, BadCapture> {
    let Some((&[head], rest)) = bytes.split_first_chunk::<1>() else { return Ok(None) };
    let number = head & !FROM_CLIENT;
    let channel = Channel::ALL.get(usize::from(number)).copied();
    let channel = channel.ok_or(BadCapture::Channel { number })?;
    let Some((stream, rest)) = rest.split_first_chunk::<8>() else { return Ok(None) };
    let Some((at_us, rest)) = rest.split_first_chunk::<8>() else { return Ok(None) };
    let Some((length, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_le_bytes(*length);
    let size = usize::try_from(length).unwrap_or(usize::MAX);
    if RECORD_BYTES_MAX < size {
        return Err(BadCapture::TooLong { length });
    }
    let Some(bytes) = rest.get(..size) else { return Ok(None) };
    let record = Record {
        from_client: head & FROM_CLIENT != 0,
        channel,
        stream: u64::from_le_bytes(*stream),
        at_us: u64::from_le_bytes(*at_us),
        bytes,
    };
    Ok(Some((record, HEAD_BYTES + size)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_layout_is_as_the_table_says() {
        let mut out = Vec::new();
        let record = Record {
            from_client: true,
            channel: Channel::Datagram,
            stream: 2,
            at_us: 258,
            bytes: b"abc",
        };
        write(&record, &mut out);
        assert_eq!(out, b"\x81\x02\0\0\0\0\0\0\0\x02\x01\0\0\0\0\0\0\x03\0\0\0abc");
        assert_eq!(split(&out), Ok(Some((record, out.len()))));
        assert!((0..out.len()).all(|end| split(&out[..end]) == Ok(None)), "cut anywhere");
    }

    #[test]
    fn damage_is_named() {
        assert_eq!(split(&[4]), Err(BadCapture::Channel { number: 4 }));
        let mut long = vec![0; HEAD_BYTES];
        long[17..].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(split(&long), Err(BadCapture::TooLong { length: u32::MAX }));
    }

    proptest! {
        #[test]
        fn rubbish_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(Some((record, taken))) = split(&bytes) {
                prop_assert_eq!(record.bytes.len() + HEAD_BYTES, taken);
            }
        }
    }
}
