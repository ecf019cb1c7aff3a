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

instructions! {
    Neon: 4 lanes of float32x4_t, uint8x16_t, 28 registers;
    splat(value) = vdupq_n_f32(value);
    load(from) = vld1q_f32(from);
    store(to, value) = vst1q_f32(to, value);
    add(a, b) = vaddq_f32(a, b);
    sub(a, b) = vsubq_f32(a, b);
    mul(a, b) = vmulq_f32(a, b);
    div(a, b) = vdivq_f32(a, b);
    sqrt(a) = vsqrtq_f32(a);
    fma(a, b, c) = vfmaq_f32(c, a, b);
    fms(a, b, c) = vfmaq_f32(vnegq_f32(c), a, b);
    // Its own maximum and minimum of anything and NaN are NaN.
    max(a, b) = vbslq_f32(vcgtq_f32(a, b), a, b);
    min(a, b) = vbslq_f32(vcltq_f32(a, b), a, b);
    if_less(a, b, then, otherwise) = vbslq_f32(vcltq_f32(a, b), then, otherwise);
    if_nan(a, then, otherwise) = vbslq_f32(vceqq_f32(a, a), otherwise, then);
    if_equal(a, b, then, otherwise) = vbslq_f32(vceqq_f32(a, b), then, otherwise);
    round(a) = vrndnq_f32(a);
    floor(a) = vrndmq_f32(a);
    ceil(a) = vrndpq_f32(a);
    scale(a, n) = {
        // The exponent's bits of 2ⁿ.
        let exponent = vaddq_s32(vcvtnq_s32_f32(n), vdupq_n_s32(127));
        vmulq_f32(a, vreinterpretq_f32_s32(vshlq_n_s32::<23>(exponent)))
    };
    if_some(a, then, otherwise) = {
        let a = vreinterpretq_s32_f32(a);
        vbslq_f32(vtstq_s32(a, a), then, otherwise)
    };
    if_less_ints(a, b, then, otherwise) =
        vbslq_f32(vcltq_s32(vreinterpretq_s32_f32(a), vreinterpretq_s32_f32(b)), then, otherwise);
    xor(a, b) = vreinterpretq_f32_s32(veorq_s32(vreinterpretq_s32_f32(a), vreinterpretq_s32_f32(b)));
    ints_to_floats(a) = vcvtq_f32_s32(vreinterpretq_s32_f32(a));
    floats_to_ints(a) = vreinterpretq_f32_s32(vcvtq_s32_f32(a));
    pick(a, b, picks) = {
        let both = uint8x16x2_t(vreinterpretq_u8_f32(a), vreinterpretq_u8_f32(b));
        vreinterpretq_f32_u8(vqtbl2q_u8(both, picks))
    };
    load_picks(from) = {
        // The four bytes of each lane.
        let first = vmulq_u32(vld1q_u32(from), vdupq_n_u32(0x0404_0404));
        vreinterpretq_u8_u32(vaddq_u32(first, vdupq_n_u32(0x0302_0100)))
    };
}
