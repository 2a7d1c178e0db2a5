//! Asking the processor for memory before it is read.
//!
//! Thousands of connections and viewers take turns, each with kilobytes of its own that no cache
//! holds for all of them. Whoever knows who is next asks for that memory while it works on another.

/// Bytes that the processor fetches at a time.
const LINE_BYTES: usize = 64;

/// Asks for all of `value` itself, nothing that it points to. Changes nothing but how long it takes
/// to read it soon.
#[inline]
pub fn prefetch<T: ?Sized>(value: &T) {
    let start: *const T = value;
    let start = start.cast::<i8>();
    for offset in (0..size_of_val(value)).step_by(LINE_BYTES) {
        prefetch_line(start.wrapping_add(offset));
    }
}

#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "the standard library names this instruction by processor only")]
#[inline]
fn prefetch_line(at: *const i8) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: the instruction reads nothing, whatever it is given, and cannot fail.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(at) };
}

#[cfg(not(target_arch = "x86_64"))]
#[inline]
fn prefetch_line(_at: *const i8) {}
