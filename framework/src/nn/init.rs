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
