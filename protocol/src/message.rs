//! What is said reliably, in order, on a session's control stream and on streams of assets.
//!
//! Each message is a frame ([`crate::frame`]) whose body is one rkyv archive (little-endian,
//! unaligned, 32-bit offsets). A changed body gets a new kind; kinds are never reused.
//! `docs/wire.md` holds the byte tables.

pub mod asset;
pub mod client;
pub mod common;
pub mod server;

use rkyv::api::high::{HighDeserializer, HighSerializer, HighValidator};
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor;
use rkyv::ser::allocator::ArenaHandle;
use rkyv::util::AlignedVec;
use rkyv::{Archive, Deserialize, Serialize};

use crate::frame::{self, BadFrame, Frame, REQUIRED};

pub use asset::{AssetReply, AssetRequest};
pub use client::ClientMessage;
pub use server::ServerMessage;

/// A body that can be framed: its kind and its layout.
pub trait Body: Archive + Sized {
    /// The frame's kind.
    const KIND: u16;
}

/// Bytes that are no message.
#[derive(Debug, thiserror::Error)]
pub enum BadMessage {
    /// The frame itself is broken.
    #[error(transparent)]
    Frame(#[from] BadFrame),
    /// The body is not laid out as its kind demands.
    #[error("message of kind {kind:#06x} has a malformed body of {length} bytes")]
    Malformed {
        /// The frame's kind.
        kind: u16,
        /// The body's length.
        length: usize,
    },
    /// A kind that must be understood, and is not.
    #[error("message of kind {kind:#06x} is required but unknown to this version")]
    UnknownRequired {
        /// The frame's kind.
        kind: u16,
    },
    /// A part is longer than the protocol allows.
    #[error("message of kind {kind:#06x}: {what} is too long")]
    TooLong {
        /// The frame's kind.
        kind: u16,
        /// The part.
        what: &'static str,
    },
}

/// Appends `body` to `out` as a frame.
///
/// # Panics
/// Never: the types of this module always serialize.
pub fn write<T>(body: &T, out: &mut Vec<u8>)
where
    T: Body + for<'a> Serialize<HighSerializer<AlignedVec, ArenaHandle<'a>, rancor::Error>>,
{
    let bytes = rkyv::to_bytes::<rancor::Error>(body).expect("messages always serialize");
    frame::write(T::KIND, &bytes, out);
}

/// Reads the body of `frame` after checking every byte of it.
///
/// # Errors
/// [`BadMessage::Malformed`]; the sender is at fault.
pub fn read<T>(frame: Frame<'_>) -> Result<T, BadMessage>
where
    T: Body,
    T::Archived: for<'a> CheckBytes<HighValidator<'a, rancor::Error>>
        + Deserialize<T, HighDeserializer<rancor::Error>>,
{
    rkyv::from_bytes::<T, rancor::Error>(frame.body)
        .map_err(|_| BadMessage::Malformed { kind: frame.kind, length: frame.body.len() })
}

/// Returns what an unknown kind means: skip it, unless it is required.
fn unknown(kind: u16) -> Result<(), BadMessage> {
    if kind & REQUIRED == 0 { Ok(()) } else { Err(BadMessage::UnknownRequired { kind }) }
}

/// Declares one direction's messages: an enum over its bodies, with reading and writing.
macro_rules! messages {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $kind:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, serde::Serialize)]
        #[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
        pub enum $name {
            $($(#[$variant_doc])* $variant($variant),)*
        }

        $(
            impl $crate::message::Body for $variant {
                const KIND: u16 = $kind;
            }

            impl From<$variant> for $name {
                fn from(body: $variant) -> Self {
                    Self::$variant(body)
                }
            }
        )*

        impl $name {
            /// Every kind of this direction with its name, in order.
            pub const KINDS: &[(u16, &str)] = &[$(($kind, stringify!($variant)),)*];

            /// Appends this message to `out` as a frame.
            pub fn write(&self, out: &mut Vec<u8>) {
                match self {
                    $(Self::$variant(body) => $crate::message::write(body, out),)*
                }
            }

            /// Reads the message in `frame`; nothing if its kind is unknown and may be skipped.
            ///
            /// # Errors
            /// [`BadMessage`](crate::message::BadMessage); the sender is at fault.
            pub fn read(
                frame: $crate::frame::Frame<'_>,
            ) -> Result<Option<Self>, $crate::message::BadMessage> {
                match frame.kind {
                    $($kind => {
                        let body: $variant = $crate::message::read(frame)?;
                        Ok(Some(Self::$variant(body)))
                    })*
                    kind => $crate::message::unknown(kind).map(|()| None),
                }
            }

            /// Returns this message's name and its frame's kind.
            #[must_use]
            pub const fn name(&self) -> (&'static str, u16) {
                match self {
                    $(Self::$variant(_) => (stringify!($variant), $kind),)*
                }
            }
        }
    };
}
pub(crate) use messages;

/// Declares bodies: plain public data with an rkyv layout, shown by tools through serde.
macro_rules! bodies {
    ($($(#[$doc:meta])* $keyword:ident $name:ident $body:tt)*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Debug, PartialEq, serde::Serialize)]
            #[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
            pub $keyword $name $body
        )*
    };
}
pub(crate) use bodies;
