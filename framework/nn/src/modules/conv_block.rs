//! The convolution block.

use std::rc::Rc;

use super::{DropPath, LayerNorm, Linear, Mlp};
use crate::ops::DepthwiseParams;
use crate::ops::blocks::Branch;
use crate::tensor::{Result, Tensor};
use crate::{Context, Init, Param, PatchLayout, Scope, ops};

/// The sizes of a [`ConvBlock`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ConvBlockConfig {
    /// Side of the depthwise kernel, odd; 5 in the official models.
    pub kernel: usize,
    /// Width of the MLP in relation to that of the block; the width is rounded down.
    pub mlp_ratio: f32,
    /// Probability to drop each of the two branches.
    pub drop_path: f32,
}

/// The masked convolution block of the first stages (the official `CBlock`):
/// `x += conv2(attn(m * conv1(norm1(x))))`, then `x += mlp(norm2(x))`, with `attn` a depthwise convolution. Both norms have eps 1e-5.
#[derive(Debug, Clone)]
pub struct ConvBlock {
    norm1: LayerNorm,
    conv1: Linear,
    attn_weight: Param,
    attn_bias: Param,
    conv2: Linear,
    norm2: LayerNorm,
    mlp: Mlp,
    drop_path: DropPath,
}

impl ConvBlock {
    /// A block of `dim` channels.
    pub fn new(scope: &Scope, dim: usize, config: &ConvBlockConfig) -> Self {
        let ConvBlockConfig { kernel, mlp_ratio, drop_path } = *config;
        let attn = scope.child("attn");
        // One input channel for each kernel.
        let init = Init::kaiming_uniform(kernel * kernel);
        Self {
            norm1: LayerNorm::new(&scope.child("norm1"), dim, 1e-5),
            conv1: Linear::pointwise(&scope.child("conv1"), dim, dim),
            conv2: Linear::pointwise(&scope.child("conv2"), dim, dim),
            attn_weight: attn.param("weight", &[dim, 1, kernel, kernel], &init),
            attn_bias: attn.param("bias", &[dim], &init),
            norm2: LayerNorm::new(&scope.child("norm2"), dim, 1e-5),
            mlp: Mlp::pointwise(&scope.child("mlp"), dim, (dim as f32 * mlp_ratio) as usize),
            drop_path: DropPath { probability: drop_path },
        }
    }

    /// `[B, P * cell * cell, C]` to the same, through one block after another. `visible`, `[B, P * cell * cell]`, is the mask
    /// `m` of a stage that computes masked positions too; absent patches are masked anyway.
    pub fn forward_all(
        blocks: &[Self],
        x: Tensor,
        layout: &Rc<PatchLayout>,
        visible: Option<&Rc<[f32]>>,
        ctx: &Context,
    ) -> Result<Tensor> {
        let batch = layout.batch();
        let halves = blocks.iter().flat_map(|block| {
            let (weight, bias) = (&block.attn_weight, Some(&block.attn_bias));
            let depthwise = DepthwiseParams { weight, bias, layout, visible };
            let (conv1, conv2) = (block.conv1.params(), block.conv2.params());
            let conv = Branch::MaskedConvolution { conv1, depthwise, conv2 };
            let conv = block.drop_path.half(&block.norm1, conv, batch, ctx);
            [conv, block.drop_path.half(&block.norm2, block.mlp.branch(), batch, ctx)]
        });
        ops::blocks::chain(x, halves.collect(), ctx)
    }

    /// Multiply-accumulates for that many positions.
    pub fn macs(&self, positions: usize) -> u64 {
        let depthwise = positions as u64 * self.attn_weight.numel() as u64;
        self.conv1.macs(positions) + depthwise + self.conv2.macs(positions) + self.mlp.macs(positions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{self, Purpose};
    use crate::tensor::Tensor;
    use crate::testing::{assert_close, assert_official_params, noise, wide};

    const CONFIG: ConvBlockConfig = ConvBlockConfig { kernel: 5, mlp_ratio: 4.0, drop_path: 0.0 };

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
        let block = [ConvBlock::new(&Scope::new(0), channels, &CONFIG)];
        let forward = |x, layout: &_, visible| ConvBlock::forward_all(&block, x, layout, visible, &ctx);
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
}
