//! Predictions for single images.

use std::path::{Path, PathBuf};

use image::GrayImage;
use serde::Serialize;

use super::EngineError;
use super::attention::AttentionPictures;
use super::evaluate::{Predictor, instances, label_maps};
use super::images::{ImageBatches, find};
use super::setup::{LoadedModel, TrainedOptions, classes};
use crate::component::{self, Logits, Picture, Regions, TaskKind};
use crate::data::{Batch, DataError, Original, read_rgb};
use crate::nn::Context;
use crate::random::{self, Purpose};
use crate::report::label_map::{self, ClassShare};
use crate::report::objects::{self, Object};

/// What a model says about an image.
#[derive(Debug, Serialize)]
pub struct Prediction {
    /// The file of the image.
    pub image: PathBuf,
    /// The most probable classes, where the model tells classes apart.
    pub classes: Vec<ClassProbability>,
    /// The classes of its pixels, the largest first, where the model tells those apart.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pixel_classes: Vec<ClassShare>,
    /// The objects in pixels of the image, in the order of the head (the surest first), where the model finds objects.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub objects: Option<Vec<Object>>,
    /// The class of every pixel: as large as the image if the recipe states an `inference` and the transforms
    /// leave label maps as they are, else as large as the model's images.
    #[serde(skip)]
    pub labels: Option<GrayImage>,
    /// What its heads have to show.
    #[serde(skip)]
    pub pictures: Vec<Picture>,
}

/// A class with its probability.
#[derive(Debug, PartialEq, Serialize)]
pub struct ClassProbability {
    /// Its index.
    pub index: usize,
    /// Its name, where names are known.
    pub name: Option<String>,
    /// Its probability, the softmax of the logits.
    pub probability: f64,
}

impl ClassProbability {
    /// Its name, or its number where that is unknown.
    pub fn label(&self) -> String {
        self.name.clone().unwrap_or_else(|| format!("class {}", self.index))
    }
}

/// What of a prediction is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Classes for each image.
    pub topk: usize,
    /// The least score of objects.
    pub min_score: f32,
    /// Whether there are pictures.
    pub pictures: bool,
    /// A block of the backbone whose attention is among the pictures: `blocks3.10`.
    pub attention: Option<&'a str>,
}

/// Predicts for images, files, folders or patterns, prepared by the transforms of the validation set. `each` gets
/// every prediction with its number as soon as it is there. Damaged images are skipped and named.
pub fn predict<E: From<EngineError>>(
    options: &TrainedOptions,
    images: &[PathBuf],
    wanted: Wanted<'_>,
    mut each: impl FnMut(usize, Prediction) -> Result<(), E>,
) -> Result<(), E> {
    let images = find(images).map_err(EngineError::from)?;
    let mut trained = LoadedModel::load(options)?;
    let val = trained.take_val()?;
    let LoadedModel { recipe, experiment, model, metadata } = trained;
    let attention =
        wanted.attention.map(|block| AttentionPictures::new(&recipe, &model, block)).transpose()?;
    let names = |task: TaskKind| {
        let of_data = || val.dataset.open().ok()?.classes(task).map(<[String]>::to_vec);
        let of_weights = || classes::of_weights(task, &metadata);
        let is_needed = !model.heads().predicting(task).is_empty();
        is_needed.then(|| of_weights().or_else(of_data)).flatten().unwrap_or_default()
    };
    let session = Session {
        predictor: Predictor { model: &model, inference: experiment.evaluate.inference.as_deref() },
        seed: experiment.seed,
        image_names: names(TaskKind::Classify),
        pixel_names: names(TaskKind::Segment),
        object_names: names(TaskKind::Detect),
        wanted,
        attention,
    };
    // Images of any size do not make a batch, unless they are padded.
    let any_size = session.predictor.inference.is_some() && val.pad_to.is_none();
    let batches = ImageBatches {
        channels: model.image.channels,
        transforms: &val.transforms,
        pad_to: val.pad_to,
        seed: experiment.seed,
        batch_size: if any_size { 1 } else { val.batch_size },
        with_label_maps: !model.heads().predicting(TaskKind::Segment).is_empty(),
    };
    let mut number = 0;
    batches.each(&images, |first, paths, batch| {
        for prediction in session.batch(first, paths, batch)? {
            each(number, prediction)?;
            number += 1;
        }
        Ok(())
    })
}

/// What predictions for many images have in common.
struct Session<'a> {
    predictor: Predictor<'a>,
    seed: u64,
    image_names: Vec<String>,
    pixel_names: Vec<String>,
    object_names: Vec<String>,
    wanted: Wanted<'a>,
    attention: Option<AttentionPictures>,
}

impl Session<'_> {
    /// The names of the classes of a task.
    fn names(&self, task: TaskKind) -> &[String] {
        match task {
            TaskKind::Classify => &self.image_names,
            TaskKind::Segment => &self.pixel_names,
            TaskKind::Detect => &self.object_names,
            TaskKind::Reconstruct | TaskKind::Other => &[],
        }
    }

    /// Predicts for the images of a batch, of which the first is number `first` of all.
    fn batch(&self, first: u64, paths: &[&Path], batch: &Batch) -> Result<Vec<Prediction>, EngineError> {
        let ctx = Context::eval(random::stream(Purpose::Evaluate, &[self.seed])).with_first_image(first);
        let mut asked = self.predictor.ask(batch, &ctx);
        let mut tasks = vec![TaskKind::Classify, TaskKind::Segment, TaskKind::Detect];
        tasks.retain(|&task| asked.is_predicted(task));
        let found = asked.predictions(&tasks)?;
        let mut classes = classes_of_images(&found, self.wanted.topk, &self.image_names).into_iter();
        let maps = label_maps(&found);
        let object = |(regions, original): (&Regions, &Original)| {
            Object::found(regions, original.size, self.wanted.min_score, &self.object_names)
        };
        let objects = instances(&found).map(|found| found.iter().zip(&batch.originals).map(object).collect());
        let objects: Option<Vec<Vec<Object>>> = objects;
        let mut pictures = match (maps, &objects) {
            _ if !self.wanted.pictures => Vec::new(),
            (Some(maps), _) => overlays(paths, maps, batch)?,
            (None, Some(objects)) => drawn(paths, objects)?,
            (None, None) => asked.pictures(&found, |task| self.names(task))?,
        }
        .into_iter();
        let attention =
            self.attention.as_ref().map(|attention| attention.of(batch, ctx.clone())).transpose()?;
        let mut attention = attention.into_iter().flatten();
        let mut objects = objects.into_iter().flatten();
        let mut maps = maps.into_iter().flatten().cloned();
        let prediction = |path: &&Path| {
            let labels = maps.next();
            let shares = labels.as_ref().map(|labels| ClassShare::of(labels, &self.pixel_names));
            Prediction {
                image: path.to_path_buf(),
                classes: classes.next().unwrap_or_default(),
                pixel_classes: shares.unwrap_or_default(),
                objects: objects.next(),
                labels,
                pictures: pictures.next().into_iter().chain(attention.next()).flatten().collect(),
            }
        };
        Ok(paths.iter().map(prediction).collect())
    }
}

/// Label maps over the images of their files, or over the prepared ones where the size is not that of the
/// file.
fn overlays(paths: &[&Path], maps: &[GrayImage], batch: &Batch) -> Result<Vec<Vec<Picture>>, DataError> {
    let overlay = |(at, (path, map)): (usize, (&&Path, &GrayImage))| {
        let of_file = read_rgb(path)?;
        let is_of_file = of_file.dimensions() == map.dimensions();
        let image = if is_of_file { of_file } else { batch.picture(at) };
        Ok(vec![Picture::new("overlay", label_map::overlay(image, map))])
    };
    paths.iter().zip(maps).enumerate().map(overlay).collect()
}

/// Objects in the images of their files.
fn drawn(paths: &[&Path], objects: &[Vec<Object>]) -> Result<Vec<Vec<Picture>>, DataError> {
    let drawn = |(path, objects): (&&Path, &Vec<Object>)| {
        Ok(vec![Picture::new("objects", objects::draw(read_rgb(path)?, objects))])
    };
    paths.iter().zip(objects).map(drawn).collect()
}

/// The most probable classes of every image, from the first head with logits.
fn classes_of_images(
    predictions: &[component::Prediction],
    topk: usize,
    names: &[String],
) -> Vec<Vec<ClassProbability>> {
    let logits = predictions.iter().find_map(|prediction| match prediction {
        component::Prediction::Logits(logits) => Some(logits),
        _ => None,
    });
    let Some(Logits { values, classes }) = logits else { return Vec::new() };
    values.chunks_exact((*classes).max(1)).map(|logits| most_probable(logits, topk, names)).collect()
}

fn most_probable(logits: &[f32], topk: usize, names: &[String]) -> Vec<ClassProbability> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exponential = |logit: &f32| f64::from(logit - largest).exp();
    let sum: f64 = logits.iter().map(exponential).sum();
    let mut classes: Vec<_> = logits
        .iter()
        .enumerate()
        .map(|(index, logit)| ClassProbability {
            index,
            name: names.get(index).cloned(),
            probability: exponential(logit) / sum,
        })
        .collect();
    classes.sort_by(|a, b| b.probability.total_cmp(&a.probability));
    classes.truncate(topk);
    classes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_probable_class_comes_first_and_probabilities_are_the_softmax() {
        let found = most_probable(&[0.0, 1000.0, 999.0], 2, &["a".to_owned(), "b".to_owned()]);
        let names: Vec<_> = found.iter().map(|class| (class.index, class.name.as_deref())).collect();
        assert_eq!(names, [(1, Some("b")), (2, None)]);
        let expected = 1.0 / (1.0 + (-1.0_f64).exp());
        assert!((found[0].probability - expected).abs() < 1e-12);
    }
}
