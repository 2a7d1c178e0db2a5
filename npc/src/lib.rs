//! Who lives there.
