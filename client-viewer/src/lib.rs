//! The eye.
