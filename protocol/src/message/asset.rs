//! What is said about assets, each on a stream of its own that the client opens.
//!
//! A stream carries one request and what comes of it, in frames, and the asset's bytes as they
//! are. None of these messages has a place on the control stream. `docs/wire.md` has the order.

#![expect(missing_docs, reason = "rkyv writes none for what resolves variants with fields")]
#![expect(clippy::enum_variant_names, reason = "a message is called the same everywhere")]

use super::{bodies, messages};
use crate::asset::BadAsset;
use crate::ids::{ContentHash, PersonId};
use crate::limits::{ASSET_MEDIA_BYTES_MAX, ASSET_NAME_CHARS_MAX, ASSET_PERSONS_MAX};

messages! {
    /// What a client asks at the head of an asset's stream.
    #[expect(clippy::enum_variant_names, reason = "each variant is called as its body is")]
    AssetRequest {
        /// Offers content to the server.
        OfferAsset = 0x8020,
        /// Asks for content.
        FetchAsset = 0x8021,
        /// Takes back what one offered.
        WithdrawAsset = 0x8022,
    }
}

messages! {
    /// What a server answers on an asset's stream.
    #[expect(clippy::enum_variant_names, reason = "each variant is called as its body is")]
    AssetReply {
        /// The offer is taken up; the bytes may come.
        AssetWanted = 0x8120,
        /// The content is kept, or no longer kept, and that is on disk.
        AssetKept = 0x8121,
        /// The request is not carried out.
        AssetRefused = 0x8122,
        /// The content is there for whoever asked; its bytes follow on the same stream.
        AssetFound = 0x8123,
        /// There is no such content for whoever asked.
        AssetWithheld = 0x8124,
    }
}

bodies! {
    /// Offers content to the server.
    #[derive(Eq)]
    struct OfferAsset {
        /// The BLAKE3 hash of all its bytes.
        pub hash: ContentHash,
        /// How many bytes it has.
        pub length: u64,
        /// What it is, as a media type such as `model/gltf-binary`.
        pub media: String,
        /// What to call it, a file name without folders.
        pub name: String,
        /// Who may fetch it.
        pub audience: AssetAudience,
        /// For how many seconds it is to be kept, 0: as long as the server keeps any; it may be less.
        pub keep_s: u32,
    }

    /// Who may fetch an asset, besides its owner: whoever offered it.
    #[derive(Eq, serde::Deserialize)]
    enum AssetAudience {
        /// Nobody else.
        Owner,
        /// These persons.
        Persons(Vec<PersonId>),
        /// Everyone in the world.
        Everyone,
    }

    /// Asks for content, from a byte on.
    #[derive(Eq)]
    struct FetchAsset {
        /// The hash of all its bytes.
        pub hash: ContentHash,
        /// The first byte wanted: what one has already of it is not sent again.
        pub offset: u64,
    }

    /// Takes back what one offered: nobody is given it any more on one's behalf.
    #[derive(Eq)]
    struct WithdrawAsset {
        /// The hash of all its bytes.
        pub hash: ContentHash,
    }

    /// The offer is taken up: send the bytes from this one on, to the end, then end the stream.
    #[derive(Eq)]
    struct AssetWanted {
        /// The first byte wanted: the server has those before it from an earlier stream.
        pub from: u64,
    }

    /// The content is kept until a moment, and that is on disk. After a withdrawal: it is not.
    #[derive(Eq)]
    struct AssetKept {
        /// Unix time in seconds at which it goes; 0 after a withdrawal.
        pub until: u64,
    }

    /// The request is not carried out.
    #[derive(Eq)]
    struct AssetRefused {
        /// Why.
        pub why: AssetWhy,
    }

    /// Why a request about an asset is not carried out.
    #[derive(Copy, Eq)]
    enum AssetWhy {
        /// One's role does not allow it.
        Forbidden,
        /// One is muted.
        Muted,
        /// It has no byte, or more bytes than are taken.
        Length {
            /// How many bytes are taken of one asset.
            max: u64,
        },
        /// Its media type is none, or none that is taken here.
        Media,
        /// Its name cannot be used.
        Name,
        /// Its audience is longer than allowed, or empty.
        Audience,
        /// It would be more than one may keep here.
        Quota {
            /// How many more bytes one may keep.
            bytes_left: u64,
            /// How many more assets one may keep.
            assets_left: u32,
        },
        /// The server keeps no more of anybody at the moment.
        Full,
        /// Too many such requests, or too many at once.
        TooMany {
            /// Milliseconds to wait before trying again.
            retry_ms: u32,
        },
        /// The bytes are not those of the hash; nothing was kept.
        Corrupt,
        /// Fewer bytes came than were offered; those that came are remembered for a while.
        Short {
            /// How many of them there are.
            got: u64,
        },
        /// The first byte wanted lies behind the last.
        Offset {
            /// How many bytes there are.
            length: u64,
        },
        /// The server cannot read or write its store just now.
        Store,
    }

    /// The content is there for whoever asked; its bytes from the wanted one on follow.
    #[derive(Eq)]
    struct AssetFound {
        /// How many bytes it has, those before the wanted one included.
        pub length: u64,
        /// What it is, as a media type.
        pub media: String,
        /// What to call it.
        pub name: String,
        /// Unix time in seconds at which it goes; nothing: it belongs to the world.
        pub until: Option<u64>,
    }

    /// There is no such content for whoever asked: none at all, or none that is meant for them.
    #[derive(Eq)]
    struct AssetWithheld {
        /// The hash that was asked for.
        pub hash: ContentHash,
    }
}

impl OfferAsset {
    /// Checks what no server takes.
    ///
    /// # Errors
    /// [`BadAsset`]; whoever offers is at fault.
    pub fn check(&self) -> Result<(), BadAsset> {
        crate::asset::check_length(self.length)?;
        if !crate::asset::is_media(&self.media) {
            return Err(BadAsset::Media);
        }
        if !crate::asset::is_name(&self.name) {
            return Err(BadAsset::Name);
        }
        match &self.audience {
            AssetAudience::Owner | AssetAudience::Everyone => Ok(()),
            AssetAudience::Persons(persons) => {
                let has_room = (1..=ASSET_PERSONS_MAX).contains(&persons.len());
                if has_room { Ok(()) } else { Err(BadAsset::Audience { got: persons.len() }) }
            }
        }
    }
}

impl std::fmt::Display for AssetWhy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Forbidden => f.write_str("your role does not allow it"),
            Self::Muted => f.write_str("you are muted"),
            Self::Length { max } => write!(f, "an asset has 1 to {max} bytes here"),
            Self::Media => {
                write!(
                    f,
                    "this media type is not taken here, or is longer than {ASSET_MEDIA_BYTES_MAX} bytes"
                )
            }
            Self::Name => {
                write!(
                    f,
                    "a name has 1 to {ASSET_NAME_CHARS_MAX} printable characters, no / and no \\"
                )
            }
            Self::Audience => write!(f, "an audience names 1 to {ASSET_PERSONS_MAX} persons"),
            Self::Quota { bytes_left, assets_left } => write!(
                f,
                "you may keep {bytes_left} more bytes in {assets_left} more assets here; withdraw \
                 some, or wait until they end"
            ),
            Self::Full => f.write_str("the server keeps no more assets at the moment"),
            Self::TooMany { retry_ms } => write!(f, "too many at once; try again in {retry_ms} ms"),
            Self::Corrupt => f.write_str("the bytes are not those of the hash; nothing was kept"),
            Self::Short { got } => {
                write!(f, "only {got} bytes came; offer it again to send the others")
            }
            Self::Offset { length } => write!(f, "it has {length} bytes only"),
            Self::Store => f.write_str("the server cannot use its store just now"),
        }
    }
}
