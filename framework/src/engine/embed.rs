//! Features of images, of all of their patches.

use std::path::PathBuf;

use super::EngineError;
use super::images::{ImageBatches, find};
use super::setup::{LoadedModel, TrainedOptions};
use crate::component::{Features, Level, LevelShape};
use crate::graph::Model;
use crate::nn::{Context, Tensor, ops};
use crate::random::{self, Purpose};

/// What `embed` is asked for.
#[derive(Debug)]
pub struct EmbedOptions {
    /// The model.
    pub trained: TrainedOptions,
    /// Images: files, folders, patterns.
    pub images: Vec<PathBuf>,
    /// A backbone or a neck, `backbone`, or one of its levels, `backbone.s2`; the last level of the last one if left
    /// out.
    pub level: Option<String>,
    /// What of a level stands for the image.
    pub pooling: Pooling,
}

/// What of the tokens of a level stands for an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Pooling {
    /// The mean over the patches, without a cls token.
    Mean,
    /// The first token: the cls token of a `ViT` that has one, else the top left patch.
    FirstToken,
    /// All of them, one by one, a cls token first; of a level with several positions for each patch in the order of
    /// the image, row by row.
    None,
}

/// The features of an image.
#[derive(Debug)]
pub struct Embedding {
    /// The file of the image.
    pub image: PathBuf,
    /// `[T, C]`; a single token unless nothing is pooled.
    pub values: Vec<f32>,
    /// Tokens, `T`.
    pub tokens: usize,
    /// Which level they are of: `backbone.s3`.
    pub level: String,
}

/// Computes the features of images, prepared by the transforms of the validation set: by backbones and necks alone,
/// and without a mask. `each` gets those of every image as soon as they are there. Damaged images are skipped and
/// named.
pub fn embed<E: From<EngineError>>(
    options: &EmbedOptions,
    mut each: impl FnMut(Embedding) -> Result<(), E>,
) -> Result<(), E> {
    let images = find(&options.images).map_err(EngineError::from)?;
    let mut trained = LoadedModel::load_features(&options.trained)?;
    let val = trained.take_val()?;
    let LoadedModel { experiment, model, .. } = trained;
    let (node, level) = chosen(&model, options.level.as_deref())?;
    let name = format!("{node}.{}", level.name);
    let batches = ImageBatches {
        channels: model.image.channels,
        transforms: &val.transforms,
        pad_to: val.pad_to,
        seed: experiment.seed,
        batch_size: val.batch_size,
        with_label_maps: false,
    };
    batches.each(&images, |first, paths, batch| {
        let ctx =
            Context::eval(random::stream(Purpose::Evaluate, &[experiment.seed])).with_first_image(first);
        let found = || -> Result<(Vec<f32>, usize), EngineError> {
            let outputs = model.forward(batch, &ctx)?;
            let features = model.features(&outputs, &node);
            let level = features.and_then(|features| find_level(features, &level.name));
            let missing = || EngineError::Usage(format!("`{name}` yields nothing"));
            let pooled = pooled(level.ok_or_else(missing)?, options.pooling)?;
            let tokens = pooled.dims().get(1).copied().unwrap_or(1);
            Ok((pooled.to_vec()?, tokens))
        };
        let (values, tokens) = found()?;
        for (path, values) in paths.iter().zip(values.chunks_exact(values.len() / paths.len())) {
            let (image, values) = (path.to_path_buf(), values.to_vec());
            each(Embedding { image, values, tokens, level: name.clone() })?;
        }
        Ok(())
    })
}

fn find_level<'f>(features: &'f Features, name: &str) -> Option<&'f Level> {
    features.levels.iter().find(|level| level.shape.name == name)
}

/// The node and the level that are asked for.
fn chosen(model: &Model, wanted: Option<&str>) -> Result<(String, LevelShape), EngineError> {
    let nodes = model.levels_by_node();
    let (node, level) = match wanted {
        Some(wanted) => match wanted.split_once('.') {
            Some((node, level)) => (Some(node), Some(level)),
            None => (Some(wanted), None),
        },
        None => (None, None),
    };
    let found = match node {
        Some(node) => nodes.iter().find(|(name, _)| *name == node),
        None => nodes.last(),
    };
    let found = found.and_then(|(node, levels)| {
        let of_name = |name: &str| levels.iter().find(|known| known.name == name);
        Some(((*node).to_owned(), level.map_or_else(|| levels.last(), of_name)?.clone()))
    });
    found.ok_or_else(|| {
        let names = nodes
            .iter()
            .flat_map(|(node, levels)| levels.iter().map(move |level| format!("`{node}.{}`", level.name)));
        let names = names.collect::<Vec<_>>().join(", ");
        EngineError::Usage(match wanted {
            Some(wanted) => format!("the model has no features `{wanted}`; it has {names}"),
            None => "the model has no backbone".to_owned(),
        })
    })
}

/// `[B, 1, C]`, or all tokens `[B, N, C]`.
fn pooled(level: &Level, pooling: Pooling) -> Result<Tensor, EngineError> {
    let LevelShape { prefix_tokens, cell, .. } = level.shape;
    let (batch, ..) = level.tokens.dims3()?;
    Ok(match pooling {
        Pooling::Mean => ops::mean_tokens(ops::drop_prefix(level.tokens.clone(), prefix_tokens)?)?,
        Pooling::FirstToken => ops::gather_tokens(level.tokens.clone(), &vec![0; batch])?,
        Pooling::None if cell == 1 => level.tokens.clone(),
        Pooling::None => ops::to_tokens(level.maps()?)?,
    })
}
