//! A per-pixel model for tests, and golden values.

#![allow(clippy::unwrap_used, clippy::unnecessary_wraps)]

use convmae_framework::component::{PixelLogits, Prediction, Semantic};
use convmae_framework::data::{Batch, Normalization, Target};
use convmae_framework::nn;
use convmae_framework::weights::{self, HostTensor, TensorMap};
use image::GrayImage;

use super::image::Image;
use super::scores::Scores;

/// Classes that [`by_pixel`] tells apart.
const CLASSES: usize = 4;

/// Images whose values look random.
pub fn batch(images: usize, height: usize, width: usize) -> Batch {
    let value = |at: usize| ((at * 2_654_435_761) % 1009) as f32 / 500.0 - 1.0;
    Batch::new(
        (0..images * 3 * height * width).map(value).collect(),
        (height, width),
        Normalization::identity(3),
        vec![Target::default(); images],
        (0..images).map(|image| image.to_string()).collect(),
    )
}

/// Logits of classes from the colour of each pixel.
pub fn by_pixel(image: &Image) -> Scores {
    let area = image.height * image.width;
    let logit = |at: usize| {
        let (pixel, class) = (at / CLASSES, at % CLASSES);
        let [red, green, blue] = [0, 1, 2].map(|channel| image.values[channel * area + pixel]);
        [red, green - 0.2, 2.0 * blue - 0.5, 0.3 - red * green][class]
    };
    let values = (0..area * CLASSES).map(logit).collect();
    Scores { values, height: image.height, width: image.width, classes: CLASSES }
}

/// [`by_pixel`] as the head of classes of pixels.
pub fn predict_by_pixel(batch: &Batch) -> nn::Result<Prediction> {
    let (height, width) = (batch.height, batch.width);
    let scores: Vec<Scores> = (0..batch.len()).map(|at| by_pixel(&Image::of(batch, at))).collect();
    let map = |scores: &Scores| GrayImage::from_raw(width as u32, height as u32, scores.largest()).unwrap();
    let maps = scores.iter().map(map).collect();
    let values = scores.iter().flat_map(|scores| scores.values.clone()).collect();
    let logits = Some(PixelLogits { values, height, width, classes: CLASSES });
    Ok(Prediction::Semantic(Semantic { maps, logits }))
}

/// The predicted classes of pixels.
pub fn maps(prediction: &Prediction) -> &[GrayImage] {
    match prediction {
        Prediction::Semantic(semantic) => &semantic.maps,
        other => panic!("{other:?}"),
    }
}

/// Their logits.
pub fn logits(prediction: &mut Prediction) -> &mut PixelLogits {
    match prediction {
        Prediction::Semantic(semantic) => semantic.logits.as_mut().unwrap(),
        other => panic!("{other:?}"),
    }
}

/// A part of mmsegmentation's golden inference.
pub struct Golden(TensorMap);

impl Golden {
    pub fn read() -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/segmentation/inference.safetensors");
        Self(weights::read(path.as_ref()).unwrap().tensors)
    }

    fn get(&self, name: &str) -> &HostTensor {
        self.0.get(name).unwrap()
    }

    /// Whole numbers.
    pub fn bytes(&self, name: &str) -> Vec<u8> {
        self.get(name).data.clone()
    }

    /// `[1, K, H, W]` with the channels last.
    pub fn scores(&self, name: &str) -> Scores {
        let tensor = self.get(name);
        let &[1, classes, height, width] = tensor.shape.as_slice() else {
            unreachable!("{:?}", tensor.shape)
        };
        let (values, area) = (tensor.to_f32(), height * width);
        let at = |at: usize| values[at % classes * area + at / classes];
        Scores { values: (0..area * classes).map(at).collect(), height, width, classes }
    }
}
