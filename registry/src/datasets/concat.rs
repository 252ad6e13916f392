//! Datasets one after another.

use convmae_framework::component::{Dataset, Samples, TaskKind};
use convmae_framework::data::{DataError, PassedOver, Sample};
use convmae_framework::random::{self, Purpose};
use rand::Rng as _;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::what_differs;

/// Several datasets as one, the samples of the first one first (`ConcatDataset` of PyTorch and mmcv). Their classes are the
/// same, in the same order. In training they are mixed, each in an order of its own: shards stay near each other.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Concat {
    /// The datasets.
    #[schemars(length(min = 1), extend("examples" = [[
        { "type": "ImageFolder", "root": "data/imagenet", "split": "train" },
        { "type": "ImageFolder", "root": "data/more_images" },
    ]]))]
    pub datasets: Vec<Box<dyn Dataset>>,
}

#[typetag::serde]
impl Dataset for Concat {
    fn open(&self) -> Result<Box<dyn Samples>, DataError> {
        let parts = self.datasets.iter().map(|dataset| dataset.open()).collect::<Result<Vec<_>, _>>()?;
        let Some(first) = parts.first() else { return Err(invalid("`datasets` is empty".to_owned())) };
        for (at, part) in parts.iter().enumerate() {
            if let Some(difference) = what_differs(first.as_ref(), part.as_ref()) {
                return Err(invalid(format!("`datasets.0` and `datasets.{at}` do not agree: {difference}")));
            }
        }
        Ok(Box::new(Joined::new(parts)))
    }
}

convmae_framework::register!(Dataset: Concat);

fn invalid(reason: String) -> DataError {
    DataError::Invalid { path: "Concat".into(), reason }
}

/// Opened datasets, at least one.
struct Joined {
    parts: Vec<Box<dyn Samples>>,
    /// The first sample of each.
    starts: Vec<usize>,
    len: usize,
}

impl Joined {
    fn new(parts: Vec<Box<dyn Samples>>) -> Self {
        let mut joined = Self { parts: Vec::new(), starts: Vec::new(), len: 0 };
        for part in parts {
            joined.starts.push(joined.len);
            joined.len += part.len();
            joined.parts.push(part);
        }
        joined
    }

    /// The dataset that holds a sample, and its index there.
    fn place(&self, index: usize) -> (&dyn Samples, usize) {
        let part = self.starts.partition_point(|&start| start <= index) - 1;
        (self.parts[part].as_ref(), index - self.starts[part])
    }
}

impl Samples for Joined {
    fn len(&self) -> usize {
        self.len
    }

    fn get(&self, index: usize) -> Result<Sample, DataError> {
        let (part, index) = self.place(index);
        part.get(index)
    }

    fn identity(&self, index: usize) -> Option<String> {
        let (part, index) = self.place(index);
        part.identity(index)
    }

    fn class(&self, index: usize) -> Option<usize> {
        let (part, index) = self.place(index);
        part.class(index)
    }

    fn classes(&self, task: TaskKind) -> Option<&[String]> {
        self.parts[0].classes(task)
    }

    fn category_ids(&self) -> Option<&[u64]> {
        self.parts[0].category_ids()
    }

    fn passed_over(&self) -> PassedOver {
        let mut all = PassedOver::default();
        self.parts.iter().for_each(|part| all.merge(part.passed_over()));
        all
    }

    fn warnings(&self) -> Vec<String> {
        self.parts.iter().flat_map(|part| part.warnings()).collect()
    }

    /// Riffles the orders of the parts, each with the chance of what is left of it: of shuffled ones a shuffle of all.
    fn order(&self, seed: u64, epoch: u64) -> Vec<usize> {
        let counters = |part: usize| [seed, random::name_counter("Concat"), part as u64];
        let mut orders: Vec<_> = (0..self.parts.len())
            .map(|part| {
                let seed = random::stream(Purpose::Order, &counters(part)).random();
                self.parts[part].order(seed, epoch).into_iter()
            })
            .collect();
        let mut rng = random::stream(Purpose::Order, &[seed, epoch]);
        let mut left: usize = orders.iter().map(ExactSizeIterator::len).sum();
        let mut order = Vec::with_capacity(left);
        while left > 0 {
            let mut draw = rng.random_range(0..left as u64) as usize;
            for (part, start) in orders.iter_mut().zip(&self.starts) {
                if draw < part.len() {
                    order.extend(part.next().map(|index| start + index));
                    break;
                }
                draw -= part.len();
            }
            left -= 1;
        }
        order
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::{Value, json};

    use super::*;
    use crate::datasets::testing::{class_folders, image_folder};

    fn open(datasets: &Value) -> Result<Box<dyn Samples>, DataError> {
        let concat = json!({ "type": "Concat", "datasets": datasets });
        serde_json::from_value::<Box<dyn Dataset>>(concat).unwrap().open()
    }

    #[test]
    fn samples_come_one_dataset_after_another_with_the_classes_of_all() {
        let (a, b) = (class_folders(&[("cat", 2), ("dog", 1)]), class_folders(&[("cat", 1), ("dog", 3)]));
        let joined = open(&json!([image_folder(a.path()), image_folder(b.path())])).unwrap();
        assert_eq!(joined.len(), 7);
        assert_eq!(joined.classes(TaskKind::Classify).unwrap(), ["cat", "dog"]);
        let classes: Vec<_> = (0..7).map(|index| joined.class(index).unwrap()).collect();
        assert_eq!(classes, [0, 0, 1, 0, 1, 1, 1]);
        let sample = joined.get(3).unwrap();
        assert!(sample.id.starts_with(b.path().to_str().unwrap()) && sample.target.class == Some(0));
        assert_eq!(joined.identity(2).unwrap(), "dog/0.png");
    }

    #[test]
    fn an_epoch_has_every_sample_once_mixed_and_as_the_parts_order_them() {
        let (a, b) = (class_folders(&[("cat", 30)]), class_folders(&[("cat", 90)]));
        let parts = [image_folder(a.path()), image_folder(b.path())];
        let joined = open(&json!(parts)).unwrap();
        let order = joined.order(1, 0);
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert!(sorted.into_iter().eq(0..120));
        let early = order[..60].iter().filter(|&&index| index < 30).count();
        assert!((8..=22).contains(&early), "{early} of the 30 of the first part in the first half");
        assert_eq!(joined.order(1, 0), order);
        assert!(joined.order(1, 1) != order && joined.order(2, 0) != order);
        // Two parts of one length are not in the same order.
        let twice = open(&json!([&parts[0], &parts[0]])).unwrap().order(1, 0);
        let of = |part: usize| -> Vec<_> {
            twice.iter().filter(|&&index| index / 30 == part).map(|index| index % 30).collect()
        };
        assert_ne!(of(0), of(1));
    }

    #[test]
    fn other_classes_are_refused_and_named() {
        let refused = |others: &[(&str, usize)], labelled: bool| {
            let (a, b) = (class_folders(&[("cat", 1), ("dog", 1)]), class_folders(others));
            let mut second = image_folder(b.path());
            second["labelled"] = json!(labelled);
            open(&json!([image_folder(a.path()), second])).err().unwrap().to_string()
        };
        for (others, labelled, words) in [
            (vec![("cat", 1), ("fox", 1)], true, "class 1 is `dog` in the one and `fox` in the other"),
            (vec![("cat", 1)], true, "2 classes and 1"),
            (vec![("cat", 1)], false, "only the first one has classes"),
        ] {
            let message = refused(&others, labelled);
            assert!(message.starts_with("Concat: `datasets.0` and `datasets.1` do not agree"), "{message}");
            assert!(message.contains(words), "{message}");
        }
        assert_eq!(open(&json!([])).err().unwrap().to_string(), "Concat: `datasets` is empty");
    }
}
