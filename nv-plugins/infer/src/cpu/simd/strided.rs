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

/// As [`gather`], by one instruction where it can be.
///
/// # Safety
/// So many elements can be read, `step` apart.
#[inline(always)]
pub(crate) unsafe fn load<S: Simd>(s: S, from: *const f32, step: isize, count: usize, fill: f32) -> S::V {
    let whole = count == S::LANES;
    // SAFETY: the caller's promise.
    unsafe {
        match (step, whole) {
            (1, true) => s.load(from),
            (_, true) => gather(s, from, step, S::LANES, fill),
            _ => gather(s, from, step, count, fill),
        }
    }
}

/// As [`scatter`], by one instruction where it can be.
///
/// # Safety
/// So many elements can be written, `step` apart.
#[inline(always)]
pub(crate) unsafe fn store<S: Simd>(s: S, value: S::V, to: *mut f32, step: isize, count: usize) {
    let whole = count == S::LANES;
    // SAFETY: the caller's promise.
    unsafe {
        match (step, whole) {
            (1, true) => s.store(to, value),
            (_, true) => scatter(s, value, to, step, S::LANES),
            _ => scatter(s, value, to, step, count),
        }
    }
}
