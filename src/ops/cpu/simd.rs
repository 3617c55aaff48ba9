//! Vectors of f32 on each instruction set, behind one trait; which set is used is decided when the program runs.
//!
//! A kernel is written once, generic over [`Simd`], as `#[inline(always)]` functions without closures (a closure would be
//! compiled without the instruction set of its caller), and entered through [`Isa::run`].

/// Operations on one vector of `LANES` f32.
///
/// # Safety
///
/// Every function may be called only where the instruction set of the implementing type is available, which holds
/// inside [`Kernel::run`]. Pointers must be valid for as many f32 as are loaded or stored; no alignment is needed.
pub unsafe trait Simd: Copy + 'static {
    /// f32 in a vector.
    const LANES: usize;
    /// Rows of the largest tile of accumulators (by two vectors) that the registers hold.
    const TILE: usize;
    /// A vector.
    type V: Copy;

    unsafe fn splat(x: f32) -> Self::V;
    unsafe fn load(p: *const f32) -> Self::V;
    unsafe fn store(p: *mut f32, v: Self::V);
    /// The first `n < LANES` lanes from memory, the others zero.
    unsafe fn load_part(p: *const f32, n: usize) -> Self::V;
    /// The first `n < LANES` lanes to memory.
    unsafe fn store_part(p: *mut f32, v: Self::V, n: usize);
    /// `a * b + c`.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V;
    /// The larger; `b` if it is a NaN.
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    /// The smaller; `b` if it is a NaN.
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sqrt(a: Self::V) -> Self::V;
    /// To the nearest whole number.
    unsafe fn round(a: Self::V) -> Self::V;
    /// `a * 2^n` for whole `n` in `-126..=127`.
    unsafe fn scale(a: Self::V, n: Self::V) -> Self::V;
    /// Sum of the lanes.
    unsafe fn sum(a: Self::V) -> f32;
    /// Largest lane.
    unsafe fn largest(a: Self::V) -> f32;
    /// Brings the cache line of an address, which need not be valid, nearer.
    unsafe fn prefetch(p: *const f32);
    /// `LANES` numbers of 4 bits, the first in the lowest, from `LANES / 2` bytes.
    unsafe fn nibbles(p: *const u8) -> Self::V;
    /// `LANES` numbers of 8 bits.
    unsafe fn octets(p: *const u8) -> Self::V;
    /// Transposes a square: lane j of row i goes to lane i of row j. Rows are `from` and `to` f32 apart.
    unsafe fn transpose(src: *const f32, from: usize, dst: *mut f32, to: usize);
}

const LOG2_E: f32 = std::f32::consts::LOG2_E;
const LN2_HIGH: f32 = 0.693_359_4; // ln 2 in two parts, the first exact in products with whole numbers
const LN2_LOW: f32 = -2.121_944_4e-4;
/// `exp(r)` on `[-ln 2 / 2, ln 2 / 2]`, highest power first: the polynomial of least relative error, 2e-9.
const EXP: [f32; 7] = [1.383_679_5e-3, 8.374_857e-3, 4.166_823e-2, 1.666_642e-1, 4.999_999e-1, 1., 1.];

/// `exp(x)`, relative error below 2e-7; below -87 it is 1.6e-38, above 88 1.7e38.
///
/// # Safety
///
/// As for [`Simd`].
#[inline(always)]
pub unsafe fn exp<S: Simd>(x: S::V) -> S::V {
    // SAFETY: the caller's promise is the one needed here.
    unsafe { exp_of_negative::<S>(S::min(S::splat(88.), x)) }
}

/// `exp(x)` for `x` up to 88.
///
/// # Safety
///
/// As for [`Simd`].
#[inline(always)]
pub unsafe fn exp_of_negative<S: Simd>(x: S::V) -> S::V {
    // SAFETY: the caller's promise is the one needed here.
    unsafe {
        let x = S::max(S::splat(-87.), x);
        let n = S::round(S::mul(x, S::splat(LOG2_E)));
        let r = S::fma(n, S::splat(-LN2_HIGH), x);
        let r = S::fma(n, S::splat(-LN2_LOW), r);
        let mut p = S::splat(EXP[0]);
        let mut i = 1;
        while i < EXP.len() {
            p = S::fma(p, r, S::splat(EXP[i]));
            i += 1;
        }
        S::scale(p, n)
    }
}

/// `1 / (1 + exp(-x))`.
///
/// # Safety
///
/// As for [`Simd`].
#[inline(always)]
pub unsafe fn sigmoid<S: Simd>(x: S::V) -> S::V {
    // SAFETY: the caller's promise is the one needed here.
    unsafe {
        let one = S::splat(1.);
        S::div(one, S::add(one, exp::<S>(S::sub(S::splat(0.), x))))
    }
}

/// Numerator and denominator of `erf(x) / x` in `x^2` on `[-4, 4]`, highest power first: the quotient that XLA and Eigen use.
const ERF_ABOVE: [f32; 7] =
    [-2.726_142_3e-10, 2.770_681_4e-8, -2.101_024e-6, -5.692_506_4e-5, -7.349_906_3e-4, -2.954_6e-3, -1.609_603_3e-2];
const ERF_BELOW: [f32; 5] = [-1.456_607_2e-5, -2.133_740_6e-4, -1.682_827e-3, -7.373_329e-3, -1.426_473_9e-2];

/// `erf(x)`, error below 4e-7.
///
/// # Safety
///
/// As for [`Simd`].
#[inline(always)]
pub unsafe fn erf<S: Simd>(x: S::V) -> S::V {
    // SAFETY: the caller's promise is the one needed here.
    unsafe {
        let x = S::min(S::splat(4.), S::max(S::splat(-4.), x));
        let square = S::mul(x, x);
        let (mut above, mut below) = (S::splat(ERF_ABOVE[0]), S::splat(ERF_BELOW[0]));
        let mut i = 1;
        while i < ERF_ABOVE.len() {
            above = S::fma(above, square, S::splat(ERF_ABOVE[i]));
            i += 1;
        }
        i = 1;
        while i < ERF_BELOW.len() {
            below = S::fma(below, square, S::splat(ERF_BELOW[i]));
            i += 1;
        }
        S::div(S::mul(x, above), below)
    }
}

/// A computation on vectors of any width.
pub trait Kernel {
    /// What it gives.
    type Output;
    /// Does it; to be marked `#[inline(always)]`, as everything it calls with `S`.
    ///
    /// # Safety
    ///
    /// The instruction set of `S` is available.
    unsafe fn run<S: Simd>(self) -> Self::Output;
}

/// An instruction set that the CPU's kernels are compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isa {
    /// 16 lanes.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// 8 lanes, fused multiply-add.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// 4 lanes.
    #[cfg(target_arch = "aarch64")]
    Neon,
    /// 4 lanes as the compiler likes.
    Portable,
}

impl Isa {
    /// All that this machine has, the widest first.
    pub fn available() -> Vec<Self> {
        let mut all = vec![Self::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                all.push(Self::Avx2);
            }
            if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512dq") {
                all.push(Self::Avx512);
            }
        }
        #[cfg(target_arch = "aarch64")]
        all.push(Self::Neon);
        all.reverse();
        all
    }

    /// The widest that this machine has, or what [`with_isa`] has chosen.
    pub fn best() -> Self {
        if let Some(isa) = FORCED.get() {
            return isa;
        }
        static BEST: std::sync::OnceLock<Isa> = std::sync::OnceLock::new();
        *BEST.get_or_init(|| Self::available()[0])
    }

    /// f32 in a vector.
    pub fn lanes(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => x86::Avx512::LANES,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => x86::Avx2::LANES,
            #[cfg(target_arch = "aarch64")]
            Self::Neon => neon::Neon::LANES,
            Self::Portable => Portable::LANES,
        }
    }

    /// Columns of one step of a product: two vectors.
    pub fn panel(self) -> usize {
        2 * self.lanes()
    }

    /// Runs `kernel` with this instruction set.
    #[inline]
    pub fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx512f,avx512dq,avx2,fma")]
        fn avx512<K: Kernel>(kernel: K) -> K::Output {
            // SAFETY: the features of this function are the instruction set.
            unsafe { kernel.run::<x86::Avx512>() }
        }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma")]
        fn avx2<K: Kernel>(kernel: K) -> K::Output {
            // SAFETY: the features of this function are the instruction set.
            unsafe { kernel.run::<x86::Avx2>() }
        }
        match self {
            // SAFETY: `available` found the features; there is no other source of these values but tests that use it.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { avx512(kernel) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { avx2(kernel) },
            // SAFETY: part of every aarch64 target.
            #[cfg(target_arch = "aarch64")]
            Self::Neon => unsafe { kernel.run::<neon::Neon>() },
            // SAFETY: needs nothing.
            Self::Portable => unsafe { kernel.run::<Portable>() },
        }
    }
}

thread_local! {
    static FORCED: std::cell::Cell<Option<Isa>> = const { std::cell::Cell::new(None) };
}

/// Runs `f` with every operation that it calls on this thread using `isa`, one of [`Isa::available`]: to test and to measure.
pub fn with_isa<T>(isa: Isa, f: impl FnOnce() -> T) -> T {
    assert!(Isa::available().contains(&isa), "{isa:?} on a machine without it");
    let before = FORCED.replace(Some(isa));
    let result = f();
    FORCED.set(before);
    result
}

/// Writes the methods of a [`Simd`] implementation: one expression each.
macro_rules! methods {
    ($(fn $name:ident($($arg:ident: $t:ty),*) $(-> $out:ty)? { $body:expr })*) => {$(
        #[inline(always)]
        #[allow(unused_unsafe)] // some are plain arithmetic
        unsafe fn $name($($arg: $t),*) $(-> $out)? {
            // SAFETY: the instruction set is there and the pointers are valid: the contract of the trait.
            unsafe { $body }
        }
    )*};
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::Simd;

    #[derive(Clone, Copy)]
    pub struct Avx512;

    // SAFETY: the functions use AVX-512 F and DQ, and touch as many f32 as the trait says.
    unsafe impl Simd for Avx512 {
        const LANES: usize = 16;
        const TILE: usize = 12;
        type V = __m512;

        methods! {
            fn splat(x: f32) -> __m512 { _mm512_set1_ps(x) }
            fn load(p: *const f32) -> __m512 { _mm512_loadu_ps(p) }
            fn store(p: *mut f32, v: __m512) { _mm512_storeu_ps(p, v) }
            fn load_part(p: *const f32, n: usize) -> __m512 { _mm512_maskz_loadu_ps(((1u32 << n) - 1) as u16, p) }
            fn store_part(p: *mut f32, v: __m512, n: usize) { _mm512_mask_storeu_ps(p, ((1u32 << n) - 1) as u16, v) }
            fn fma(a: __m512, b: __m512, c: __m512) -> __m512 { _mm512_fmadd_ps(a, b, c) }
            fn add(a: __m512, b: __m512) -> __m512 { _mm512_add_ps(a, b) }
            fn sub(a: __m512, b: __m512) -> __m512 { _mm512_sub_ps(a, b) }
            fn mul(a: __m512, b: __m512) -> __m512 { _mm512_mul_ps(a, b) }
            fn div(a: __m512, b: __m512) -> __m512 { _mm512_div_ps(a, b) }
            fn max(a: __m512, b: __m512) -> __m512 { _mm512_max_ps(a, b) }
            fn min(a: __m512, b: __m512) -> __m512 { _mm512_min_ps(a, b) }
            fn prefetch(p: *const f32) { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
            fn sqrt(a: __m512) -> __m512 { _mm512_sqrt_ps(a) }
            fn round(a: __m512) -> __m512 { _mm512_roundscale_ps::<8>(a) }
            fn scale(a: __m512, n: __m512) -> __m512 { _mm512_scalef_ps(a, n) }
            fn sum(a: __m512) -> f32 { _mm512_reduce_add_ps(a) }
            fn largest(a: __m512) -> f32 { _mm512_reduce_max_ps(a) }
            fn nibbles(p: *const u8) -> __m512 { {
                let bytes = _mm_loadl_epi64(p.cast());
                let low = _mm_and_si128(bytes, _mm_set1_epi8(15));
                let high = _mm_and_si128(_mm_srli_epi16::<4>(bytes), _mm_set1_epi8(15));
                _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_unpacklo_epi8(low, high)))
            } }
            fn octets(p: *const u8) -> __m512 { _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(p.cast()))) }
            fn transpose(src: *const f32, from: usize, dst: *mut f32, to: usize) { transpose16(src, from, dst, to) }
        }
    }

    #[expect(clippy::needless_range_loop, reason = "the indices are a pattern, and are unrolled")]
    /// 16 x 16: within 128-bit quarters first, then the quarters.
    #[inline(always)]
    unsafe fn transpose16(src: *const f32, from: usize, dst: *mut f32, to: usize) {
        // SAFETY: the contract of `Simd::transpose`.
        unsafe {
            let mut r = [_mm512_setzero_ps(); 16];
            let mut t = [_mm512_setzero_ps(); 16];
            for i in 0..16 {
                r[i] = _mm512_loadu_ps(src.add(i * from));
            }
            for i in 0..8 {
                t[2 * i] = _mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]);
                t[2 * i + 1] = _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]);
            }
            for i in 0..4 {
                for j in 0..2 {
                    let (a, b) = (_mm512_castps_pd(t[4 * i + j]), _mm512_castps_pd(t[4 * i + j + 2]));
                    r[4 * i + 2 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
                    r[4 * i + 2 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
                }
            }
            for i in 0..4 {
                t[i] = _mm512_shuffle_f32x4::<0x88>(r[i], r[i + 4]);
                t[i + 4] = _mm512_shuffle_f32x4::<0xdd>(r[i], r[i + 4]);
                t[i + 8] = _mm512_shuffle_f32x4::<0x88>(r[i + 8], r[i + 12]);
                t[i + 12] = _mm512_shuffle_f32x4::<0xdd>(r[i + 8], r[i + 12]);
            }
            for i in 0..8 {
                _mm512_storeu_ps(dst.add(i * to), _mm512_shuffle_f32x4::<0x88>(t[i], t[i + 8]));
                _mm512_storeu_ps(dst.add((i + 8) * to), _mm512_shuffle_f32x4::<0xdd>(t[i], t[i + 8]));
            }
        }
    }

    #[derive(Clone, Copy)]
    pub struct Avx2;

    /// A window of eight into this gives the mask of a part of a vector.
    const MASK: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

    // SAFETY: the functions use AVX2 and FMA, and touch as many f32 as the trait says.
    unsafe impl Simd for Avx2 {
        const LANES: usize = 8;
        const TILE: usize = 6;
        type V = __m256;

        methods! {
            fn splat(x: f32) -> __m256 { _mm256_set1_ps(x) }
            fn load(p: *const f32) -> __m256 { _mm256_loadu_ps(p) }
            fn store(p: *mut f32, v: __m256) { _mm256_storeu_ps(p, v) }
            fn load_part(p: *const f32, n: usize) -> __m256 {
                _mm256_maskload_ps(p, _mm256_loadu_si256(MASK.as_ptr().add(8 - n).cast()))
            }
            fn store_part(p: *mut f32, v: __m256, n: usize) {
                _mm256_maskstore_ps(p, _mm256_loadu_si256(MASK.as_ptr().add(8 - n).cast()), v)
            }
            fn fma(a: __m256, b: __m256, c: __m256) -> __m256 { _mm256_fmadd_ps(a, b, c) }
            fn add(a: __m256, b: __m256) -> __m256 { _mm256_add_ps(a, b) }
            fn sub(a: __m256, b: __m256) -> __m256 { _mm256_sub_ps(a, b) }
            fn mul(a: __m256, b: __m256) -> __m256 { _mm256_mul_ps(a, b) }
            fn div(a: __m256, b: __m256) -> __m256 { _mm256_div_ps(a, b) }
            fn max(a: __m256, b: __m256) -> __m256 { _mm256_max_ps(a, b) }
            fn min(a: __m256, b: __m256) -> __m256 { _mm256_min_ps(a, b) }
            fn prefetch(p: *const f32) { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
            fn sqrt(a: __m256) -> __m256 { _mm256_sqrt_ps(a) }
            fn round(a: __m256) -> __m256 { _mm256_round_ps::<8>(a) }
            fn scale(a: __m256, n: __m256) -> __m256 {
                _mm256_mul_ps(a, _mm256_castsi256_ps(_mm256_slli_epi32::<23>(
                    _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)))))
            }
            fn sum(a: __m256) -> f32 { {
                let s = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
                let s = _mm_add_ps(s, _mm_movehl_ps(s, s));
                _mm_cvtss_f32(_mm_add_ss(s, _mm_shuffle_ps::<1>(s, s)))
            } }
            fn largest(a: __m256) -> f32 { {
                let s = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
                let s = _mm_max_ps(s, _mm_movehl_ps(s, s));
                _mm_cvtss_f32(_mm_max_ss(s, _mm_shuffle_ps::<1>(s, s)))
            } }
            fn nibbles(p: *const u8) -> __m256 { {
                let bytes = _mm_cvtsi32_si128(p.cast::<i32>().read_unaligned());
                let low = _mm_and_si128(bytes, _mm_set1_epi8(15));
                let high = _mm_and_si128(_mm_srli_epi16::<4>(bytes), _mm_set1_epi8(15));
                _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_unpacklo_epi8(low, high)))
            } }
            fn octets(p: *const u8) -> __m256 { _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(p.cast()))) }
            fn transpose(src: *const f32, from: usize, dst: *mut f32, to: usize) { transpose8(src, from, dst, to) }
        }
    }

    #[expect(clippy::needless_range_loop, reason = "the indices are a pattern, and are unrolled")]
    /// 8 x 8: within 128-bit halves first, then the halves.
    #[inline(always)]
    unsafe fn transpose8(src: *const f32, from: usize, dst: *mut f32, to: usize) {
        // SAFETY: the contract of `Simd::transpose`.
        unsafe {
            let mut r = [_mm256_setzero_ps(); 8];
            let mut t = [_mm256_setzero_ps(); 8];
            for i in 0..8 {
                r[i] = _mm256_loadu_ps(src.add(i * from));
            }
            for i in 0..4 {
                t[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
                t[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
            }
            for i in 0..2 {
                for j in 0..2 {
                    r[4 * i + 2 * j] = _mm256_shuffle_ps::<0x44>(t[4 * i + j], t[4 * i + j + 2]);
                    r[4 * i + 2 * j + 1] = _mm256_shuffle_ps::<0xee>(t[4 * i + j], t[4 * i + j + 2]);
                }
            }
            for i in 0..4 {
                _mm256_storeu_ps(dst.add(i * to), _mm256_permute2f128_ps::<0x20>(r[i], r[i + 4]));
                _mm256_storeu_ps(dst.add((i + 4) * to), _mm256_permute2f128_ps::<0x31>(r[i], r[i + 4]));
            }
        }
    }
}

#[cfg(target_arch = "aarch64")]
mod neon {
    use std::arch::aarch64::*;

    use super::{Simd, copy_part};

    #[derive(Clone, Copy)]
    pub struct Neon;

    // SAFETY: NEON is part of aarch64; the functions touch as many f32 as the trait says.
    unsafe impl Simd for Neon {
        const LANES: usize = 4;
        const TILE: usize = 12;
        type V = float32x4_t;

        methods! {
            fn splat(x: f32) -> float32x4_t { vdupq_n_f32(x) }
            fn load(p: *const f32) -> float32x4_t { vld1q_f32(p) }
            fn store(p: *mut f32, v: float32x4_t) { vst1q_f32(p, v) }
            fn load_part(p: *const f32, n: usize) -> float32x4_t { {
                let mut all = [0f32; 4];
                copy_part(p, all.as_mut_ptr(), n);
                vld1q_f32(all.as_ptr())
            } }
            fn store_part(p: *mut f32, v: float32x4_t, n: usize) { {
                let mut all = [0f32; 4];
                vst1q_f32(all.as_mut_ptr(), v);
                copy_part(all.as_ptr(), p, n);
            } }
            fn fma(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t { vfmaq_f32(c, a, b) }
            fn add(a: float32x4_t, b: float32x4_t) -> float32x4_t { vaddq_f32(a, b) }
            fn sub(a: float32x4_t, b: float32x4_t) -> float32x4_t { vsubq_f32(a, b) }
            fn mul(a: float32x4_t, b: float32x4_t) -> float32x4_t { vmulq_f32(a, b) }
            fn div(a: float32x4_t, b: float32x4_t) -> float32x4_t { vdivq_f32(a, b) }
            fn max(a: float32x4_t, b: float32x4_t) -> float32x4_t { vmaxq_f32(a, b) }
            fn min(a: float32x4_t, b: float32x4_t) -> float32x4_t { vminq_f32(a, b) }
            fn prefetch(p: *const f32) {
                std::arch::asm!("prfm pldl1keep, [{0}]", in(reg) p, options(nostack, preserves_flags, readonly))
            }
            fn sqrt(a: float32x4_t) -> float32x4_t { vsqrtq_f32(a) }
            fn round(a: float32x4_t) -> float32x4_t { vrndnq_f32(a) }
            fn scale(a: float32x4_t, n: float32x4_t) -> float32x4_t {
                vmulq_f32(a, vreinterpretq_f32_s32(vshlq_n_s32::<23>(vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127)))))
            }
            fn sum(a: float32x4_t) -> f32 { vaddvq_f32(a) }
            fn largest(a: float32x4_t) -> f32 { vmaxvq_f32(a) }
            fn nibbles(p: *const u8) -> float32x4_t { {
                let codes = vdupq_n_u32(u32::from(p.cast::<u16>().read_unaligned()));
                let shifted = vshlq_u32(codes, vld1q_s32([0i32, -4, -8, -12].as_ptr()));
                vcvtq_f32_u32(vandq_u32(shifted, vdupq_n_u32(15)))
            } }
            fn octets(p: *const u8) -> float32x4_t {
                vcvtq_f32_u32(vld1q_u32(p.cast::<[u8; 4]>().read_unaligned().map(u32::from).as_ptr()))
            }
            fn transpose(src: *const f32, from: usize, dst: *mut f32, to: usize) { {
                let low = vtrnq_f32(vld1q_f32(src), vld1q_f32(src.add(from)));
                let high = vtrnq_f32(vld1q_f32(src.add(2 * from)), vld1q_f32(src.add(3 * from)));
                vst1q_f32(dst, vcombine_f32(vget_low_f32(low.0), vget_low_f32(high.0)));
                vst1q_f32(dst.add(to), vcombine_f32(vget_low_f32(low.1), vget_low_f32(high.1)));
                vst1q_f32(dst.add(2 * to), vcombine_f32(vget_high_f32(low.0), vget_high_f32(high.0)));
                vst1q_f32(dst.add(3 * to), vcombine_f32(vget_high_f32(low.1), vget_high_f32(high.1)));
            } }
        }
    }
}

/// Vectors as arrays: for processors without one of the sets above.
#[derive(Clone, Copy)]
struct Portable;

type V4 = [f32; 4];

#[inline(always)]
unsafe fn copy_part(from: *const f32, to: *mut f32, n: usize) {
    // SAFETY: the caller has `n` f32 at both.
    unsafe {
        for i in 0..n {
            *to.add(i) = *from.add(i);
        }
    }
}

// SAFETY: no instruction set is needed; the functions touch as many f32 as the trait says.
unsafe impl Simd for Portable {
    const LANES: usize = 4;
    const TILE: usize = 6;
    type V = V4;

    methods! {
        fn splat(x: f32) -> V4 { [x; 4] }
        fn load(p: *const f32) -> V4 { p.cast::<V4>().read_unaligned() }
        fn store(p: *mut f32, v: V4) { p.cast::<V4>().write_unaligned(v) }
        fn load_part(p: *const f32, n: usize) -> V4 { {
            let mut all = [0f32; 4];
            copy_part(p, all.as_mut_ptr(), n);
            all
        } }
        fn store_part(p: *mut f32, v: V4, n: usize) { copy_part(v.as_ptr(), p, n) }
        fn fma(a: V4, b: V4, c: V4) -> V4 { Self::add(Self::mul(a, b), c) }
        fn add(a: V4, b: V4) -> V4 { [a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3]] }
        fn sub(a: V4, b: V4) -> V4 { [a[0] - b[0], a[1] - b[1], a[2] - b[2], a[3] - b[3]] }
        fn mul(a: V4, b: V4) -> V4 { [a[0] * b[0], a[1] * b[1], a[2] * b[2], a[3] * b[3]] }
        fn div(a: V4, b: V4) -> V4 { [a[0] / b[0], a[1] / b[1], a[2] / b[2], a[3] / b[3]] }
        fn max(a: V4, b: V4) -> V4 { std::array::from_fn(|i| if a[i] > b[i] { a[i] } else { b[i] }) }
        fn min(a: V4, b: V4) -> V4 { std::array::from_fn(|i| if a[i] < b[i] { a[i] } else { b[i] }) }
        fn prefetch(_p: *const f32) { () }
        fn sqrt(a: V4) -> V4 { a.map(f32::sqrt) }
        fn round(a: V4) -> V4 { a.map(f32::round_ties_even) }
        fn scale(a: V4, n: V4) -> V4 { Self::mul(a, n.map(|n| f32::from_bits(((n as i32 + 127) as u32) << 23))) }
        fn sum(a: V4) -> f32 { (a[0] + a[1]) + (a[2] + a[3]) }
        fn largest(a: V4) -> f32 { a[0].max(a[1]).max(a[2].max(a[3])) }
        fn nibbles(p: *const u8) -> V4 { {
            let [a, b] = p.cast::<[u8; 2]>().read_unaligned();
            [a & 15, a >> 4, b & 15, b >> 4].map(f32::from)
        } }
        fn octets(p: *const u8) -> V4 { p.cast::<[u8; 4]>().read_unaligned().map(f32::from) }
        fn transpose(src: *const f32, from: usize, dst: *mut f32, to: usize) { {
            let r = [Self::load(src), Self::load(src.add(from)), Self::load(src.add(2 * from)), Self::load(src.add(3 * from))];
            Self::store(dst, [r[0][0], r[1][0], r[2][0], r[3][0]]);
            Self::store(dst.add(to), [r[0][1], r[1][1], r[2][1], r[3][1]]);
            Self::store(dst.add(2 * to), [r[0][2], r[1][2], r[2][2], r[3][2]]);
            Self::store(dst.add(3 * to), [r[0][3], r[1][3], r[2][3], r[3][3]]);
        } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct ExpAndSigmoid<'a>(&'a mut [[f32; 2]]);

    impl Kernel for ExpAndSigmoid<'_> {
        type Output = ();

        #[inline(always)]
        unsafe fn run<S: Simd>(self) {
            let mut lanes = [0f32; 16];
            for x in self.0 {
                // SAFETY: the instruction set is there, and a vector has at most 16 lanes.
                unsafe {
                    S::store(lanes.as_mut_ptr(), exp::<S>(S::splat(x[0])));
                    x[1] = S::sum(sigmoid::<S>(S::splat(x[0]))) / S::LANES as f32;
                }
                x[0] = lanes[S::LANES - 1];
            }
        }
    }

    #[test]
    fn exponential_and_sigmoid() {
        for isa in Isa::available() {
            let points: Vec<f32> = (-870_000..880_000).step_by(7).map(|i| i as f32 * 1e-4).collect();
            let mut values: Vec<[f32; 2]> = points.iter().map(|x| [*x, 0.]).collect();
            isa.run(ExpAndSigmoid(&mut values));
            for (x, [e, s]) in points.iter().zip(values) {
                let (x, e, s) = (f64::from(*x), f64::from(e), f64::from(s));
                assert!((e / x.exp() - 1.).abs() < 2e-7, "{isa:?}: exp({x}) = {e}");
                assert!((s * (1. + (-x).exp()) - 1.).abs() < 4e-7, "{isa:?}: sigmoid({x}) = {s}");
            }
            let mut values = [[0., 0.], [-1e9, 0.], [1e9, 0.]];
            isa.run(ExpAndSigmoid(&mut values));
            assert_eq!([values[0][0], values[0][1], values[2][1]], [1., 0.5, 1.], "{isa:?}");
            assert!(values[1][0] < 2e-38 && values[1][1] < 2e-38, "{isa:?}: {values:?}");
        }
    }
}
