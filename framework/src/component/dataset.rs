//! Datasets: where samples come from.

use rand::seq::SliceRandom as _;

use super::TaskKind;
use super::registry::slot_schema;
use crate::data::{DataError, PassedOver, Sample};
use crate::random::{self, Purpose};

/// A source of samples, as the recipe states it.
#[typetag::serde(tag = "type")]
pub trait Dataset: std::fmt::Debug + Send + Sync {
    /// Opens the source: lists folders, reads indices, but no sample yet.
    fn open(&self) -> Result<Box<dyn Samples>, DataError>;
}

slot_schema!(Dataset);

/// An opened dataset: samples by index.
pub trait Samples: Send + Sync {
    /// The number of samples.
    fn len(&self) -> usize;

    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads and decodes a sample. Called from several threads.
    fn get(&self, index: usize) -> Result<Sample, DataError>;

    /// What a sample is, wherever the data lie: its name within the dataset, with its annotations if they are in
    /// no file of their own. `None` if the dataset cannot tell: then a run goes on with it only where it was.
    fn identity(&self, index: usize) -> Option<String> {
        let _ = index;
        None
    }

    /// The class of a sample, where that is known without reading it.
    fn class(&self, index: usize) -> Option<usize> {
        let _ = index;
        None
    }

    /// The names of the classes that a task tells apart, by index, where the data has such classes: of
    /// images, of the values of label maps, of objects.
    fn classes(&self, task: TaskKind) -> Option<&[String]> {
        let _ = task;
        None
    }

    /// The numbers that the annotations give the classes of objects, by index (COCO's `category_id`), where
    /// they have numbers of their own.
    fn category_ids(&self) -> Option<&[u64]> {
        None
    }

    /// Files beside the samples that are none: said at every start, and in `summary.json`.
    fn passed_over(&self) -> PassedOver {
        PassedOver::default()
    }

    /// What should be known of the data before they are used, such as an archive without an end: said at
    /// every start.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }

    /// The order of an epoch's samples, a function of seed and epoch only. A permutation, unless the storage
    /// asks for something closer to its own order.
    fn order(&self, seed: u64, epoch: u64) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.len()).collect();
        order.shuffle(&mut random::stream(Purpose::Order, &[seed, epoch]));
        order
    }
}
