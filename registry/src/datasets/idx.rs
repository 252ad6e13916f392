//! The IDX format of MNIST.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use convmae_framework::component::{Dataset, Samples, TaskKind};
use convmae_framework::data::{DataError, Raster, Sample, Target};
use flate2::read::MultiGzDecoder;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Classes;

/// Grey images in the IDX format, as MNIST (`LeCun`), Fashion-MNIST, EMNIST and KMNIST are distributed: a file of images and
/// one of their classes, compressed by gzip or not. All images are kept in memory.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Idx {
    /// The images.
    #[schemars(extend("examples" = ["data/mnist/train-images-idx3-ubyte.gz"]))]
    pub images: PathBuf,
    /// Their classes; without them images have none, which is enough for pretraining.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("examples" = ["data/mnist/train-labels-idx1-ubyte.gz"]))]
    pub labels: Option<PathBuf>,
    /// The classes: how many, their names, or a text file with one name a line. As many as there are if left out, called by
    /// their numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("examples" = [10]))]
    pub classes: Option<Classes>,
}

#[typetag::serde]
impl Dataset for Idx {
    fn open(&self) -> Result<Box<dyn Samples>, DataError> {
        let Array { shape: [count, height, width], values } = Array::read(&self.images)?;
        if count == 0 || height == 0 || width == 0 {
            return Err(invalid(
                &self.images,
                format!("{count} images of {height} x {width}: there is none"),
            ));
        }
        let labels = self.labels.as_deref().map(Labels::read).transpose()?;
        if let (Some(labels), Some(path)) = (&labels, &self.labels)
            && labels.0.len() != count
        {
            let reason =
                format!("{} classes for the {count} images of {}", labels.0.len(), self.images.display());
            return Err(invalid(path, reason));
        }
        let classes = match (&labels, &self.classes) {
            (None, _) => Vec::new(),
            (Some(_), Some(classes)) => classes.names()?,
            (Some(labels), None) => (0..=labels.largest()).map(|class| class.to_string()).collect(),
        };
        if let (Some(labels), Some(path)) = (&labels, &self.labels)
            && usize::from(labels.largest()) >= classes.len()
        {
            let reason =
                format!("there is a class {}, and `classes` are {}", labels.largest(), classes.len());
            return Err(invalid(path, reason));
        }
        let labels = labels.map(|labels| labels.0);
        Ok(Box::new(Images { path: self.images.clone(), size: (height, width), values, labels, classes }))
    }
}

convmae_framework::register!(Dataset: Idx);

fn invalid(path: &Path, reason: String) -> DataError {
    DataError::Invalid { path: path.to_owned(), reason }
}

/// An array of bytes with so many axes.
struct Array<const AXES: usize> {
    shape: [usize; AXES],
    values: Vec<u8>,
}

impl<const AXES: usize> Array<AXES> {
    /// The type of the elements in the header.
    const UNSIGNED_BYTE: u8 = 8;

    fn read(path: &Path) -> Result<Self, DataError> {
        let io = |source| DataError::Io { path: path.to_owned(), source };
        let mut file = BufReader::new(File::open(path).map_err(io)?);
        let is_compressed = std::io::BufRead::fill_buf(&mut file).map_err(io)?.starts_with(&[0x1f, 0x8b]);
        let contents = match is_compressed {
            true => Self::parse(MultiGzDecoder::new(file)),
            false => Self::parse(file),
        };
        contents.map_err(|reason| invalid(path, reason))
    }

    fn parse(mut file: impl Read) -> Result<Self, String> {
        let cut = |error: std::io::Error| format!("it ends too early, or is damaged: {error}");
        let mut magic = [0; 4];
        file.read_exact(&mut magic).map_err(cut)?;
        if magic[..2] != [0, 0] {
            return Err("no IDX file: it does not begin with two zeros".to_owned());
        }
        if magic[2] != Self::UNSIGNED_BYTE {
            return Err(format!("its elements are of the type {:#04x}, not bytes (0x08)", magic[2]));
        }
        if usize::from(magic[3]) != AXES {
            let other = if AXES == 1 { "images" } else { "classes" };
            return Err(format!("it has {} axes, not {AXES}: is it the file of the {other}?", magic[3]));
        }
        let mut shape = [0; AXES];
        for axis in &mut shape {
            let mut size = [0; 4];
            file.read_exact(&mut size).map_err(cut)?;
            *axis = u32::from_be_bytes(size) as usize;
        }
        let len = shape.iter().try_fold(1_usize, |len, &axis| len.checked_mul(axis));
        let len = len.ok_or_else(|| format!("its header is damaged: {shape:?} are too many values"))?;
        let mut values = Vec::new();
        // One more than there should be tells what has more; what is not there is not allocated.
        let found = file.take(len as u64 + 1).read_to_end(&mut values).map_err(cut)?;
        match found == len {
            true => Ok(Self { shape, values }),
            false if found < len => {
                Err(format!("{found} values, its header says {len}: is the download complete?"))
            }
            false => Err(format!("more values than the {len} that its header says")),
        }
    }
}

/// The class of every image.
struct Labels(Vec<u8>);

impl Labels {
    fn read(path: &Path) -> Result<Self, DataError> {
        Array::<1>::read(path).map(|array| Self(array.values))
    }

    fn largest(&self) -> u8 {
        self.0.iter().copied().max().unwrap_or_default()
    }
}

/// All images.
struct Images {
    path: PathBuf,
    /// Height and width of each.
    size: (usize, usize),
    values: Vec<u8>,
    labels: Option<Vec<u8>>,
    classes: Vec<String>,
}

impl Samples for Images {
    fn len(&self) -> usize {
        self.values.len() / (self.size.0 * self.size.1)
    }

    fn get(&self, index: usize) -> Result<Sample, DataError> {
        let pixels = self.size.0 * self.size.1;
        let id = format!("{}#{index}", self.path.display());
        let image = Raster::new(1, self.size, self.values[index * pixels..][..pixels].to_vec())
            .ok_or_else(|| invalid(Path::new(&id), "the image is of another size".to_owned()))?;
        Ok(Sample::new(id, image, Target { class: self.class(index), ..Target::default() }))
    }

    fn identity(&self, index: usize) -> Option<String> {
        let class = self.class(index).map(|class| format!(" {class}")).unwrap_or_default();
        Some(format!("{}#{index}{class}", self.path.file_name()?.display()))
    }

    fn class(&self, index: usize) -> Option<usize> {
        self.labels.as_ref().map(|labels| usize::from(labels[index]))
    }

    fn classes(&self, task: TaskKind) -> Option<&[String]> {
        (task == TaskKind::Classify && self.labels.is_some()).then_some(&self.classes)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use serde_json::{Value, json};
    use tempfile::TempDir;

    use super::*;

    /// The format as `LeCun` describes it: two zeros, the type, the number of axes, their sizes, the values.
    fn idx(shape: &[u32], values: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0, 8, shape.len() as u8];
        shape.iter().for_each(|size| bytes.extend(size.to_be_bytes()));
        bytes.extend(values);
        bytes
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    /// Three images of 2 x 4 whose values count on, of the classes 2, 0 and 2.
    fn folder() -> TempDir {
        let root = tempfile::tempdir().unwrap();
        let values: Vec<u8> = (0..24).collect();
        for (name, bytes) in [("images", idx(&[3, 2, 4], &values)), ("labels", idx(&[3], &[2, 0, 2]))] {
            std::fs::write(root.path().join(format!("{name}.gz")), gzip(&bytes)).unwrap();
            std::fs::write(root.path().join(name), bytes).unwrap();
        }
        root
    }

    fn open(
        root: &Path,
        images: &str,
        labels: Option<&str>,
        classes: &Value,
    ) -> Result<Box<dyn Samples>, DataError> {
        let labels = labels.map(|labels| root.join(labels));
        let json =
            json!({ "type": "Idx", "images": root.join(images), "labels": labels, "classes": classes });
        serde_json::from_value::<Box<dyn Dataset>>(json).unwrap().open()
    }

    #[test]
    fn images_are_grey_and_have_their_classes_compressed_or_not() {
        let root = folder();
        for suffix in ["", ".gz"] {
            let [images, labels] = ["images", "labels"].map(|name| format!("{name}{suffix}"));
            let samples = open(root.path(), &images, Some(&labels), &Value::Null).unwrap();
            assert_eq!(samples.len(), 3);
            assert_eq!(samples.classes(TaskKind::Classify).unwrap(), ["0", "1", "2"]);
            assert_eq!([0, 1, 2].map(|index| samples.class(index).unwrap()), [2, 0, 2]);
            let sample = samples.get(1).unwrap();
            assert_eq!((sample.pixels.channels(), sample.pixels.size()), (1, (2, 4)));
            let rgb = sample.with_channels(3).unwrap();
            assert_eq!(rgb.rgb("").unwrap().get_pixel(3, 1).0, [15; 3]);
            assert_eq!(samples.identity(2).unwrap(), format!("{images}#2 2"));
        }
    }

    #[test]
    fn classes_have_names_and_images_need_none() {
        let root = folder();
        let names = json!(["shirt", "shoe", "bag"]);
        let samples = open(root.path(), "images", Some("labels"), &names).unwrap();
        assert_eq!(samples.classes(TaskKind::Classify).unwrap()[2], "bag");
        let samples = open(root.path(), "images", None, &names).unwrap();
        assert_eq!((samples.class(0), samples.classes(TaskKind::Classify)), (None, None));
        let few = open(root.path(), "images", Some("labels"), &json!(2)).err().unwrap().to_string();
        assert!(few.contains("there is a class 2, and `classes` are 2"), "{few}");
    }

    #[test]
    fn what_is_damaged_or_something_else_is_refused_by_name() {
        let root = folder();
        let values = [0; 24];
        let whole = idx(&[3, 2, 4], &values);
        for (name, bytes, words) in [
            ("cut", whole[..30].to_vec(), "14 values, its header says 24"),
            ("long", idx(&[3, 2, 4], &[0; 25]), "more values than the 24"),
            ("half.gz", gzip(&whole)[..20].to_vec(), "it ends too early, or is damaged"),
            ("labels", idx(&[3], &[0; 3]), "it has 1 axes, not 3: is it the file of the classes?"),
            ("empty", Vec::new(), "it ends too early"),
            ("text", b"<html>".to_vec(), "no IDX file"),
            ("huge", idx(&[u32::MAX, u32::MAX, u32::MAX], &[]), "too many values"),
            ("floats", [0, 0, 13, 3].into(), "of the type 0x0d, not bytes"),
            ("none", idx(&[0, 28, 28], &[]), "0 images of 28 x 28"),
        ] {
            std::fs::write(root.path().join(name), bytes).unwrap();
            let message = open(root.path(), name, None, &Value::Null).err().unwrap().to_string();
            assert!(message.contains(words) && message.contains(name), "{message}");
        }
        std::fs::write(root.path().join("two"), idx(&[2], &[0, 1])).unwrap();
        let message = open(root.path(), "images", Some("two"), &Value::Null).err().unwrap().to_string();
        assert!(message.contains("two: 2 classes for the 3 images of"), "{message}");
    }
}
