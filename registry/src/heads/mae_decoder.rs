//! The decoder of masked autoencoders: kept tokens to pixels of removed patches.

use std::rc::Rc;

use convmae_framework::component::{
    Features, Head, HeadInputs, HeadModule, LevelShape, Loss, Macs, Mask, Picture, Prediction, Problem,
    Reconstruction, Task,
};
use convmae_framework::data::Batch;
use convmae_framework::nn::cpu::loss::patch_statistics;
use convmae_framework::nn::cpu::patches::{patchify, unpatchify};
use convmae_framework::nn::layers::{Block, LayerNorm, Linear};
use convmae_framework::nn::ops::{self, AddPositions, DropPrefix, PatchTarget, RestoreTokens, Sequential};
use convmae_framework::nn::{self, Context, Error, Init, Param, Scope, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::checks;
use crate::transformer::{TRANSFORMER_EPS, plain_blocks, position_embedding, transformer_blocks};

/// Reconstructs the pixels of removed patches from the last level's kept tokens: a light transformer over the
/// kept tokens and a learned mask token (MAE; `forward_decoder` and `forward_loss` of `models_convmae.py`).
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MaeDecoder {
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
    /// Whether each target patch is normalised by its own mean and deviation (official pretraining: yes).
    pub norm_pix_loss: bool,
}

impl Default for MaeDecoder {
    fn default() -> Self {
        Self { embed_dim: 512, depth: 8, num_heads: 16, mlp_ratio: 4.0, norm_pix_loss: false }
    }
}

#[typetag::serde]
impl Head for MaeDecoder {
    fn task(&self) -> Task {
        Task::Reconstruct
    }

    fn build(&self, scope: &Scope, inputs: &HeadInputs) -> Result<Box<dyn HeadModule>, Problem> {
        let (Some(grid), Some(level)) = (&inputs.mask, inputs.levels.last()) else {
            return Err(Problem::new("", "its features are not masked, there is nothing to reconstruct")
                .help("add a masker to the model, `mask: { type: BlockwiseMasker }`"));
        };
        if level.cell != 1 {
            return Err(Problem::new(
                "from",
                format!("level `{}` has {} positions per token", level.name, level.cell * level.cell),
            )
            .help("take the last level of the backbone"));
        }
        let dim = self.embed_dim;
        checks::heads(dim, self.num_heads)?;
        checks::sin_cos("embed_dim", dim)?;
        checks::hidden("mlp_ratio", dim, self.mlp_ratio)?;
        let patch = level.stride;
        let channels = inputs.image.channels;
        Ok(Box::new(MaeDecoderModule {
            spec: self.clone(),
            level: level.clone(),
            patch,
            channels,
            mask_token: scope.param("mask_token", &[1, 1, dim], &Init::Normal { std: 0.02 }),
            decoder_pos_embed: position_embedding(
                scope,
                "decoder_pos_embed",
                (grid.rows, grid.cols),
                dim,
                level.prefix_tokens,
                false,
            )?,
            decoder_embed: Linear::new(&scope.child("decoder_embed"), level.channels, dim),
            decoder_blocks: transformer_blocks(
                &scope.child("decoder_blocks"),
                dim,
                &vec![0.0; self.depth],
                |_, _| plain_blocks(self.num_heads, self.mlp_ratio),
            )?,
            decoder_norm: LayerNorm::new(&scope.child("decoder_norm"), dim, TRANSFORMER_EPS),
            decoder_pred: Linear::new(&scope.child("decoder_pred"), dim, patch * patch * channels),
        }))
    }
}

convmae_framework::register!(Head: MaeDecoder);

struct MaeDecoderModule {
    spec: MaeDecoder,
    level: LevelShape,
    /// Pixels along each side of a patch.
    patch: usize,
    /// Channels of the images.
    channels: usize,
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

    fn loss(&self, features: &Features, batch: &Batch, ctx: &Context) -> nn::Result<Vec<Loss>> {
        let (pred, mask) = self.reconstruct(features, ctx)?;
        let (images, side) = (batch.images.clone(), self.patch);
        let target = PatchTarget::Pixels { images, side, normalize: self.spec.norm_pix_loss };
        let value = ops::masked_mse(pred, target, &mask.removed)?;
        Ok(vec![Loss::new("reconstruction", value)])
    }

    fn predict(&self, features: &Features, batch: &Batch, ctx: &Context) -> nn::Result<Prediction> {
        let (pred, mask) = self.reconstruct(features, ctx)?;
        let patches = self.pixels(pred.to_vec()?, &self.patches(batch, mask.masks));
        let images = unpatchify(&patches, self.channels, batch.height, batch.width, self.patch);
        let (removed, patch) = (mask.removed.clone(), self.patch);
        Ok(Prediction::Reconstruction(Reconstruction { images, removed, patch }))
    }

    fn pictures(
        &self,
        features: &Features,
        batch: &Batch,
        _: &[String],
        ctx: &Context,
    ) -> nn::Result<Vec<Vec<Picture>>> {
        let (pred, mask) = self.reconstruct(features, ctx)?;
        let pred = pred.to_vec()?;
        let target = self.patches(batch, mask.masks);
        // Grey where nothing is seen; the original pixels where they were seen.
        let masked = self.seen(vec![0.0; target.len()], &target, &mask);
        let unborrowed = self.spec.norm_pix_loss.then(|| self.unborrowed(pred.clone(), &target, &mask));
        let unborrowed = unborrowed.map(|patches| self.seen(patches, &target, &mask));
        let reconstructed = self.seen(self.pixels(pred, &target), &target, &mask);
        let images = |patches: Vec<f32>| {
            let values = unpatchify(&patches, self.channels, batch.height, batch.width, self.patch);
            let len = self.channels * batch.height * batch.width;
            let views = values.chunks_exact(len).enumerate();
            views.map(|(view, values)| batch.picture_of(view / mask.masks, values)).collect::<Vec<_>>()
        };
        let mut unborrowed = unborrowed.map(images).into_iter().flatten();
        let views = images(masked).into_iter().zip(images(reconstructed));
        let mut views = views.map(|(masked, reconstructed)| {
            let reconstruction = Picture::new("reconstruction", reconstructed);
            [Picture::new("masked", masked), Picture { unborrowed: unborrowed.next(), ..reconstruction }]
        });
        let row = |original| {
            let views = views.by_ref().take(mask.masks).flatten();
            views.chain([Picture::new("original", original)]).collect()
        };
        Ok(images(target).into_iter().step_by(mask.masks).map(row).collect())
    }
}

impl MaeDecoderModule {
    /// Predicted patches `[B * M, L, patch * patch * channels]`, and the masks.
    fn reconstruct(&self, features: &Features, ctx: &Context) -> nn::Result<(Tensor, Rc<Mask>)> {
        let (Some(level), Some(mask)) = (features.levels.last(), &features.mask) else {
            return Err(Error::Value("the features are not masked".to_owned()));
        };
        let prefix = self.level.prefix_tokens;
        ctx.record("latent", &level.tokens)?;
        let (batch, ..) = level.tokens.dims3()?;
        let restore = RestoreTokens {
            mask_token: self.mask_token.clone(),
            ids_restore: mask.ids_restore.clone(),
            prefix,
        };
        let positions = AddPositions {
            table: self.decoder_pos_embed.clone(),
            grid: mask.grid.tokens(),
            ids: None,
            prefix,
        };
        let pred = Sequential::new()
            .then(self.decoder_embed.clone())
            .then(restore)
            .then(positions)
            .record("decoder_tokens_in", ctx)
            .then_all(self.decoder_blocks.iter().map(|block| block.layers(batch, ctx)))
            .record("decoder_tokens_out", ctx)
            .then(self.decoder_norm.clone())
            .then(self.decoder_pred.clone())
            .then(DropPrefix { prefix })
            .record("pred", ctx)
            .forward(level.tokens.clone(), ctx)?;
        Ok((pred, Rc::clone(mask)))
    }

    /// Values of a patch.
    fn patch_values(&self) -> usize {
        self.patch * self.patch * self.channels
    }

    /// The batch's pixels by patch, of each image as often as it has masks, `[B * M, L, patch * patch * channels]`.
    fn patches(&self, batch: &Batch, masks: usize) -> Vec<f32> {
        let patches = patchify(&batch.images.values(), self.channels, batch.height, batch.width, self.patch);
        let image = self.channels * batch.height * batch.width;
        patches
            .chunks_exact(image)
            .flat_map(|image| std::iter::repeat_n(image, masks))
            .flatten()
            .copied()
            .collect()
    }

    /// Patches with the pixels of `target` where these are seen.
    fn seen(&self, mut patches: Vec<f32>, target: &[f32], mask: &Mask) -> Vec<f32> {
        let size = self.patch_values();
        let pairs = patches.chunks_exact_mut(size).zip(target.chunks_exact(size));
        for ((patch, target), _) in pairs.zip(&mask.removed).filter(|(_, removed)| **removed < 0.5) {
            patch.copy_from_slice(target);
        }
        patches
    }

    /// Predictions of normalised patches as pixels that the model could tell by itself: with the mean and the deviation that
    /// the seen patches of the image have on average.
    fn unborrowed(&self, mut pred: Vec<f32>, target: &[f32], mask: &Mask) -> Vec<f32> {
        let (size, tokens) = (self.patch_values(), mask.grid.tokens());
        let images = pred.chunks_exact_mut(size * tokens).zip(target.chunks_exact(size * tokens));
        for ((pred, target), removed) in images.zip(mask.removed.chunks_exact(tokens)) {
            let patches = target.chunks_exact(size).zip(removed);
            let (sum, seen) = patches.filter(|(_, removed)| **removed < 0.5).fold(
                ([0.0; 2], 0.0),
                |([means, deviations], seen), (patch, _)| {
                    let (mean, deviation) = patch_statistics(patch);
                    ([means + mean, deviations + deviation], seen + 1.0)
                },
            );
            // Where nothing is seen: those of the normalised images.
            let [mean, deviation] = if seen > 0.0 { sum.map(|sum| sum / seen) } else { [0.0, 1.0] };
            pred.iter_mut().for_each(|value| *value = (f64::from(*value) * deviation + mean) as f32);
        }
        pred
    }

    /// Predicted patches as normalised pixels: a prediction of normalised patches gets each patch's own mean
    /// and deviation back, as in the demonstration of MAE.
    fn pixels(&self, mut pred: Vec<f32>, targets: &[f32]) -> Vec<f32> {
        if self.spec.norm_pix_loss {
            let size = self.patch_values();
            for (pred, target) in pred.chunks_exact_mut(size).zip(targets.chunks_exact(size)) {
                let (mean, deviation) = patch_statistics(target);
                pred.iter_mut().for_each(|value| *value = (f64::from(*value) * deviation + mean) as f32);
            }
        }
        pred
    }
}
