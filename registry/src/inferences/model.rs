//! The model's forward pass over crops of an image, to logits of every pixel.

use convmae_framework::component::{ImageShape, Predict, Prediction, Semantic};
use convmae_framework::data::{Batch, Target};
use convmae_framework::nn::{self, Error};

/// The model, run on crops of the images of a batch.
pub struct Model<'a> {
    /// The images that it takes.
    pub image: ImageShape,
    batch: &'a Batch,
    predict: &'a mut Predict<'a>,
}

impl<'a> Model<'a> {
    pub fn new(image: ImageShape, batch: &'a Batch, predict: &'a mut Predict<'a>) -> Self {
        Self { image, batch, predict }
    }

    /// Height and width of the images that it takes.
    pub fn size(&self) -> (usize, usize) {
        (self.image.height, self.image.width)
    }

    /// `[count, H, W, K]`, the logits of the classes of pixels, and `K`. `images` are
    /// `[count, channels, H, W]`, parts of image `of` of the batch.
    ///
    /// # Errors
    /// If the model fails, its head tells no logits, or they are not as large as the model's images.
    pub fn logits(&mut self, of: usize, images: Vec<f32>, count: usize) -> nn::Result<(Vec<f32>, usize)> {
        let (height, width) = self.size();
        let batch = Batch::new(
            images,
            (height, width),
            self.batch.normalization.clone(),
            vec![Target::default(); count],
            vec![self.batch.ids[of].clone(); count],
        );
        let Prediction::Semantic(Semantic { logits: Some(found), .. }) = (self.predict)(&batch)? else {
            return Err(Error::Value(
                "the head of classes of pixels tells only the maps, and not the logits, which an inference puts together"
                    .to_owned(),
            ));
        };
        if (found.height, found.width) != (height, width) {
            return Err(Error::Shape(format!(
                "the logits of the classes of pixels are for {} x {} pixels, the images have {height} x {width}",
                found.height, found.width
            )));
        }
        Ok((found.values, found.classes))
    }
}
