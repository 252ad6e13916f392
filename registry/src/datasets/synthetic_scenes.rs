mod paint;
mod scene;
mod shape;

pub use shape::ShapeClass;

use convmae_framework::component::{Dataset, Samples, TaskKind};
use convmae_framework::data::{DataError, Sample, Size};
use convmae_framework::random::{self, Purpose};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Generated pictures of coloured, textured shapes, for trying out every pipeline without data: the class of
/// the image is that of its largest object, and boxes, instance masks and a label map (0 is background, then
/// the classes from 1 on) are known.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SyntheticScenes {
    /// Number of pictures.
    #[schemars(range(min = 1, max = MAX_LENGTH))]
    pub length: usize,
    /// Side of the square pictures in pixels, or `[height, width]`; 16 to 4096.
    pub size: Size,
    /// The shapes that appear; a shape's position is its class index.
    #[schemars(length(min = 1, max = 10))]
    pub classes: Vec<ShapeClass>,
    /// Fewest and most objects in a picture; there are fewer where there is no room.
    #[schemars(inner(range(min = 1, max = 100)))]
    pub objects: [usize; 2],
    /// Seed of the pictures. Picture `i` depends on it, on `split` and on `i` only.
    pub seed: u64,
    /// Which pictures: those of `val` are others than those of `train`.
    pub split: Split,
}

impl Default for SyntheticScenes {
    fn default() -> Self {
        Self {
            length: 1024,
            size: Size::Single(64),
            classes: ShapeClass::ALL.to_vec(),
            objects: [1, 4],
            seed: 0,
            split: Split::default(),
        }
    }
}

/// Pictures to train on, or others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// To train on.
    #[default]
    Train,
    /// To evaluate on.
    Val,
}

/// Smallest side of a picture; with less, shapes cannot be told apart.
const MIN_SIDE: usize = 16;
/// Largest side of a picture: each object has a mask of its own.
const MAX_SIDE: usize = 4096;
/// Most pictures: there is an index for each.
const MAX_LENGTH: usize = u32::MAX as usize;
/// Most objects in a picture.
const MAX_OBJECTS: usize = 100;

#[typetag::serde]
impl Dataset for SyntheticScenes {
    fn open(&self) -> Result<Box<dyn Samples>, DataError> {
        let invalid = |reason: String| Err(DataError::Invalid { path: "SyntheticScenes".into(), reason });
        let (height, width) = self.size.height_width();
        if height < MIN_SIDE || width < MIN_SIDE {
            return invalid(format!("`size` is {height} x {width}; at least {MIN_SIDE} x {MIN_SIDE}"));
        }
        if height > MAX_SIDE || width > MAX_SIDE {
            return invalid(format!("`size` is {height} x {width}; at most {MAX_SIDE} x {MAX_SIDE}"));
        }
        let repeated = |position: usize| self.classes[..position].contains(&self.classes[position]);
        if let Some(position) = (0..self.classes.len()).find(|&position| repeated(position)) {
            return invalid(format!("`classes` names `{}` twice", self.classes[position].name()));
        }
        if self.classes.is_empty() {
            return invalid("`classes` is empty".to_owned());
        }
        let [fewest, most] = self.objects;
        if !(1 <= fewest && fewest <= most && most <= MAX_OBJECTS) {
            return invalid(format!(
                "`objects` is [{fewest}, {most}]; [fewest, most], from 1 to {MAX_OBJECTS}"
            ));
        }
        if self.length == 0 {
            return invalid("`length` is 0".to_owned());
        }
        if self.length > MAX_LENGTH {
            return invalid(format!("`length` is {}; at most {MAX_LENGTH}", self.length));
        }
        let names: Vec<String> = self.classes.iter().map(|class| class.name().to_owned()).collect();
        let pixel_names = ["background".to_owned()].into_iter().chain(names.iter().cloned()).collect();
        Ok(Box::new(Scenes { spec: self.clone(), names, pixel_names }))
    }
}

convmae_framework::register!(Dataset: SyntheticScenes);

struct Scenes {
    spec: SyntheticScenes,
    names: Vec<String>,
    /// The background, then the shapes.
    pixel_names: Vec<String>,
}

impl Samples for Scenes {
    fn len(&self) -> usize {
        self.spec.length
    }

    fn get(&self, index: usize) -> Result<Sample, DataError> {
        let SyntheticScenes { seed, split, objects, .. } = self.spec;
        let mut rng = random::stream(Purpose::Synthesis, &[seed, split as u64, index as u64]);
        let (height, width) = self.spec.size.height_width();
        let (image, target) = scene::draw(height, width, &self.spec.classes, objects, &mut rng);
        let split = if split == Split::Train { "train" } else { "val" };
        Ok(Sample::new(format!("synthetic/{split}/{index}"), image, target))
    }

    fn classes(&self, task: TaskKind) -> Option<&[String]> {
        match task {
            TaskKind::Classify | TaskKind::Detect => Some(&self.names),
            TaskKind::Segment => Some(&self.pixel_names),
            TaskKind::Reconstruct | TaskKind::Other => None,
        }
    }
}

#[cfg(test)]
mod tests;
