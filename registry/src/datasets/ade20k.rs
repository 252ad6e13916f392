mod classes;

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use convmae_framework::component::{Dataset, Samples, TaskKind};
use convmae_framework::data::{DataError, IGNORED, Sample, Target, read_image, read_labels};
use image::GrayImage;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::classes::CLASSES;
use super::{what_is_there, yes};

/// ADE20K as in the scene parsing challenge of 2016, with the class of every pixel:
/// `root/images/training/*.jpg` and, of the same names, `root/annotations/training/*.png`. Images are sorted
/// by name.
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
    /// The label of a class, or [`IGNORED`]; none if the value is neither.
    fn label(&self, value: u8) -> Option<u8> {
        let classes = CLASSES.len() as u8;
        match value {
            IGNORED => Some(IGNORED),
            0 if self.reduce_zero_label => Some(IGNORED),
            value if self.reduce_zero_label => Some(value - 1).filter(|label| *label < classes),
            value => Some(value).filter(|label| *label < classes),
        }
    }

    /// Turns the values of a file into labels.
    fn relabel(&self, map: &mut GrayImage, path: &Path) -> Result<(), DataError> {
        let table: [Option<u8>; 256] = std::array::from_fn(|value| self.label(value as u8));
        for (x, y, pixel) in map.enumerate_pixels_mut() {
            let [value] = pixel.0;
            let Some(label) = table[usize::from(value)] else {
                let valid =
                    if self.reduce_zero_label { "0 (none), 1 to 150, or 255" } else { "0 to 149, or 255" };
                let reason = format!(
                    "the label at x {x}, y {y} is {value}, beyond the 150 classes; valid are {valid}"
                );
                return Err(DataError::Corrupt { path: path.to_owned(), reason });
            };
            pixel.0 = [label];
        }
        Ok(())
    }
}

#[typetag::serde]
impl Dataset for Ade20k {
    fn open(&self) -> Result<Box<dyn Samples>, DataError> {
        let folder = |kind: &str| self.root.join(kind).join(self.split.folder());
        let (images, labels) = (folder("images"), folder("annotations"));
        let mut names = stems(&images, "jpg")?;
        names.sort();
        let labelled: HashSet<_> = stems(&labels, "png")?.into_iter().collect();
        let mut missing = names.iter().filter(|name| !labelled.contains(*name));
        if names.is_empty() {
            let reason = format!("no image (*.jpg) in it{}", what_is_there(&images.join("*.jpg")));
            return Err(DataError::Invalid { path: images, reason });
        }
        if let Some(name) = missing.next() {
            let reason = format!(
                "no such label map, but there is the image `{}`; {} of {} images have none",
                file(&images, name, "jpg").display(),
                missing.count() + 1,
                names.len()
            );
            return Err(DataError::Invalid { path: file(&labels, name, "png"), reason });
        }
        let classes = CLASSES.map(str::to_owned).to_vec();
        Ok(Box::new(Scenes { spec: self.clone(), images, labels, names, classes }))
    }
}

convmae_framework::register!(Dataset: Ade20k);

/// The names, without extension, of the visible files of one kind.
fn stems(folder: &Path, extension: &str) -> Result<Vec<OsString>, DataError> {
    if !folder.is_dir() {
        let reason = format!(
            "no such folder{}; `root` is the folder `ADEChallengeData2016`, with `images` and `annotations`",
            what_is_there(folder)
        );
        return Err(DataError::Invalid { path: folder.to_owned(), reason });
    }
    let error = |source| DataError::Io { path: folder.to_owned(), source };
    let mut stems = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(error)? {
        let name = PathBuf::from(entry.map_err(error)?.file_name());
        let hidden = name.as_os_str().as_encoded_bytes().starts_with(b".");
        if let Some(stem) = name.file_stem()
            && name.extension() == Some(OsStr::new(extension))
            && !hidden
        {
            stems.push(stem.to_owned());
        }
    }
    Ok(stems)
}

fn file(folder: &Path, stem: &OsStr, extension: &str) -> PathBuf {
    let mut name = stem.to_owned();
    name.push(".");
    name.push(extension);
    folder.join(name)
}

struct Scenes {
    spec: Ade20k,
    images: PathBuf,
    labels: PathBuf,
    /// Without extension.
    names: Vec<OsString>,
    classes: Vec<String>,
}

impl Samples for Scenes {
    fn len(&self) -> usize {
        self.names.len()
    }

    fn get(&self, index: usize) -> Result<Sample, DataError> {
        let name = &self.names[index];
        let (path, label_path) = (file(&self.images, name, "jpg"), file(&self.labels, name, "png"));
        let image = read_image(&path)?;
        let mut labels = read_labels(&label_path)?;
        if labels.dimensions() != image.dimensions() {
            let (width, height) = labels.dimensions();
            let reason = format!(
                "the label map is {height} x {width}, but its image `{}` is {} x {}",
                path.display(),
                image.height(),
                image.width()
            );
            return Err(DataError::Corrupt { path: label_path, reason });
        }
        self.spec.relabel(&mut labels, &label_path)?;
        let target = Target { semantic: Some(labels), ..Target::default() };
        Ok(Sample::new(path.display().to_string(), image, target))
    }

    fn identity(&self, index: usize) -> Option<String> {
        Some(format!("{}/{}", self.spec.split.folder(), self.names[index].to_string_lossy()))
    }

    fn classes(&self, task: TaskKind) -> Option<&[String]> {
        (task == TaskKind::Segment).then_some(&self.classes)
    }
}

#[cfg(test)]
mod tests;
