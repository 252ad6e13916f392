//! The decoder of masked autoencoders: kept tokens to pixels of removed patches.

use std::rc::Rc;

use convmae_framework::component::{
    Features, Head, HeadInputs, HeadModule, LevelShape, Loss, Macs, Mask, Picture, Predictions, Problem,
};
use convmae_framework::data::Batch;
use convmae_framework::nn::kernels::patches::{normalize_patches, patch_statistics, patchify, unpatchify};
use convmae_framework::nn::modules::{Block, LayerNorm, Linear};
use convmae_framework::nn::tensor::to_vec;
use convmae_framework::nn::{Context, Error, Init, Param, Result, Scope, T3, ops, position};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Reconstructs the pixels of removed patches from the last level's kept tokens: a light transformer over the kept tokens and a
/// learned mask token (MAE; `forward_decoder` and `forward_loss` of `models_convmae.py`).
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MaeDecoder {
    /// Channels.
    #[serde(default = "default_embed_dim")]
    #[schemars(range(min = 4))]
    pub embed_dim: usize,
    /// Transformer blocks.
    #[serde(default = "default_depth")]
    pub depth: usize,
    /// Attention heads.
    #[serde(default = "default_num_heads")]
    #[schemars(range(min = 1))]
    pub num_heads: usize,
    /// Hidden channels of the MLP, as a multiple of the channels.
    #[serde(default = "default_mlp_ratio")]
    #[schemars(range(min = 0.0))]
    pub mlp_ratio: f64,
    /// Whether each target patch is normalised by its own mean and deviation (official pretraining: yes).
    #[serde(default)]
    pub norm_pix_loss: bool,
    /// Share of this head's loss in the total.
    #[serde(default = "default_loss_weight")]
    #[schemars(range(min = 0.0))]
    pub loss_weight: f32,
}

fn default_embed_dim() -> usize {
    512
}

fn default_depth() -> usize {
    8
}

fn default_num_heads() -> usize {
    16
}

fn default_mlp_ratio() -> f64 {
    4.0
}

fn default_loss_weight() -> f32 {
    1.0
}

const EPS: f32 = 1e-6;

#[typetag::serde]
impl Head for MaeDecoder {
    fn build(&self, scope: &Scope, inputs: &HeadInputs) -> Result<Box<dyn HeadModule>, Problem> {
        let (Some(grid), Some(level)) = (&inputs.mask, inputs.levels.last()) else {
            return Err(Problem::new("", "its features are not masked, there is nothing to reconstruct")
                .help("add a masker to the model, `mask: { type: BlockwiseMasker }`"));
        };
        if level.cell != 1 {
            return Err(Problem::new("from", format!("level `{}` has {} positions per token", level.name, level.cell * level.cell))
                .help("take the last level of the backbone"));
        }
        let dim = self.embed_dim;
        if !dim.is_multiple_of(self.num_heads) {
            return Err(Problem::new("num_heads", format!("{} heads do not divide {dim} channels", self.num_heads)));
        }
        if !dim.is_multiple_of(4) {
            return Err(Problem::new("embed_dim", format!("{dim} is no multiple of 4"))
                .help("the sin-cos position embedding needs a sine and a cosine for rows and columns"));
        }
        let tokens = level.prefix_tokens + grid.tokens();
        let table = if scope.allocates() {
            position::sincos_2d(dim, grid.rows, grid.cols, level.prefix_tokens)
        } else {
            Vec::new()
        };
        let patch = level.stride;
        let pixels = patch * patch * inputs.image.channels;
        let hidden = (dim as f64 * self.mlp_ratio) as usize;
        let block = |at| {
            let scope = scope.child("decoder_blocks").child(at);
            Block::new(&scope, dim, self.num_heads, hidden, EPS, 0.0)
        };
        Ok(Box::new(MaeDecoderModule {
            spec: self.clone(),
            level: level.clone(),
            patch,
            mask_token: scope.param("mask_token", &[1, 1, dim], &Init::Normal { std: 0.02 }),
            decoder_pos_embed: scope.frozen("decoder_pos_embed", &[1, tokens, dim], &Init::Values(table)),
            decoder_embed: Linear::new(&scope.child("decoder_embed"), level.channels, dim),
            decoder_blocks: (0..self.depth).map(block).collect(),
            decoder_norm: LayerNorm::new(&scope.child("decoder_norm"), dim, EPS),
            decoder_pred: Linear::new(&scope.child("decoder_pred"), dim, pixels),
        }))
    }
}

convmae_framework::register!(Head: MaeDecoder);

struct MaeDecoderModule {
    spec: MaeDecoder,
    level: LevelShape,
    /// Pixels along each side of a patch.
    patch: usize,
    mask_token: Param,
    decoder_pos_embed: Param,
    decoder_embed: Linear,
    decoder_blocks: Vec<Block>,
    decoder_norm: LayerNorm,
    decoder_pred: Linear,
}

impl HeadModule for MaeDecoderModule {
    fn macs(&self) -> Macs {
        let prefix = self.level.prefix_tokens;
        let tokens = prefix + self.level.rows * self.level.cols;
        let blocks: u64 = self.decoder_blocks.iter().map(|block| block.macs(tokens)).sum();
        let embed = self.decoder_embed.macs(self.level.tokens());
        Macs::same(embed + blocks + self.decoder_pred.macs(tokens))
    }

    fn loss(&self, features: &Features, batch: &Batch, ctx: &Context) -> Result<Vec<Loss>> {
        let (pred, mask) = self.reconstruct(features, ctx)?;
        let mut target = self.patches(batch);
        if self.spec.norm_pix_loss {
            normalize_patches(&mut target, self.patch * self.patch * 3);
        }
        let value = ops::masked_mse(pred, target, mask.removed.clone().into())?;
        Ok(vec![Loss { name: "reconstruction".to_owned(), weight: self.spec.loss_weight, value }])
    }

    fn predict(&self, features: &Features, batch: &Batch, ctx: &Context) -> Result<Predictions> {
        let (pred, mask) = self.reconstruct(features, ctx)?;
        let mut predictions = Predictions::default();
        let patches = self.pixels(to_vec(&pred)?, batch);
        let images = unpatchify(&patches, batch.len(), batch.height, batch.width, self.patch);
        let tokens = mask.grid.tokens();
        predictions
            .arrays
            .insert("reconstruction".to_owned(), (vec![batch.len(), 3, batch.height, batch.width], images));
        predictions.arrays.insert("removed".to_owned(), (vec![batch.len(), tokens], mask.removed.clone()));
        Ok(predictions)
    }

    fn pictures(&self, features: &Features, batch: &Batch, ctx: &Context) -> Result<Vec<Vec<Picture>>> {
        let (pred, mask) = self.reconstruct(features, ctx)?;
        let target = self.patches(batch);
        let mut reconstructed = self.pixels(to_vec(&pred)?, batch);
        let mut masked = target.clone();
        let size = self.patch * self.patch * 3;
        let patches = masked.chunks_exact_mut(size).zip(reconstructed.chunks_exact_mut(size));
        for (((masked, reconstructed), target), removed) in
            patches.zip(target.chunks_exact(size)).zip(&mask.removed)
        {
            // Grey where nothing is seen; the original pixels where they were seen.
            if *removed > 0.5 { masked.fill(0.0) } else { reconstructed.copy_from_slice(target) }
        }
        let columns = [("masked", masked), ("reconstruction", reconstructed), ("original", target)];
        let columns = columns.map(|(caption, patches)| {
            (caption, unpatchify(&patches, batch.len(), batch.height, batch.width, self.patch))
        });
        let row = |image: usize| {
            let picture = |(caption, values): &(&str, Vec<f32>)| Picture {
                caption: (*caption).to_owned(),
                image: batch.picture(values, image),
            };
            columns.iter().map(picture).collect()
        };
        Ok((0..batch.len()).map(row).collect())
    }
}

impl MaeDecoderModule {
    /// Predicted patches `[B, L, patch * patch * 3]`, and the mask.
    fn reconstruct(&self, features: &Features, ctx: &Context) -> Result<(T3, Rc<Mask>)> {
        let (Some(level), Some(mask)) = (features.levels.last(), &features.mask) else {
            return Err(Error::Value("the features are not masked".to_owned()));
        };
        let prefix = self.level.prefix_tokens;
        ctx.record("latent", &level.tokens)?;
        let x = self.decoder_embed.forward(level.tokens.clone())?;
        let x = ops::restore_tokens(x, &self.mask_token, mask.ids_restore.clone().into(), prefix)?;
        let mut x = ops::add_positions(x, &self.decoder_pos_embed, None, prefix)?;
        ctx.record("decoder_tokens_in", &x)?;
        for block in &self.decoder_blocks {
            x = block.forward(x, ctx)?;
        }
        ctx.record("decoder_tokens_out", &x)?;
        let x = self.decoder_pred.forward(self.decoder_norm.forward(x)?)?;
        let x = if prefix > 0 { ops::drop_prefix(x, prefix)? } else { x };
        ctx.record("pred", &x)?;
        Ok((x, Rc::clone(mask)))
    }

    /// The batch's pixels by patch, `[B, L, patch * patch * 3]`.
    fn patches(&self, batch: &Batch) -> Vec<f32> {
        patchify(&batch.images, batch.len(), batch.height, batch.width, self.patch)
    }

    /// Predicted patches as normalised pixels: a prediction of normalised patches gets each patch's own mean and deviation
    /// back, as in the demonstration of MAE.
    fn pixels(&self, mut pred: Vec<f32>, batch: &Batch) -> Vec<f32> {
        if self.spec.norm_pix_loss {
            let size = self.patch * self.patch * 3;
            for (pred, target) in pred.chunks_exact_mut(size).zip(self.patches(batch).chunks_exact(size)) {
                let (mean, deviation) = patch_statistics(target);
                pred.iter_mut().for_each(|value| *value = *value * deviation + mean);
            }
        }
        pred
    }
}
