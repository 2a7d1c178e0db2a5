//! Bounds of the rules, each with the reason for its size.

/// Characters written on a sign or pinned to a board: a short message of a telephone, twice.
pub const TEXT_CHARS_MAX: usize = 280;

/// Stacks somebody can hold: two rows of eight.
pub const HELD_STACKS_MAX: usize = 16;

/// The largest stack any kind may allow.
pub const STACK_MAX: u32 = 1_000;

/// Lots on one side of an exchange.
pub const OFFER_LOTS_MAX: usize = 8;

/// Offers one person may have open: more are spam.
pub const OFFERS_OPEN_MAX: usize = 4;

/// Offers one person may be asked to answer at once.
pub const OFFERS_ASKED_MAX: usize = 16;

/// How long an offer stands, in milliseconds: time to read and think it over.
pub const OFFER_MS: u32 = 60_000;

/// Loose things within [`CLUTTER_CM`] of a spot: a heap, not a landfill.
pub const CLUTTER_MAX: usize = 48;

/// Radius around a spot in which [`CLUTTER_MAX`] counts.
pub const CLUTTER_CM: u32 = 300;

/// Things one person may own in the ground: a small house with its fence.
pub const BUILT_MAX: usize = 200;

/// How far somebody who is busy may move, in cm: a fidget.
pub const FIDGET_CM: u32 = 100;

/// Kinds in one rule book: ids fit a byte pair, names fit a person's head.
pub const KINDS_MAX: usize = 4_096;

/// Recipes in one rule book.
pub const RECIPES_MAX: usize = 4_096;

/// Inputs of one recipe.
pub const INPUTS_MAX: usize = 8;

/// Bytes of a rule book's text: every kind and recipe at a hundred bytes.
pub const BOOK_BYTES_MAX: usize = 1024 * 1024;

/// Characters of the name of a kind or recipe.
pub const NAME_CHARS_MAX: usize = 32;

/// The longest any act takes, in milliseconds: ten minutes.
pub const ACT_MS_MAX: u32 = 600_000;

/// Notes on one board.
pub const NOTES_MAX: u8 = 12;

/// Cells looked at when asking what lies near a spot: 33 x 33 cells of 16 m, about 500 m.
pub const NEAR_CELLS_MAX: i32 = 33;
