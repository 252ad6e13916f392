//! Initialisers, as PyTorch and timm define them.

use rand::Rng as _;
use rand_distr::{Distribution as _, StandardNormal};

use crate::random::Rng;

/// How a parameter gets its first values.
#[derive(Debug, Clone)]
pub enum Init {
    /// The same value everywhere.
    Constant(f32),
    /// Given values, row-major.
    Values(Vec<f32>),
    /// Uniform within `±bound`.
    Uniform {
        /// The bound.
        bound: f32,
    },
    /// Normal around zero.
    Normal {
        /// Standard deviation.
        std: f32,
    },
    /// Normal around zero, redrawn beyond `±cutoff` (an absolute value, as timm's `trunc_normal_` takes it).
    TruncNormal {
        /// Standard deviation before truncation.
        std: f32,
        /// Largest absolute value.
        cutoff: f32,
    },
}

impl Init {
    /// Zeros.
    pub const ZEROS: Self = Self::Constant(0.0);
    /// Ones.
    pub const ONES: Self = Self::Constant(1.0);

    /// `torch.nn.init.xavier_uniform_` for the given fans.
    pub fn xavier_uniform(fan_in: usize, fan_out: usize) -> Self {
        Self::Uniform { bound: (6.0 / (fan_in + fan_out) as f32).sqrt() }
    }

    /// PyTorch's default for the weight and the bias of a convolution or linear layer: `kaiming_uniform_(a=sqrt(5))`, that is
    /// uniform within `±1/sqrt(fan_in)`.
    pub fn kaiming_uniform(fan_in: usize) -> Self {
        Self::Uniform { bound: 1.0 / (fan_in as f32).sqrt() }
    }

    /// `torch.nn.init.kaiming_normal_(mode="fan_out", nonlinearity="relu")`, fvcore's `c2_msra_fill`.
    pub fn kaiming_normal(fan_out: usize) -> Self {
        Self::Normal { std: (2.0 / fan_out as f32).sqrt() }
    }

    /// fvcore's `c2_xavier_fill`: Caffe2's `XavierFill`, which is `torch.nn.init.kaiming_uniform_(a=1)`.
    pub fn c2_xavier(fan_in: usize) -> Self {
        Self::Uniform { bound: (3.0 / fan_in as f32).sqrt() }
    }

    /// timm's `trunc_normal_(std=std)`, cut at ±2.
    pub fn trunc_normal(std: f32) -> Self {
        Self::TruncNormal { std, cutoff: 2.0 }
    }

    /// timm's `lecun_normal_`: truncated at two standard deviations, with variance `1 / fan_in` after truncation.
    pub fn lecun_normal(fan_in: usize) -> Self {
        let std = (1.0 / fan_in as f32).sqrt() / 0.879_625_7;
        Self::TruncNormal { std, cutoff: 2.0 * std }
    }

    /// Values for a parameter of `shape`, row-major.
    pub fn values(&self, shape: &[usize], rng: &mut Rng) -> Vec<f32> {
        let numel = shape.iter().product();
        match *self {
            Self::Constant(value) => vec![value; numel],
            Self::Values(ref values) => {
                debug_assert_eq!(values.len(), numel);
                values.clone()
            }
            Self::Uniform { bound } => (0..numel).map(|_| rng.random_range(-bound..=bound)).collect(),
            Self::Normal { std } => (0..numel).map(|_| std * normal(rng)).collect(),
            Self::TruncNormal { std, cutoff } => (0..numel)
                .map(|_| {
                    loop {
                        let value = std * normal(rng);
                        if value.abs() <= cutoff {
                            break value;
                        }
                    }
                })
                .collect(),
        }
    }
}

fn normal(rng: &mut Rng) -> f32 {
    StandardNormal.sample(rng)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, stream};

    const COUNT: usize = 40_000;

    fn draw(init: &Init) -> Vec<f32> {
        init.values(&[COUNT / 100, 100], &mut stream(Purpose::Init, &[7]))
    }

    /// Standard deviation around zero, and largest absolute value.
    fn spread(values: &[f32]) -> (f64, f64) {
        let wide = || values.iter().map(|&value| f64::from(value));
        let mean = wide().sum::<f64>() / COUNT as f64;
        let std = (wide().map(|value| value * value).sum::<f64>() / COUNT as f64).sqrt();
        assert!(mean.abs() < 4.0 * std / (COUNT as f64).sqrt(), "the mean is {mean}");
        (std, wide().fold(0.0, |max, value| max.max(value.abs())))
    }

    fn assert_near(actual: f64, expected: f64) {
        assert!((actual / expected - 1.0).abs() < 0.02, "{actual} is not near {expected}");
    }

    #[test]
    fn uniform_initialisers_have_the_bounds_of_pytorch() {
        for (init, bound) in [
            (Init::xavier_uniform(100, 400), (6.0_f64 / 500.0).sqrt()),
            (Init::kaiming_uniform(64), 1.0 / 8.0),
            (Init::c2_xavier(48), 1.0 / 4.0),
        ] {
            let (std, max) = spread(&draw(&init));
            assert_near(std, bound / 3.0_f64.sqrt());
            assert!(max <= bound * (1.0 + 1e-6) && max > 0.999 * bound);
        }
    }

    #[test]
    fn normal_initialisers_have_their_deviation() {
        assert_near(spread(&draw(&Init::Normal { std: 0.02 })).0, 0.02);
        assert_near(spread(&draw(&Init::kaiming_normal(50))).0, 0.2);
        // timm cuts at an absolute 2, far out for the usual deviation: nothing is cut.
        assert_near(spread(&draw(&Init::trunc_normal(0.02))).0, 0.02);
    }

    #[test]
    fn a_truncated_normal_is_redrawn_beyond_its_cutoff() {
        let (std, max) = spread(&draw(&Init::trunc_normal(2.0)));
        assert!(max <= 2.0 && max > 1.99);
        // Of a normal cut at one standard deviation.
        assert_near(std, 2.0 * 0.539_560);
    }

    #[test]
    fn lecun_normal_has_its_variance_after_truncation() {
        let (std, max) = spread(&draw(&Init::lecun_normal(64)));
        assert_near(std, 1.0 / 8.0);
        assert!(max <= 2.0 / 8.0 / 0.879_625);
    }

    #[test]
    fn constants_and_given_values_are_used_as_they_are() {
        let mut rng = stream(Purpose::Init, &[0]);
        assert_eq!(Init::ONES.values(&[2, 2], &mut rng), [1.0; 4]);
        assert_eq!(Init::ZEROS.values(&[], &mut rng), [0.0]);
        assert_eq!(Init::Values(vec![1.0, 2.0]).values(&[2], &mut rng), [1.0, 2.0]);
    }
}
