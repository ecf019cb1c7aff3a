//! AVX-512, and AVX2 with FMA.

use std::arch::x86_64::*;

use super::{Kernel, Simd};

/// Made only in [`run_avx512`].
#[derive(Clone, Copy)]
pub(super) struct Avx512(());

/// Made only in [`run_avx2`].
#[derive(Clone, Copy)]
pub(super) struct Avx2(());

/// # Safety
/// The machine has AVX-512F; and what the kernel says.
#[inline(never)]
#[target_feature(enable = "avx512f,avx2,fma")]
pub(super) unsafe fn run_avx512<K: Kernel>(kernel: K) {
    // SAFETY: the caller's promise.
    unsafe { kernel.run(Avx512(())) }
}

/// # Safety
/// The machine has AVX2 and FMA; and what the kernel says.
#[inline(never)]
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn run_avx2<K: Kernel>(kernel: K) {
    // SAFETY: the caller's promise.
    unsafe { kernel.run(Avx2(())) }
}

/// From here on a float is no `i32`: the least of those that are too great.
const TOO_GREAT: f32 = 2_147_483_648.0;

instructions! {
    Avx512: 16 lanes of __m512, __m512i, 28 registers;
    splat(value) = _mm512_set1_ps(value);
    load(from) = _mm512_loadu_ps(from);
    store(to, value) = _mm512_storeu_ps(to, value);
    add(a, b) = _mm512_add_ps(a, b);
    sub(a, b) = _mm512_sub_ps(a, b);
    mul(a, b) = _mm512_mul_ps(a, b);
    div(a, b) = _mm512_div_ps(a, b);
    sqrt(a) = _mm512_sqrt_ps(a);
    fma(a, b, c) = _mm512_fmadd_ps(a, b, c);
    fms(a, b, c) = _mm512_fmsub_ps(a, b, c);
    max(a, b) = _mm512_max_ps(a, b);
    min(a, b) = _mm512_min_ps(a, b);
    if_less(a, b, then, otherwise) = _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b), otherwise, then);
    if_nan(a, then, otherwise) = _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_UNORD_Q>(a, a), otherwise, then);
    if_equal(a, b, then, otherwise) = _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_EQ_OQ>(a, b), otherwise, then);
    round(a) = _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a);
    floor(a) = _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC }>(a);
    ceil(a) = _mm512_roundscale_ps::<{ _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC }>(a);
    scale(a, n) = _mm512_scalef_ps(a, n);
    if_some(a, then, otherwise) = {
        let a = _mm512_castps_si512(a);
        _mm512_mask_blend_ps(_mm512_test_epi32_mask(a, a), otherwise, then)
    };
    if_less_ints(a, b, then, otherwise) = {
        let less = _mm512_cmplt_epi32_mask(_mm512_castps_si512(a), _mm512_castps_si512(b));
        _mm512_mask_blend_ps(less, otherwise, then)
    };
    xor(a, b) = _mm512_castsi512_ps(_mm512_xor_si512(_mm512_castps_si512(a), _mm512_castps_si512(b)));
    ints_to_floats(a) = _mm512_cvtepi32_ps(_mm512_castps_si512(a));
    floats_to_ints(a) = {
        // What is too small is cut to the least by itself.
        let cut = _mm512_maskz_cvttps_epi32(_mm512_cmp_ps_mask::<_CMP_ORD_Q>(a, a), a);
        let great = _mm512_cmp_ps_mask::<_CMP_GE_OQ>(a, _mm512_set1_ps(TOO_GREAT));
        _mm512_castsi512_ps(_mm512_mask_blend_epi32(great, cut, _mm512_set1_epi32(i32::MAX)))
    };
    pick(a, b, picks) = _mm512_permutex2var_ps(a, picks, b);
    load_picks(from) = _mm512_loadu_si512(from.cast());
}

instructions! {
    Avx2: 8 lanes of __m256, __m256i, 12 registers;
    splat(value) = _mm256_set1_ps(value);
    load(from) = _mm256_loadu_ps(from);
    store(to, value) = _mm256_storeu_ps(to, value);
    add(a, b) = _mm256_add_ps(a, b);
    sub(a, b) = _mm256_sub_ps(a, b);
    mul(a, b) = _mm256_mul_ps(a, b);
    div(a, b) = _mm256_div_ps(a, b);
    sqrt(a) = _mm256_sqrt_ps(a);
    fma(a, b, c) = _mm256_fmadd_ps(a, b, c);
    fms(a, b, c) = _mm256_fmsub_ps(a, b, c);
    max(a, b) = _mm256_max_ps(a, b);
    min(a, b) = _mm256_min_ps(a, b);
    if_less(a, b, then, otherwise) = _mm256_blendv_ps(otherwise, then, _mm256_cmp_ps::<_CMP_LT_OQ>(a, b));
    if_nan(a, then, otherwise) = _mm256_blendv_ps(otherwise, then, _mm256_cmp_ps::<_CMP_UNORD_Q>(a, a));
    if_equal(a, b, then, otherwise) = _mm256_blendv_ps(otherwise, then, _mm256_cmp_ps::<_CMP_EQ_OQ>(a, b));
    round(a) = _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a);
    floor(a) = _mm256_floor_ps(a);
    ceil(a) = _mm256_ceil_ps(a);
    scale(a, n) = {
        // The exponent's bits of 2ⁿ.
        let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
        _mm256_mul_ps(a, _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent)))
    };
    if_some(a, then, otherwise) = {
        let none = _mm256_cmpeq_epi32(_mm256_castps_si256(a), _mm256_setzero_si256());
        _mm256_blendv_ps(then, otherwise, _mm256_castsi256_ps(none))
    };
    if_less_ints(a, b, then, otherwise) = {
        let less = _mm256_cmpgt_epi32(_mm256_castps_si256(b), _mm256_castps_si256(a));
        _mm256_blendv_ps(otherwise, then, _mm256_castsi256_ps(less))
    };
    xor(a, b) = _mm256_xor_ps(a, b);
    ints_to_floats(a) = _mm256_cvtepi32_ps(_mm256_castps_si256(a));
    floats_to_ints(a) = {
        // What is too small is cut to the least by itself; NaN becomes 0 first.
        let number = _mm256_and_ps(a, _mm256_cmp_ps::<_CMP_ORD_Q>(a, a));
        let great = _mm256_cmp_ps::<_CMP_GE_OQ>(a, _mm256_set1_ps(TOO_GREAT));
        let most = _mm256_castsi256_ps(_mm256_set1_epi32(i32::MAX));
        _mm256_blendv_ps(_mm256_castsi256_ps(_mm256_cvttps_epi32(number)), most, great)
    };
    pick(a, b, picks) = {
        let (a, b) = (_mm256_permutevar8x32_ps(a, picks), _mm256_permutevar8x32_ps(b, picks));
        // Bit 3 says which of the two; a blend goes by bit 31.
        _mm256_blendv_ps(a, b, _mm256_castsi256_ps(_mm256_slli_epi32::<28>(picks)))
    };
    load_picks(from) = _mm256_loadu_si256(from.cast());
}
