//! Predictions for single images.

use std::path::PathBuf;

use serde::Serialize;

use super::EngineError;
use super::trained::{Trained, TrainedOptions};
use crate::component::{Picture, Predictions};
use crate::data::{Batch, Pixels, Sample, Target, read_image};
use crate::nn::Context;
use crate::random::{self, Purpose};

/// What a model says about an image.
#[derive(Debug, Serialize)]
pub struct Prediction {
    /// The file of the image.
    pub image: PathBuf,
    /// The most probable classes, where the model tells classes apart.
    pub classes: Vec<ClassProbability>,
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

/// Predicts for images, prepared by the transforms of the validation set: `topk` classes for each, and pictures if they are wanted.
pub fn predict(
    options: &TrainedOptions,
    images: &[PathBuf],
    topk: usize,
    with_pictures: bool,
) -> Result<Vec<Prediction>, EngineError> {
    let mut trained = Trained::load(options)?;
    let val = trained.take_val()?;
    let names = trained
        .classes
        .take()
        .or_else(|| val.dataset.open().ok().and_then(|samples| samples.classes().map(<[String]>::to_vec)))
        .unwrap_or_default();
    let Trained { experiment, model, .. } = trained;
    let ctx = Context::eval(random::stream(Purpose::Evaluate, &[experiment.seed]));
    let mut predictions = Vec::with_capacity(images.len());
    for (number, paths) in images.chunks(val.batch_size).enumerate() {
        let sample = |(index, path): (usize, &PathBuf)| {
            let counters = [experiment.seed, number as u64, index as u64];
            let mut rng = random::stream(Purpose::Augment, &counters);
            let pixels = Pixels::Rgb(read_image(path)?);
            let sample = Sample { id: path.display().to_string(), pixels, target: Target::default() };
            val.transforms.iter().try_fold(sample, |sample, transform| transform.apply(sample, &mut rng))
        };
        let samples = paths.iter().enumerate().map(sample).collect::<Result<Vec<_>, _>>()?;
        let batch = Batch::stack(samples)?;
        let outputs = model.forward(&batch, &ctx)?;
        let mut classes = classes(&model.predictions(&outputs, &batch, &ctx)?, topk, &names).into_iter();
        let pictures = if with_pictures { model.pictures(&outputs, &batch, &ctx)? } else { Vec::new() };
        let mut pictures = pictures.into_iter();
        predictions.extend(paths.iter().map(|path| Prediction {
            image: path.clone(),
            classes: classes.next().unwrap_or_default(),
            pictures: pictures.next().unwrap_or_default(),
        }));
    }
    Ok(predictions)
}

/// The most probable classes of every image, from the first head with logits `[B, K]`.
fn classes(
    predictions: &[(String, Predictions)],
    topk: usize,
    names: &[String],
) -> Vec<Vec<ClassProbability>> {
    let Some((&[_, classes], logits)) = Predictions::find(predictions, "logits") else { return Vec::new() };
    logits.chunks_exact(classes.max(1)).map(|logits| most_probable(logits, topk, names)).collect()
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
