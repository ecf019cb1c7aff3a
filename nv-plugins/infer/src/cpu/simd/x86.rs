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

impl Simd for Avx512 {
    type V = __m512;
    type Picks = __m512i;
    const LANES: usize = 16;
    const REGISTERS: usize = 28;

    #[inline(always)]
    fn splat(self, value: f32) -> __m512 {
        // SAFETY: `self` is made only where the machine has the instructions.
        unsafe { _mm512_set1_ps(value) }
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> __m512 {
        // SAFETY: as above; the caller's promise.
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, value: __m512) {
        // SAFETY: as above; the caller's promise.
        unsafe { _mm512_storeu_ps(to, value) }
    }

    #[inline(always)]
    unsafe fn load_picks(self, from: *const u32) -> __m512i {
        // SAFETY: as above; the caller's promise.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }

    #[inline(always)]
    fn pick(self, a: __m512, b: __m512, picks: __m512i) -> __m512 {
        // SAFETY: as above.
        unsafe { _mm512_permutex2var_ps(a, picks, b) }
    }

    instructions! {
        add(a, b) -> __m512 = _mm512_add_ps(a, b);
        sub(a, b) -> __m512 = _mm512_sub_ps(a, b);
        mul(a, b) -> __m512 = _mm512_mul_ps(a, b);
        div(a, b) -> __m512 = _mm512_div_ps(a, b);
        sqrt(a) -> __m512 = _mm512_sqrt_ps(a);
        fma(a, b, c) -> __m512 = _mm512_fmadd_ps(a, b, c);
        fms(a, b, c) -> __m512 = _mm512_fmsub_ps(a, b, c);
        max(a, b) -> __m512 = _mm512_max_ps(a, b);
        min(a, b) -> __m512 = _mm512_min_ps(a, b);
        if_less(a, b, then, otherwise) -> __m512 =
            _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b), otherwise, then);
        if_nan(a, then, otherwise) -> __m512 =
            _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_UNORD_Q>(a, a), otherwise, then);
        round(a) -> __m512 = _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a);
        floor(a) -> __m512 = _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC }>(a);
        ceil(a) -> __m512 = _mm512_roundscale_ps::<{ _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC }>(a);
        scale(a, n) -> __m512 = _mm512_scalef_ps(a, n);
    }
}

impl Simd for Avx2 {
    type V = __m256;
    type Picks = __m256i;
    const LANES: usize = 8;
    const REGISTERS: usize = 12;

    #[inline(always)]
    fn splat(self, value: f32) -> __m256 {
        // SAFETY: `self` is made only where the machine has the instructions.
        unsafe { _mm256_set1_ps(value) }
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> __m256 {
        // SAFETY: as above; the caller's promise.
        unsafe { _mm256_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, value: __m256) {
        // SAFETY: as above; the caller's promise.
        unsafe { _mm256_storeu_ps(to, value) }
    }

    #[inline(always)]
    unsafe fn load_picks(self, from: *const u32) -> __m256i {
        // SAFETY: as above; the caller's promise.
        unsafe { _mm256_loadu_si256(from.cast()) }
    }

    #[inline(always)]
    fn pick(self, a: __m256, b: __m256, picks: __m256i) -> __m256 {
        // SAFETY: as above.
        unsafe {
            let (a, b) = (_mm256_permutevar8x32_ps(a, picks), _mm256_permutevar8x32_ps(b, picks));
            // Bit 3 says which of the two; a blend goes by bit 31.
            _mm256_blendv_ps(a, b, _mm256_castsi256_ps(_mm256_slli_epi32::<28>(picks)))
        }
    }

    instructions! {
        add(a, b) -> __m256 = _mm256_add_ps(a, b);
        sub(a, b) -> __m256 = _mm256_sub_ps(a, b);
        mul(a, b) -> __m256 = _mm256_mul_ps(a, b);
        div(a, b) -> __m256 = _mm256_div_ps(a, b);
        sqrt(a) -> __m256 = _mm256_sqrt_ps(a);
        fma(a, b, c) -> __m256 = _mm256_fmadd_ps(a, b, c);
        fms(a, b, c) -> __m256 = _mm256_fmsub_ps(a, b, c);
        max(a, b) -> __m256 = _mm256_max_ps(a, b);
        min(a, b) -> __m256 = _mm256_min_ps(a, b);
        if_less(a, b, then, otherwise) -> __m256 =
            _mm256_blendv_ps(otherwise, then, _mm256_cmp_ps::<_CMP_LT_OQ>(a, b));
        if_nan(a, then, otherwise) -> __m256 =
            _mm256_blendv_ps(otherwise, then, _mm256_cmp_ps::<_CMP_UNORD_Q>(a, a));
        round(a) -> __m256 = _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a);
        floor(a) -> __m256 = _mm256_floor_ps(a);
        ceil(a) -> __m256 = _mm256_ceil_ps(a);
        scale(a, n) -> __m256 = {
            // The exponent's bits of 2ⁿ.
            let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
            _mm256_mul_ps(a, _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent)))
        };
    }
}
