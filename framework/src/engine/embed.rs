//! Features of images, of all of their patches.

use std::path::{Path, PathBuf};

use super::EngineError;
use super::features::FeatureExtractor;
use super::images::{ImageBatches, find};
use super::setup::{LoadedModel, TrainedOptions};
use crate::component::Pooling;
use crate::nn::Context;
use crate::random::{self, Purpose};
use crate::report::{FeatureMap, MapCollector};

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
    /// Whether they are put on a map, images of a folder as a class.
    pub map: bool,
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
/// named. Returns the map, if there is to be one.
pub fn embed<E: From<EngineError>>(
    options: &EmbedOptions,
    mut each: impl FnMut(Embedding) -> Result<(), E>,
) -> Result<Option<FeatureMap>, E> {
    let images = find(&options.images).map_err(EngineError::from)?;
    let mut trained = LoadedModel::load_features(&options.trained)?;
    let val = trained.take_val()?;
    let LoadedModel { experiment, model, .. } = trained;
    let channels = model.image.channels;
    let extractor = FeatureExtractor::new(model, options.level.as_deref(), options.pooling)?;
    let batches = ImageBatches {
        channels,
        transforms: &val.transforms,
        pad_to: val.pad_to,
        seed: experiment.seed,
        batch_size: val.batch_size,
        with_label_maps: false,
    };
    let mut map = options.map.then(|| MapCollector::new(images.len()));
    batches.each(&images, |first, paths, batch| {
        let ctx =
            Context::eval(random::stream(Purpose::Evaluate, &[experiment.seed])).with_first_image(first);
        let (values, tokens) = extractor.extract(batch, &ctx)?;
        for (path, values) in paths.iter().zip(values.chunks_exact(values.len() / paths.len())) {
            if let Some(map) = &mut map {
                let folder = path.parent().and_then(Path::file_name);
                let folder = folder.map(|name| name.to_string_lossy().into_owned());
                map.add(values, || (path.display().to_string(), folder));
            }
            let (image, values) = (path.to_path_buf(), values.to_vec());
            each(Embedding { image, values, tokens, level: extractor.name().to_owned() })?;
        }
        Ok::<(), E>(())
    })?;
    Ok(map.map(|map| map.finish(extractor.name())))
}
