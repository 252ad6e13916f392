//! The model's forward pass over crops of an image, to logits of every pixel.

use convmae_framework::component::{ImageShape, Predict};
use convmae_framework::data::{Batch, Target};
use convmae_framework::nn::{self, Error};

/// The model, run on crops of the images of a batch.
pub struct Model<'a> {
    /// The images that it takes.
    pub image: ImageShape,
    batch: &'a Batch,
    predict: &'a mut Predict<'a>,
    /// The head that answered last.
    head: String,
}

impl<'a> Model<'a> {
    pub fn new(image: ImageShape, batch: &'a Batch, predict: &'a mut Predict<'a>) -> Self {
        Self { image, batch, predict, head: String::new() }
    }

    /// Height and width of the images that it takes.
    pub fn size(&self) -> (usize, usize) {
        (self.image.height, self.image.width)
    }

    /// The head that answered, once one has.
    pub fn into_head(self) -> String {
        self.head
    }

    /// `[count, H, W, K]`, the logits of the first head that tells classes of pixels apart, and `K`. `images`
    /// are `[count, 3, H, W]`, parts of image `of` of the batch.
    ///
    /// # Errors
    /// If the model fails, no head tells classes of pixels apart, or its logits are not as large as the
    /// model's images.
    pub fn logits(&mut self, of: usize, images: Vec<f32>, count: usize) -> nn::Result<(Vec<f32>, usize)> {
        let (height, width) = self.size();
        let batch = Batch::new(
            images,
            (height, width),
            self.batch.normalization,
            vec![Target::default(); count],
            vec![self.batch.ids[of].clone(); count],
        );
        let heads = (self.predict)(&batch)?;
        let found = heads
            .into_iter()
            .find_map(|(head, mut predictions)| Some((head, predictions.arrays.remove("semantic_logits")?)));
        let Some((head, (shape, logits))) = found else {
            return Err(Error::Value(
                "no head predicts `semantic_logits`, which an inference puts together".to_owned(),
            ));
        };
        self.head = head;
        match shape[..] {
            [images, rows, cols, classes]
                if (images, rows, cols) == (count, height, width) && classes > 0 =>
            {
                Ok((logits, classes))
            }
            _ => Err(Error::Shape(format!(
                "the prediction `semantic_logits` has the shape {shape:?}; it should be [{count}, {height}, {width}, K]"
            ))),
        }
    }
}
