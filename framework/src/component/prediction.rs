//! What heads predict.

use std::collections::BTreeMap;

use image::{GrayImage, Luma};
use rayon::prelude::*;

use super::{Regions, TaskKind};
use crate::data::{Batch, IGNORED};
use crate::nn::cpu::argmax::argmax;
use crate::nn::{Error, Result};

/// What a head predicts for a batch of `B` images.
#[derive(Debug, Clone)]
pub enum Prediction {
    /// The classes of images.
    Logits(Logits),
    /// The pixels of removed patches.
    Reconstruction(Reconstruction),
    /// The classes of pixels.
    Semantic(Semantic),
    /// The objects of every image, `B` of them: in pixels of the images of the batch, or, as evaluators get them, in those of the
    /// images as they were read.
    Instances(Vec<Regions>),
    /// Anything else by name: shape and values (row-major).
    Arrays(BTreeMap<String, (Vec<usize>, Vec<f32>)>),
}

impl Prediction {
    /// The task of a head that predicts this.
    pub fn task(&self) -> TaskKind {
        match self {
            Self::Logits(_) => TaskKind::Classify,
            Self::Reconstruction(_) => TaskKind::Reconstruct,
            Self::Semantic(_) => TaskKind::Segment,
            Self::Instances(_) => TaskKind::Detect,
            Self::Arrays(_) => TaskKind::Other,
        }
    }

    /// Itself, if it is what a component of a task has to predict for a batch.
    ///
    /// # Errors
    /// If it is of another task, or its shapes are not those of the batch; `component` is named.
    pub fn checked(self, component: &str, task: TaskKind, batch: &Batch) -> Result<Self> {
        let found = self.task();
        if found != task {
            return Err(Error::Value(format!("{component} predicted {found}; its task is {task}")));
        }
        if !self.fits(batch) {
            return Err(Error::Shape(format!(
                "{component} predicted {task} of other shapes than those of {} images of {} x {}",
                batch.len(),
                batch.height,
                batch.width
            )));
        }
        Ok(self)
    }

    /// Whether the shapes are those of a batch.
    fn fits(&self, batch: &Batch) -> bool {
        let count = batch.len();
        match self {
            Self::Logits(Logits { values, classes }) => *classes > 0 && values.len() == count * classes,
            Self::Reconstruction(Reconstruction { images, removed, patch }) => {
                let divides = |side: usize| *patch > 0 && side.is_multiple_of(*patch);
                let masks = images.len() / batch.images.shape().numel().max(1);
                masks > 0
                    && images.len() == masks * batch.images.shape().numel()
                    && divides(batch.height)
                    && divides(batch.width)
                    && removed.len() == masks * count * (batch.height / patch) * (batch.width / patch)
            }
            Self::Semantic(Semantic { maps, logits }) => {
                let fits = |of: &PixelLogits| {
                    of.classes > 0 && of.values.len() == count * of.height * of.width * of.classes
                };
                maps.len() == count && logits.as_ref().is_none_or(fits)
            }
            Self::Instances(instances) => instances.len() == count,
            Self::Arrays(_) => true,
        }
    }
}

/// Logits of the classes of images.
#[derive(Debug, Clone, PartialEq)]
pub struct Logits {
    /// `[B, K]`, row-major.
    pub values: Vec<f32>,
    /// `K`.
    pub classes: usize,
}

/// Reconstructed images, as many of each as it has masks (`M`), which follow each other.
#[derive(Debug, Clone, PartialEq)]
pub struct Reconstruction {
    /// `[B * M, 3, height, width]`, row-major, normalised as the images.
    pub images: Vec<f32>,
    /// `[B * M, L]`: 1 where a patch was removed, 0 where it was seen.
    pub removed: Vec<f32>,
    /// Side of a patch in pixels.
    pub patch: usize,
}

/// The classes of pixels.
#[derive(Debug, Clone)]
pub struct Semantic {
    /// The index of the class of every pixel, image by image: as large as the image without its padding, or,
    /// where the recipe states an `inference`, as large as its label map.
    pub maps: Vec<GrayImage>,
    /// What the maps are the largest of, if the head tells.
    pub logits: Option<PixelLogits>,
}

impl Semantic {
    /// Logits, and the maps of the classes with the largest ones.
    pub fn of(logits: PixelLogits, batch: &Batch) -> Self {
        let PixelLogits { ref values, height, width, classes } = logits;
        // An index that no map can hold is that of no class.
        let class = |logits: &[f32]| u8::try_from(argmax(logits)).unwrap_or(IGNORED);
        let classes: Vec<u8> = values.par_chunks_exact(classes.max(1)).map(class).collect();
        let map = |(map, &[rows, columns]): (&[u8], &[usize; 2])| {
            let at = |x: u32, y: u32| map.get(y as usize * width + x as usize).copied().unwrap_or(IGNORED);
            GrayImage::from_fn(columns as u32, rows as u32, |x, y| Luma([at(x, y)]))
        };
        let maps = classes.chunks_exact((height * width).max(1)).zip(&batch.sizes).map(map).collect();
        Self { maps, logits: Some(logits) }
    }
}

/// Logits of the classes of pixels.
#[derive(Debug, Clone, PartialEq)]
pub struct PixelLogits {
    /// `[B, height, width, K]`, row-major: as large as the images of the batch.
    pub values: Vec<f32>,
    /// Height in pixels.
    pub height: usize,
    /// Width in pixels.
    pub width: usize,
    /// `K`.
    pub classes: usize,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Normalization, Target};

    /// Two images of 2 x 4 pixels.
    fn batch() -> Batch {
        Batch::new(
            vec![0.0; 2 * 3 * 2 * 4],
            (2, 4),
            Normalization::identity(3),
            vec![Target::default(); 2],
            vec!["a".to_owned(), "b".to_owned()],
        )
    }

    fn logits(images: usize) -> PixelLogits {
        let values = (0..images * 2 * 4 * 3).map(|at| (at % 3 == at / 3 % 3) as u8 as f32).collect();
        PixelLogits { values, height: 2, width: 4, classes: 3 }
    }

    #[test]
    fn the_maps_are_the_largest_logits_without_the_padding() {
        let mut batch = batch();
        batch.sizes[1] = [2, 3];
        let Semantic { maps, .. } = Semantic::of(logits(2), &batch);
        assert_eq!(maps[0], GrayImage::from_raw(4, 2, vec![0, 1, 2, 0, 1, 2, 0, 1]).unwrap());
        assert_eq!(maps[1], GrayImage::from_raw(3, 2, vec![2, 0, 1, 0, 1, 2]).unwrap());
    }

    #[test]
    fn a_prediction_of_another_task_is_refused() {
        let logits = Prediction::Logits(Logits { values: vec![0.0; 4], classes: 2 });
        let error = logits.checked("the head `h`", TaskKind::Segment, &batch()).unwrap_err().to_string();
        assert!(
            error.contains("the head `h` predicted classes of images; its task is classes of pixels"),
            "{error}"
        );
    }

    #[test]
    fn a_prediction_for_other_images_is_refused() {
        let batch = batch();
        let reconstruction = |patch: usize, tokens: usize| {
            let images = batch.images.values().into_owned();
            Prediction::Reconstruction(Reconstruction { images, removed: vec![0.0; 2 * tokens], patch })
        };
        let under_masks = |masks: usize, of_images: usize| {
            let images = batch.images.values().repeat(of_images);
            Prediction::Reconstruction(Reconstruction { images, removed: vec![0.0; masks * 4], patch: 2 })
        };
        let fitting = [
            Prediction::Logits(Logits { values: vec![0.0; 4], classes: 2 }),
            reconstruction(2, 2),
            under_masks(3, 3),
            Prediction::Semantic(Semantic::of(logits(2), &batch)),
            Prediction::Instances(vec![Regions::default(); 2]),
        ];
        for prediction in fitting {
            let task = prediction.task();
            assert!(prediction.checked("it", task, &batch).is_ok(), "{task}");
        }
        let others = [
            Prediction::Logits(Logits { values: vec![0.0; 3], classes: 2 }),
            Prediction::Logits(Logits { values: Vec::new(), classes: 0 }),
            reconstruction(2, 3),
            reconstruction(0, 2),
            reconstruction(4, 0),
            under_masks(3, 2),
            under_masks(0, 0),
            Prediction::Semantic(Semantic::of(logits(1), &batch)),
            Prediction::Semantic(Semantic { maps: vec![GrayImage::new(4, 2); 2], logits: Some(logits(1)) }),
            Prediction::Instances(vec![Regions::default()]),
        ];
        for prediction in others {
            let task = prediction.task();
            let error = prediction.checked("it", task, &batch).unwrap_err().to_string();
            assert!(error.contains("of other shapes than those of 2 images of 2 x 4"), "{error}");
        }
    }
}
