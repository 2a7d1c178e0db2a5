//! A backup as one stream of bytes: sections of records, each with its checksum, then a manifest.
//!
//! `magic 8, sections, manifest, manifest length u64, BLAKE3 of the manifest 32, magic 8`. A
//! section is one zstd stream of items `key length u16, key, value length u32, value`; there is
//! one for each tree and one for large values (the key is the hash). The manifest is JSON, at the
//! end, because only then everything is counted. Which files this goes to is not known here.

use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};

use serde::{Deserialize, Serialize};

use crate::store::key::{KEY_BYTES_MAX, hex};
use crate::store::record::BODY_BYTES_MAX;

const MAGIC: &[u8; 8] = b"ECUMENE1";
const TRAILER_BYTES: usize = 8 + 32 + 8;
/// Longest manifest read: nine sections of 200 bytes, with room for a hundred times that.
const MANIFEST_BYTES_MAX: u64 = 256 << 10;
/// zstd level: 3 keeps up with a disk on one core.
const LEVEL: i32 = 3;
/// Name of the section of large values.
pub const BLOBS: &str = "blobs";

/// What a backup holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Schema of the records.
    pub schema: u16,
    /// The batch that the backup goes up to.
    pub number: u64,
    /// When it was made, in seconds since 1970.
    pub made_unix_s: u64,
    /// The sections, in their order.
    pub sections: Vec<Section>,
}

/// One section of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Section {
    /// A tree's name, or [`BLOBS`].
    pub name: String,
    /// Where it starts.
    pub offset: u64,
    /// How long it is.
    pub bytes: u64,
    /// How many items it holds.
    pub items: u64,
    /// BLAKE3 of its bytes, in hexadecimal digits.
    pub blake3: String,
}

/// Writes a backup, section by section.
#[derive(Debug)]
pub struct ArchiveWriter<W: Write> {
    out: Counted<W>,
    sections: Vec<Section>,
}

#[derive(Debug)]
struct Counted<T> {
    inner: T,
    hasher: blake3::Hasher,
    bytes: u64,
}

/// Takes the items of one section.
pub struct Items<'a, W: Write> {
    encoder: zstd::Encoder<'static, &'a mut Counted<W>>,
    items: u64,
}

impl<W: Write> ArchiveWriter<W> {
    /// Starts a backup.
    ///
    /// # Errors
    /// The writer's.
    pub fn new(out: W) -> io::Result<Self> {
        let mut out = Counted { inner: out, hasher: blake3::Hasher::new(), bytes: 0 };
        out.write_all(MAGIC)?;
        Ok(Self { out, sections: Vec::new() })
    }

    /// Writes one section, whose items `fill` gives.
    ///
    /// # Errors
    /// The writer's, or what `fill` says.
    pub fn section<E: From<io::Error>>(
        &mut self,
        name: &str,
        fill: impl FnOnce(&mut Items<'_, W>) -> Result<(), E>,
    ) -> Result<(), E> {
        let offset = self.out.bytes;
        self.out.hasher.reset();
        let mut items = Items { encoder: zstd::Encoder::new(&mut self.out, LEVEL)?, items: 0 };
        fill(&mut items)?;
        let count = items.items;
        items.encoder.finish()?;
        let blake3 = self.out.hasher.finalize().to_hex().to_string();
        let bytes = self.out.bytes - offset;
        self.sections.push(Section { name: name.into(), offset, bytes, items: count, blake3 });
        Ok(())
    }

    /// Writes the manifest and gives the writer back.
    ///
    /// # Errors
    /// The writer's.
    pub fn finish(
        mut self,
        schema: u16,
        number: u64,
        made_unix_s: u64,
    ) -> io::Result<(W, Manifest)> {
        let manifest = Manifest { schema, number, made_unix_s, sections: self.sections };
        let json = serde_json::to_vec_pretty(&manifest)?;
        self.out.write_all(&json)?;
        self.out.write_all(&(json.len() as u64).to_le_bytes())?;
        self.out.write_all(blake3::hash(&json).as_bytes())?;
        self.out.write_all(MAGIC)?;
        Ok((self.out.inner, manifest))
    }
}

impl<W: Write> Items<'_, W> {
    /// Adds an item.
    ///
    /// # Errors
    /// The writer's, or that the item is longer than can be read back.
    pub fn add(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        let (Ok(key_length), Ok(length)) = (u16::try_from(key.len()), u32::try_from(value.len()))
        else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        self.encoder.write_all(&key_length.to_le_bytes())?;
        self.encoder.write_all(key)?;
        self.encoder.write_all(&length.to_le_bytes())?;
        self.encoder.write_all(value)?;
        self.items += 1;
        Ok(())
    }
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(bytes.get(..written).unwrap_or_default());
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(bytes)?;
        self.hasher.update(bytes.get(..read).unwrap_or_default());
        self.bytes += read as u64;
        Ok(read)
    }
}

/// Why bytes are no backup.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// They cannot be read.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// They are not what was written.
    #[error("{0}")]
    Damaged(String),
}

fn damaged(why: impl Into<String>) -> ArchiveError {
    ArchiveError::Damaged(why.into())
}

/// Reads the manifest of a backup.
///
/// # Errors
/// When the bytes are no backup, or one that is cut off or damaged at its ends.
pub fn read_manifest<R: Read + Seek>(input: &mut R) -> Result<Manifest, ArchiveError> {
    let length = input.seek(SeekFrom::End(0))?;
    let end = length.checked_sub(TRAILER_BYTES as u64).filter(|&end| MAGIC.len() as u64 <= end);
    let end = end.ok_or_else(|| damaged("it is too short to be a backup"))?;
    input.rewind()?;
    let mut head = [0; 8];
    input.read_exact(&mut head)?;
    input.seek(SeekFrom::Start(end))?;
    let mut trailer = [0; TRAILER_BYTES];
    input.read_exact(&mut trailer)?;
    let (size, rest) = trailer.split_first_chunk::<8>().ok_or_else(|| damaged("no trailer"))?;
    let (hash, magic) = rest.split_first_chunk::<32>().ok_or_else(|| damaged("no trailer"))?;
    if head != *MAGIC || magic != MAGIC {
        return Err(damaged("it is no backup of this program, or its end is missing"));
    }
    let size = u64::from_le_bytes(*size);
    let start = end.checked_sub(size).filter(|_| size <= MANIFEST_BYTES_MAX);
    input.seek(SeekFrom::Start(start.ok_or_else(|| damaged("its manifest is too long"))?))?;
    let mut json = Vec::new();
    input.by_ref().take(size).read_to_end(&mut json)?;
    if blake3::hash(&json) != *hash {
        return Err(damaged("its manifest fails its checksum"));
    }
    serde_json::from_slice(&json).map_err(|e| damaged(format!("its manifest is unreadable: {e}")))
}

/// Reads one section to its end, giving each item to `each`.
///
/// # Errors
/// When bytes or count are not what the manifest says, or what `each` says.
pub fn read_section<R: Read + Seek, E: From<ArchiveError>>(
    input: &mut R,
    section: &Section,
    mut each: impl FnMut(&[u8], Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    input.seek(SeekFrom::Start(section.offset)).map_err(ArchiveError::Io)?;
    let limited = input.take(section.bytes);
    let mut counted = Counted { inner: limited, hasher: blake3::Hasher::new(), bytes: 0 };
    let mut items = 0;
    let outcome = decode(&mut counted, |key, value| {
        items += 1;
        each(key, value)
    });
    // A wrong checksum explains every other complaint.
    io::copy(&mut counted, &mut io::sink()).map_err(ArchiveError::Io)?;
    if counted.bytes != section.bytes
        || counted.hasher.finalize().to_hex().as_str() != section.blake3
    {
        return Err(damaged(format!("section `{}` fails its checksum", section.name)).into());
    }
    outcome?;
    if items != section.items {
        return Err(damaged(format!("section `{}` has {items} items", section.name)).into());
    }
    Ok(())
}

fn decode<R: Read, E: From<ArchiveError>>(
    input: &mut R,
    mut each: impl FnMut(&[u8], Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    let mut input = BufReader::new(zstd::Decoder::new(input).map_err(ArchiveError::Io)?);
    while let Some((key, value)) = item(&mut input)? {
        each(&key, value)?;
    }
    Ok(())
}

fn item(input: &mut impl Read) -> Result<Option<(Vec<u8>, Vec<u8>)>, ArchiveError> {
    let mut first = [0; 1];
    if input.read(&mut first)? == 0 {
        return Ok(None);
    }
    let mut second = [0; 1];
    input.read_exact(&mut second)?;
    let key = bytes(input, usize::from(u16::from_le_bytes([first[0], second[0]])), KEY_BYTES_MAX)?;
    let mut length = [0; 4];
    input.read_exact(&mut length)?;
    let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
    let value = bytes(input, length, BODY_BYTES_MAX)?;
    Ok(Some((key, value)))
}

fn bytes(input: &mut impl Read, length: usize, most: usize) -> Result<Vec<u8>, ArchiveError> {
    if most < length {
        return Err(damaged(format!("an item of {length} bytes, at most {most}")));
    }
    let mut bytes = Vec::new();
    input.by_ref().take(length as u64).read_to_end(&mut bytes)?;
    if bytes.len() != length {
        return Err(damaged(format!("item {} ends early", hex(&bytes[..bytes.len().min(16)]))));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    type Item = (Vec<u8>, Vec<u8>);

    fn archive() -> Vec<u8> {
        let mut writer = ArchiveWriter::new(Vec::new()).expect("memory");
        for name in ["world", BLOBS] {
            let filled: io::Result<()> = writer
                .section(name, |items| (0..50_u8).try_for_each(|i| items.add(&[i], &[i; 99])));
            filled.expect("memory");
        }
        writer.finish(1, 42, 7).expect("memory").0
    }

    fn read(bytes: &[u8]) -> Result<(Manifest, Vec<Item>), ArchiveError> {
        let mut input = Cursor::new(bytes);
        let manifest = read_manifest(&mut input)?;
        let mut items = Vec::new();
        for section in &manifest.sections {
            read_section(&mut input, section, |key, value| {
                items.push((key.to_vec(), value));
                Ok::<(), ArchiveError>(())
            })?;
        }
        Ok((manifest, items))
    }

    #[test]
    fn an_archive_reads_back() {
        let (manifest, items) = read(&archive()).expect("sound");
        assert_eq!((manifest.number, manifest.sections.len(), items.len()), (42, 2, 100));
        assert_eq!(items[57], (vec![7], vec![7; 99]));
    }

    #[test]
    fn any_flipped_or_missing_byte_is_found() {
        let sound = archive();
        for at in 0..sound.len() {
            let mut bytes = sound.clone();
            bytes[at] ^= 0x10;
            assert!(read(&bytes).is_err(), "flip at {at}");
            assert!(read(&sound[..at]).is_err(), "cut at {at}");
        }
    }
}
