//! The plain vision transformer of MAE.

use std::rc::Rc;

use convmae_framework::component::{
    Backbone, BackboneModule, Features, ImageShape, Level, LevelShape, Macs, Mask, MaskGrid, MaskPlan,
    Problem,
};
use convmae_framework::nn::layers::{Block, LayerNorm, MergeConv};
use convmae_framework::nn::ops::{AddPositions, PrependToken, Sequential};
use convmae_framework::nn::{self, Context, Init, Param, PatchLayout, Scope, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::checks;
use crate::transformer::{
    TRANSFORMER_EPS, drop_path_rates, plain_blocks, position_embedding, transformer_blocks,
};

/// The vision transformer of MAE, the paper's baseline: a patch embedding, a cls token, transformer blocks
/// over the kept tokens (`models_mae.py` of facebookresearch/mae). Yields the level `s1`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ViT {
    /// Pixels along each side of a patch.
    #[schemars(range(min = 1, max = 1024))]
    pub patch_size: usize,
    /// Channels.
    #[schemars(range(min = 4, max = 65536))]
    pub embed_dim: usize,
    /// Transformer blocks.
    #[schemars(range(max = 1024))]
    pub depth: usize,
    /// Attention heads.
    #[schemars(range(min = 1))]
    pub num_heads: usize,
    /// Hidden channels of the MLP, as a multiple of the channels.
    #[schemars(range(min = 0.0, max = 1024.0))]
    pub mlp_ratio: f32,
    /// Largest rate of stochastic depth; it grows linearly with the depth of a block.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub drop_path: f32,
    /// Whether the position embedding is trained; it starts as sines and cosines in any case.
    pub train_pos_embed: bool,
}

impl Default for ViT {
    fn default() -> Self {
        Self {
            patch_size: 16,
            embed_dim: 768,
            depth: 12,
            num_heads: 12,
            mlp_ratio: 4.0,
            drop_path: 0.0,
            train_pos_embed: false,
        }
    }
}

#[typetag::serde]
impl Backbone for ViT {
    fn mask_grid(&self, image: ImageShape) -> Result<MaskGrid, Problem> {
        let patch = self.patch_size;
        if !image.height.is_multiple_of(patch) || !image.width.is_multiple_of(patch) {
            let message = format!(
                "patches of {patch} pixels do not divide images of {} x {}",
                image.height, image.width
            );
            return Err(Problem::new("patch_size", message).help("choose a divisor of the `image_size`"));
        }
        Ok(MaskGrid { rows: image.height / patch, cols: image.width / patch, cells: Vec::new() })
    }

    fn build(
        &self,
        scope: &Scope,
        image: ImageShape,
        mask: Option<&MaskPlan>,
    ) -> Result<Box<dyn BackboneModule>, Problem> {
        let grid = self.mask_grid(image)?;
        let (dim, patch) = (self.embed_dim, self.patch_size);
        checks::heads(dim, self.num_heads)?;
        checks::sin_cos("embed_dim", dim)?;
        checks::hidden("mlp_ratio", dim, self.mlp_ratio)?;
        let fan_in = image.channels * patch * patch;
        // The layers of the layer-wise learning rate decay.
        let first = scope.at_layer(0);
        let module = ViTModule {
            cls_token: first.param("cls_token", &[1, 1, dim], &Init::Normal { std: 0.02 }),
            pos_embed: position_embedding(
                &first,
                "pos_embed",
                (grid.rows, grid.cols),
                dim,
                1,
                self.train_pos_embed,
            )?,
            proj: MergeConv::with_init(
                &first.child("patch_embed").child("proj"),
                image.channels,
                dim,
                patch,
                &Init::xavier_uniform(fan_in, dim),
                &Init::kaiming_uniform(fan_in),
            ),
            blocks: transformer_blocks(
                &scope.child("blocks").at_layer(1),
                dim,
                &plain_blocks(self.num_heads, self.mlp_ratio),
                &drop_path_rates(self.drop_path, self.depth),
            )?,
            norm: LayerNorm::new(&scope.child("norm"), dim, TRANSFORMER_EPS),
            level: LevelShape {
                name: "s1".to_owned(),
                rows: grid.rows,
                cols: grid.cols,
                kept: mask.map_or(grid.tokens(), |mask| mask.kept),
                cell: 1,
                prefix_tokens: 1,
                channels: dim,
                stride: patch,
            },
        };
        Ok(Box::new(module))
    }
}

convmae_framework::register!(Backbone: ViT);

struct ViTModule {
    level: LevelShape,
    cls_token: Param,
    pos_embed: Param,
    proj: MergeConv,
    blocks: Vec<Block>,
    norm: LayerNorm,
}

impl BackboneModule for ViTModule {
    fn levels(&self) -> Vec<LevelShape> {
        vec![self.level.clone()]
    }

    fn macs(&self) -> Macs {
        let blocks: u64 = self.blocks.iter().map(|block| block.macs(self.level.tokens())).sum();
        Macs {
            computed: self.proj.macs(self.level.kept) + blocks,
            dense: self.proj.macs(self.level.rows * self.level.cols) + blocks,
        }
    }

    fn forward(&self, images: &Tensor, mask: Option<&Rc<Mask>>, ctx: &Context) -> nn::Result<Features> {
        let LevelShape { rows, cols, kept, .. } = self.level;
        let (batch, ..) = images.dims4()?;
        let layout = match mask {
            Some(mask) => PatchLayout::new(rows, cols, 1, kept, mask.ids_keep.clone())?,
            None => PatchLayout::dense(batch, rows, cols, 1),
        };
        let positions = AddPositions {
            table: self.pos_embed.clone(),
            grid: rows * cols,
            ids: Some(layout.ids.clone()),
            prefix: 1,
        };
        let tokens = Sequential::new()
            .then(self.proj.image_layers(&Rc::new(layout)))
            .then(PrependToken { token: self.cls_token.clone() })
            .then(positions)
            .then_all(self.blocks.iter().map(|block| block.layers(batch, ctx)))
            .then(self.norm.clone())
            .forward(images.clone(), ctx)?;
        Ok(Features { levels: vec![Level { shape: self.level.clone(), tokens }], mask: mask.cloned() })
    }
}
