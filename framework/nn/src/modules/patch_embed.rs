//! Convolutions with kernel = stride, which never look beyond a patch.

use super::{LayerNorm, Linear};
use crate::tensor::{Result, Tensor};
use crate::{Context, Init, PatchLayout, Scope, ops};

/// A `k x k` convolution with stride `k`: the output decoders of the stages, and the projection of a [`PatchEmbed`].
#[derive(Debug, Clone)]
pub struct MergeConv {
    linear: Linear,
    kernel: usize,
}

impl MergeConv {
    /// With PyTorch's default initialisation of convolutions.
    pub fn new(scope: &Scope, inputs: usize, outputs: usize, kernel: usize) -> Self {
        let init = Init::kaiming_uniform(inputs * kernel * kernel);
        Self::with_init(scope, inputs, outputs, kernel, &init, &init)
    }

    /// With given initialisers of weight and bias.
    pub fn with_init(
        scope: &Scope,
        inputs: usize,
        outputs: usize,
        kernel: usize,
        weight: &Init,
        bias: &Init,
    ) -> Self {
        let linear = Linear {
            weight: scope.param("weight", &[outputs, inputs, kernel, kernel], weight),
            bias: Some(scope.param("bias", &[outputs], bias)),
        };
        Self { linear, kernel }
    }

    /// Features `[B, P * cell * cell, I]` to `[B, P * (cell / k)^2, O]`.
    pub fn forward(&self, x: Tensor, cell: usize, ctx: &Context) -> Result<Tensor> {
        self.linear.forward(ops::merge_cells(x, cell, self.kernel)?, ctx)
    }

    /// Images `[B, I, H, W]` to features `[B, P * cell * cell, O]` of a layout, at its kept patches only.
    pub fn forward_images(&self, images: &Tensor, layout: &PatchLayout, ctx: &Context) -> Result<Tensor> {
        let rows = ops::patches(images, self.kernel, layout)?;
        self.linear.forward_rows(rows, (layout.batch(), layout.positions()), ctx)
    }

    /// Multiply-accumulates for that many output positions.
    pub fn macs(&self, positions: usize) -> u64 {
        self.linear.macs(positions)
    }
}

/// The patch embedding of the official `PatchEmbed`: a [`MergeConv`], a `LayerNorm` (eps 1e-5), GELU.
#[derive(Debug, Clone)]
pub struct PatchEmbed {
    proj: MergeConv,
    norm: LayerNorm,
}

impl PatchEmbed {
    /// With PyTorch's default initialisation.
    pub fn new(scope: &Scope, inputs: usize, outputs: usize, kernel: usize) -> Self {
        Self::with_projection(scope, MergeConv::new(&scope.child("proj"), inputs, outputs, kernel), outputs)
    }

    /// With the projection initialised like a linear layer, Xavier-uniform, as the official pretraining model does for
    /// `patch_embed3`; the bias stays at PyTorch's default.
    pub fn xavier(scope: &Scope, inputs: usize, outputs: usize, kernel: usize) -> Self {
        let fan_in = inputs * kernel * kernel;
        let weight = Init::xavier_uniform(fan_in, outputs);
        let bias = Init::kaiming_uniform(fan_in);
        let proj = MergeConv::with_init(&scope.child("proj"), inputs, outputs, kernel, &weight, &bias);
        Self::with_projection(scope, proj, outputs)
    }

    fn with_projection(scope: &Scope, proj: MergeConv, outputs: usize) -> Self {
        Self { proj, norm: LayerNorm::new(&scope.child("norm"), outputs, 1e-5) }
    }

    /// Features `[B, P * cell * cell, I]` of the stage before to `[B, P * (cell / k)^2, O]`.
    pub fn forward(&self, x: Tensor, cell: usize, ctx: &Context) -> Result<Tensor> {
        self.activate(self.proj.forward(x, cell, ctx)?, ctx)
    }

    /// Images `[B, I, H, W]` to features `[B, P * cell * cell, O]` of a layout, at its kept patches only.
    pub fn forward_images(&self, images: &Tensor, layout: &PatchLayout, ctx: &Context) -> Result<Tensor> {
        self.activate(self.proj.forward_images(images, layout, ctx)?, ctx)
    }

    /// Multiply-accumulates for that many output positions.
    pub fn macs(&self, positions: usize) -> u64 {
        self.proj.macs(positions)
    }

    fn activate(&self, x: Tensor, ctx: &Context) -> Result<Tensor> {
        ops::gelu(self.norm.forward(x, ctx)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{Window, conv2d};
    use crate::random::{self, Purpose};
    use crate::tensor::Tensor;
    use crate::testing::{assert_close, assert_official_params, noise, wide};

    #[test]
    fn the_parameters_are_the_official_ones() {
        let scope = Scope::describe();
        PatchEmbed::new(&scope.child("patch_embed1"), 3, 8, 4);
        assert_official_params(&scope, "patch_embed1.");
        let scope = Scope::describe();
        PatchEmbed::xavier(&scope.child("patch_embed3"), 12, 24, 2);
        assert_official_params(&scope, "patch_embed3.");
        let scope = Scope::describe();
        MergeConv::new(&scope.child("stage1_output_decode"), 8, 24, 4);
        assert_official_params(&scope, "stage1_output_decode.");
    }

    #[test]
    fn it_is_a_strided_convolution_of_the_image() {
        // 2 images of 3 x 8 x 12 pixels: one position for 4 x 4 pixels, one patch for each position.
        let ctx = Context::eval(random::stream(Purpose::Step, &[0]));
        let conv = MergeConv::new(&Scope::new(0), 3, 5, 4);
        let pixels = noise(1, 2 * 3 * 8 * 12);
        let images = Tensor::from_vec(pixels.clone(), (2, 3, 8, 12), &ctx.tape).unwrap();
        let output = conv.forward_images(&images, &PatchLayout::dense(2, 2, 3, 1), &ctx).unwrap();

        let map = (0..2 * 8 * 12 * 3)
            .map(|index| (index / 288, index / 3 % 96, index % 3))
            .map(|(image, position, channel)| pixels[(image * 3 + channel) * 96 + position]);
        let map = Tensor::from_vec(map.collect(), (2, 8, 12, 3), &ctx.tape).unwrap();
        let window = Window { stride: 4, ..Window::default() };
        let expected =
            conv2d(map, &conv.linear.weight, conv.linear.bias.as_ref(), window, &ctx.tape).unwrap();
        assert_close(&output.to_vec().unwrap(), &wide(&expected.to_vec().unwrap()), 1e-6);

        // The same in two steps of a stage: pixels as features of patches of 4 x 4 positions.
        let pixels = crate::ops::patches(&images, 1, &PatchLayout::dense(2, 2, 3, 4)).unwrap();
        let features = Tensor::from_vec(pixels, (2, 6 * 16, 3), &ctx.tape).unwrap();
        let merged = conv.forward(features, 4, &ctx).unwrap();
        assert_close(&merged.to_vec().unwrap(), &wide(&expected.to_vec().unwrap()), 1e-6);
    }
}
