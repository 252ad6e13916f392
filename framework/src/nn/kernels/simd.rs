//! What loops need to be compiled to vector instructions.

pub(super) use crate::simd::{multiversion, vectorized};

/// `exp(x)` to about two units in the last place, without branches or calls; saturates outside of the normal range.
///
/// The reduction and polynomial of Cephes' `expf` (S. L. Moshier).
#[inline(always)]
#[allow(clippy::inline_always, clippy::excessive_precision)]
pub fn exp(x: f32) -> f32 {
    /// Adding this rounds to an integer, which then stands in the low bits.
    const ROUND: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_375;
    const LN_2_LOW: f32 = -2.121_944_4e-4;

    let x = x.clamp(-87.3, 88.3);
    let rounded = x * std::f32::consts::LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = x - n * LN_2_HIGH - n * LN_2_LOW;
    let mut p = 1.987_569_15e-4;
    p = p * r + 1.398_199_950_7e-3;
    p = p * r + 8.333_451_907_3e-3;
    p = p * r + 4.166_579_589_4e-2;
    p = p * r + 1.666_666_545_9e-1;
    p = p * r + 5.000_000_120_1e-1;
    let power_of_two = f32::from_bits((rounded.to_bits() << 23).wrapping_add(1.0_f32.to_bits()));
    (p * (r * r) + r + 1.0) * power_of_two
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_accurate_over_the_normal_range() {
        for i in -8700..8800 {
            let x = i as f32 * 0.01;
            let expected = f64::from(x).exp();
            let error = (f64::from(exp(x)) - expected).abs() / expected;
            assert!(error < 2.5e-7, "exp({x}) is off by {error:e}");
        }
    }

    #[test]
    fn wide_vectors_give_the_same_bits() {
        let x: Vec<f32> = (0..1000).map(|i| i as f32 * 0.17 - 80.0).collect();
        let plain: Vec<u32> = x.iter().map(|&x| exp(x).to_bits()).collect();
        let wide: Vec<u32> = vectorized(|| x.iter().map(|&x| exp(x).to_bits()).collect());
        assert_eq!(wide, plain);
    }

    #[test]
    fn exp_saturates() {
        assert!(exp(-1e30) < 1.3e-38);
        assert!(exp(f32::NEG_INFINITY) < 1.3e-38);
        assert!(exp(1e30).is_finite());
    }
}
