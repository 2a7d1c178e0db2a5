//! Assets: what content can be shared, and how a copy of it grows until it is believed.
//!
//! Content is named by its hash. [`Partial`] collects bytes, over several connections if need be,
//! and gives them out only when they are all there and are what the name says. Who may have what
//! is a server's to decide.

use crate::ids::ContentHash;
use crate::limits::{
    ASSET_BYTES_MAX, ASSET_MEDIA_BYTES_MAX, ASSET_NAME_CHARS_MAX, ASSET_PERSONS_MAX,
};
use crate::text::is_hidden;

/// The media type of a world's rules: the archive that [`RuleBook::archive`] gives.
///
/// [`RuleBook::archive`]: crate::rules::RuleBook::archive
pub const RULES_MEDIA: &str = "application/x-ecumene-rules";

/// Content that no server takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadAsset {
    /// It is empty or too long.
    #[error("an asset has 1 to {ASSET_BYTES_MAX} bytes, not {got}")]
    Length {
        /// Its length.
        got: u64,
    },
    /// Its media type is none.
    #[error("a media type is two words with a / between, such as image/png")]
    Media,
    /// Its name cannot be that of a file.
    #[error(
        "a name has 1 to {ASSET_NAME_CHARS_MAX} printable characters, no / and no \\, and does \
         not begin with a dot"
    )]
    Name,
    /// Nobody, or too many, are to have it.
    #[error("an audience names 1 to {ASSET_PERSONS_MAX} persons, not {got}")]
    Audience {
        /// How many were named.
        got: usize,
    },
}

/// Checks the length of an asset.
///
/// # Errors
/// [`BadAsset::Length`].
pub const fn check_length(length: u64) -> Result<(), BadAsset> {
    if length == 0 || ASSET_BYTES_MAX < length {
        return Err(BadAsset::Length { got: length });
    }
    Ok(())
}

/// Returns whether `text` has the form of a media type: two words of few signs, and a `/`.
#[must_use]
pub fn is_media(text: &str) -> bool {
    let is_word = |word: &str| {
        !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"-+._".contains(&b))
    };
    let parts = text.split_once('/');
    text.len() <= ASSET_MEDIA_BYTES_MAX
        && parts.is_some_and(|(left, right)| is_word(left) && is_word(right))
}

/// Returns whether `text` can be the name of an asset: a receiver may call a file so.
#[must_use]
pub fn is_name(text: &str) -> bool {
    let length = text.chars().count();
    (1..=ASSET_NAME_CHARS_MAX).contains(&length)
        && !text.starts_with('.')
        && !text.chars().any(|c| is_hidden(c) || matches!(c, '/' | '\\'))
        && text.trim() == text
}

/// Returns the media type of files that end with `extension`, as far as it is known.
#[must_use]
pub fn media_of(extension: &str) -> &'static str {
    /// Endings of what worlds are made of.
    const KNOWN: &[(&str, &str)] = &[
        ("csv", "text/csv"),
        ("glb", "model/gltf-binary"),
        ("gltf", "model/gltf+json"),
        ("html", "text/html"),
        ("jpeg", "image/jpeg"),
        ("jpg", "image/jpeg"),
        ("json", "application/json"),
        ("md", "text/markdown"),
        ("ogg", "audio/ogg"),
        ("pdf", "application/pdf"),
        ("png", "image/png"),
        ("toml", "application/toml"),
        ("txt", "text/plain"),
        ("vrm", "model/gltf-binary"),
        ("wav", "audio/wav"),
        ("webp", "image/webp"),
    ];
    let known = KNOWN.iter().find(|(ending, _)| extension.eq_ignore_ascii_case(ending));
    known.map_or("application/octet-stream", |&(_, media)| media)
}

/// Bytes that do not belong to the content they were sent as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadBytes {
    /// More came than there are.
    #[error("more than {length} bytes came")]
    TooMany {
        /// How many there are.
        length: u64,
    },
    /// They are all there and are something else.
    #[error("the bytes are not those of the hash")]
    Corrupt,
}

/// Content on its way: what has come of it so far, from its first byte on without a gap.
#[derive(Clone, Debug)]
pub struct Partial {
    hash: ContentHash,
    length: u64,
    bytes: Vec<u8>,
}

impl Partial {
    /// Returns content of which nothing has come. Room is taken as bytes come, not as promised.
    ///
    /// # Errors
    /// [`BadAsset::Length`].
    pub const fn new(hash: ContentHash, length: u64) -> Result<Self, BadAsset> {
        match check_length(length) {
            Ok(()) => Ok(Self { hash, length, bytes: Vec::new() }),
            Err(bad) => Err(bad),
        }
    }

    /// Returns the name of the content.
    #[must_use]
    pub const fn hash(&self) -> ContentHash {
        self.hash
    }

    /// Returns how many bytes the content has.
    #[must_use]
    pub const fn length(&self) -> u64 {
        self.length
    }

    /// Returns how many bytes have come: the place of the next one.
    #[must_use]
    pub const fn got(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Returns whether every byte has come.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.got() == self.length
    }

    /// Takes in the next bytes.
    ///
    /// # Errors
    /// [`BadBytes::TooMany`]; the sender is at fault, and nothing is taken in.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), BadBytes> {
        if self.length < self.got() + bytes.len() as u64 {
            return Err(BadBytes::TooMany { length: self.length });
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// Returns the content, now that it is whole; nothing while it is not.
    ///
    /// # Errors
    /// [`BadBytes::Corrupt`] if it is not what its name says.
    pub fn finish(self) -> Result<Option<Vec<u8>>, BadBytes> {
        if !self.is_whole() {
            return Ok(None);
        }
        if ContentHash::of(&self.bytes) != self.hash {
            return Err(BadBytes::Corrupt);
        }
        Ok(Some(self.bytes))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_and_types_are_held_to_their_form() {
        let long = "x".repeat(ASSET_NAME_CHARS_MAX + 1);
        for (name, is_good) in [
            ("hat.glb", true),
            ("my hat.glb", true),
            ("白.png", true),
            ("", false),
            (".bashrc", false),
            ("..", false),
            ("a/b", false),
            ("a\\b", false),
            ("a\nb", false),
            ("gpj\u{202E}exe.png", false),
            ("a\u{200B}b", false),
            (" a", false),
            (&*long, false),
        ] {
            assert_eq!(is_name(name), is_good, "{name:?}");
        }
        for (media, is_good) in [
            ("image/png", true),
            ("application/x-ecumene-rules", true),
            ("model/gltf+json", true),
            ("image", false),
            ("/png", false),
            ("image/", false),
            ("image/png; q=1", false),
            ("a/b/c", false),
        ] {
            assert_eq!(is_media(media), is_good, "{media:?}");
        }
        assert!(is_media(RULES_MEDIA));
        assert_eq!(media_of("GLB"), "model/gltf-binary");
        assert!(is_media(media_of("xyz")));
    }

    #[test]
    fn only_whole_and_true_content_is_given_out() {
        let hash = ContentHash::of(b"ground");
        let mut partial = Partial::new(hash, 6).expect("a length");
        partial.push(b"gro").expect("room");
        assert_eq!((partial.got(), partial.is_whole()), (3, false));
        assert_eq!(partial.clone().finish(), Ok(None));
        assert_eq!(partial.push(b"undd"), Err(BadBytes::TooMany { length: 6 }));
        partial.push(b"und").expect("room");
        assert_eq!(partial.finish(), Ok(Some(b"ground".to_vec())));
        let mut other = Partial::new(hash, 6).expect("a length");
        other.push(b"Ground").expect("room");
        assert_eq!(other.finish(), Err(BadBytes::Corrupt));
        assert!(Partial::new(hash, 0).is_err());
        assert!(Partial::new(hash, ASSET_BYTES_MAX + 1).is_err());
    }

    proptest! {
        #[test]
        fn content_survives_any_cutting(
            content in prop::collection::vec(any::<u8>(), 1..500),
            cut in 1_usize..60,
        ) {
            let hash = ContentHash::of(&content);
            let mut partial = Partial::new(hash, content.len() as u64).expect("a length");
            for part in content.chunks(cut) {
                partial.push(part).expect("room");
            }
            prop_assert_eq!(partial.finish(), Ok(Some(content)));
        }

        #[test]
        fn no_name_or_type_causes_a_panic(text in ".{0,80}") {
            if is_name(&text) {
                prop_assert!(!text.contains('/'));
            }
            if is_media(&text) {
                prop_assert!(text.is_ascii());
            }
        }
    }
}
