//! Looking at the data of a recipe: what is there, and what training sees of it.

mod batch_tensors;
mod survey;

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::EngineError;
use super::setup::{Loading, open};
use crate::component::{Mask, Picture, TaskKind, Transform};
use crate::data::{Batch, DataError, Sample};
use crate::experiment::{Data, Experiment, Split};
use crate::graph::{self, Checked, Model, catalog};
use crate::loader::{Loader, LoaderOptions, Pipeline};
use crate::nn::{Context, Scope};
use crate::random::{self, Purpose};
use crate::recipe::{Recipe, Sources};
use crate::report::{Augmented, DatasetView, ShownTargets, SplitView, Transformed, masked, sample_picture};
use crate::weights::write_safetensors;
use batch_tensors::batch_tensors;
use survey::{Survey, spread};

/// What `browse` is asked for.
#[derive(Debug)]
pub struct BrowseOptions {
    /// The recipe and what overrides it.
    pub sources: Sources,
    /// Samples of each split that are read for its figures.
    pub read: usize,
    /// Samples of each split that are shown.
    pub shown: usize,
    /// Epochs in which they are shown.
    pub epochs: u64,
    /// A safetensors file for the first training batch.
    pub tensors: Option<PathBuf>,
}

/// Looks at the data of a recipe. Nothing of the model is computed but its masks.
pub fn browse(options: &BrowseOptions) -> Result<DatasetView, EngineError> {
    let (recipe, Checked { experiment, plan, image, .. }) = graph::load(&options.sources, &catalog())?;
    let model =
        Model::build(&plan, image, &Scope::describe()).map_err(|problems| recipe.diagnose(problems))?;
    let Experiment { name, seed, data, train, .. } = experiment;
    let loading = Loading::of(&data);
    let Data { train: train_split, val, .. } = data;
    let browser = Browser { recipe: &recipe, model: &model, options, loading, seed };
    let of_train =
        LoaderOptions { drop_last: train.drop_last, ..LoaderOptions::train(train_split.batch_size) };
    let (train, first) = browser.split("train", train_split, of_train)?;
    if let (Some(path), Some(FirstBatch { batch, masks })) = (&options.tensors, first) {
        write_safetensors(path, &batch_tensors(&batch, masks.first()), &BTreeMap::new())?;
    }
    let mut splits = vec![train];
    if let Some(val) = val {
        let of_val = LoaderOptions::evaluate(val.batch_size);
        splits.push(browser.split("val", val, of_val)?.0);
    }
    Ok(DatasetView { name, splits })
}

struct Browser<'a> {
    recipe: &'a Recipe,
    model: &'a Model,
    options: &'a BrowseOptions,
    loading: Loading,
    seed: u64,
}

impl Browser<'_> {
    fn split(
        &self,
        name: &'static str,
        split: Split,
        options: LoaderOptions,
    ) -> Result<(SplitView, Option<FirstBatch>), EngineError> {
        // Whatever is damaged is to be seen.
        let options = LoaderOptions { max_corrupt: 1.0, ..self.loading.options(options) };
        let channels = self.model.image.channels;
        let loader = open(self.recipe, &format!("data.{name}"), split, channels, self.seed, options)?;
        let pipeline = loader.pipeline();
        let survey = Survey::of(pipeline, self.options.read)?;
        let shown = ShownTargets::new(pipeline.samples.as_ref(), self.tasks());
        let first = self.first_batch(&loader)?;
        let view = SplitView {
            split: name,
            samples: pipeline.samples.len(),
            read: survey.read,
            sizes: survey.sizes(),
            pixels: survey.pixels(),
            normalization: pipeline.transforms.last().and_then(|last| last.normalization()),
            classes: survey.classes(pipeline.samples.as_ref(), &shown),
            passed_over: pipeline.samples.passed_over(),
            warnings: pipeline.samples.warnings(),
            augmented: self.augmented(pipeline, &shown)?,
            corrupt: survey.corrupt,
            batch: first.as_ref().map(|first| first.rows(self.options.shown)).unwrap_or_default(),
            pixel_classes: shown.names(TaskKind::Segment).unwrap_or_default().to_vec(),
        };
        Ok((view, first))
    }

    /// What the heads of the model predict; of a model that predicts nothing of the kind, the classes of the images.
    fn tasks(&self) -> Vec<TaskKind> {
        let mut tasks = vec![TaskKind::Classify, TaskKind::Segment, TaskKind::Detect];
        tasks.retain(|&task| !self.model.heads().names(task).is_empty());
        if tasks.is_empty() { vec![TaskKind::Classify] } else { tasks }
    }

    /// Samples spread over the data before and after each transform; damaged ones are left out.
    fn augmented(&self, pipeline: &Pipeline, targets: &ShownTargets) -> Result<Vec<Augmented>, EngineError> {
        let mut shown = Vec::new();
        for index in spread(pipeline.samples.len(), self.options.shown) {
            match self.of_sample(pipeline, targets, index) {
                Ok(sample) => shown.push(sample),
                Err(DataError::Corrupt { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(shown)
    }

    fn of_sample(
        &self,
        pipeline: &Pipeline,
        targets: &ShownTargets,
        index: usize,
    ) -> Result<Augmented, DataError> {
        let sample = pipeline.read(index)?;
        let picture = |caption: &str, sample: &Sample| {
            Ok::<_, DataError>(Picture::new(caption, sample_picture(sample, targets)?))
        };
        let transformed = |(transform, sample): (&dyn Transform, &Sample)| {
            let (height, width) = sample.pixels.size();
            let picture = picture(transform.typetag_name(), sample)?;
            Ok::<_, DataError>(Transformed { picture, size: [height, width] })
        };
        let epochs = (0..self.options.epochs).map(|epoch| {
            let steps = pipeline.steps(&sample, epoch, index)?;
            // Back in pixels what is normalised is what it was before.
            let steps = pipeline.transforms.iter().map(|transform| &**transform).zip(&steps);
            let changed = steps.filter(|(transform, _)| transform.normalization().is_none());
            changed.map(transformed).collect::<Result<Vec<_>, DataError>>()
        });
        let class = sample.target.class.filter(|_| targets.names(TaskKind::Classify).is_some());
        Ok(Augmented {
            original: picture("as read", &sample)?,
            class: class.map(|class| targets.class_name(TaskKind::Classify, class)),
            epochs: epochs.collect::<Result<_, _>>()?,
            id: sample.id,
        })
    }

    /// The first batch of the first epoch, with the masks of the first step.
    fn first_batch(&self, loader: &Loader) -> Result<Option<FirstBatch>, EngineError> {
        let Some(batch) = loader.epoch(0, 0).next().transpose()? else { return Ok(None) };
        let ctx = Context::eval(random::stream(Purpose::Step, &[self.seed, 0]));
        let masks = self.model.masks(batch.len(), &ctx)?;
        Ok(Some(FirstBatch { batch, masks }))
    }
}

/// What the model gets first.
struct FirstBatch {
    batch: Batch,
    masks: Vec<Mask>,
}

impl FirstBatch {
    /// Rows of pictures: an image, and what each mask leaves of it.
    fn rows(&self, count: usize) -> Vec<Vec<Picture>> {
        let Self { batch, masks } = self;
        // Masks are of images with their padding.
        let padded = Batch { sizes: vec![[batch.height, batch.width]; batch.len()], ..batch.clone() };
        let row = |image: usize| {
            let own = |mask: &Mask| image * mask.masks..(image + 1) * mask.masks;
            let of_masks = masks.iter().flat_map(|mask| own(mask).map(move |of| (mask, of)));
            let of_masks =
                of_masks.map(|(mask, of)| Picture::new("masked", masked(padded.picture(image), mask, of)));
            let seen = Picture::new("image", batch.picture(image));
            std::iter::once(seen).chain(of_masks).collect()
        };
        (0..batch.len().min(count)).map(row).collect()
    }
}
