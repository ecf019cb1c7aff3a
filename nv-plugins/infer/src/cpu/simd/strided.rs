//! Vectors of elements that are not side by side, or of fewer than a vector has.
//!
//! Where the compiler knows the count, lanes don't go through memory.

use super::Simd;

/// The most lanes that there are.
pub(crate) const LANES: usize = 16;

/// The first `count` lanes, `step` apart; the others hold `fill`.
///
/// # Safety
/// So many elements can be read.
#[inline(always)]
pub(crate) unsafe fn gather<S: Simd>(s: S, from: *const f32, step: isize, count: usize, fill: f32) -> S::V {
    let mut lanes = [fill; LANES];
    for (lane, to) in lanes[..count].iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        *to = unsafe { *from.wrapping_offset(lane as isize * step) };
    }
    // SAFETY: no vector has more lanes.
    unsafe { s.load(lanes.as_ptr()) }
}

/// # Safety
/// So many elements can be written, `step` apart.
#[inline(always)]
pub(crate) unsafe fn scatter<S: Simd>(s: S, value: S::V, to: *mut f32, step: isize, count: usize) {
    let mut lanes = [0.0; LANES];
    // SAFETY: no vector has more lanes.
    unsafe { s.store(lanes.as_mut_ptr(), value) };
    for (lane, from) in lanes[..count].iter().enumerate() {
        // SAFETY: the caller's promise.
        unsafe { *to.wrapping_offset(lane as isize * step) = *from };
    }
}
