//! Dropout of elements, of channels, and of whole branches (stochastic depth, Huang et al. 2016).

use rand::Rng as _;

use crate::error::Result;
use crate::random::Rng;
use crate::tensor::Tensor;
use crate::{Context, Scope, ops};

/// Drops a residual branch for whole samples in training, as timm's `DropPath`: a kept sample is divided by the probability
/// to keep it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DropPath {
    /// The probability to drop.
    pub probability: f32,
}

impl DropPath {
    /// Of a block that created the parameters of `scope` behind the first `count`: where none of them is trained it runs as in
    /// evaluation.
    pub(super) fn of_block(probability: f32, scope: &Scope, count: usize) -> Self {
        Self { probability: if scope.trains_since(count) { probability } else { 0.0 } }
    }

    /// `[B, N, C]` to `[B, N, C]`.
    ///
    /// # Errors
    /// If the input has other dimensions, or the device fails.
    pub fn forward(&self, x: Tensor, ctx: &Context) -> Result<Tensor> {
        match self.scale(x.dims3()?.0, ctx) {
            Some(factors) => ops::scale_samples(x, factors),
            None => Ok(x),
        }
    }

    /// The factor of each sample's branch, `[B]`; none where nothing is dropped.
    pub fn scale(&self, batch: usize, ctx: &Context) -> Option<Vec<f32>> {
        let drops = ctx.training && self.probability > 0.0;
        drops.then(|| keep_factors(batch, 1, self.probability, ctx))
    }
}

/// Drops single elements in training, as PyTorch's `Dropout`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dropout {
    /// The probability to drop.
    pub probability: f32,
}

impl Dropout {
    /// `[B, ..]` to the same shape.
    pub fn forward(&self, x: Tensor, ctx: &Context) -> Result<Tensor> {
        if !ctx.training || self.probability <= 0.0 {
            return Ok(x);
        }
        let batch = x.dims().first().map_or(1, |&batch| batch.max(1));
        let factors = keep_factors(batch, x.numel() / batch, self.probability, ctx);
        ops::dropout(x, factors)
    }
}

/// Drops whole channels of single maps in training, as PyTorch's `Dropout2d`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dropout2d {
    /// The probability to drop.
    pub probability: f32,
}

impl Dropout2d {
    /// `[B, H, W, C]` to `[B, H, W, C]`.
    pub fn forward(&self, x: Tensor, ctx: &Context) -> Result<Tensor> {
        if !ctx.training || self.probability <= 0.0 {
            return Ok(x);
        }
        let (batch, _, _, channels) = x.dims4()?;
        let factors = keep_factors(batch, channels, self.probability, ctx);
        ops::scale_channels(x, factors)
    }
}

/// `[batch, per_image]` factors: 0 with the given probability, else the inverse of the probability to keep.
fn keep_factors(batch: usize, per_image: usize, probability: f32, ctx: &Context) -> Vec<f32> {
    let keep = 1.0 - probability;
    let factor = move |rng: &mut Rng| if rng.random::<f32>() < keep { keep.recip() } else { 0.0 };
    ctx.image_streams(batch).flat_map(|mut rng| (0..per_image).map(move |_| factor(&mut rng))).collect()
}

#[cfg(test)]
mod tests {
    // What is compared is exact.
    #![allow(clippy::float_cmp)]

    use super::*;
    use crate::Init;
    use crate::random::{Purpose, stream};
    use crate::tensor::Tensor;

    fn ones(batch: usize, ctx: &Context) -> Tensor {
        Tensor::from_vec(vec![1.0; batch * 4], (batch, 2, 2), &ctx.tape).unwrap()
    }

    fn train(step: u64) -> Context {
        Context::train(stream(Purpose::Step, &[step]))
    }

    #[test]
    fn drop_path_keeps_or_drops_whole_samples_and_the_mean() {
        let ctx = train(1);
        let y = DropPath { probability: 0.2 }.forward(ones(4000, &ctx), &ctx).unwrap().to_vec().unwrap();
        for sample in y.chunks(4) {
            assert!(sample == [0.0; 4] || sample == [1.25; 4], "{sample:?}");
        }
        let mean = y.iter().sum::<f32>() / y.len() as f32;
        assert!((mean - 1.0).abs() < 0.03, "the mean became {mean}");
    }

    #[test]
    fn dropout_drops_single_elements() {
        let ctx = train(1);
        let y = Dropout { probability: 0.5 }.forward(ones(1000, &ctx), &ctx).unwrap().to_vec().unwrap();
        assert!(y.iter().all(|&value| value == 0.0 || value == 2.0));
        let kept = y.iter().filter(|&&value| value > 0.0).count();
        assert!((1900..2100).contains(&kept), "{kept} of 4000 are kept");
        assert!(y.chunks(4).any(|sample| sample.contains(&0.0) && sample.contains(&2.0)));
    }

    #[test]
    fn dropout2d_drops_whole_channels_of_single_maps() {
        let ctx = train(1);
        let maps = Tensor::from_vec(vec![1.0; 100 * 6 * 10], (100, 2, 3, 10), &ctx.tape).unwrap();
        let y = Dropout2d { probability: 0.5 }.forward(maps, &ctx).unwrap().to_vec().unwrap();
        for map in y.chunks(60) {
            assert!(map.chunks(10).all(|position| position == &map[..10]));
        }
        let firsts: Vec<&[f32]> = y.chunks(60).map(|map| &map[..10]).collect();
        assert!(firsts.iter().flat_map(|first| *first).all(|&value| value == 0.0 || value == 2.0));
        assert!(firsts.iter().any(|first| *first != firsts[0]));
        let kept = firsts.concat().iter().filter(|&&value| value > 0.0).count();
        assert!((440..560).contains(&kept), "{kept} of 1000 are kept");
    }

    #[test]
    fn evaluation_and_probability_zero_change_nothing_and_draw_nothing() {
        let drop = |probability, ctx: &Context| {
            let x = DropPath { probability }.forward(ones(8, ctx), ctx).unwrap();
            let x = Dropout { probability }.forward(x, ctx).unwrap();
            let x = x.reshape((8, 1, 2, 2)).unwrap();
            Dropout2d { probability }.forward(x, ctx).unwrap().to_vec().unwrap()
        };
        let (eval, ctx) = (Context::eval(stream(Purpose::Evaluate, &[0])), train(0));
        assert_eq!(drop(0.9, &eval), [1.0; 32]);
        assert_eq!(drop(0.0, &ctx), [1.0; 32]);
        assert_eq!(ctx.uniform("next", 3, 1).ok(), train(0).uniform("next", 3, 1).ok());
    }

    #[test]
    fn what_is_dropped_of_an_image_does_not_depend_on_the_batch_it_comes_in() {
        let drop = |first: u64, batch: usize| {
            let ctx = train(5).with_first_image(first);
            let x = DropPath { probability: 0.4 }.forward(ones(batch, &ctx), &ctx).unwrap();
            let x = Dropout { probability: 0.4 }.forward(x, &ctx).unwrap().reshape((batch, 1, 1, 4)).unwrap();
            Dropout2d { probability: 0.4 }.forward(x, &ctx).unwrap().to_vec().unwrap()
        };
        assert_eq!(drop(0, 64), (0..4).flat_map(|part| drop(16 * part, 16)).collect::<Vec<_>>());
    }

    #[test]
    fn a_block_without_trained_parameters_drops_no_path() {
        let scope = Scope::new(0);
        scope.param("w", &[1], &Init::ZEROS);
        assert_eq!(DropPath::of_block(0.4, &scope, 0), DropPath { probability: 0.4 });
        scope.freeze().param("v", &[1], &Init::ZEROS);
        assert_eq!(DropPath::of_block(0.4, &scope, 1), DropPath { probability: 0.0 });
    }

    #[test]
    fn the_draw_depends_on_the_step_only() {
        let draw = |step| {
            let ctx = train(step);
            DropPath { probability: 0.5 }.forward(ones(32, &ctx), &ctx).unwrap().to_vec().unwrap()
        };
        assert_eq!(draw(3), draw(3));
        assert_ne!(draw(3), draw(4));
    }
}
