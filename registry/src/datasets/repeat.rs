//! A dataset several times.

use convmae_framework::component::{Dataset, Samples, TaskKind};
use convmae_framework::data::{DataError, PassedOver, Sample};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Another dataset so many times over (`RepeatDataset` of mmcv): epochs become longer, and within `Concat` a small dataset
/// counts more. In training one pass follows another, each in another order.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Repeat {
    /// The dataset.
    #[schemars(extend("examples" = [{ "type": "ImageFolder", "root": "data/few_images" }]))]
    pub dataset: Box<dyn Dataset>,
    /// How many times.
    #[schemars(range(min = 1, max = 1_000_000), extend("examples" = [5]))]
    pub times: usize,
}

#[typetag::serde]
impl Dataset for Repeat {
    fn open(&self) -> Result<Box<dyn Samples>, DataError> {
        let samples = self.dataset.open()?;
        if self.times.checked_mul(samples.len()).is_none_or(|len| len == 0) {
            let reason = format!("{} samples {} times are none, or too many", samples.len(), self.times);
            return Err(DataError::Invalid { path: "Repeat".into(), reason });
        }
        Ok(Box::new(Repeated { samples, times: self.times }))
    }
}

convmae_framework::register!(Dataset: Repeat);

/// Samples, at least one, so many times.
struct Repeated {
    samples: Box<dyn Samples>,
    times: usize,
}

impl Repeated {
    fn place(&self, index: usize) -> usize {
        index % self.samples.len()
    }
}

impl Samples for Repeated {
    fn len(&self) -> usize {
        self.times * self.samples.len()
    }

    fn get(&self, index: usize) -> Result<Sample, DataError> {
        self.samples.get(self.place(index))
    }

    fn identity(&self, index: usize) -> Option<String> {
        self.samples.identity(self.place(index))
    }

    fn class(&self, index: usize) -> Option<usize> {
        self.samples.class(self.place(index))
    }

    fn classes(&self, task: TaskKind) -> Option<&[String]> {
        self.samples.classes(task)
    }

    fn category_ids(&self) -> Option<&[u64]> {
        self.samples.category_ids()
    }

    fn passed_over(&self) -> PassedOver {
        self.samples.passed_over()
    }

    fn warnings(&self) -> Vec<String> {
        self.samples.warnings()
    }

    /// As in so many epochs of the dataset itself.
    fn order(&self, seed: u64, epoch: u64) -> Vec<usize> {
        let pass = |pass: usize| {
            let order = self.samples.order(seed, epoch * self.times as u64 + pass as u64);
            order.into_iter().map(move |index| pass * self.samples.len() + index)
        };
        (0..self.times).flat_map(pass).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;
    use crate::datasets::testing::{class_folders, image_folder};

    #[test]
    fn every_pass_has_every_sample_once_as_an_epoch_of_its_own() {
        let folder = class_folders(&[("cat", 20), ("dog", 5)]);
        let once: Box<dyn Dataset> = serde_json::from_value(image_folder(folder.path())).unwrap();
        let once = once.open().unwrap();
        let repeat = json!({ "type": "Repeat", "dataset": image_folder(folder.path()), "times": 3 });
        let thrice = serde_json::from_value::<Box<dyn Dataset>>(repeat).unwrap().open().unwrap();
        assert_eq!(thrice.len(), 75);
        assert_eq!(thrice.classes(TaskKind::Classify).unwrap(), ["cat", "dog"]);
        for index in [0, 24, 25, 74] {
            assert_eq!(thrice.identity(index), once.identity(index % 25));
            assert_eq!(thrice.get(index).unwrap().id, once.get(index % 25).unwrap().id);
        }
        let order = thrice.order(7, 2);
        for pass in 0..3 {
            let expected = once.order(7, 6 + pass as u64).into_iter().map(|index| pass * 25 + index);
            assert!(order[pass * 25..][..25].iter().copied().eq(expected), "pass {pass}");
        }
    }

    #[test]
    fn more_samples_than_can_be_counted_are_refused() {
        let folder = class_folders(&[("cat", 2)]);
        let json = json!({ "type": "Repeat", "dataset": image_folder(folder.path()), "times": usize::MAX });
        let error = serde_json::from_value::<Box<dyn Dataset>>(json).unwrap().open().err().unwrap();
        assert!(error.to_string().contains("too many"), "{error}");
    }
}
