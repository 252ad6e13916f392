//! A dataset with its transforms: samples by index, batches by number.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::component::{BatchTransform, Problem, SampleShape, Samples, Transform};
use crate::data::{Batch, DataError, Sample, Size};
use crate::guard;
use crate::random::{self, Purpose, Rng};

/// A dataset and what happens to its samples.
pub struct Pipeline {
    /// Where samples come from.
    pub samples: Box<dyn Samples>,
    /// What happens to them, in order.
    pub transforms: Vec<Box<dyn Transform>>,
    /// What happens to a batch of them, in order.
    pub batch_transforms: Vec<Box<dyn BatchTransform>>,
    /// What the images of a batch are padded to.
    pub pad_to: Option<Size>,
    /// Channels of the images: what is read becomes so.
    pub channels: usize,
    /// The seed of order and augmentation.
    pub seed: u64,
}

impl Pipeline {
    /// Sample `index` as epoch `epoch` sees it: a function of seed, epoch and index only.
    pub fn sample(&self, epoch: u64, index: usize) -> Result<Sample, DataError> {
        self.apply(&self.transforms, epoch, index)
    }

    /// Sample `index` before any transform.
    pub fn read(&self, index: usize) -> Result<Sample, DataError> {
        let mut sample = catch(format!("sample {index}"), || self.samples.get(index))?;
        sample.original.image_id.get_or_insert(index as u64);
        catch(sample.id.clone(), || sample.with_channels(self.channels))
    }

    /// What each transform makes of a sample that was read, in order: the last is [`Self::sample`].
    pub fn steps(&self, sample: &Sample, epoch: u64, index: usize) -> Result<Vec<Sample>, DataError> {
        let mut rng = self.rng(epoch, index);
        catch(sample.id.clone(), || {
            let mut steps: Vec<Sample> = Vec::with_capacity(self.transforms.len());
            for transform in &self.transforms {
                let before = steps.last().unwrap_or(sample).clone();
                steps.push(transform.apply(before, &mut rng)?);
            }
            Ok(steps)
        })
    }

    /// Sample `index` as [`Self::stack`] takes it: not normalised if the last transform does nothing else.
    pub(super) fn part(&self, epoch: u64, index: usize) -> Result<Sample, DataError> {
        match self.transforms.split_last() {
            Some((last, others)) if last.normalization().is_some() => self.apply(others, epoch, index),
            _ => self.sample(epoch, index),
        }
    }

    /// Batch `number` of epoch `epoch`, of what [`Self::part`] gave: the same as of the samples.
    pub(super) fn stack(&self, parts: Vec<Sample>, epoch: u64, number: usize) -> Result<Batch, DataError> {
        let first = parts.first().map(|sample| sample.id.clone()).unwrap_or_default();
        catch(first, || {
            let batch = match self.transforms.last().and_then(|last| last.normalization()) {
                Some(normalization) => Batch::normalize_and_stack(parts, &normalization, self.pad_to),
                None => Batch::stack(parts, self.pad_to),
            };
            let mut rng = random::stream(Purpose::Mix, &[self.seed, epoch, number as u64]);
            self.batch_transforms.iter().try_fold(batch?, |batch, transform| transform.apply(batch, &mut rng))
        })
    }

    fn apply(
        &self,
        transforms: &[Box<dyn Transform>],
        epoch: u64,
        index: usize,
    ) -> Result<Sample, DataError> {
        let mut rng = self.rng(epoch, index);
        let sample = self.read(index)?;
        catch(sample.id.clone(), || {
            transforms.iter().try_fold(sample, |sample, transform| transform.apply(sample, &mut rng))
        })
    }

    fn rng(&self, epoch: u64, index: usize) -> Rng {
        random::stream(Purpose::Augment, &[self.seed, epoch, index as u64])
    }
}

/// Turns a panic of a dataset, of a transform or of stacking into the error of a sample.
fn catch<T>(sample: String, read: impl FnOnce() -> Result<T, DataError>) -> Result<T, DataError> {
    catch_unwind(AssertUnwindSafe(read))
        .unwrap_or_else(|panic| Err(DataError::Panicked { sample, message: guard::message(&*panic) }))
}

/// What is known of samples after all of `transforms`.
///
/// # Errors
/// The position of the transform that does not fit, and why.
pub fn output_shape(
    transforms: &[Box<dyn Transform>],
    input: SampleShape,
) -> Result<SampleShape, (usize, Problem)> {
    transforms.iter().enumerate().try_fold(input, |shape, (position, transform)| {
        transform.output(shape).map_err(|problem| (position, problem))
    })
}
