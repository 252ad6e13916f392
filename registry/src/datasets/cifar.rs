//! CIFAR-10 and CIFAR-100 as they are distributed.

mod layout;

use std::path::PathBuf;

use convmae_framework::component::{Dataset, Samples, TaskKind};
use convmae_framework::data::{DataError, Raster, Sample, Target};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use layout::Layout;

/// CIFAR-10 or CIFAR-100 (Krizhevsky, 2009) in the folder of its archive, unpacked: `cifar-10-batches-bin`,
/// `cifar-10-batches-py`, `cifar-100-binary` or `cifar-100-python`. Which of them it is, its files tell. All images are kept
/// in memory, 150 MB for training.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cifar {
    /// The folder.
    #[schemars(extend("examples" = ["data/cifar-10-batches-bin"]))]
    pub root: PathBuf,
    /// The 50,000 images for training, or the 10,000 for tests.
    #[serde(default)]
    pub split: CifarSplit,
    /// Whether the classes of CIFAR-100 are its 20 superclasses instead of the 100 fine ones.
    #[serde(default)]
    pub coarse: bool,
}

/// A part of CIFAR.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CifarSplit {
    /// For training.
    #[default]
    Train,
    /// For tests.
    Test,
}

/// Height and width of the images.
const SIDE: usize = 32;
/// Bytes of an image: the red values row by row, then the green, then the blue.
const IMAGE: usize = 3 * SIDE * SIDE;

#[typetag::serde]
impl Dataset for Cifar {
    fn open(&self) -> Result<Box<dyn Samples>, DataError> {
        let layout = Layout::of(&self.root, self.split)?;
        if self.coarse && !layout.has_coarse() {
            return Err(invalid(&self.root, "CIFAR-10 has no superclasses: leave out `coarse`"));
        }
        let mut images = Images { classes: layout.classes(&self.root, self.coarse)?, ..Images::default() };
        for name in layout.files(self.split) {
            let path = self.root.join(name);
            let batch = layout.read(&path, self.coarse)?;
            if let Some(record) = batch.labels.iter().position(|&label| label >= images.classes.len()) {
                return Err(invalid(
                    &path,
                    format!(
                        "image {record} is of class {}, and there are {} classes: the file is damaged",
                        batch.labels[record],
                        images.classes.len()
                    ),
                ));
            }
            images.starts.push(images.labels.len());
            images.files.push(path);
            images.labels.extend(batch.labels);
            images.planes.extend(batch.planes);
        }
        Ok(Box::new(images))
    }
}

convmae_framework::register!(Dataset: Cifar);

fn invalid(path: &std::path::Path, reason: impl Into<String>) -> DataError {
    DataError::Invalid { path: path.to_owned(), reason: reason.into() }
}

/// The images of a file: as many labels as images.
struct Batch {
    labels: Vec<usize>,
    planes: Vec<u8>,
}

/// All images.
#[derive(Default)]
struct Images {
    classes: Vec<String>,
    files: Vec<PathBuf>,
    /// The first image of each file.
    starts: Vec<usize>,
    labels: Vec<usize>,
    planes: Vec<u8>,
}

impl Images {
    /// The file of an image, and its number there.
    fn place(&self, index: usize) -> (&PathBuf, usize) {
        let file = self.starts.partition_point(|&start| start <= index) - 1;
        (&self.files[file], index - self.starts[file])
    }
}

impl Samples for Images {
    fn len(&self) -> usize {
        self.labels.len()
    }

    fn get(&self, index: usize) -> Result<Sample, DataError> {
        let (file, number) = self.place(index);
        let planes = &self.planes[index * IMAGE..][..IMAGE];
        let plane = IMAGE / 3;
        let pixels = (0..plane).flat_map(|at| [planes[at], planes[plane + at], planes[2 * plane + at]]);
        let image = Raster::new(3, (SIDE, SIDE), pixels.collect())
            .ok_or_else(|| invalid(file, "an image is of another size"))?;
        let target = Target { class: Some(self.labels[index]), ..Target::default() };
        Ok(Sample::new(format!("{}#{number}", file.display()), image, target))
    }

    fn identity(&self, index: usize) -> Option<String> {
        let (file, number) = self.place(index);
        Some(format!("{}#{number} {}", file.file_name()?.display(), self.labels[index]))
    }

    fn class(&self, index: usize) -> Option<usize> {
        Some(self.labels[index])
    }

    fn classes(&self, task: TaskKind) -> Option<&[String]> {
        (task == TaskKind::Classify).then_some(&self.classes)
    }
}

#[cfg(test)]
mod tests;
