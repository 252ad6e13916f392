//! The forward pass of the ConvMAE backbone.

use std::rc::Rc;

use convmae_framework::component::{BackboneModule, Features, Level, LevelShape, Macs, Mask, MaskGrid};
use convmae_framework::nn::layers::{Block, ConvBlock, LayerNorm, Linear, MergeConv, PatchEmbed};
use convmae_framework::nn::ops::{GatherTokens, Sequential};
use convmae_framework::nn::{Context, Images, PatchLayout, Result, ops};

use super::coarser::CoarserModule;
use crate::transformer::PositionEmbedding;

/// The parts of [`ConvViT`](super::ConvViT), under the official names.
pub(super) struct ConvViTModule {
    /// Positions along each side of a token's patch, at each stage.
    pub cells: [usize; 3],
    /// Whether masked positions are left out of the convolutions.
    pub masked_convolution: bool,
    pub grid: MaskGrid,
    pub levels: Vec<LevelShape>,
    pub sparse: bool,
    pub pos_embed: PositionEmbedding,
    pub patch_embed1: PatchEmbed,
    pub patch_embed2: PatchEmbed,
    pub patch_embed3: PatchEmbed,
    pub patch_embed4: Linear,
    pub fusion: Option<[MergeConv; 2]>,
    pub blocks1: Vec<ConvBlock>,
    pub blocks2: Vec<ConvBlock>,
    pub blocks3: Vec<Block>,
    pub norm: Option<LayerNorm>,
    pub s4: Option<CoarserModule>,
}

impl BackboneModule for ConvViTModule {
    fn levels(&self) -> Vec<LevelShape> {
        self.levels.clone()
    }

    fn macs(&self) -> Macs {
        let tokens = self.levels[2].tokens();
        let transformer: u64 = self.blocks3.iter().map(|block| block.macs(tokens)).sum();
        let behind = transformer + self.s4.as_ref().map_or(0, CoarserModule::macs);
        let computed = self.levels[0].kept;
        Macs {
            computed: self.convolutional_macs(computed) + behind,
            dense: self.convolutional_macs(self.grid.tokens()) + behind,
        }
    }

    fn forward(&self, images: &Images, mask: Option<&Rc<Mask>>, ctx: &Context) -> Result<Features> {
        let [cell1, cell2, _] = self.cells;
        let (count, ..) = images.shape().dims4()?;
        let layout = self.layout(count, mask)?;
        let batch = layout.batch();
        let [layout1, layout2] = [cell1, cell2].map(|cell| Rc::new(layout.with_cell(cell)));

        let visible = self.visible(mask, 0, cell1);
        let s1 = Sequential::new()
            .then(self.patch_embed1.pixel_layers())
            .record("patch_embed1_out", ctx)
            .then_all(self.blocks1.iter().map(|block| block.layers(&layout1, visible.as_ref(), ctx)))
            .forward(self.patch_embed1.pixels(images, &layout1)?, ctx)?;
        let visible = self.visible(mask, 1, cell2);
        let s2 = Sequential::new()
            .then(self.patch_embed2.layers(cell1))
            .record("patch_embed2_out", ctx)
            .then_all(self.blocks2.iter().map(|block| block.layers(&layout2, visible.as_ref(), ctx)))
            .forward(s1.clone(), ctx)?;
        let mut x = Sequential::new()
            .then(self.patch_embed3.layers(cell2))
            .record("patch_embed3_out", ctx)
            .then(self.patch_embed4.clone())
            .then(self.pos_embed.layers(&layout, 0))
            .then_all(self.kept(mask))
            .record("tokens_in_blocks3", ctx)
            .then_all(self.blocks3.iter().map(|block| block.layers(batch, ctx)))
            .record("tokens_out_blocks3", ctx)
            .forward(s2.clone(), ctx)?;
        if let Some([stage1, stage2]) = &self.fusion {
            let stage1 = stage1.layers(cell1).then_all(self.kept(mask)).record("stage1_embed", ctx);
            let stage2 = stage2.layers(cell2).then_all(self.kept(mask)).record("stage2_embed", ctx);
            x = ops::add(x, stage1.forward(s1.clone(), ctx)?)?;
            x = ops::add(x, stage2.forward(s2.clone(), ctx)?)?;
        }
        if let Some(norm) = &self.norm {
            x = norm.forward(x, ctx)?;
        }
        let s4 = self.s4.as_ref().map(|s4| s4.forward(x.clone(), ctx)).transpose()?;
        let levels = self.levels.iter().zip([s1, s2, x].into_iter().chain(s4));
        Ok(Features {
            levels: levels.map(|(shape, tokens)| Level { shape: shape.clone(), tokens }).collect(),
            mask: mask.cloned(),
        })
    }
}

impl ConvViTModule {
    /// The patches that the convolutional stages compute, under each mask of each image.
    fn layout(&self, images: usize, mask: Option<&Rc<Mask>>) -> Result<PatchLayout> {
        let (rows, cols) = (self.grid.rows, self.grid.cols);
        match mask {
            Some(mask) if self.sparse => PatchLayout::new(rows, cols, 1, mask.kept, mask.ids_keep.clone()),
            _ => {
                let masks = mask.map_or(1, |mask| mask.masks);
                Ok(PatchLayout::dense(images * masks, rows, cols, 1))
            }
        }
    }

    /// Which positions of a densely computed stage the depthwise convolution sees, `[B * M, L * cell * cell]`
    /// grouped by patch.
    fn visible(&self, mask: Option<&Rc<Mask>>, stage: usize, cell: usize) -> Option<Rc<[f32]>> {
        let mask = mask.filter(|_| !self.sparse && self.masked_convolution)?;
        if mask.stages.is_empty() {
            let area = cell * cell;
            return Some(
                mask.removed.iter().flat_map(|removed| std::iter::repeat_n(1.0 - removed, area)).collect(),
            );
        }
        let (rows, cols) = (self.grid.rows, self.grid.cols);
        let removed = &mask.stages[stage];
        let images = removed.chunks_exact(rows * cols * cell * cell);
        let positions = images.flat_map(|image| {
            (0..rows * cols).flat_map(move |patch| {
                let corner = (patch / cols * cols * cell + patch % cols) * cell;
                (0..cell * cell).map(move |at| 1.0 - image[corner + at / cell * cols * cell + at % cell])
            })
        });
        Some(positions.collect())
    }

    /// Takes the kept tokens of a densely computed map.
    fn kept(&self, mask: Option<&Rc<Mask>>) -> Option<GatherTokens> {
        mask.filter(|_| !self.sparse).map(|mask| GatherTokens { ids: mask.ids_keep.clone() })
    }

    /// Multiply-adds of everything before the transformer blocks, for a number of patches.
    fn convolutional_macs(&self, patches: usize) -> u64 {
        let [cell1, cell2, _] = self.cells;
        let (stage1, stage2) = (patches * cell1 * cell1, patches * cell2 * cell2);
        let embeds =
            self.patch_embed1.macs(stage1) + self.patch_embed2.macs(stage2) + self.patch_embed3.macs(patches);
        let blocks1: u64 = self.blocks1.iter().map(|block| block.macs(stage1)).sum();
        let blocks2: u64 = self.blocks2.iter().map(|block| block.macs(stage2)).sum();
        let fusion: u64 = self.fusion.iter().flatten().map(|conv| conv.macs(patches)).sum();
        embeds + self.patch_embed4.macs(patches) + blocks1 + blocks2 + fusion
    }
}

#[cfg(test)]
mod tests {
    use convmae_framework::component::{Backbone as _, ImageShape, MaskPlan};
    use convmae_framework::nn::Scope;
    use convmae_framework::random::{Purpose, stream};

    use super::*;
    use crate::backbones::conv_vit::{Computation, ConvViT};

    /// The mask of an earlier stage that is the token mask, upsampled.
    fn upsampled(mask: &Mask, cell: usize) -> Vec<f32> {
        let (rows, cols) = (mask.grid.rows, mask.grid.cols);
        let images = mask.removed.chunks_exact(rows * cols);
        images
            .flat_map(|image| {
                (0..rows * cell * cols * cell).map(move |at| {
                    let (row, col) = (at / (cols * cell), at % (cols * cell));
                    image[row / cell * cols + col / cell]
                })
            })
            .collect()
    }

    #[test]
    fn masks_of_stages_lie_where_their_positions_lie() {
        let spec = ConvViT {
            patch_size: [2, 2, 2],
            embed_dim: [4, 4, 8],
            depth: [1, 1, 1],
            num_heads: 2,
            mlp_ratio: [1.0; 3],
            kernel_size: 3,
            multi_scale_fusion: true,
            computation: Computation::Dense,
            ..ConvViT::default()
        };
        let image = ImageShape { channels: 3, height: 16, width: 24 };
        let grid = spec.mask_grid(image).unwrap();
        let plan = MaskPlan { masks: 1, kept: 2, independent_stages: false };
        let module = spec.build(&Scope::new(3), image, Some(&plan)).unwrap();
        let ctx = Context::eval(stream(Purpose::Evaluate, &[0]));
        let noise = ctx.uniform("noise", 2, grid.tokens()).unwrap();
        let tokens = Mask::from_noise(&grid, 2, &noise);
        let stages = vec![upsampled(&tokens, 4), upsampled(&tokens, 2)];
        let by_stage = Mask { stages, ..tokens.clone() };
        let pixels = (0..2 * 3 * 16 * 24).map(|i| (i as f32 * 0.7).sin()).collect();
        let images = Images::from_vec(pixels, (2, 3, 16, 24));
        let features = |mask: Mask| {
            let features = module.forward(&images, Some(&Rc::new(mask)), &ctx).unwrap();
            features.levels.iter().map(|level| level.tokens.to_vec().unwrap()).collect::<Vec<_>>()
        };
        let (expected, unmasked) =
            (features(tokens.clone()), features(Mask { removed: vec![0.0; 12], ..tokens }));
        assert_ne!(expected[0], unmasked[0], "the mask matters");
        assert_eq!(features(by_stage), expected);
    }
}
