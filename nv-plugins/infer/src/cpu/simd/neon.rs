//! NEON, which every 64-bit ARM has.

use std::arch::aarch64::*;

use super::{Kernel, Simd};

/// Made only in [`run`].
#[derive(Clone, Copy)]
pub(super) struct Neon(());

/// # Safety
/// What the kernel says.
#[inline(never)]
#[target_feature(enable = "neon")]
pub(super) unsafe fn run<K: Kernel>(kernel: K) {
    // SAFETY: the caller's promise.
    unsafe { kernel.run(Neon(())) }
}

/// Methods that are an expression of instructions each.
macro_rules! instructions {
    ($($name:ident($($arg:ident),*) -> $result:ty = $body:expr;)*) => {
        $(#[inline(always)]
        fn $name(self, $($arg: Self::V),*) -> $result {
            // SAFETY: `self` is made only where the machine has the instructions.
            unsafe { $body }
        })*
    };
}

impl Simd for Neon {
    type V = float32x4_t;
    type Picks = uint8x16_t;
    const LANES: usize = 4;
    const REGISTERS: usize = 28;

    #[inline(always)]
    fn splat(self, value: f32) -> float32x4_t {
        // SAFETY: `self` is made only where the machine has the instructions.
        unsafe { vdupq_n_f32(value) }
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> float32x4_t {
        // SAFETY: as above; the caller's promise.
        unsafe { vld1q_f32(from) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, value: float32x4_t) {
        // SAFETY: as above; the caller's promise.
        unsafe { vst1q_f32(to, value) }
    }

    #[inline(always)]
    unsafe fn load_picks(self, from: *const u32) -> uint8x16_t {
        // SAFETY: as above; the caller's promise.
        unsafe {
            // The four bytes of each lane.
            let first = vmulq_u32(vld1q_u32(from), vdupq_n_u32(0x0404_0404));
            vreinterpretq_u8_u32(vaddq_u32(first, vdupq_n_u32(0x0302_0100)))
        }
    }

    #[inline(always)]
    fn pick(self, a: float32x4_t, b: float32x4_t, picks: uint8x16_t) -> float32x4_t {
        // SAFETY: as above.
        unsafe {
            let both = uint8x16x2_t(vreinterpretq_u8_f32(a), vreinterpretq_u8_f32(b));
            vreinterpretq_f32_u8(vqtbl2q_u8(both, picks))
        }
    }

    instructions! {
        add(a, b) -> float32x4_t = vaddq_f32(a, b);
        sub(a, b) -> float32x4_t = vsubq_f32(a, b);
        mul(a, b) -> float32x4_t = vmulq_f32(a, b);
        div(a, b) -> float32x4_t = vdivq_f32(a, b);
        sqrt(a) -> float32x4_t = vsqrtq_f32(a);
        fma(a, b, c) -> float32x4_t = vfmaq_f32(c, a, b);
        fms(a, b, c) -> float32x4_t = vfmaq_f32(vnegq_f32(c), a, b);
        // Its own maximum and minimum of anything and NaN are NaN.
        max(a, b) -> float32x4_t = vbslq_f32(vcgtq_f32(a, b), a, b);
        min(a, b) -> float32x4_t = vbslq_f32(vcltq_f32(a, b), a, b);
        if_less(a, b, then, otherwise) -> float32x4_t = vbslq_f32(vcltq_f32(a, b), then, otherwise);
        if_nan(a, then, otherwise) -> float32x4_t = vbslq_f32(vceqq_f32(a, a), otherwise, then);
        round(a) -> float32x4_t = vrndnq_f32(a);
        floor(a) -> float32x4_t = vrndmq_f32(a);
        ceil(a) -> float32x4_t = vrndpq_f32(a);
        scale(a, n) -> float32x4_t = {
            // The exponent's bits of 2ⁿ.
            let exponent = vaddq_s32(vcvtnq_s32_f32(n), vdupq_n_s32(127));
            vmulq_f32(a, vreinterpretq_f32_s32(vshlq_n_s32::<23>(exponent)))
        };
    }
}
