mod classes;

use std::path::PathBuf;

use convmae_framework::component::{Dataset, Samples};
use convmae_framework::data::DataError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::classes::CLASSES;
use super::{Classes, SegmentationFolder, what_is_there, yes};

/// ADE20K as in the scene parsing challenge of 2016, with the class of every pixel: images in
/// `root/images/training` and, of the same names, label maps in `root/annotations/training`. A
/// `SegmentationFolder` with the 150 classes.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ade20k {
    /// The folder `ADEChallengeData2016`.
    #[schemars(extend("examples" = ["data/ADEChallengeData2016"]))]
    pub root: PathBuf,
    /// Which images.
    pub split: Ade20kSplit,
    /// Whether labels are those of the files, in which 0 is none of the 150 classes: it becomes 255, which is
    /// ignored, and 1 to 150 become 0 to 149. If not, they are taken as they are: 0 to 149, or 255.
    #[serde(default = "yes")]
    pub reduce_zero_label: bool,
}

/// Images to train on, or others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Ade20kSplit {
    /// The 20210 to train on.
    Training,
    /// The 2000 to evaluate on.
    Validation,
}

impl Ade20kSplit {
    fn folder(self) -> &'static str {
        match self {
            Self::Training => "training",
            Self::Validation => "validation",
        }
    }
}

impl Ade20k {
    fn folder(&self, kind: &str) -> Result<PathBuf, DataError> {
        let folder = self.root.join(kind).join(self.split.folder());
        if folder.is_dir() {
            return Ok(folder);
        }
        let reason = format!(
            "no such folder{}; `root` is the folder `ADEChallengeData2016`, with `images` and `annotations`",
            what_is_there(&folder)
        );
        Err(DataError::Invalid { path: folder, reason })
    }
}

#[typetag::serde]
impl Dataset for Ade20k {
    fn open(&self) -> Result<Box<dyn Samples>, DataError> {
        let folder = SegmentationFolder {
            images: self.folder("images")?,
            labels: self.folder("annotations")?,
            classes: Classes::Names(CLASSES.map(str::to_owned).to_vec()),
            image_suffix: None,
            label_suffix: None,
            values: None,
            palette: None,
            ignore: Vec::new(),
            reduce_zero_label: self.reduce_zero_label,
        };
        folder.open()
    }
}

convmae_framework::register!(Dataset: Ade20k);

#[cfg(test)]
mod tests;
