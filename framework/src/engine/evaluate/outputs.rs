//! What a model says about a batch: the one way in which evaluation, prediction and pictures ask it.

use image::GrayImage;

use crate::component::{Inference, Loss, Picture, Prediction, Regions, TaskKind};
use crate::data::{Batch, Original};
use crate::graph::{Model, Outputs};
use crate::nn::{Context, Error, Result};
use crate::report::{label_map, objects};

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
        self.check_size("the losses of the heads")?;
        model.losses(self.outputs()?, batch, ctx)
    }

    /// What the heads of these tasks predict; with an inference, what it makes of that of its task.
    ///
    /// # Errors
    /// If the images are not of the model's size, and no inference makes them so.
    pub fn predictions(&mut self, tasks: &[TaskKind]) -> Result<Vec<Prediction>> {
        let Predictor { model, inference } = self.predictor;
        let (batch, ctx) = (self.batch, self.ctx);
        let by_inference = |task: &TaskKind| inference.is_some_and(|inference| inference.task() == *task);
        let (combined, own): (Vec<TaskKind>, Vec<TaskKind>) =
            tasks.iter().partition(|task| by_inference(task));
        let mut predictions = Vec::new();
        if let Some(task) = own.first() {
            self.check_size(&format!("{task}"))?;
            let found = model.predictions(self.outputs()?, &own, batch, ctx)?;
            predictions = found.into_iter().map(|prediction| in_originals(prediction, batch)).collect();
        }
        if let Some(inference) = inference
            && !combined.is_empty()
        {
            let combined = inference.predict(batch, model.image, &mut |batch| {
                let found = model.predictions(&model.forward(batch, ctx)?, &combined, batch, ctx)?;
                let none = || Error::Value(format!("no head predicts {}", inference.task()));
                found.into_iter().next().ok_or_else(none)
            })?;
            predictions.push(combined.checked("the inference", inference.task(), batch)?);
        }
        Ok(predictions)
    }

    /// Whether the heads of a task predict for this batch.
    pub fn is_predicted(&self, task: TaskKind) -> bool {
        let Predictor { model, inference } = self.predictor;
        let any_size = inference.is_none_or(|inference| inference.task() == task);
        !model.heads().predicting(task).is_empty() && (any_size || self.fits())
    }

    /// Pictures, a row per image: of the classes of pixels or the objects if `predictions` has them, else
    /// those of the heads. `names` tells those of the classes of a task.
    pub fn pictures<'n>(
        &mut self,
        predictions: &[Prediction],
        names: impl Fn(TaskKind) -> &'n [String],
    ) -> Result<Vec<Vec<Picture>>> {
        let (model, batch, ctx) = (self.predictor.model, self.batch, self.ctx);
        if let Some(maps) = label_maps(predictions) {
            let row = |(at, map): (usize, &GrayImage)| {
                label_map::pictures(batch.picture(at), map, batch.targets[at].semantic.as_ref())
            };
            return Ok(maps.iter().enumerate().map(row).collect());
        }
        if let Some(found) = instances(predictions) {
            let row = |(at, found): (usize, &Regions)| {
                objects::pictures(batch.picture(at), found, &batch.originals[at], names(TaskKind::Detect))
            };
            return Ok(found.iter().enumerate().map(row).collect());
        }
        // What an inference puts together of other predictions, nobody can show.
        if !self.fits() && self.predictor.inference.is_some() {
            return Ok(Vec::new());
        }
        model.pictures(self.outputs()?, batch, names, ctx)
    }

    /// Beside an inference images may have any size, but only its own predictions do.
    fn check_size(&self, what: &str) -> Result<()> {
        if self.predictor.inference.is_none() || self.fits() {
            return Ok(());
        }
        let (batch, image) = (self.batch, self.predictor.model.image);
        Err(Error::Shape(format!(
            "{} is {} x {}; an evaluator measures {what}, which there are for images of `image_size` \
             ({} x {}) only: remove that evaluator, or let the transforms of `data.val` yield this size",
            batch.ids.first().map_or("the image", String::as_str),
            batch.height,
            batch.width,
            image.height,
            image.width,
        )))
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

/// Objects in pixels of the images as they were read, each side of a box scaled by its own ratio; other
/// predictions as they are.
fn in_originals(prediction: Prediction, batch: &Batch) -> Prediction {
    let Prediction::Instances(found) = prediction else { return prediction };
    let sizes = batch.sizes.iter().zip(&batch.originals);
    let rescale = |(regions, (size, original)): (Regions, (&[usize; 2], &Original))| {
        regions.rescale(original.scale(*size), original.size)
    };
    Prediction::Instances(found.into_iter().zip(sizes).map(rescale).collect())
}

/// The predicted classes of pixels, one label map for each of a batch's images, if a head predicts them.
pub fn label_maps(predictions: &[Prediction]) -> Option<&[GrayImage]> {
    predictions.iter().find_map(|prediction| match prediction {
        Prediction::Semantic(semantic) => Some(semantic.maps.as_slice()),
        _ => None,
    })
}

/// The objects that are found, for each of a batch's images, if a head predicts them.
pub fn instances(predictions: &[Prediction]) -> Option<&[Regions]> {
    predictions.iter().find_map(|prediction| match prediction {
        Prediction::Instances(found) => Some(found.as_slice()),
        _ => None,
    })
}
