//! Text that people read: what must not be in it, wherever it comes from.

/// Returns whether a character lets a text look like another or like nothing: control characters,
/// blanks without width, direction marks, tags, fillers and private signs.
#[must_use]
pub fn is_hidden(c: char) -> bool {
    let is_format = matches!(c,
        '\u{00AD}' | '\u{034F}' | '\u{061C}' | '\u{115F}' | '\u{1160}' | '\u{17B4}' | '\u{17B5}'
        | '\u{180B}'..='\u{180F}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}'
        | '\u{2060}'..='\u{206F}' | '\u{3164}' | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}'
        | '\u{FFA0}' | '\u{FFF0}'..='\u{FFFB}' | '\u{1BCA0}'..='\u{1BCA3}'
        | '\u{1D173}'..='\u{1D17A}' | '\u{E0000}'..='\u{E0FFF}' | '\u{F0000}'..='\u{10FFFF}'
        | '\u{E000}'..='\u{F8FF}');
    c.is_control() || is_format
}
