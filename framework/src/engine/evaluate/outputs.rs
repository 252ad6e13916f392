//! What a model says about a batch: the one way in which evaluation, prediction and pictures ask it.

use image::GrayImage;

use crate::component::{Inference, Loss, Picture, Predictions};
use crate::data::Batch;
use crate::graph::{Model, Outputs};
use crate::nn::{Context, Error, Result};
use crate::report::label_map;

/// A model, and how it is shown images of other sizes than its own.
#[derive(Clone, Copy)]
pub struct Predictor<'a> {
    /// The model.
    pub model: &'a Model,
    /// How it is shown images; as they are if this is none, so that they have to be of its size.
    pub inference: Option<&'a dyn Inference>,
}

impl<'a> Predictor<'a> {
    /// Asks about a batch. What is not asked for is not computed, and the batch goes through the model once.
    pub fn ask(self, batch: &'a Batch, ctx: &'a Context) -> Asked<'a> {
        Asked { predictor: self, batch, ctx, outputs: None }
    }
}

/// A batch that a model is asked about.
pub struct Asked<'a> {
    predictor: Predictor<'a>,
    batch: &'a Batch,
    ctx: &'a Context,
    /// Of the whole batch, once something needed them.
    outputs: Option<Outputs>,
}

impl Asked<'_> {
    /// The losses of all heads.
    ///
    /// # Errors
    /// If the images are not of the model's size: there are no losses of what an inference puts together.
    pub fn losses(&mut self) -> Result<Vec<Loss>> {
        let (model, batch, ctx) = (self.predictor.model, self.batch, self.ctx);
        if self.predictor.inference.is_some() && !self.fits() {
            return Err(Error::Shape(format!(
                "{} is {} x {}; an evaluator measures the losses of the heads, which there are for images of `image_size` \
                 ({} x {}) only: remove that evaluator, or let the transforms of `data.val` yield this size",
                batch.ids.first().map_or("the image", String::as_str),
                batch.height,
                batch.width,
                model.image.height,
                model.image.width,
            )));
        }
        model.losses(self.outputs()?, batch, ctx)
    }

    /// The predictions of all heads, by node; with an inference, what it makes of them.
    pub fn predictions(&mut self) -> Result<Vec<(String, Predictions)>> {
        let Predictor { model, inference } = self.predictor;
        let (batch, ctx) = (self.batch, self.ctx);
        match inference {
            None => model.predictions(self.outputs()?, batch, ctx),
            Some(inference) => inference.predict(batch, model.image, &mut |batch| {
                model.predictions(&model.forward(batch, ctx)?, batch, ctx)
            }),
        }
    }

    /// Pictures, a row per image: of the classes of pixels if `predictions` has them, else those of the heads.
    pub fn pictures(&mut self, predictions: &[(String, Predictions)]) -> Result<Vec<Vec<Picture>>> {
        let (model, batch, ctx) = (self.predictor.model, self.batch, self.ctx);
        if let Some(maps) = label_maps(predictions, batch.len()) {
            let row = |(at, map): (usize, GrayImage)| {
                let image = batch.picture(&batch.images, at);
                label_map::pictures(image, &map, batch.targets[at].semantic.as_ref())
            };
            return Ok(maps.into_iter().enumerate().map(row).collect());
        }
        // What an inference puts together of other predictions, nobody can show.
        if !self.fits() && self.predictor.inference.is_some() {
            return Ok(Vec::new());
        }
        model.pictures(self.outputs()?, batch, ctx)
    }

    fn fits(&self) -> bool {
        let image = self.predictor.model.image;
        (self.batch.height, self.batch.width) == (image.height, image.width)
    }

    fn outputs(&mut self) -> Result<&Outputs> {
        let outputs = match self.outputs.take() {
            Some(outputs) => outputs,
            None => self.predictor.model.forward(self.batch, self.ctx)?,
        };
        Ok(self.outputs.insert(outputs))
    }
}

/// The predicted classes of pixels, `semantic`, as one label map for each of a batch's images, if a head predicts them.
pub fn label_maps(predictions: &[(String, Predictions)], images: usize) -> Option<Vec<GrayImage>> {
    let (&[count, height, width], classes) = Predictions::find(predictions, "semantic")? else { return None };
    if count != images || height * width == 0 {
        return None;
    }
    let map = |classes: &[f32]| {
        let classes = classes.iter().map(|&class| class as u8).collect();
        GrayImage::from_raw(width as u32, height as u32, classes)
    };
    classes.chunks_exact(height * width).map(map).collect()
}
