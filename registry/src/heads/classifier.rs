//! What heads of image classes have in common: tokens to logits, the loss, and where in the image the
//! evidence is.

mod evidence;

use convmae_framework::component::{
    Features, HeadInputs, HeadModule, Level, LevelShape, Logits, Loss, Macs, Picture, Prediction, Problem,
};
use convmae_framework::data::Batch;
use convmae_framework::nn::cpu::argmax::argmax;
use convmae_framework::nn::cpu::cross_entropy::log_sums;
use convmae_framework::nn::layers::{BatchNorm, LayerNorm, Linear};
use convmae_framework::nn::ops::{self, ClassTarget, Criterion};
use convmae_framework::nn::{self, Context, Error, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::unmasked_levels;

/// What of the tokens describes the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Pool {
    /// The mean over the patches, normalised by a LayerNorm `fc_norm` (official `--global_pool`).
    Mean,
    /// The first token: the cls token of a `ViT`; a `ConvViT` has none, so its top left patch (official
    /// `--cls_token`).
    FirstToken,
}

/// The level that a classifier takes: the last one, with all of its patches.
pub(super) fn level(inputs: &HeadInputs) -> Result<LevelShape, Problem> {
    let (level, _) = unmasked_levels(inputs)?;
    if level.cell != 1 {
        return Err(Problem::new(
            "from",
            format!("level `{}` has {} positions per token", level.name, level.cell * level.cell),
        )
        .help("take the last level of the backbone"));
    }
    Ok(level.clone())
}

/// A built head of classes.
pub(super) struct Classifier {
    pub level: LevelShape,
    pub pool: Pool,
    /// Behind [`Pool::Mean`].
    pub fc_norm: Option<LayerNorm>,
    /// Before the linear layer, in a linear probe.
    pub batch_norm: Option<BatchNorm>,
    pub head: Linear,
    /// In training; evaluated by plain cross entropy.
    pub criterion: Criterion,
}

impl HeadModule for Classifier {
    fn macs(&self) -> Macs {
        Macs::same(self.head.macs(1))
    }

    fn loss(&self, features: &Features, batch: &Batch, ctx: &Context) -> nn::Result<Vec<Loss>> {
        let targets = self.targets(batch, ctx.training)?;
        let criterion = if ctx.training { &self.criterion } else { &Criterion::default() };
        let value = ops::cross_entropy(self.logits(features, ctx)?, &targets, criterion)?;
        Ok(vec![Loss::new("cross_entropy", value)])
    }

    fn predict(&self, features: &Features, _: &Batch, ctx: &Context) -> nn::Result<Prediction> {
        let values = self.logits(features, ctx)?.to_vec()?;
        Ok(Prediction::Logits(Logits { values, classes: self.classes() }))
    }

    fn pictures(
        &self,
        features: &Features,
        batch: &Batch,
        names: &[String],
        ctx: &Context,
    ) -> nn::Result<Vec<Vec<Picture>>> {
        let logits = self.logits(features, ctx)?.to_vec()?;
        let log_sums = log_sums(&logits, self.classes());
        let by_token = self.logits_by_token(features, ctx)?.to_vec()?;
        let grid = (self.level.rows, self.level.cols);
        let images = logits.chunks_exact(self.classes());
        let images = images.zip(by_token.chunks_exact(grid.0 * grid.1 * self.classes())).enumerate();
        let row = |(image, (logits, by_token)): (usize, (&[f32], &[f32]))| {
            let class = argmax(logits);
            let probability = (f64::from(logits[class]) - log_sums[image]).exp();
            let truth = batch.targets.get(image).and_then(|target| target.class);
            let logits: Vec<f32> =
                by_token.chunks_exact(self.classes()).map(|logits| logits[class]).collect();
            let original = batch.picture(image);
            let heat = evidence::overlay(&original, &logits, grid, (batch.height, batch.width));
            let note = note(class, probability, truth, names);
            vec![Picture::new("original", original), Picture { note, ..Picture::new("evidence", heat) }]
        };
        Ok(images.map(row).collect())
    }
}

impl Classifier {
    fn classes(&self) -> usize {
        self.head.weight.shape()[0]
    }

    /// `[B, 1, K]`.
    fn logits(&self, features: &Features, ctx: &Context) -> nn::Result<Tensor> {
        let x = self.normalize(self.pooled(features)?, ctx)?;
        ctx.record("pooled_normed", &x)?;
        let logits = self.classify(x, ctx)?;
        ctx.record("logits", &logits)?;
        Ok(logits)
    }

    /// What the head says of every patch by itself, `[B, L, K]`.
    fn logits_by_token(&self, features: &Features, ctx: &Context) -> nn::Result<Tensor> {
        let patches = ops::drop_prefix(tokens(features)?, self.level.prefix_tokens)?;
        self.classify(self.normalize(patches, ctx)?, ctx)
    }

    /// `[B, 1, C]`.
    fn pooled(&self, features: &Features) -> nn::Result<Tensor> {
        let tokens = tokens(features)?;
        let (batch, ..) = tokens.dims3()?;
        match self.pool {
            Pool::Mean => ops::mean_tokens(ops::drop_prefix(tokens, self.level.prefix_tokens)?),
            Pool::FirstToken => ops::gather_tokens(tokens, &vec![0; batch]),
        }
    }

    fn normalize(&self, x: Tensor, ctx: &Context) -> nn::Result<Tensor> {
        match &self.fc_norm {
            Some(norm) => norm.forward(x, ctx),
            None => Ok(x),
        }
    }

    /// Normalised tokens `[B, N, C]` to logits `[B, N, K]`.
    fn classify(&self, x: Tensor, ctx: &Context) -> nn::Result<Tensor> {
        let x = match &self.batch_norm {
            Some(norm) => norm.forward(x, ctx)?,
            None => x,
        };
        self.head.forward(x, ctx)
    }

    /// The class of every image, mixed with another one in training only.
    fn targets(&self, batch: &Batch, training: bool) -> nn::Result<Vec<Option<ClassTarget>>> {
        let checked = |id: &str, class: usize| match class < self.classes() {
            true => Ok(class as u32),
            false => Err(Error::Value(format!(
                "{id} is of class {class}, but the head tells {} classes apart: set its `num_classes` to those of the data",
                self.classes()
            ))),
        };
        let target = |(id, target): (&String, &convmae_framework::data::Target)| {
            let Some(class) = target.class else {
                return Err(Error::Value(format!(
                    "{id} has no class: a head of classes needs a dataset that knows them, such as an `ImageFolder` with a \
                     folder per class"
                )));
            };
            let class = ClassTarget::of(checked(id, class)?);
            Ok(Some(match target.mixed.filter(|_| training) {
                Some(mixed) => ClassTarget { other: checked(id, mixed.class)?, share: mixed.share, ..class },
                None => class,
            }))
        };
        batch.ids.iter().zip(&batch.targets).map(target).collect()
    }
}

/// What is predicted of an image, with its probability, and what it is if that is known: `cat 93.1 %, truth: dog`.
fn note(class: usize, probability: f64, truth: Option<usize>, names: &[String]) -> String {
    let name = |class: usize| names.get(class).cloned().unwrap_or_else(|| format!("class {class}"));
    let truth = truth.map(|truth| format!(", truth: {}", name(truth))).unwrap_or_default();
    format!("{} {:.1} %{truth}", name(class), 100.0 * probability)
}

fn tokens(features: &Features) -> nn::Result<Tensor> {
    let tokens = |level: &Level| level.tokens.clone();
    features.levels.last().map(tokens).ok_or_else(|| Error::Value("a classifier got no features".to_owned()))
}

#[cfg(test)]
mod tests;
