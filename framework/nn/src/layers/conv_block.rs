//! The convolution block.

use std::rc::Rc;

use super::depthwise::SparseDepthwise;
use super::{Branch, DepthwiseConv2d, DropPath, LayerNorm, Linear, Mlp, Residual};
use crate::backend::{Buffer, Values};
use crate::error::Result;
use crate::ops::{Layer as _, Sequential};
use crate::{Context, PatchLayout, Scope, Shape};

/// The sizes of a [`ConvBlock`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ConvBlockConfig {
    /// Side of the depthwise kernel, odd; 5 in the official models.
    pub kernel: usize,
    /// Width of the MLP in relation to that of the block; the width is rounded down.
    pub mlp_ratio: f32,
    /// Of both `LayerNorm`s; 1e-5 in pretraining.
    pub eps: f32,
    /// Probability to drop each of the two branches.
    pub drop_path: f32,
}

/// The masked convolution block of the first stages (the official `CBlock`):
/// `x += conv2(attn(m * conv1(norm1(x))))`, then `x += mlp(norm2(x))`, with `attn` a depthwise convolution.
#[derive(Debug, Clone)]
pub struct ConvBlock {
    norm1: LayerNorm,
    conv1: Linear,
    attn: DepthwiseConv2d,
    conv2: Linear,
    norm2: LayerNorm,
    mlp: Mlp,
    drop_path: DropPath,
}

impl ConvBlock {
    /// A block of `dim` channels.
    pub fn new(scope: &Scope, dim: usize, config: &ConvBlockConfig) -> Self {
        let ConvBlockConfig { kernel, mlp_ratio, eps, drop_path } = *config;
        let first = scope.count();
        Self {
            norm1: LayerNorm::new(&scope.child("norm1"), dim, eps),
            conv1: Linear::pointwise(&scope.child("conv1"), dim, dim),
            conv2: Linear::pointwise(&scope.child("conv2"), dim, dim),
            attn: DepthwiseConv2d::new(&scope.child("attn"), dim, kernel),
            norm2: LayerNorm::new(&scope.child("norm2"), dim, eps),
            mlp: Mlp::pointwise(&scope.child("mlp"), dim, (dim as f32 * mlp_ratio) as usize),
            drop_path: DropPath::of_block(drop_path, scope, first),
        }
    }

    /// Its two halves, `[B, P * cell * cell, C]` to the same. `visible`, `[B, P * cell * cell]`, is the mask `m` of a stage that computes
    /// masked positions too; absent patches are masked anyway.
    pub fn layers(&self, layout: &Rc<PatchLayout>, visible: Option<&Rc<[f32]>>, ctx: &Context) -> Sequential {
        let convolution = MaskedConvolution {
            conv1: self.conv1.clone(),
            depthwise: self.attn.over(layout, visible),
            conv2: self.conv2.clone(),
        };
        let drop_scale = || self.drop_path.scale(layout.batch(), ctx);
        Sequential::new()
            .then(Residual::new(&self.norm1, convolution).drop_path(drop_scale()))
            .then(Residual::new(&self.norm2, self.mlp.clone()).drop_path(drop_scale()))
    }

    /// Multiply-accumulates for that many positions.
    pub fn macs(&self, positions: usize) -> u64 {
        self.conv1.macs(positions)
            + self.attn.macs(positions)
            + self.conv2.macs(positions)
            + self.mlp.macs(positions)
    }
}

/// `conv2(depthwise(visible * conv1(x)))`.
#[derive(Debug, Clone)]
struct MaskedConvolution {
    conv1: Linear,
    depthwise: SparseDepthwise,
    conv2: Linear,
}

impl Branch for MaskedConvolution {
    /// The input and the output of the depthwise convolution.
    type Saved = [Buffer; 2];

    fn check(&self, input: Shape) -> Result<()> {
        let channels = input.channels();
        self.conv1.check_outputs(channels, channels)?;
        self.depthwise.check(input)?;
        self.conv2.check_outputs(channels, channels)
    }

    fn may_train(&self) -> bool {
        self.conv1.may_train() || self.depthwise.may_train() || self.conv2.may_train()
    }

    fn forward(&self, x: &Values, shape: Shape, residual: Option<&Values>) -> Result<(Buffer, [Buffer; 2])> {
        let saved = self.recompute(x, shape)?;
        Ok((self.conv2.forward_rows(&saved[1], residual)?, saved))
    }

    fn recompute(&self, x: &Values, _: Shape) -> Result<[Buffer; 2]> {
        let input = self.conv1.forward_rows(x, None)?;
        let output = self.depthwise.forward_rows(&input)?;
        Ok([input, output])
    }

    fn backward(&self, x: &Values, [input, output]: [Buffer; 2], grad: &Values, _: Shape) -> Result<Buffer> {
        let grad_output = self.conv2.backward_input(grad)?;
        self.conv2.backward_params(grad, Some(&output))?;
        drop(output);
        self.depthwise.backward_params(&grad_output, Some(&input))?;
        drop(input);
        let grad_input = self.depthwise.backward_input(&grad_output)?;
        drop(grad_output);
        self.conv1.backward_params(&grad_input, Some(x))?;
        self.conv1.backward_input(&grad_input)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::residual::tests::{SHAPE, assert_equals_composition, refused};
    use crate::oracle;
    use crate::random::{self, Purpose};
    use crate::tensor::Tensor;
    use crate::testing::{assert_close, assert_official_params, noise, wide};

    const CONFIG: ConvBlockConfig = ConvBlockConfig { kernel: 5, mlp_ratio: 4.0, eps: 1e-5, drop_path: 0.0 };

    #[test]
    fn its_parameters_are_the_official_ones() {
        let scope = Scope::describe();
        ConvBlock::new(&scope.child("blocks1").child(0), 8, &CONFIG);
        assert_official_params(&scope, "blocks1.0.");
    }

    /// Section 4 of the design: what is computed at masked patches never reaches the kept ones.
    #[test]
    fn kept_patches_alone_give_what_a_masked_dense_block_gives_there() {
        let (rows, cols, cell, channels) = (3, 4, 4, 6);
        let ctx = Context::eval(random::stream(Purpose::Step, &[0]));
        let block = ConvBlock::new(&Scope::new(0), channels, &CONFIG);
        let forward = |x, layout: &_, visible| block.layers(layout, visible, &ctx).forward(x, &ctx);
        let ids = vec![5, 0, 11, 6, 9];
        let patch = cell * cell;
        let dense = Rc::new(PatchLayout::dense(1, rows, cols, cell));
        let x = noise(1, dense.positions() * channels);
        let visible: Rc<[f32]> =
            (0..dense.positions()).map(|row| f32::from(ids.contains(&((row / patch) as u32)))).collect();
        let input = Tensor::from_vec(x.clone(), (1, dense.positions(), channels), &ctx.tape).unwrap();
        let expected = forward(input, &dense, Some(&visible)).unwrap().to_vec().unwrap();

        let keep = |values: &[f32]| -> Vec<f32> {
            let patches = ids.iter().map(|&id| &values[id as usize * patch * channels..][..patch * channels]);
            patches.flatten().copied().collect()
        };
        let sparse = Rc::new(PatchLayout::new(rows, cols, cell, ids.len(), ids.clone()).unwrap());
        let input = Tensor::from_vec(keep(&x), (1, sparse.positions(), channels), &ctx.tape).unwrap();
        let output = forward(input, &sparse, None).unwrap().to_vec().unwrap();
        assert_close(&output, &wide(&keep(&expected)), 1e-6);
    }

    #[test]
    fn its_convolution_equals_the_composition() {
        let layout = Rc::new(PatchLayout::new(2, 2, 2, 2, vec![0, 3, 2, 1]).unwrap());
        let mask: Rc<[f32]> = (0..SHAPE.0 * SHAPE.1).map(|at| f32::from(at % 3 > 0)).collect();
        let convolution = |scope: &Scope, visible: Option<&Rc<[f32]>>| MaskedConvolution {
            conv1: Linear::pointwise(&scope.child("conv1"), 6, 6),
            depthwise: DepthwiseConv2d::new(&scope.child("attn"), 6, 3).over(&layout, visible),
            conv2: Linear::pointwise(&scope.child("conv2"), 6, 6),
        };
        for visible in [None, Some(&mask)] {
            assert_equals_composition(
                |scope| convolution(scope, visible),
                |MaskedConvolution { conv1, depthwise, conv2 }, x| {
                    let input = oracle::linear(x, conv1)?;
                    let conv = &depthwise.conv;
                    let output = oracle::depthwise(input, conv, &layout, visible.map(|mask| &**mask))?;
                    oracle::linear(output, conv2)
                },
            );
        }
        assert!(refused(convolution(&Scope::new(0), None), (2, 9, 6)));
    }
}
