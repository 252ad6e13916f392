//! Images prepared as those of the validation set, in batches.

use std::path::{Path, PathBuf};

use image::{GrayImage, Luma};
use rayon::prelude::*;

use crate::component::Transform;
use crate::data::{Batch, DataError, IGNORED, Sample, Size, Target, read_image};
use crate::engine::EngineError;
use crate::random::{self, Purpose};

/// How images are read.
pub struct ImageBatches<'a> {
    /// Channels that the model takes.
    pub channels: usize,
    /// What happens to each.
    pub transforms: &'a [Box<dyn Transform>],
    /// What the images of a batch are padded to.
    pub pad_to: Option<Size>,
    /// Seed of what is random about the transforms.
    pub seed: u64,
    /// Images of a batch.
    pub batch_size: usize,
    /// Whether each has a label map: one that says that nothing is known, and by its size how large a prediction of
    /// the classes of pixels should be.
    pub with_label_maps: bool,
}

impl ImageBatches<'_> {
    /// Hands the images on to `take`, batch by batch, with their paths and the number of the first one. Damaged
    /// images are skipped and named.
    ///
    /// # Errors
    /// Those of `take`; if a transform does not fit, or no image can be read.
    pub fn each<E: From<EngineError>>(
        &self,
        images: &[PathBuf],
        mut take: impl FnMut(u64, &[&Path], &Batch) -> Result<(), E>,
    ) -> Result<(), E> {
        let fail = |error: DataError| E::from(EngineError::from(error));
        let (mut read, mut first_damaged) = (0, None);
        for (number, paths) in images.chunks(self.batch_size).enumerate() {
            let first = number * self.batch_size;
            let samples: Vec<_> =
                paths.par_iter().enumerate().map(|(at, path)| self.sample(first + at, path)).collect();
            let (mut intact, mut stacked) = (Vec::new(), Vec::new());
            for (path, sample) in paths.iter().zip(samples) {
                match sample {
                    Ok(sample) => {
                        intact.push(path.as_path());
                        stacked.push(sample);
                    }
                    Err(error @ DataError::Corrupt { .. }) => {
                        tracing::warn!("skipped: {error}");
                        first_damaged.get_or_insert(error);
                    }
                    Err(error) => return Err(fail(error)),
                }
            }
            if !stacked.is_empty() {
                let batch = Batch::stack(stacked, self.pad_to).map_err(fail)?;
                take(read as u64, &intact, &batch)?;
                read += intact.len();
            }
        }
        match first_damaged {
            Some(error) if read == 0 => Err(fail(error)),
            Some(_) => {
                tracing::warn!(
                    "{} of {} images are damaged, and left out",
                    images.len() - read,
                    images.len()
                );
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Reads image number `index` of all and prepares it.
    fn sample(&self, index: usize, path: &Path) -> Result<Sample, DataError> {
        let image = read_image(path)?;
        let (height, width) = image.size();
        let unknown = || GrayImage::from_pixel(width as u32, height as u32, Luma([IGNORED]));
        let target = Target { semantic: self.with_label_maps.then(unknown), ..Target::default() };
        let sample = Sample::new(path.display().to_string(), image, target).with_channels(self.channels)?;
        let mut rng = random::stream(Purpose::Augment, &[self.seed, 0, index as u64]);
        self.transforms.iter().try_fold(sample, |sample, transform| transform.apply(sample, &mut rng))
    }
}
