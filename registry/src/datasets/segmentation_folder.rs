mod labelling;
mod pairs;

use std::path::{Path, PathBuf};

use convmae_framework::component::{Dataset, Samples, TaskKind};
use convmae_framework::data::{DataError, PassedOver, Sample, Target, read_image, read_labels};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::labelling::Labelling;
use self::pairs::Pairs;
use super::{Classes, what_is_there};

/// Images with the class of every pixel: a folder of images and one of label maps of the same names, in the
/// same subfolders if there are some. Images are sorted by name; names that begin with a dot are passed over.
///
/// A label map is a PNG, TIFF or BMP whose values are the classes: grey of 1 to 16 bits, or with a palette,
/// whose entries are the values. 255 is ignored. Where label maps are in colours (RGB), `palette` tells the
/// classes.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SegmentationFolder {
    /// The folder of the images.
    #[schemars(extend("examples" = ["data/vessels/images/training"]))]
    pub images: PathBuf,
    /// The folder of the label maps.
    #[schemars(extend("examples" = ["data/vessels/annotations/training"]))]
    pub labels: PathBuf,
    /// The classes: their names by index, a text file with the name of one class a line, or their number.
    #[schemars(extend("examples" = [["background", "vessel"]]))]
    pub classes: Classes,
    /// What the names of images end with, where that is more than an extension (`_leftImg8bit.png`), or other
    /// images are to be passed over. Any image (jpg, png, webp, tif, bmp) if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_suffix: Option<String>,
    /// What the names of label maps end with in its place (`_gtFine_labelTrainIds.png`). Any label map (png,
    /// tif, bmp) if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_suffix: Option<String>,
    /// The value that each class has in label maps, such as `[0, 255]` for masks of two classes; by default
    /// 0, 1, 2 and so on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<Vec<u16>>,
    /// The colour of each class, `[red, green, blue]`, in label maps in colours. Colours after those of the
    /// classes are ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub palette: Option<Vec<[u8; 3]>>,
    /// Values of label maps that are ignored besides 255.
    #[serde(default)]
    pub ignore: Vec<u16>,
    /// Whether 0 is none of the classes: it is ignored, and 1, 2, 3 are classes 0, 1, 2.
    #[serde(default)]
    pub reduce_zero_label: bool,
}

#[typetag::serde]
impl Dataset for SegmentationFolder {
    fn open(&self) -> Result<Box<dyn Samples>, DataError> {
        for folder in [&self.images, &self.labels] {
            if !folder.is_dir() {
                let reason = format!("no such folder{}", what_is_there(folder));
                return Err(DataError::Invalid { path: folder.clone(), reason });
            }
        }
        let classes = self.classes.names()?;
        let labelling = Labelling::new(self, classes.len())?;
        Ok(Box::new(Scenes { images: self.images.clone(), labelling, classes, pairs: Pairs::find(self)? }))
    }
}

convmae_framework::register!(Dataset: SegmentationFolder);

struct Scenes {
    /// The folder of images.
    images: PathBuf,
    labelling: Labelling,
    classes: Vec<String>,
    pairs: Pairs,
}

impl Scenes {
    fn read(&self, image_path: &Path, label_path: &Path) -> Result<Sample, DataError> {
        let corrupt = |reason: String| DataError::Corrupt { path: label_path.to_owned(), reason };
        let image = read_image(image_path)?;
        let labels = self.labelling.labels(read_labels(label_path)?).map_err(corrupt)?;
        let ((height, width), (rows, columns)) = (image.size(), (labels.height(), labels.width()));
        if (rows as usize, columns as usize) != (height, width) {
            return Err(corrupt(format!(
                "the label map is {rows} x {columns}, but its image `{}` is {height} x {width}",
                image_path.display(),
            )));
        }
        let target = Target { semantic: Some(labels), ..Target::default() };
        Ok(Sample::new(image_path.display().to_string(), image, target))
    }
}

impl Samples for Scenes {
    fn len(&self) -> usize {
        self.pairs.files.len()
    }

    fn get(&self, index: usize) -> Result<Sample, DataError> {
        let (image, labels) = &self.pairs.files[index];
        self.read(image, labels)
    }

    fn identity(&self, index: usize) -> Option<String> {
        let (image, _) = &self.pairs.files[index];
        Some(image.strip_prefix(&self.images).unwrap_or(image).to_string_lossy().into_owned())
    }

    fn classes(&self, task: TaskKind) -> Option<&[String]> {
        (task == TaskKind::Segment).then_some(&self.classes)
    }

    fn passed_over(&self) -> PassedOver {
        self.pairs.passed_over.clone()
    }

    fn warnings(&self) -> Vec<String> {
        self.pairs.warnings.clone()
    }
}

#[cfg(test)]
mod tests;
