//! Vectors of floats, of whatever width the machine has: what kernels are written with.
//!
//! A [`Kernel`] is written once, over any [`Simd`], and compiled for each instruction set by [`Instructions::run`]. All of it
//! must be inlined into there, so everything on the way is `#[inline(always)]`: an instruction of a set can only be inlined
//! into what is compiled for that set.

#![expect(unsafe_code, reason = "vector instructions, and loads and stores through pointers")]

/// Implements [`Simd`] for an instruction set, whose values are made only where the machine has it: each method is an
/// expression of instructions.
macro_rules! instructions {
    (
        $set:ty: $lanes:literal lanes of $vector:ty, $picks:ty, $registers:literal registers;
        $($name:ident($($arg:ident),*) = $body:expr;)*
    ) => {
        impl Simd for $set {
            type V = $vector;
            type Picks = $picks;
            const LANES: usize = $lanes;
            const REGISTERS: usize = $registers;
            $(instructions!(@ $name($($arg),*) = $body);)*
        }
    };
    (@ splat($value:ident) = $body:expr) => {
        instructions!(@ fn splat($value: f32) -> Self::V = $body);
    };
    (@ pick($a:ident, $b:ident, $picks:ident) = $body:expr) => {
        instructions!(@ fn pick($a: Self::V, $b: Self::V, $picks: Self::Picks) -> Self::V = $body);
    };
    (@ load($from:ident) = $body:expr) => {
        instructions!(@ unsafe fn load($from: *const f32) -> Self::V = $body);
    };
    (@ store($to:ident, $value:ident) = $body:expr) => {
        instructions!(@ unsafe fn store($to: *mut f32, $value: Self::V) -> () = $body);
    };
    (@ load_picks($from:ident) = $body:expr) => {
        instructions!(@ unsafe fn load_picks($from: *const u32) -> Self::Picks = $body);
    };
    (@ $name:ident($($arg:ident),*) = $body:expr) => {
        instructions!(@ fn $name($($arg: Self::V),*) -> Self::V = $body);
    };
    (@ fn $name:ident($($arg:ident: $type:ty),*) -> $result:ty = $body:expr) => {
        #[inline(always)]
        fn $name(self, $($arg: $type),*) -> $result {
            // SAFETY: the machine has the instructions, or there would be no `self`.
            unsafe { $body }
        }
    };
    (@ unsafe fn $name:ident($($arg:ident: $type:ty),*) -> $result:ty = $body:expr) => {
        #[inline(always)]
        unsafe fn $name(self, $($arg: $type),*) -> $result {
            // SAFETY: as above, and the caller's promise.
            unsafe { $body }
        }
    };
}

pub(crate) mod math;
#[cfg(target_arch = "aarch64")]
mod neon;
pub(crate) mod strided;
#[cfg(target_arch = "x86_64")]
mod x86;

use super::SimdLevel;

/// An instruction set, as the proof that the machine has it.
pub(crate) trait Simd: Copy {
    /// A vector of floats.
    type V: Copy;
    /// A lane of two vectors, for each lane.
    type Picks: Copy;
    /// How many floats it has: the block of the pictures that kernels work on.
    const LANES: usize;
    /// How many vectors a kernel may hold at once besides a few operands.
    const REGISTERS: usize;

    fn splat(self, value: f32) -> Self::V;
    /// # Safety
    /// `LANES` floats are there to be read. They need not be aligned.
    unsafe fn load(self, from: *const f32) -> Self::V;
    /// # Safety
    /// `LANES` floats are there to be written. They need not be aligned.
    unsafe fn store(self, to: *mut f32, value: Self::V);
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    fn sqrt(self, a: Self::V) -> Self::V;
    /// `a·b + c`, rounded once.
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `a·b − c`, rounded once.
    fn fms(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The greater; `b` where one is NaN.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// The lesser; `b` where one is NaN.
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a < b ? then : otherwise`; `otherwise` where one is NaN.
    fn if_less(self, a: Self::V, b: Self::V, then: Self::V, otherwise: Self::V) -> Self::V;
    /// `then` where `a` is NaN.
    fn if_nan(self, a: Self::V, then: Self::V, otherwise: Self::V) -> Self::V;
    /// `a = b ? then : otherwise`; `otherwise` where one is NaN.
    fn if_equal(self, a: Self::V, b: Self::V, then: Self::V, otherwise: Self::V) -> Self::V;
    /// To the nearest whole number; of two, to the even one.
    fn round(self, a: Self::V) -> Self::V;
    fn floor(self, a: Self::V) -> Self::V;
    fn ceil(self, a: Self::V) -> Self::V;
    /// `a·2ⁿ`, where `n` is a whole number from −126 to 127.
    fn scale(self, a: Self::V, n: Self::V) -> Self::V;
    /// `a ≠ 0 ? then : otherwise`, where `a` holds whole numbers: the bits of an `i32` in each lane.
    fn if_some(self, a: Self::V, then: Self::V, otherwise: Self::V) -> Self::V;
    /// `a < b ? then : otherwise`, of whole numbers.
    fn if_less_ints(self, a: Self::V, b: Self::V, then: Self::V, otherwise: Self::V) -> Self::V;
    /// The bits in which the two differ.
    fn xor(self, a: Self::V, b: Self::V) -> Self::V;
    /// The nearest floats to whole numbers.
    fn ints_to_floats(self, a: Self::V) -> Self::V;
    /// The whole numbers of floats, cut towards zero; beyond what there are the nearest, and 0 for NaN.
    fn floats_to_ints(self, a: Self::V) -> Self::V;
    /// For each lane one of the lanes of `a`, then `b`, side by side: the one that `picks` says.
    fn pick(self, a: Self::V, b: Self::V, picks: Self::Picks) -> Self::V;
    /// # Safety
    /// `LANES` numbers, each less than `2·LANES`, are there to be read.
    unsafe fn load_picks(self, from: *const u32) -> Self::Picks;
}

/// Work on vectors of any width.
pub(crate) trait Kernel {
    /// Does it. Implementations are `#[inline(always)]`, as is all that they call.
    ///
    /// # Safety
    /// What the kernel says itself of its pointers.
    unsafe fn run<S: Simd>(self, s: S);
}

/// The instructions of a level that this machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Instructions(SimdLevel);

impl Instructions {
    /// Those of a level; `None` for the level that has no vectors, or one that the machine doesn't have.
    pub(crate) fn of(level: SimdLevel) -> Option<Self> {
        (level != SimdLevel::Scalar && level.is_available()).then_some(Self(level))
    }

    /// How many floats a vector has.
    pub(crate) fn lanes(self) -> usize {
        self.0.block()
    }

    /// How many vectors a kernel may hold at once besides a few operands.
    pub(crate) fn registers(self) -> usize {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            SimdLevel::Avx512 => x86::Avx512::REGISTERS,
            #[cfg(target_arch = "x86_64")]
            SimdLevel::Avx2 => x86::Avx2::REGISTERS,
            #[cfg(target_arch = "aarch64")]
            SimdLevel::Neon => neon::Neon::REGISTERS,
            other => unreachable!("{other} is not available here"),
        }
    }

    /// Runs a kernel.
    ///
    /// # Safety
    /// What the kernel says of its pointers.
    #[inline]
    pub(crate) unsafe fn run<K: Kernel>(self, kernel: K) {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the machine has these instructions, or there would be no `self`. The rest is the caller's promise.
            SimdLevel::Avx512 => unsafe { x86::run_avx512(kernel) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            SimdLevel::Avx2 => unsafe { x86::run_avx2(kernel) },
            #[cfg(target_arch = "aarch64")]
            // SAFETY: as above.
            SimdLevel::Neon => unsafe { neon::run(kernel) },
            other => unreachable!("{other} is not available here"),
        }
    }
}
