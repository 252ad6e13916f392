mod annotations;
mod segmentation;

use std::path::PathBuf;
use std::sync::Arc;

use convmae_framework::component::{Dataset, Samples, TaskKind};
use convmae_framework::data::{DataError, Original, Sample, Target, read_image};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::annotations::{AnnotatedImage, Annotations};
use super::{what_is_there, yes};

/// Images with annotated objects in the format of COCO: a JSON file and a folder of images, which are sorted
/// by their numbers. Classes are the categories by ascending number, which may have gaps. Boxes are cut at
/// the border of the image; crowds and objects of which nothing is left are not trained on, but evaluation
/// sees everything as it was annotated.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Coco {
    /// The JSON file.
    #[schemars(extend("examples" = ["data/coco/annotations/instances_train2017.json"]))]
    pub annotations: PathBuf,
    /// The folder that the names of images in it begin at.
    #[schemars(extend("examples" = ["data/coco/train2017"]))]
    pub images: PathBuf,
    /// Whether images without objects, or with crowds only, are left out: to train on
    /// (`FILTER_EMPTY_ANNOTATIONS` of detectron2).
    #[serde(default)]
    pub filter_empty: bool,
    /// Whether objects have masks. If not, `segmentation` is passed over: enough to find boxes.
    #[serde(default = "yes")]
    pub masks: bool,
}

#[typetag::serde]
impl Dataset for Coco {
    fn open(&self) -> Result<Box<dyn Samples>, DataError> {
        if !self.images.is_dir() {
            let reason = format!("no such folder{}", what_is_there(&self.images));
            return Err(DataError::Invalid { path: self.images.clone(), reason });
        }
        let mut annotations = annotations::read(&self.annotations, self.masks)?;
        if annotations.images.is_empty() {
            let reason = "`images` lists no image".to_owned();
            return Err(DataError::Invalid { path: self.annotations.clone(), reason });
        }
        if self.filter_empty {
            annotations.images.retain(AnnotatedImage::has_objects);
            if annotations.images.is_empty() {
                let reason = "no image has an object that is no crowd; `filter_empty: false` keeps them";
                return Err(DataError::Invalid { path: self.annotations.clone(), reason: reason.to_owned() });
            }
        }
        Ok(Box::new(Scenes { spec: self.clone(), annotations }))
    }
}

convmae_framework::register!(Dataset: Coco);

struct Scenes {
    spec: Coco,
    annotations: Annotations,
}

impl Samples for Scenes {
    fn len(&self) -> usize {
        self.annotations.images.len()
    }

    fn get(&self, index: usize) -> Result<Sample, DataError> {
        let annotated = &self.annotations.images[index];
        let path = self.spec.images.join(&annotated.file_name);
        let image = read_image(&path)?;
        let (height, width) = image.size();
        let size = [height, width];
        if size != annotated.size {
            let [[height, width], [rows, columns]] = [size, annotated.size];
            let reason = format!(
                "the image is {height} x {width}, but `{}` says {rows} x {columns}; they disagree if it was \
                 turned, by its EXIF data for example, or replaced",
                self.spec.annotations.display()
            );
            return Err(DataError::Corrupt { path, reason });
        }
        let target = Target { instances: annotated.trainable(), ..Target::default() };
        let original =
            Original { size, instances: Arc::clone(&annotated.objects), image_id: Some(annotated.id) };
        Ok(Sample { id: path.display().to_string(), pixels: image, target, original })
    }

    fn identity(&self, index: usize) -> Option<String> {
        let AnnotatedImage { id, file_name, objects, .. } = &self.annotations.images[index];
        Some(format!("{id} {file_name} {:?} {:?}", objects.classes, objects.boxes))
    }

    fn classes(&self, task: TaskKind) -> Option<&[String]> {
        (task == TaskKind::Detect).then_some(&self.annotations.names)
    }

    fn category_ids(&self) -> Option<&[u64]> {
        Some(&self.annotations.category_ids)
    }
}

#[cfg(test)]
mod tests;
