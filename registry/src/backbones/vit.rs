//! The plain vision transformer of MAE.

use std::rc::Rc;

use convmae_framework::component::{
    Backbone, BackboneModule, Features, ImageShape, Level, LevelShape, Macs, Mask, MaskGrid, MaskPlan,
    Problem,
};
use convmae_framework::nn::layers::{Block, BlockConfig, LayerNorm, MergeConv};
use convmae_framework::nn::ops::{PrependToken, Sequential};
use convmae_framework::nn::{self, Context, Images, Init, Param, PatchLayout, Scope};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::checks;
use crate::transformer::{
    GridAttention, InitialValues, PositionEmbedding, RelativePositionKind, TRANSFORMER_EPS, WindowAttention,
    drop_path_rates, plain_blocks, transformer_blocks,
};

/// The vision transformer of MAE, the paper's baseline: a patch embedding, a cls token, transformer blocks
/// over the kept tokens (`models_mae.py` of facebookresearch/mae; `modeling/backbone/vit.py` of detectron2
/// for detection, without a cls token and a last LayerNorm; `backbones/mae.py` of mmsegmentation, with
/// `out_indices`). Yields the level `s1`, or one for each of `out_indices`.
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
    /// Whether the position embedding is trained.
    pub train_pos_embed: bool,
    /// Side of the grid of the position embedding, which is resized (bicubic) to that of the tokens in every
    /// forward; that of the tokens if left out. Without a cls token only.
    #[schemars(range(min = 1, max = 1024))]
    pub pos_embed_grid: Option<usize>,
    /// Whether a cls token comes before the others. The position embedding has a row for it in any case.
    pub cls_token: bool,
    /// Whether a LayerNorm ends the blocks.
    pub final_norm: bool,
    /// The blocks, counted from 0, whose tokens are the levels `s1`, `s2`, ..; the last block if left out, and the
    /// last of several in any case.
    #[schemars(extend("examples" = [[3, 5, 7, 11]]))]
    pub out_indices: Option<Vec<usize>>,
    /// Which blocks attend within windows; none if left out. Without a cls token only.
    pub window: Option<WindowAttention>,
    /// What the attention scores learn about the offset between two tokens. Beside a cls token `bias` only.
    pub relative_positions: RelativePositionKind,
    /// Initial value of learned factors of the channels of both branches of the transformer blocks (layer
    /// scale); none if left out.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub init_values: Option<f32>,
    /// The values that the parameters start with, where no weights are loaded.
    pub init: InitialValues,
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
            pos_embed_grid: None,
            cls_token: true,
            final_norm: true,
            out_indices: None,
            window: None,
            relative_positions: RelativePositionKind::default(),
            init_values: None,
            init: InitialValues::default(),
        }
    }
}

impl ViT {
    /// That what needs the tokens of a whole grid, and nothing else, has them.
    fn check_grid(&self, mask: Option<&MaskPlan>) -> Result<(), Problem> {
        let keys = [
            ("window", self.window.is_some()),
            (
                "relative_positions",
                !matches!(self.relative_positions, RelativePositionKind::None | RelativePositionKind::Bias),
            ),
            ("pos_embed_grid", self.pos_embed_grid.is_some()),
        ];
        for (key, is_on) in keys {
            if is_on && self.cls_token {
                return Err(Problem::new(
                    key,
                    "it needs the tokens of a grid, and a cls token is none of them",
                )
                .help("set `cls_token: false`"));
            }
        }
        if mask.is_some() && !self.cls_token {
            let message = "without a cls token it needs all patches, and a masker takes some away";
            return Err(Problem::new("cls_token", message).help("remove it, or the masker"));
        }
        if mask.is_some() && self.relative_positions != RelativePositionKind::None {
            let message = "it needs the tokens of a grid, and a masker takes some away";
            return Err(Problem::new("relative_positions", message).help("remove it, or the masker"));
        }
        Ok(())
    }

    /// How many blocks lead to each level from the one before.
    fn stages(&self) -> Result<Vec<usize>, Problem> {
        let Some(indices) = &self.out_indices else { return Ok(vec![self.depth]) };
        let ends: Vec<usize> = indices.iter().map(|index| index + 1).collect();
        let ascend = ends.array_windows().all(|[one, next]| one < next);
        if !ascend || ends.last() != Some(&self.depth) {
            let message = format!("{indices:?} of {} blocks, counted from 0", self.depth);
            return Err(Problem::new("out_indices", message).help("they ascend, up to the last block"));
        }
        let starts = std::iter::once(&0).chain(&ends);
        Ok(starts.zip(&ends).map(|(start, end)| end - start).collect())
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

    fn blocks(&self) -> Vec<Vec<String>> {
        let mut before = vec!["patch_embed.*".to_owned(), "pos_embed".to_owned()];
        before.extend(self.cls_token.then(|| "cls_token".to_owned()));
        let block = |at| std::mem::take(&mut before).into_iter().chain([format!("blocks.{at}.*")]).collect();
        (0..self.depth).map(block).collect()
    }

    fn build(
        &self,
        scope: &Scope,
        image: ImageShape,
        mask: Option<&MaskPlan>,
    ) -> Result<Box<dyn BackboneModule>, Problem> {
        let grid = self.mask_grid(image)?;
        self.check_grid(mask)?;
        let (dim, patch, tokens) = (self.embed_dim, self.patch_size, (grid.rows, grid.cols));
        checks::heads(dim, self.num_heads)?;
        checks::sin_cos("embed_dim", dim)?;
        checks::hidden("mlp_ratio", dim, self.mlp_ratio)?;
        let fan_in = image.channels * patch * patch;
        let scope = &self.init.within(scope);
        // The layers of the layer-wise learning rate decay.
        let first = scope.at_layer(0);
        let cls_token = || first.param("cls_token", &[1, 1, dim], &Init::Normal { std: 0.02 });
        let attention = GridAttention {
            grid: tokens,
            cls_token: self.cls_token,
            window: self.window.as_ref(),
            positions: self.relative_positions,
        };
        let blocks =
            BlockConfig { init_values: self.init_values, ..plain_blocks(self.num_heads, self.mlp_ratio) };
        let level = LevelShape {
            name: String::new(),
            rows: grid.rows,
            cols: grid.cols,
            kept: mask.map_or(grid.tokens(), |mask| mask.kept),
            cell: 1,
            prefix_tokens: usize::from(self.cls_token),
            channels: dim,
            stride: patch,
        };
        let stages = self.stages()?;
        let named = |at| LevelShape { name: format!("s{at}"), ..level.clone() };
        let module = ViTModule {
            cls_token: self.cls_token.then(cls_token),
            pos_embed: PositionEmbedding::new(
                &first,
                tokens,
                self.pos_embed_grid,
                dim,
                1,
                self.train_pos_embed,
                self.init,
            )?,
            proj: MergeConv::with_init(
                &first.child("patch_embed").child("proj"),
                image.channels,
                dim,
                patch,
                &match self.init {
                    InitialValues::Mae => Init::xavier_uniform(fan_in, dim),
                    InitialValues::Timm => Init::kaiming_uniform(fan_in),
                },
                &Init::kaiming_uniform(fan_in),
            ),
            blocks: transformer_blocks(
                &scope.child("blocks").at_layer(1),
                dim,
                &drop_path_rates(self.drop_path, self.depth),
                attention.configure(scope, dim, self.depth, blocks)?,
            )?,
            norm: self.final_norm.then(|| LayerNorm::new(&scope.child("norm"), dim, TRANSFORMER_EPS)),
            levels: (1..=stages.len()).map(named).collect(),
            stages,
        };
        Ok(Box::new(module))
    }
}

convmae_framework::register!(Backbone: ViT);

struct ViTModule {
    /// All of one shape.
    levels: Vec<LevelShape>,
    /// How many blocks lead to each.
    stages: Vec<usize>,
    cls_token: Option<Param>,
    pos_embed: PositionEmbedding,
    proj: MergeConv,
    blocks: Vec<Block>,
    norm: Option<LayerNorm>,
}

impl BackboneModule for ViTModule {
    fn levels(&self) -> Vec<LevelShape> {
        self.levels.clone()
    }

    fn macs(&self) -> Macs {
        let level = &self.levels[0];
        let blocks: u64 = self.blocks.iter().map(|block| block.macs(level.tokens())).sum();
        Macs {
            computed: self.proj.macs(level.kept) + blocks,
            dense: self.proj.macs(level.rows * level.cols) + blocks,
        }
    }

    fn forward(&self, images: &Images, mask: Option<&Rc<Mask>>, ctx: &Context) -> nn::Result<Features> {
        let LevelShape { rows, cols, kept, prefix_tokens, .. } = self.levels[0];
        let (count, ..) = images.shape().dims4()?;
        let layout = match mask {
            Some(mask) => PatchLayout::new(rows, cols, 1, kept, mask.ids_keep.clone())?,
            None => PatchLayout::dense(count, rows, cols, 1),
        };
        let batch = layout.batch();
        let positions = self.pos_embed.layers(&layout, prefix_tokens);
        let mut layers = Sequential::new()
            .then(self.proj.pixel_layers())
            .then_all(self.cls_token.clone().map(|token| PrependToken { token }))
            .then(positions);
        let (mut tokens, mut blocks) = (self.proj.pixels(images, &layout)?, self.blocks.as_slice());
        let mut levels = Vec::with_capacity(self.levels.len());
        for (shape, &stage) in self.levels.iter().zip(&self.stages) {
            let of_stage;
            (of_stage, blocks) = blocks.split_at(stage);
            let norm = self.norm.clone().filter(|_| blocks.is_empty());
            let of_stage = of_stage.iter().map(|block| block.layers(batch, ctx));
            tokens = layers.then_all(of_stage).then_all(norm).forward(tokens, ctx)?;
            levels.push(Level { shape: shape.clone(), tokens: tokens.clone() });
            layers = Sequential::new();
        }
        Ok(Features { levels, mask: mask.cloned() })
    }
}

#[cfg(test)]
mod tests {
    use convmae_framework::random::{Purpose, stream};
    use serde_json::json;

    use super::*;
    use crate::transformer::assert_trunc_normal;

    const IMAGE: ImageShape = ImageShape { channels: 3, height: 32, width: 48 };

    fn narrow(options: &serde_json::Value) -> ViT {
        let mut spec = json!({ "patch_size": 8, "embed_dim": 8, "depth": 2, "num_heads": 2 });
        spec.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
        serde_json::from_value(spec).unwrap()
    }

    /// The tokens of one image, with parameters of a fixed random content.
    fn tokens(options: &serde_json::Value) -> Vec<f32> {
        let scope = Scope::new(0);
        let module = narrow(options).build(&scope, IMAGE, None).unwrap();
        for param in scope.params().iter().filter(|param| param.name().contains("rel_pos")) {
            let values: Vec<f32> = (0..param.numel()).map(|at| (at as f32 * 0.7).sin()).collect();
            param.set(&values).unwrap();
        }
        let pixels = (0..3 * 32 * 48).map(|at| (at as f32 * 0.3).sin()).collect();
        let images = Images::from_vec(pixels, (1, 3, 32, 48));
        let ctx = Context::eval(stream(Purpose::Evaluate, &[0]));
        module.forward(&images, None, &ctx).unwrap().levels[0].tokens.to_vec().unwrap()
    }

    #[test]
    fn without_a_cls_token_its_parameters_are_those_of_detectron2() {
        let options = json!({
            "cls_token": false, "final_norm": false, "pos_embed_grid": 3, "train_pos_embed": true,
            "relative_positions": "decomposed", "window": { "size": 3, "global_blocks": [1] },
        });
        let scope = Scope::describe();
        let module = narrow(&options).build(&scope, IMAGE, None).unwrap();
        let level = module.levels().pop().unwrap();
        assert_eq!((level.prefix_tokens, level.tokens()), (0, 24));
        let params = scope.params();
        let shape = |name: &str| params.iter().find(|param| param.name() == name).map(Param::shape);
        assert_eq!(shape("pos_embed"), Some(&[1, 10, 8][..]));
        assert_eq!(shape("blocks.0.attn.rel_pos_h"), Some(&[5, 4][..]));
        assert_eq!(shape("blocks.1.attn.rel_pos_w"), Some(&[11, 4][..]));
        assert_eq!((shape("cls_token"), shape("norm.weight")), (None, None));
    }

    /// `backbones/mae.py` of mmsegmentation and `backbone/beit.py` of `BEiT`'s segmentation, where the grid is 4 x 6.
    #[test]
    fn several_levels_are_the_tokens_behind_their_blocks() {
        let options = json!({
            "depth": 4, "out_indices": [0, 2, 3], "final_norm": false, "train_pos_embed": true,
            "relative_positions": "bias", "init_values": 0.5,
        });
        let scope = Scope::new(0);
        let module = narrow(&options).build(&scope, IMAGE, None).unwrap();
        let names: Vec<_> = module.levels().iter().map(|level| level.name.clone()).collect();
        assert_eq!(names, ["s1", "s2", "s3"]);
        let params = scope.params();
        let shape = |name: &str| params.iter().find(|param| param.name() == name).map(Param::shape);
        assert_eq!(shape("pos_embed"), Some(&[1, 25, 8][..]));
        assert_eq!(shape("blocks.3.attn.relative_position_bias_table"), Some(&[7 * 11 + 3, 2][..]));
        assert_eq!(shape("blocks.0.gamma_1"), Some(&[8][..]));
        let forward = |spec: &serde_json::Value| -> Vec<Vec<f32>> {
            let module = narrow(spec).build(&Scope::new(0), IMAGE, None).unwrap();
            let pixels = (0..3 * 32 * 48).map(|at| (at as f32 * 0.3).sin()).collect();
            let ctx = Context::eval(stream(Purpose::Evaluate, &[0]));
            let features = module.forward(&Images::from_vec(pixels, (1, 3, 32, 48)), None, &ctx).unwrap();
            features.levels.iter().map(|level| level.tokens.to_vec().unwrap()).collect()
        };
        let several = forward(&options);
        // Each is what a transformer of so many blocks yields.
        for (at, depth) in [1, 3, 4].into_iter().enumerate() {
            let mut shallow = options.clone();
            (shallow["depth"], shallow["out_indices"]) = (json!(depth), json!(null));
            assert_eq!(forward(&shallow), [several[at].clone()]);
        }
        for indices in [json!([0, 2]), json!([2, 0, 3]), json!([]), json!([4])] {
            let mut options = options.clone();
            options["out_indices"] = indices;
            let problem = narrow(&options).build(&Scope::describe(), IMAGE, None).err().unwrap();
            assert_eq!(problem.key, "out_indices");
        }
    }

    /// timm's `VisionTransformer`, and detectron2's `ViT`.
    #[test]
    fn a_model_from_scratch_starts_with_the_values_of_timm() {
        let scope = Scope::new(0);
        let spec: ViT = serde_json::from_value(json!({
            "patch_size": 4, "embed_dim": 64, "depth": 1, "num_heads": 2, "train_pos_embed": true, "init": "timm",
        }))
        .unwrap();
        spec.build(&scope, IMAGE, None).unwrap();
        let values = |name: &str| {
            let params = scope.params();
            params.iter().find(|param| param.name() == name).unwrap().to_vec().unwrap()
        };
        for name in
            ["blocks.0.attn.qkv.weight", "blocks.0.attn.proj.weight", "blocks.0.mlp.fc1.weight", "pos_embed"]
        {
            assert_trunc_normal(name, &values(name));
        }
        assert!(values("blocks.0.mlp.fc1.bias").iter().all(|&value| value == 0.0));
        // The projection is a convolution, as PyTorch makes it: 3 channels of 4 x 4 pixels.
        let bound = (1.0 / 48.0_f32).sqrt();
        let largest =
            values("patch_embed.proj.weight").iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        assert!((0.98 * bound..=bound).contains(&largest), "{largest}");
    }

    #[test]
    fn the_first_blocks_take_what_comes_before_them_along() {
        let expected: [&[&str]; 2] =
            [&["patch_embed.*", "pos_embed", "cls_token", "blocks.0.*"], &["blocks.1.*"]];
        assert_eq!(narrow(&json!({})).blocks(), expected);
    }

    #[test]
    fn what_a_token_sees_is_its_window_in_all_blocks_but_the_global_ones() {
        let options = |size: usize, global: &[usize]| {
            json!({ "cls_token": false, "relative_positions": "decomposed",
                    "window": { "size": size, "global_blocks": global } })
        };
        // Where all blocks are global the size does not matter.
        assert_eq!(tokens(&options(2, &[0, 1])), tokens(&options(3, &[0, 1])));
        assert_ne!(tokens(&options(2, &[0, 1])), tokens(&options(2, &[0])));
        assert_ne!(tokens(&options(2, &[])), tokens(&options(3, &[])));
    }

    #[test]
    fn what_needs_a_grid_is_refused_beside_a_cls_token() {
        for (key, value) in [
            ("relative_positions", json!("decomposed")),
            ("relative_positions", json!("shared_bias")),
            ("window", json!({ "size": 2, "global_blocks": [] })),
            ("pos_embed_grid", json!(3)),
        ] {
            let problem =
                narrow(&json!({ key: value })).build(&Scope::describe(), IMAGE, None).err().unwrap();
            assert_eq!(problem.key, key);
            assert!(problem.message.contains("cls token"), "{}", problem.message);
        }
        let mask = MaskPlan { masks: 1, kept: 6, independent_stages: false };
        let biased = narrow(&json!({ "relative_positions": "bias" }));
        let problem = biased.build(&Scope::describe(), IMAGE, Some(&mask)).err().unwrap();
        assert_eq!(problem.key, "relative_positions");
        assert!(problem.message.contains("a masker takes some away"), "{}", problem.message);
    }
}
