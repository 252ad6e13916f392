//! Figures of a dataset, from samples spread over it.

use std::collections::BTreeMap;

use rayon::prelude::*;

use crate::component::{Samples, TaskKind};
use crate::data::{DataError, IGNORED, Pixels, Sample};
use crate::engine::EngineError;
use crate::loader::{CorruptSample, Pipeline};
use crate::report::{ClassCounts, PixelStatistics, ShownTargets};

/// What was found in the samples that were read.
#[derive(Default)]
pub struct Survey {
    /// Samples that were read, or could not be.
    pub read: usize,
    /// Those that could not be.
    pub corrupt: Vec<CorruptSample>,
    sizes: BTreeMap<[usize; 2], u64>,
    /// Of each channel.
    sums: Vec<Sums>,
    images: BTreeMap<usize, u64>,
    pixels: BTreeMap<usize, u64>,
    objects: BTreeMap<usize, u64>,
}

/// Sums over the values of a channel, 0 to 255.
#[derive(Clone, Copy, Default)]
struct Sums {
    count: u64,
    values: u64,
    squares: u64,
}

/// Up to `count` of `len` indices, evenly spaced.
pub fn spread(len: usize, count: usize) -> impl Iterator<Item = usize> {
    let count = count.min(len);
    (0..count).map(move |at| at * len / count)
}

impl Survey {
    /// Reads up to `count` samples, before any transform.
    ///
    /// # Errors
    /// If one cannot be read for another reason than that it is damaged.
    pub fn of(pipeline: &Pipeline, count: usize) -> Result<Self, EngineError> {
        let indices: Vec<usize> = spread(pipeline.samples.len(), count).collect();
        let of_one = |&index: &usize| match pipeline.read(index) {
            Ok(sample) => Ok(Self::of_sample(&sample)),
            Err(DataError::Corrupt { path, reason }) => {
                let corrupt = vec![CorruptSample { index, path, reason }];
                Ok(Self { read: 1, corrupt, ..Self::default() })
            }
            Err(error) => Err(EngineError::from(error)),
        };
        indices.par_iter().map(of_one).try_reduce(Self::default, |a, b| Ok(a.merged(b)))
    }

    fn of_sample(sample: &Sample) -> Self {
        let (height, width) = sample.pixels.size();
        let raw = match &sample.pixels {
            Pixels::Rgb(image) => image.as_raw().as_slice(),
            Pixels::Channels(raster) => raster.as_raw(),
            // What is read is not normalised.
            Pixels::Normalized { .. } => &[],
        };
        let mut survey =
            Self { read: 1, sums: vec![Sums::default(); sample.pixels.channels()], ..Self::default() };
        survey.sizes.insert([height, width], 1);
        for pixel in raw.chunks_exact(survey.sums.len()) {
            for (sums, &value) in survey.sums.iter_mut().zip(pixel) {
                sums.count += 1;
                sums.values += u64::from(value);
                sums.squares += u64::from(value) * u64::from(value);
            }
        }
        survey.images.extend(sample.target.class.map(|class| (class, 1)));
        for class in &sample.target.instances.classes {
            *survey.objects.entry(*class as usize).or_default() += 1;
        }
        if let Some(map) = &sample.target.semantic {
            for &label in map.as_raw().iter().filter(|label| **label != IGNORED) {
                *survey.pixels.entry(usize::from(label)).or_default() += 1;
            }
        }
        survey
    }

    /// Of both; corrupt samples in the order of the data.
    fn merged(mut self, other: Self) -> Self {
        self.read += other.read;
        self.corrupt.extend(other.corrupt);
        other.sizes.into_iter().for_each(|(size, images)| *self.sizes.entry(size).or_default() += images);
        for (own, others) in [
            (&mut self.images, other.images),
            (&mut self.pixels, other.pixels),
            (&mut self.objects, other.objects),
        ] {
            others.into_iter().for_each(|(class, count)| *own.entry(class).or_default() += count);
        }
        self.sums.resize(self.sums.len().max(other.sums.len()), Sums::default());
        for (own, other) in self.sums.iter_mut().zip(other.sums) {
            own.count += other.count;
            own.values += other.values;
            own.squares += other.squares;
        }
        self
    }

    /// Heights and widths, the most frequent first.
    pub fn sizes(&self) -> Vec<([usize; 2], u64)> {
        let mut sizes: Vec<_> = self.sizes.iter().map(|(size, images)| (*size, *images)).collect();
        sizes.sort_by_key(|(_, images)| std::cmp::Reverse(*images));
        sizes
    }

    /// Of all pixels, each counting the same.
    pub fn pixels(&self) -> PixelStatistics {
        let of = |sums: &Sums| {
            let count = sums.count.max(1) as f64;
            let mean = sums.values as f64 / count;
            let variance = (sums.squares as f64 / count - mean * mean).max(0.0);
            (mean / 255.0, variance.sqrt() / 255.0)
        };
        let (mean, std) = self.sums.iter().map(of).unzip();
        PixelStatistics { mean, std }
    }

    /// How often the classes of each task are there; those of images in all samples, where the dataset knows them.
    pub fn classes(&self, samples: &dyn Samples, targets: &ShownTargets) -> Vec<ClassCounts> {
        let of_task = |task| {
            let known = || (0..samples.len()).map(|index| samples.class(index)).collect::<Option<Vec<_>>>();
            let known = if task == TaskKind::Classify { known() } else { None };
            let of_all = known.is_some();
            let counts = match (task, known) {
                (_, Some(known)) => {
                    let mut counts = BTreeMap::new();
                    known.into_iter().for_each(|class| *counts.entry(class).or_default() += 1);
                    counts
                }
                (TaskKind::Segment, None) => self.pixels.clone(),
                (TaskKind::Detect, None) => self.objects.clone(),
                (_, None) => self.images.clone(),
            };
            let named = targets.names(task).map_or(0, <[String]>::len);
            let classes = named.max(counts.keys().next_back().map_or(0, |last| last + 1));
            let of_class =
                |class| (targets.class_name(task, class), counts.get(&class).copied().unwrap_or_default());
            (!counts.is_empty()).then(|| ClassCounts {
                task,
                of_all,
                counts: (0..classes).map(of_class).collect(),
            })
        };
        targets.tasks().filter_map(of_task).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use image::{GrayImage, Luma, Rgb, RgbImage};

    use super::*;
    use crate::data::Target;

    /// Images of classes 0, 1, 2, 0, .. in one grey each; the fourth is damaged.
    struct Greys;

    impl Samples for Greys {
        fn len(&self) -> usize {
            6
        }

        fn get(&self, index: usize) -> Result<Sample, DataError> {
            if index == 3 {
                return Err(DataError::Corrupt { path: "3.png".into(), reason: "cut".to_owned() });
            }
            let image =
                RgbImage::from_pixel(4, 2 + index as u32 % 2, Rgb([if index < 3 { 0 } else { 255 }; 3]));
            let map = GrayImage::from_fn(2, 1, |x, _| Luma([if x == 0 { 1 } else { IGNORED }]));
            let mut target = Target { class: Some(index % 3), semantic: Some(map), ..Target::default() };
            target.instances.annotate(4, [0.0, 0.0, 1.0, 1.0], crate::data::Mask::Polygons(Vec::new()));
            Ok(Sample::new(format!("{index}.png"), image, target))
        }

        fn classes(&self, task: TaskKind) -> Option<&[String]> {
            static NAMES: std::sync::LazyLock<Vec<String>> =
                std::sync::LazyLock::new(|| ["sky", "sea", "sand"].map(str::to_owned).to_vec());
            (task == TaskKind::Segment).then_some(NAMES.as_slice())
        }
    }

    fn survey() -> Survey {
        let pipeline = Pipeline {
            samples: Box::new(Greys),
            transforms: Vec::new(),
            batch_transforms: Vec::new(),
            pad_to: None,
            channels: 3,
            seed: 0,
        };
        Survey::of(&pipeline, 100).unwrap()
    }

    #[test]
    fn figures_are_of_all_that_could_be_read() {
        let survey = survey();
        assert_eq!((survey.read, survey.corrupt.len(), survey.corrupt[0].index), (6, 1, 3));
        assert_eq!(survey.sizes(), [([2, 4], 3), ([3, 4], 2)]);
        // 8 + 12 + 8 black pixels, 8 + 12 white ones.
        let share = 20.0 / 48.0_f64;
        let PixelStatistics { mean, std } = survey.pixels();
        assert!(mean.iter().all(|mean| (mean - share).abs() < 1e-12), "{mean:?}");
        assert!(std.iter().all(|std| (std - (share * (1.0 - share)).sqrt()).abs() < 1e-12), "{std:?}");
    }

    #[test]
    fn classes_are_counted_by_task() {
        let tasks = [TaskKind::Classify, TaskKind::Segment, TaskKind::Detect];
        let counts = survey().classes(&Greys, &ShownTargets::new(&Greys, tasks));
        let [images, pixels, objects] = &counts[..] else { panic!("three tasks") };
        let counts = |of: &ClassCounts| of.counts.iter().map(|(_, count)| *count).collect::<Vec<_>>();
        assert_eq!((counts(images), images.of_all), (vec![1, 2, 2], false));
        assert_eq!((pixels.counts[1].clone(), counts(pixels)), (("sea".to_owned(), 5), vec![0, 5, 0]));
        assert_eq!((objects.counts[4].clone(), objects.counts.len()), (("class 4".to_owned(), 5), 5));
        assert_eq!(survey().classes(&Greys, &ShownTargets::new(&Greys, [TaskKind::Detect])).len(), 1);
    }

    #[test]
    fn samples_are_spread_over_the_data() {
        assert_eq!(spread(10, 4).collect::<Vec<_>>(), [0, 2, 5, 7]);
        assert_eq!(spread(2, 4).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(spread(0, 4).count(), 0);
    }
}
