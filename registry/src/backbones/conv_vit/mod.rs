//! The ConvMAE backbone: two convolutional stages, then a transformer.

mod coarser;
mod module;

use convmae_framework::component::{
    Backbone, BackboneModule, ImageShape, LevelShape, MaskGrid, MaskPlan, Problem,
};
use convmae_framework::nn::Scope;
use convmae_framework::nn::layers::{
    BlockConfig, ConvBlock, ConvBlockConfig, LayerNorm, Linear, MergeConv, PatchEmbed,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::checks;
use crate::transformer::{
    GridAttention, InitialValues, PositionEmbedding, RelativePositionKind, TRANSFORMER_EPS, WindowAttention,
    drop_path_rates, transformer_blocks,
};
pub use coarser::Coarser;
use coarser::CoarserModule;
use module::ConvViTModule;

/// Two stages of convolution blocks, then a stage of transformer blocks (paper section 3.1;
/// `models_convmae.py` and `models_convvit.py` of the official code; `backbone/convmae.py` for segmentation,
/// `DET/models/convmae.py` and `modeling/backbone/convmae.py` of Official-ConvMAE-Det for detection). Yields
/// the levels `s1`, `s2` and `s3`, and with `s4` a coarser one.
///
/// Under block-wise masks only the kept patches are computed, at every stage; the numbers are those of the
/// dense computation.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ConvViT {
    /// Patch size of each stage's embedding, in positions of the stage before. Their product is the stride of
    /// a token.
    #[schemars(inner(range(min = 1, max = 1024)))]
    pub patch_size: [usize; 3],
    /// Channels of each stage.
    #[schemars(inner(range(min = 1, max = 65536)))]
    pub embed_dim: [usize; 3],
    /// Blocks of each stage.
    #[schemars(inner(range(max = 1024)))]
    pub depth: [usize; 3],
    /// Attention heads of the last stage.
    #[schemars(range(min = 1))]
    pub num_heads: usize,
    /// Hidden channels of each stage's MLP, as a multiple of its channels.
    #[schemars(inner(range(min = 0.0, max = 1024.0)))]
    pub mlp_ratio: [f32; 3],
    /// Kernel size of the depthwise convolutions; odd.
    #[schemars(range(min = 1, max = 255))]
    pub kernel_size: usize,
    /// Largest rate of stochastic depth; it grows linearly with the depth of a block.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub drop_path: f32,
    /// Whether the depthwise convolutions see zeros at masked positions (the paper's masked convolution) or
    /// everything (the ablation, which leaks).
    pub masked_convolution: bool,
    /// Whether the outputs of the first two stages are added to that of the last one (the encoder of
    /// pretraining).
    pub multi_scale_fusion: bool,
    /// Whether a LayerNorm ends the last stage (the encoder of pretraining; the classifier has its own).
    pub final_norm: bool,
    /// Whether the position embedding is trained.
    pub train_pos_embed: bool,
    /// Side of the grid of the position embedding, which is resized (bicubic) to that of the tokens in every
    /// forward; that of the tokens if left out.
    #[schemars(range(min = 1, max = 1024))]
    pub pos_embed_grid: Option<usize>,
    /// Epsilon of the LayerNorms of the convolution blocks; 1e-6 in Official-ConvMAE-Det.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub conv_norm_eps: f32,
    /// Epsilon of the LayerNorms of the transformer blocks and of the last one; 1e-5 in the official
    /// segmentation backbone.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub norm_eps: f32,
    /// Which transformer blocks attend within windows; none if left out.
    pub window: Option<WindowAttention>,
    /// What the attention scores learn about the offset between two tokens.
    pub relative_positions: RelativePositionKind,
    /// Initial value of learned factors of the channels of both branches of the transformer blocks (layer
    /// scale); none if left out.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub init_values: Option<f32>,
    /// What makes a level `s4` of half the resolution out of the last one; there is none if left out.
    pub s4: Option<Coarser>,
    /// `true` is `s4: conv`, in recipes of before.
    #[schemars(extend("deprecated" = true))]
    pub fpn: bool,
    /// `true` is `relative_positions: bias`, in recipes of before.
    #[schemars(extend("deprecated" = true))]
    pub relative_position_bias: bool,
    /// The values that the parameters start with, where no weights are loaded.
    pub init: InitialValues,
    /// Whether masked patches are left out (`sparse`) or computed and discarded (`dense`). The results are
    /// the same.
    pub computation: Computation,
}

impl Default for ConvViT {
    fn default() -> Self {
        Self {
            patch_size: [4, 2, 2],
            embed_dim: [256, 384, 768],
            depth: [2, 2, 11],
            num_heads: 12,
            mlp_ratio: [4.0; 3],
            kernel_size: 5,
            drop_path: 0.0,
            masked_convolution: true,
            multi_scale_fusion: false,
            final_norm: true,
            train_pos_embed: false,
            pos_embed_grid: None,
            conv_norm_eps: 1e-5,
            norm_eps: TRANSFORMER_EPS,
            window: None,
            relative_positions: RelativePositionKind::default(),
            init_values: None,
            s4: None,
            fpn: false,
            relative_position_bias: false,
            init: InitialValues::default(),
            computation: Computation::default(),
        }
    }
}

/// What happens to masked patches in the convolutional stages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Computation {
    /// They are not computed, wherever that is exact.
    #[default]
    Sparse,
    /// They are computed, as in the official code.
    Dense,
}

impl ConvViT {
    /// Positions along each side of a token's patch, at each stage: `[4, 2, 1]`.
    fn cells(&self) -> [usize; 3] {
        let [_, second, third] = self.patch_size;
        [second * third, third, 1]
    }

    fn check(&self, image: ImageShape) -> Result<(), Problem> {
        let stride: usize = self.patch_size.iter().product();
        if !image.height.is_multiple_of(stride) || !image.width.is_multiple_of(stride) {
            let nearest = (image.height / stride).max(1) * stride;
            return Err(Problem::new(
                "patch_size",
                format!(
                    "patches of {stride} pixels do not divide images of {} x {}",
                    image.height, image.width
                ),
            )
            .help(format!(
                "choose an `image_size` that {stride} divides, such as {nearest}, or other patch sizes"
            )));
        }
        for (stage, (&dim, &ratio)) in self.embed_dim.iter().zip(&self.mlp_ratio).enumerate() {
            checks::hidden(&format!("mlp_ratio.{stage}"), dim, ratio)?;
        }
        checks::heads(self.embed_dim[2], self.num_heads)?;
        checks::sin_cos("embed_dim.2", self.embed_dim[2])?;
        if self.kernel_size.is_multiple_of(2) {
            return Err(Problem::new("kernel_size", format!("{} is even", self.kernel_size))
                .help("an odd kernel has a centre: 3, 5, 7, ..."));
        }
        Ok(())
    }

    /// The same without the keys of recipes of before.
    fn in_todays_keys(&self) -> Self {
        let positions = match self.relative_position_bias {
            true if self.relative_positions == RelativePositionKind::None => RelativePositionKind::Bias,
            _ => self.relative_positions,
        };
        let s4 = self.s4.or(self.fpn.then_some(Coarser::Conv));
        Self { s4, fpn: false, relative_positions: positions, relative_position_bias: false, ..self.clone() }
    }

    /// That what needs all tokens has them.
    fn check_dense(&self, grid: &MaskGrid, mask: Option<&MaskPlan>) -> Result<(), Problem> {
        let keys = [
            ("window", self.window.is_some()),
            ("relative_positions", self.relative_positions != RelativePositionKind::None),
            ("pos_embed_grid", self.pos_embed_grid.is_some()),
            ("s4", self.s4.is_some()),
        ];
        for (key, is_on) in keys {
            if is_on && mask.is_some() {
                return Err(Problem::new(key, "it needs all patches, and a masker takes some away")
                    .help("remove it, or the masker"));
            }
        }
        if let Some(kernel) = self.s4.map(Coarser::kernel)
            && grid.rows.min(grid.cols) < kernel
        {
            let message = format!(
                "there are {} x {} tokens, fewer than a kernel of {kernel} x {kernel} needs",
                grid.rows, grid.cols
            );
            return Err(Problem::new("s4", message).help("choose a larger `image_size`, or smaller patches"));
        }
        Ok(())
    }

    /// Whether the convolutional stages compute kept patches only.
    fn is_sparse(&self, mask: Option<&MaskPlan>) -> bool {
        self.computation == Computation::Sparse
            && self.masked_convolution
            && mask.is_some_and(|mask| !mask.independent_stages)
    }

    fn level_shapes(&self, grid: &MaskGrid, mask: Option<&MaskPlan>) -> Vec<LevelShape> {
        let kept = mask.map_or(grid.tokens(), |mask| mask.kept);
        let early = if self.is_sparse(mask) { kept } else { grid.tokens() };
        let strides =
            [self.patch_size[0], self.patch_size[0] * self.patch_size[1], self.patch_size.iter().product()];
        let shape = |stage: usize| LevelShape {
            name: format!("s{}", stage + 1),
            rows: grid.rows,
            cols: grid.cols,
            kept: if stage == 2 { kept } else { early },
            cell: self.cells()[stage],
            prefix_tokens: 0,
            channels: self.embed_dim[stage],
            stride: strides[stage],
        };
        let coarser = |kind: Coarser| {
            let (rows, cols, last) = (kind.side(grid.rows), kind.side(grid.cols), shape(2));
            LevelShape {
                name: "s4".to_owned(),
                rows,
                cols,
                kept: rows * cols,
                stride: 2 * last.stride,
                ..last
            }
        };
        (0..3).map(shape).chain(self.s4.map(coarser)).collect()
    }
}

#[typetag::serde]
impl Backbone for ConvViT {
    fn mask_grid(&self, image: ImageShape) -> Result<MaskGrid, Problem> {
        self.check(image)?;
        let stride: usize = self.patch_size.iter().product();
        let [first, second, _] = self.cells();
        Ok(MaskGrid { rows: image.height / stride, cols: image.width / stride, cells: vec![first, second] })
    }

    fn blocks(&self) -> Vec<Vec<String>> {
        let embeddings: [&[&str]; 3] =
            [&["patch_embed1.*"], &["patch_embed2.*"], &["patch_embed3.*", "patch_embed4.*", "pos_embed"]];
        let (mut blocks, mut before) = (Vec::new(), Vec::new());
        for (stage, (embeddings, depth)) in embeddings.into_iter().zip(self.depth).enumerate() {
            before.extend(embeddings.iter().map(|&name| name.to_owned()));
            for block in 0..depth {
                before.push(format!("blocks{}.{block}.*", stage + 1));
                blocks.push(std::mem::take(&mut before));
            }
        }
        blocks
    }

    fn build(
        &self,
        scope: &Scope,
        image: ImageShape,
        mask: Option<&MaskPlan>,
    ) -> Result<Box<dyn BackboneModule>, Problem> {
        if self.fpn || self.relative_position_bias {
            return self.in_todays_keys().build(scope, image, mask);
        }
        let grid = self.mask_grid(image)?;
        self.check_dense(&grid, mask)?;
        let scope = &self.init.within(scope);
        let [dim1, dim2, dim3] = self.embed_dim;
        let rates = drop_path_rates(self.drop_path, self.depth.iter().sum());
        let (rates1, rest) = rates.split_at(self.depth[0]);
        let (rates2, rates3) = rest.split_at(self.depth[1]);
        // For the layer-wise learning rate decay all before the transformer is one layer
        // (`util/lr_decay.py`).
        let first = scope.at_layer(0);
        let conv_blocks = |stage: usize, rates: &[f32]| -> Vec<ConvBlock> {
            let scope = first.child(format!("blocks{}", stage + 1));
            let block = |(at, &drop_path)| {
                let config = ConvBlockConfig {
                    kernel: self.kernel_size,
                    mlp_ratio: self.mlp_ratio[stage],
                    eps: self.conv_norm_eps,
                    drop_path,
                };
                ConvBlock::new(&scope.child(at), self.embed_dim[stage], &config)
            };
            rates.iter().enumerate().map(block).collect()
        };
        let [patch1, patch2, patch3] = self.patch_size;
        let tokens = (grid.rows, grid.cols);
        let blocks3 = BlockConfig {
            heads: self.num_heads,
            mlp_ratio: self.mlp_ratio[2],
            eps: self.norm_eps,
            drop_path: 0.0,
            init_values: self.init_values,
            windows: None,
            relative_positions: None,
        };
        let attention = GridAttention {
            grid: tokens,
            cls_token: false,
            window: self.window.as_ref(),
            positions: self.relative_positions,
        };
        let module = ConvViTModule {
            cells: self.cells(),
            masked_convolution: self.masked_convolution,
            levels: self.level_shapes(&grid, mask),
            sparse: self.is_sparse(mask),
            pos_embed: PositionEmbedding::new(
                &first,
                tokens,
                self.pos_embed_grid,
                dim3,
                0,
                self.train_pos_embed,
                self.init,
            )?,
            patch_embed1: PatchEmbed::new(&first.child("patch_embed1"), image.channels, dim1, patch1),
            patch_embed2: PatchEmbed::new(&first.child("patch_embed2"), dim1, dim2, patch2),
            patch_embed3: match self.init {
                InitialValues::Mae => PatchEmbed::xavier(&first.child("patch_embed3"), dim2, dim3, patch3),
                InitialValues::Timm => PatchEmbed::new(&first.child("patch_embed3"), dim2, dim3, patch3),
            },
            patch_embed4: Linear::new(&first.child("patch_embed4"), dim3, dim3),
            fusion: self.multi_scale_fusion.then(|| {
                let [cell1, cell2, _] = self.cells();
                [
                    MergeConv::new(&scope.child("stage1_output_decode"), dim1, dim3, cell1),
                    MergeConv::new(&scope.child("stage2_output_decode"), dim2, dim3, cell2),
                ]
            }),
            blocks1: conv_blocks(0, rates1),
            blocks2: conv_blocks(1, rates2),
            blocks3: transformer_blocks(
                &scope.child("blocks3").at_layer(1),
                dim3,
                rates3,
                attention.configure(scope, dim3, self.depth[2], blocks3)?,
            )?,
            norm: self.final_norm.then(|| LayerNorm::new(&scope.child("norm"), dim3, self.norm_eps)),
            s4: self.s4.map(|kind| CoarserModule::new(kind, scope, dim3, tokens)),
            grid,
        };
        Ok(Box::new(module))
    }
}

convmae_framework::register!(Backbone: ConvViT);

#[cfg(test)]
mod tests {
    use convmae_framework::nn::Param;
    use serde_json::json;

    use super::*;
    use crate::transformer::assert_trunc_normal;

    const IMAGE: ImageShape = ImageShape { channels: 3, height: 64, width: 96 };

    fn narrow(options: &serde_json::Value) -> ConvViT {
        let mut spec =
            json!({ "patch_size": [4, 2, 2], "embed_dim": [4, 4, 8], "depth": [1, 1, 2], "num_heads": 2 });
        spec.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
        serde_json::from_value(spec).unwrap()
    }

    #[test]
    fn what_segmentation_adds_is_named_and_shaped_as_officially() {
        let options =
            json!({ "relative_positions": "bias", "init_values": 0.5, "s4": "conv", "final_norm": false });
        let scope = Scope::new(0);
        let module = narrow(&options).build(&scope, IMAGE, None).unwrap();
        let last = module.levels().pop().unwrap();
        assert_eq!((last.name.as_str(), last.rows, last.cols, last.stride), ("s4", 1, 2, 32));
        let params = scope.params();
        let shape = |name: &str| params.iter().find(|param| param.name() == name).map(Param::shape);
        assert_eq!(shape("blocks3.1.attn.relative_position_bias_table"), Some(&[7 * 11, 2][..]));
        assert_eq!(shape("blocks3.0.gamma_2"), Some(&[8][..]));
        assert_eq!(shape("fpn.0.weight"), Some(&[8, 8, 3, 3][..]));
        assert_eq!(shape("fpn.1.running_var"), Some(&[8][..]));
        let gamma = params.iter().find(|param| param.name() == "blocks3.1.gamma_1").unwrap();
        assert_eq!((&*gamma.to_vec().unwrap(), gamma.layer()), (&[0.5; 8][..], Some(2)));
        let fpn = params.iter().find(|param| param.name() == "fpn.0.weight").unwrap();
        assert_eq!(fpn.layer(), None);
    }

    /// `_init_weights` of `vision_transformer.py`: what it does not name is as PyTorch makes it.
    #[test]
    fn a_classifier_from_scratch_starts_with_the_values_of_timm() {
        let values = |options: &serde_json::Value| {
            let spec: ConvViT = serde_json::from_value(json!({
                "embed_dim": [8, 16, 64], "depth": [1, 1, 1], "num_heads": 2, "train_pos_embed": true,
            }))
            .unwrap();
            let mut spec = serde_json::to_value(spec).unwrap();
            spec.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
            let scope = Scope::new(0);
            serde_json::from_value::<ConvViT>(spec).unwrap().build(&scope, IMAGE, None).unwrap();
            move |name: &str| {
                let params = scope.params();
                params.iter().find(|param| param.name() == name).unwrap().to_vec().unwrap()
            }
        };
        let (scratch, pretraining) = (values(&json!({ "init": "timm" })), values(&json!({})));
        for name in
            ["blocks3.0.attn.qkv.weight", "blocks3.0.mlp.fc2.weight", "patch_embed4.weight", "pos_embed"]
        {
            assert_trunc_normal(name, &scratch(name));
        }
        assert!(scratch("blocks3.0.attn.qkv.bias").iter().all(|&value| value == 0.0));
        let largest = |values: &[f32]| values.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        // 16 channels of 2 x 2 positions: kaiming_uniform(a=sqrt(5)), and Xavier-uniform for 64 outputs.
        let (uniform, xavier) = ((1.0 / 64.0_f32).sqrt(), (6.0 / 128.0_f32).sqrt());
        let near = |values: &[f32], bound: f32| (0.98 * bound..=bound).contains(&largest(values));
        assert!(near(&scratch("patch_embed3.proj.weight"), uniform));
        assert!(near(&pretraining("patch_embed3.proj.weight"), xavier));
        assert!(near(&pretraining("patch_embed4.weight"), xavier));
        for name in ["patch_embed1.proj.weight", "blocks1.0.conv1.weight", "blocks2.0.attn.weight"] {
            assert_eq!(scratch(name), pretraining(name), "{name}");
        }
        let fixed = values(&json!({ "init": "timm", "train_pos_embed": false }));
        assert_eq!(fixed("pos_embed"), pretraining("pos_embed"));
    }

    #[test]
    fn the_first_blocks_are_counted_over_all_stages() {
        let blocks = narrow(&json!({})).blocks();
        let expected: [&[&str]; 4] = [
            &["patch_embed1.*", "blocks1.0.*"],
            &["patch_embed2.*", "blocks2.0.*"],
            &["patch_embed3.*", "patch_embed4.*", "pos_embed", "blocks3.0.*"],
            &["blocks3.1.*"],
        ];
        assert_eq!(blocks, expected);
    }

    #[test]
    fn keys_of_recipes_of_before_mean_what_they_meant() {
        let params = |options: &serde_json::Value| -> Vec<String> {
            let scope = Scope::describe();
            narrow(options).build(&scope, IMAGE, None).unwrap();
            scope.params().iter().map(|param| param.name().to_owned()).collect()
        };
        let before = json!({ "fpn": true, "relative_position_bias": true });
        assert_eq!(params(&before), params(&json!({ "s4": "conv", "relative_positions": "bias" })));
        assert!(params(&before).len() > params(&json!({})).len() + 6);
    }

    #[test]
    fn what_needs_all_patches_is_refused_under_a_mask() {
        let plan = MaskPlan { masks: 1, kept: 6, independent_stages: false };
        for (key, value) in [
            ("relative_positions", json!("bias")),
            ("window", json!({ "size": 2, "global_blocks": [] })),
            ("pos_embed_grid", json!(3)),
            ("s4", json!("max_pool")),
        ] {
            let problem =
                narrow(&json!({ key: value })).build(&Scope::describe(), IMAGE, Some(&plan)).err().unwrap();
            assert_eq!(problem.key, key);
            assert!(problem.message.contains("masker"), "{}", problem.message);
        }
    }

    #[test]
    fn a_grid_smaller_than_the_kernel_has_no_coarser_level() {
        let image = ImageShape { height: 32, ..IMAGE };
        let build = |kind: &str| narrow(&json!({ "s4": kind })).build(&Scope::describe(), image, None);
        let problem = build("conv").err().unwrap();
        assert!(problem.message.contains("2 x 6 tokens"), "{}", problem.message);
        let last = build("max_pool").unwrap().levels().pop().unwrap();
        assert_eq!((last.rows, last.cols, last.stride), (1, 3, 32));
    }

    #[test]
    fn a_global_block_that_does_not_exist_is_refused() {
        let options = json!({ "window": { "size": 2, "global_blocks": [0, 2] } });
        let problem = narrow(&options).build(&Scope::describe(), IMAGE, None).err().unwrap();
        assert_eq!(problem.key, "window.global_blocks");
        assert!(problem.message.contains('2'), "{}", problem.message);
    }
}
