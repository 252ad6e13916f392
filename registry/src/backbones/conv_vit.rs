//! The backbone of ConvMAE: two convolutional stages, then a transformer.

use std::rc::Rc;

use convmae_framework::component::{
    Backbone, BackboneModule, Features, ImageShape, Level, LevelShape, Macs, Mask, MaskGrid, MaskPlan,
    Problem,
};
use convmae_framework::nn::modules::{
    Block, BlockConfig, ConvBlock, ConvBlockConfig, LayerNorm, Linear, MergeConv, PatchEmbed,
};
use convmae_framework::nn::position::sin_cos_table;
use convmae_framework::nn::{self, Context, HasShape as _, Init, Param, PatchLayout, Scope, T3, T4, ops};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Two stages of convolution blocks, then a stage of transformer blocks (paper section 3.1; `models_convmae.py` and
/// `models_convvit.py` of the official code). Yields the levels `s1`, `s2` and `s3`.
///
/// Under a block-wise mask only the kept patches are computed, at every stage; the numbers are those of the dense computation.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConvViT {
    /// Patch size of each stage's embedding, in positions of the stage before. Their product is the stride of a token.
    #[serde(default = "default_patch_size")]
    pub patch_size: [usize; 3],
    /// Channels of each stage.
    #[serde(default = "default_embed_dim")]
    pub embed_dim: [usize; 3],
    /// Blocks of each stage.
    #[serde(default = "default_depth")]
    pub depth: [usize; 3],
    /// Attention heads of the last stage.
    #[serde(default = "default_num_heads")]
    #[schemars(range(min = 1))]
    pub num_heads: usize,
    /// Hidden channels of each stage's MLP, as a multiple of its channels.
    #[serde(default = "default_mlp_ratio")]
    pub mlp_ratio: [f32; 3],
    /// Kernel size of the depthwise convolutions; odd.
    #[serde(default = "default_kernel_size")]
    #[schemars(range(min = 1))]
    pub kernel_size: usize,
    /// Largest rate of stochastic depth; it grows linearly with the depth of a block.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub drop_path: f32,
    /// Whether the depthwise convolutions see zeros at masked positions (the paper's masked convolution) or everything
    /// (the ablation, which leaks).
    #[serde(default = "yes")]
    pub masked_convolution: bool,
    /// Whether the outputs of the first two stages are added to that of the last one (the encoder of pretraining).
    #[serde(default)]
    pub multi_scale_fusion: bool,
    /// Whether a LayerNorm ends the last stage (the encoder of pretraining; the classifier has its own).
    #[serde(default = "yes")]
    pub final_norm: bool,
    /// Whether the position embedding is trained; it starts as sines and cosines in any case.
    #[serde(default)]
    pub train_pos_embed: bool,
    /// Whether masked patches are left out (`sparse`) or computed and discarded (`dense`). The results are the same.
    #[serde(default)]
    pub computation: Computation,
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

fn default_patch_size() -> [usize; 3] {
    [4, 2, 2]
}

fn default_embed_dim() -> [usize; 3] {
    [256, 384, 768]
}

fn default_depth() -> [usize; 3] {
    [2, 2, 11]
}

fn default_num_heads() -> usize {
    12
}

fn default_mlp_ratio() -> [f32; 3] {
    [4.0; 3]
}

fn default_kernel_size() -> usize {
    5
}

fn yes() -> bool {
    true
}

/// Epsilon of the transformer's LayerNorms; those of the convolutional stages have PyTorch's default.
pub(super) const TRANSFORMER_EPS: f32 = 1e-6;

impl ConvViT {
    /// Positions along each side of a token's patch, at each stage: `[4, 2, 1]`.
    fn cells(&self) -> [usize; 3] {
        let [_, second, third] = self.patch_size;
        [second * third, third, 1]
    }

    fn check(&self, image: ImageShape) -> Result<(), Problem> {
        let stride: usize = self.patch_size.iter().product();
        if stride == 0 {
            return Err(Problem::new("patch_size", "a patch has at least one position"));
        }
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
        if let Some(stage) = self.embed_dim.iter().position(|&dim| dim == 0) {
            return Err(Problem::new(&format!("embed_dim.{stage}"), "a stage has at least one channel"));
        }
        let dim = self.embed_dim[2];
        if !dim.is_multiple_of(self.num_heads) {
            return Err(Problem::new(
                "num_heads",
                format!("{} heads do not divide {dim} channels", self.num_heads),
            ));
        }
        if !dim.is_multiple_of(4) {
            return Err(Problem::new("embed_dim.2", format!("{dim} is no multiple of 4"))
                .help("the sin-cos position embedding needs a sine and a cosine for rows and columns"));
        }
        if self.kernel_size.is_multiple_of(2) {
            return Err(Problem::new("kernel_size", format!("{} is even", self.kernel_size))
                .help("an odd kernel has a centre: 3, 5, 7, ..."));
        }
        Ok(())
    }

    /// Whether the convolutional stages compute kept patches only.
    fn is_sparse(&self, mask: Option<&MaskPlan>) -> bool {
        self.computation == Computation::Sparse
            && self.masked_convolution
            && mask.is_some_and(|mask| !mask.independent_stages)
    }

    fn level_shapes(&self, grid: &MaskGrid, mask: Option<&MaskPlan>) -> [LevelShape; 3] {
        let kept = mask.map_or(grid.tokens(), |mask| mask.kept);
        let early = if self.is_sparse(mask) { kept } else { grid.tokens() };
        let strides =
            [self.patch_size[0], self.patch_size[0] * self.patch_size[1], self.patch_size.iter().product()];
        std::array::from_fn(|stage| LevelShape {
            name: format!("s{}", stage + 1),
            rows: grid.rows,
            cols: grid.cols,
            kept: if stage == 2 { kept } else { early },
            cell: self.cells()[stage],
            prefix_tokens: 0,
            channels: self.embed_dim[stage],
            stride: strides[stage],
        })
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

    fn build(
        &self,
        scope: &Scope,
        image: ImageShape,
        mask: Option<&MaskPlan>,
    ) -> Result<Box<dyn BackboneModule>, Problem> {
        let grid = self.mask_grid(image)?;
        let [dim1, dim2, dim3] = self.embed_dim;
        let rates = drop_path_rates(self.drop_path, self.depth.iter().sum());
        let (rates1, rest) = rates.split_at(self.depth[0]);
        let (rates2, rates3) = rest.split_at(self.depth[1]);
        let conv_blocks = |stage: usize, rates: &[f32]| -> Vec<ConvBlock> {
            let scope = scope.child(format!("blocks{}", stage + 1));
            let block = |(at, &drop_path)| {
                let config =
                    ConvBlockConfig { kernel: self.kernel_size, mlp_ratio: self.mlp_ratio[stage], drop_path };
                ConvBlock::new(&scope.child(at), self.embed_dim[stage], &config)
            };
            rates.iter().enumerate().map(block).collect()
        };
        let [patch1, patch2, patch3] = self.patch_size;
        let pos_embed = position_embedding(scope, (grid.rows, grid.cols), dim3, 0, self.train_pos_embed)?;
        let module = ConvViTModule {
            spec: self.clone(),
            levels: self.level_shapes(&grid, mask),
            sparse: self.is_sparse(mask),
            pos_embed,
            patch_embed1: PatchEmbed::new(&scope.child("patch_embed1"), image.channels, dim1, patch1),
            patch_embed2: PatchEmbed::new(&scope.child("patch_embed2"), dim1, dim2, patch2),
            patch_embed3: PatchEmbed::xavier(&scope.child("patch_embed3"), dim2, dim3, patch3),
            patch_embed4: Linear::new(&scope.child("patch_embed4"), dim3, dim3),
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
                &scope.child("blocks3"),
                dim3,
                self.num_heads,
                self.mlp_ratio[2],
                rates3,
            )?,
            norm: self.final_norm.then(|| LayerNorm::new(&scope.child("norm"), dim3, TRANSFORMER_EPS)),
            grid,
        };
        Ok(Box::new(module))
    }
}

convmae_framework::register!(Backbone: ConvViT);

/// `torch.linspace(0, max, depth)`.
pub(super) fn drop_path_rates(max: f32, depth: usize) -> Vec<f32> {
    (0..depth).map(|block| max * block as f32 / (depth.max(2) - 1) as f32).collect()
}

/// A sin-cos table `[1, prefix + rows * cols, dim]`, called `pos_embed`.
pub(super) fn position_embedding(
    scope: &Scope,
    (rows, cols): (usize, usize),
    dim: usize,
    prefix: usize,
    trained: bool,
) -> Result<Param, Problem> {
    let table = match scope.allocates() {
        true => sin_cos_table(rows, cols, dim, prefix)
            .map_err(|error| Problem::new("embed_dim", error.to_string()))?,
        false => Vec::new(),
    };
    let (shape, table) = ([1, prefix + rows * cols, dim], Init::Values(table));
    Ok(match trained {
        true => scope.param("pos_embed", &shape, &table),
        false => scope.frozen("pos_embed", &shape, &table),
    })
}

/// Transformer blocks, one for every rate of stochastic depth.
pub(super) fn transformer_blocks(
    scope: &Scope,
    dim: usize,
    heads: usize,
    mlp_ratio: f32,
    rates: &[f32],
) -> Result<Vec<Block>, Problem> {
    let block = |(at, &drop_path)| {
        let config = BlockConfig { heads, mlp_ratio, eps: TRANSFORMER_EPS, drop_path };
        Block::new(&scope.child(at), dim, &config)
            .map_err(|error| Problem::new("num_heads", error.to_string()))
    };
    rates.iter().enumerate().map(block).collect()
}

struct ConvViTModule {
    spec: ConvViT,
    grid: MaskGrid,
    levels: [LevelShape; 3],
    sparse: bool,
    pos_embed: Param,
    patch_embed1: PatchEmbed,
    patch_embed2: PatchEmbed,
    patch_embed3: PatchEmbed,
    patch_embed4: Linear,
    fusion: Option<[MergeConv; 2]>,
    blocks1: Vec<ConvBlock>,
    blocks2: Vec<ConvBlock>,
    blocks3: Vec<Block>,
    norm: Option<LayerNorm>,
}

impl BackboneModule for ConvViTModule {
    fn levels(&self) -> Vec<LevelShape> {
        self.levels.to_vec()
    }

    fn macs(&self) -> Macs {
        let tokens = self.levels[2].tokens();
        let transformer: u64 = self.blocks3.iter().map(|block| block.macs(tokens)).sum();
        let computed = self.levels[0].kept;
        Macs {
            computed: self.convolutional_macs(computed) + transformer,
            dense: self.convolutional_macs(self.grid.tokens()) + transformer,
        }
    }

    fn forward(&self, images: &T4, mask: Option<&Rc<Mask>>, ctx: &Context) -> nn::Result<Features> {
        let [cell1, cell2, _] = self.spec.cells();
        let (batch, ..) = *images.shape();
        let layout = self.layout(batch, mask)?;
        let [layout1, layout2] = [cell1, cell2].map(|cell| Rc::new(layout.with_cell(cell)));

        let mut x = self.patch_embed1.forward_images(images, &layout1, ctx)?;
        ctx.record("patch_embed1_out", &x)?;
        let visible = self.visible(mask, 0, cell1);
        for block in &self.blocks1 {
            x = block.forward(x, &layout1, visible.as_ref(), ctx)?;
        }
        let s1 = x.clone();
        x = self.patch_embed2.forward(x, cell1, ctx)?;
        ctx.record("patch_embed2_out", &x)?;
        let visible = self.visible(mask, 1, cell2);
        for block in &self.blocks2 {
            x = block.forward(x, &layout2, visible.as_ref(), ctx)?;
        }
        let s2 = x.clone();
        x = self.patch_embed3.forward(x, cell2, ctx)?;
        ctx.record("patch_embed3_out", &x)?;
        x = self.patch_embed4.forward(x, ctx)?;
        x = ops::add_positions(x, &self.pos_embed, self.grid.tokens(), Some(&layout.ids), 0)?;
        x = self.keep(x, mask)?;
        ctx.record("tokens_in_blocks3", &x)?;
        for block in &self.blocks3 {
            x = block.forward(x, ctx)?;
        }
        ctx.record("tokens_out_blocks3", &x)?;
        if let Some([stage1, stage2]) = &self.fusion {
            let stage1 = self.keep(stage1.forward(s1.clone(), cell1, ctx)?, mask)?;
            let stage2 = self.keep(stage2.forward(s2.clone(), cell2, ctx)?, mask)?;
            ctx.record("stage1_embed", &stage1)?;
            ctx.record("stage2_embed", &stage2)?;
            x = ops::add(ops::add(x, stage1)?, stage2)?;
        }
        if let Some(norm) = &self.norm {
            x = norm.forward(x, ctx)?;
        }
        let levels = self.levels.iter().zip([s1, s2, x]);
        Ok(Features {
            levels: levels.map(|(shape, tokens)| Level { shape: shape.clone(), tokens }).collect(),
            mask: mask.cloned(),
        })
    }
}

impl ConvViTModule {
    /// The patches that the convolutional stages compute.
    fn layout(&self, batch: usize, mask: Option<&Rc<Mask>>) -> nn::Result<PatchLayout> {
        let (rows, cols) = (self.grid.rows, self.grid.cols);
        match mask {
            Some(mask) if self.sparse => PatchLayout::new(rows, cols, 1, mask.kept, mask.ids_keep.clone()),
            _ => Ok(PatchLayout::dense(batch, rows, cols, 1)),
        }
    }

    /// Which positions of a densely computed stage the depthwise convolution sees, `[B, L * cell * cell]` grouped by patch.
    fn visible(&self, mask: Option<&Rc<Mask>>, stage: usize, cell: usize) -> Option<Rc<[f32]>> {
        let mask = mask.filter(|_| !self.sparse && self.spec.masked_convolution)?;
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

    /// The kept tokens of a densely computed map.
    fn keep(&self, x: T3, mask: Option<&Rc<Mask>>) -> nn::Result<T3> {
        match mask {
            Some(mask) if !self.sparse => ops::gather_tokens(x, &mask.ids_keep),
            _ => Ok(x),
        }
    }

    /// Multiply-adds of everything before the transformer blocks, for a number of patches.
    fn convolutional_macs(&self, patches: usize) -> u64 {
        let [cell1, cell2, _] = self.spec.cells();
        let (stage1, stage2) = (patches * cell1 * cell1, patches * cell2 * cell2);
        let embeds =
            self.patch_embed1.macs(stage1) + self.patch_embed2.macs(stage2) + self.patch_embed3.macs(patches);
        let blocks1: u64 = self.blocks1.iter().map(|block| block.macs(stage1)).sum();
        let blocks2: u64 = self.blocks2.iter().map(|block| block.macs(stage2)).sum();
        let fusion: u64 = self.fusion.iter().flatten().map(|conv| conv.macs(patches)).sum();
        embeds + self.patch_embed4.macs(patches) + blocks1 + blocks2 + fusion
    }
}
