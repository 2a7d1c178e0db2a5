//! Every bound of the protocol, each with the sum that justifies it.
//!
//! Both ends enforce them: a sender never exceeds one, a receiver refuses what does.

/// Bytes of one datagram: fits the 1,200 byte packets every QUIC path carries, less header and tag.
pub const DATAGRAM_BYTES_MAX: usize = 1_150;

/// Bytes of one reliable message body: 64 offers of 1 KB, or a long utterance, with room to spare.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// Bytes of a message before its sender is known: a greeting's answer with a token of 4 KB.
pub const HELLO_BYTES_MAX: usize = 8 * 1024;

/// Entities one client is shown at once: what a crowd of 50 m needs, and 64 bits of bookkeeping.
pub const TRACKED_MAX: usize = 64;

/// Characters of a display name.
pub const NAME_CHARS_MAX: usize = 32;

/// Bytes of an operator's token (Biscuit): a handful of blocks.
pub const TOKEN_BYTES_MAX: usize = 4 * 1024;

/// Bytes of a resume ticket.
pub const TICKET_BYTES_MAX: usize = 256;

/// Bytes of an appearance recipe: 64 parameters of 4 bytes.
pub const RECIPE_BYTES_MAX: usize = 256;

/// Capabilities one side names while a session is set up.
pub const CAPABILITIES_MAX: usize = 32;

/// Bytes of one capability's name or value.
pub const CAPABILITY_BYTES_MAX: usize = 128;

/// Characters of a channel's name.
pub const CHANNEL_CHARS_MAX: usize = 32;

/// Chunks one client may ask for at once: a view of 500 m at falling detail is about 130.
pub const CHUNKS_WANTED_MAX: usize = 256;

/// Bytes of an encoded chunk: 65 x 65 samples of noise, which no generator makes, need 13 KB.
pub const CHUNK_BYTES_MAX: usize = 32 * 1024;

/// Bytes of one asset: a rigged avatar with textures.
pub const ASSET_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Bytes of the frames on an asset's stream: the longest audience with name and type is 1 KB.
pub const ASSET_FRAME_BYTES_MAX: usize = 4 * 1024;

/// Persons one asset may be meant for: a party; more are everyone.
pub const ASSET_PERSONS_MAX: usize = 64;

/// Bytes of an asset's media type.
pub const ASSET_MEDIA_BYTES_MAX: usize = 64;

/// Characters of an asset's name.
pub const ASSET_NAME_CHARS_MAX: usize = 64;

/// Entries of one announcement: everything a newcomer sees, twice over.
pub const ANNOUNCED_MAX: usize = 2 * TRACKED_MAX;
