//! What loops need to be compiled to vector instructions.

use pulp::Simd;

pub(super) use crate::simd::{multiversion, vectorized};

/// Asks the machine to bring `len` values from `first` on into its cache. They may lie anywhere.
#[inline(always)]
pub fn prefetch<T>(first: *const T, len: usize) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    for line in (0..len * size_of::<T>()).step_by(64) {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: a prefetch is a hint: it reads nothing and faults at no address.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(first.cast::<i8>().wrapping_add(line)) };
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = (first, len);
}

/// `2^x` to about two units in the last place, without branches or calls; next to nothing below the normal range.
///
/// The polynomial of Cephes' `exp2f` (S. L. Moshier).
#[inline(always)]
pub fn exp2<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    /// Adding this rounds to an integer, which then stands in the low bits.
    const ROUND: f32 = 12_582_912.0;
    const MANTISSA_BITS: u32 = 23;

    let x = simd.max_f32s(simd.splat_f32s(-126.0), x);
    let rounded = simd.add_f32s(x, simd.splat_f32s(ROUND));
    let r = simd.sub_f32s(x, simd.sub_f32s(rounded, simd.splat_f32s(ROUND)));
    let mut p = simd.splat_f32s(1.535_336_188_319_500e-4);
    for coefficient in [
        1.339_887_440_266_574e-3,
        9.618_437_357_674_640e-3,
        5.550_332_471_162_809e-2,
        2.402_264_791_363_012e-1,
        6.931_472_028_550_421e-1,
        1.0,
    ] {
        p = simd.mul_add_e_f32s(p, r, simd.splat_f32s(coefficient));
    }
    let exponent =
        simd.wrapping_dyn_shl_u32s(simd.transmute_u32s_f32s(rounded), simd.splat_u32s(MANTISSA_BITS));
    simd.transmute_f32s_u32s(simd.add_u32s(simd.transmute_u32s_f32s(p), exponent))
}

/// The sum of `(value - center)^2`, in vectors.
#[inline(always)]
pub fn sum_of_squares<S: Simd>(simd: S, values: &[f32], center: f32) -> f32 {
    let (vectors, last) = S::as_simd_f32s(values);
    let mean = simd.splat_f32s(center);
    // Four sums, for an addition not to wait for the one before.
    let mut sums = [simd.splat_f32s(0.0); 4];
    let (fours, rest) = vectors.as_chunks::<4>();
    for four in fours {
        for (sum, &vector) in sums.iter_mut().zip(four) {
            let difference = simd.sub_f32s(vector, mean);
            *sum = simd.mul_add_e_f32s(difference, difference, *sum);
        }
    }
    for (sum, &vector) in sums.iter_mut().zip(rest) {
        let difference = simd.sub_f32s(vector, mean);
        *sum = simd.mul_add_e_f32s(difference, difference, *sum);
    }
    let last: f32 = last.iter().map(|value| (value - center) * (value - center)).sum();
    total(simd, sums) + last
}

/// The sum of `values`, in vectors.
#[inline(always)]
pub fn sum<S: Simd>(simd: S, values: &[f32]) -> f32 {
    let (vectors, last) = S::as_simd_f32s(values);
    let mut sums = [simd.splat_f32s(0.0); 4];
    let (fours, rest) = vectors.as_chunks::<4>();
    for four in fours {
        for (sum, &vector) in sums.iter_mut().zip(four) {
            *sum = simd.add_f32s(*sum, vector);
        }
    }
    for (sum, &vector) in sums.iter_mut().zip(rest) {
        *sum = simd.add_f32s(*sum, vector);
    }
    sums[3] = simd.add_f32s(sums[3], simd.partial_load_f32s(last));
    total(simd, sums)
}

#[inline(always)]
fn total<S: Simd>(simd: S, [a, b, c, d]: [S::f32s; 4]) -> f32 {
    simd.reduce_sum_f32s(simd.add_f32s(simd.add_f32s(a, b), simd.add_f32s(c, d)))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Exp2<'a>(&'a mut [f32]);

    impl pulp::WithSimd for Exp2<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let (vectors, rest) = S::as_mut_simd_f32s(self.0);
            assert!(rest.is_empty());
            for x in vectors {
                *x = exp2(simd, *x);
            }
        }
    }

    #[test]
    fn exp2_is_accurate_over_the_normal_range_and_vanishes_below() {
        let x: Vec<f32> = (-12_592..12_800).map(|i| i as f32 * 0.01).collect();
        let mut powers = x.clone();
        pulp::Arch::new().dispatch(Exp2(&mut powers));
        for (x, power) in x.iter().zip(powers) {
            let expected = f64::from(*x).exp2();
            let error = (f64::from(power) - expected).abs() / expected;
            assert!(error < 2.5e-7, "2^{x} is off by {error:e}");
        }
        let mut extreme = [-1e30, f32::NEG_INFINITY, -127.0, f32::NAN].repeat(16);
        pulp::Arch::new().dispatch(Exp2(&mut extreme));
        for powers in extreme.chunks_exact(4) {
            assert!(powers[..3].iter().all(|power| (0.0..1.2e-38).contains(power)));
            assert!(powers[3].is_nan());
        }
    }
}
