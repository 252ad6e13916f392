//! Convolutions with kernel = stride, which never look beyond a patch.

use super::{LayerNorm, Linear};
use crate::ops::{Gelu, MergeCells, Sequential, image_patches};
use crate::{Images, Init, PatchLayout, Result, Scope, Tensor};

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
    pub fn layers(&self, cell: usize) -> Sequential {
        Sequential::new().then(MergeCells { cell, kernel: self.kernel }).then(self.linear.clone())
    }

    /// What [`MergeConv::pixel_layers`] take of images `[B, I, H, W]`: pixels `[B, P * cell * cell, I * k * k]` of a layout, at its kept
    /// patches only.
    ///
    /// # Errors
    /// If the images do not fit the layout, or the device fails.
    pub fn pixels(&self, images: &Images, layout: &PatchLayout) -> Result<Tensor> {
        image_patches(images, self.kernel, layout)
    }

    /// [`MergeConv::pixels`] to features `[B, P * cell * cell, O]`.
    pub fn pixel_layers(&self) -> Sequential {
        Sequential::new().then(self.linear.clone())
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
    pub fn layers(&self, cell: usize) -> Sequential {
        self.proj.layers(cell).then(self.norm.clone()).then(Gelu)
    }

    /// What [`PatchEmbed::pixel_layers`] take of images: [`MergeConv::pixels`].
    ///
    /// # Errors
    /// If the images do not fit the layout, or the device fails.
    pub fn pixels(&self, images: &Images, layout: &PatchLayout) -> Result<Tensor> {
        self.proj.pixels(images, layout)
    }

    /// [`PatchEmbed::pixels`] to features `[B, P * cell * cell, O]`.
    pub fn pixel_layers(&self) -> Sequential {
        self.proj.pixel_layers().then(self.norm.clone()).then(Gelu)
    }

    /// Multiply-accumulates for that many output positions.
    pub fn macs(&self, positions: usize) -> u64 {
        self.proj.macs(positions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Context;
    use crate::layers::{Conv2d, Window};
    use crate::random::{self, Purpose};
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
        let merge = MergeConv::new(&Scope::new(0), 3, 5, 4);
        let layout = |cell| PatchLayout::dense(2, 2, 3, cell);
        let pixels = noise(1, 2 * 3 * 8 * 12);
        let images = Images::from_vec(pixels.clone(), (2, 3, 8, 12));
        let rows = merge.pixels(&images, &layout(1)).unwrap();
        let output = merge.pixel_layers().forward(rows, &ctx).unwrap();

        let map = (0..2 * 8 * 12 * 3)
            .map(|index| (index / 288, index / 3 % 96, index % 3))
            .map(|(image, position, channel)| pixels[(image * 3 + channel) * 96 + position]);
        let map = Tensor::from_vec(map.collect(), (2, 8, 12, 3), &ctx.tape).unwrap();
        let window = Window { stride: 4, ..Window::default() };
        let Linear { weight, bias } = merge.linear.clone();
        let expected = Conv2d { weight, bias, window }.forward(map, &ctx).unwrap();
        assert_close(&output.to_vec().unwrap(), &wide(&expected.to_vec().unwrap()), 1e-6);

        // The same in two steps of a stage: pixels as features of patches of 4 x 4 positions.
        let rows = image_patches(&images, 1, &layout(4)).unwrap();
        let merged = merge.layers(4).forward(rows, &ctx).unwrap();
        assert_close(&merged.to_vec().unwrap(), &wide(&expected.to_vec().unwrap()), 1e-6);
    }
}
