//! What the page of a recipe's data shows.

use crate::component::{Picture, TaskKind};
use crate::data::{Normalization, PassedOver};
use crate::loader::CorruptSample;

/// The data of a recipe.
#[derive(Debug)]
pub struct DatasetView {
    /// Name of the experiment.
    pub name: String,
    /// The training set, then the validation set, if there is one.
    pub splits: Vec<SplitView>,
}

/// A split of the data.
#[derive(Debug)]
pub struct SplitView {
    /// `train` or `val`.
    pub split: &'static str,
    /// Samples that there are.
    pub samples: usize,
    /// Samples that were read for what follows, spread over the data.
    pub read: usize,
    /// Heights and widths, with how many images have each, the most frequent first.
    pub sizes: Vec<([usize; 2], u64)>,
    /// Of the images as they are read.
    pub pixels: PixelStatistics,
    /// What the recipe normalises by, if the last transform does.
    pub normalization: Option<Normalization>,
    /// How often each class is there, task by task.
    pub classes: Vec<ClassCounts>,
    /// Those that could not be read.
    pub corrupt: Vec<CorruptSample>,
    /// Files beside the samples that are none.
    pub passed_over: PassedOver,
    /// What looks wrong.
    pub warnings: Vec<String>,
    /// Samples before and after each transform.
    pub augmented: Vec<Augmented>,
    /// Images of the first batch, a row each: as the model sees them, with a mask and without.
    pub batch: Vec<Vec<Picture>>,
    /// The names of the classes of pixels, if label maps are shown.
    pub pixel_classes: Vec<String>,
}

/// Mean and standard deviation of each channel, of pixels from 0 to 1.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PixelStatistics {
    /// Means.
    pub mean: Vec<f64>,
    /// Standard deviations.
    pub std: Vec<f64>,
}

/// How often each class is there.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassCounts {
    /// For which task.
    pub task: TaskKind,
    /// Whether all samples were counted, and not only those that were read.
    pub of_all: bool,
    /// Images, pixels or objects of each class, by its index; with its name, where names are known.
    pub counts: Vec<(String, u64)>,
}

/// A sample before and after each transform.
#[derive(Debug)]
pub struct Augmented {
    /// What it is called in messages.
    pub id: String,
    /// Its class, where it has one that matters.
    pub class: Option<String>,
    /// Before any transform.
    pub original: Picture,
    /// After each transform, in each of several epochs.
    pub epochs: Vec<Vec<Transformed>>,
}

/// A sample after a transform.
#[derive(Debug)]
pub struct Transformed {
    /// The sample, with the transform as its caption.
    pub picture: Picture,
    /// Height and width of the sample, of which the picture has others where it would be too large, or too small for names.
    pub size: [usize; 2],
}
