//! The annotation file: read, checked, and sorted by image.

use std::collections::HashMap;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;

use convmae_framework::data::boxes::{clip, nonempty};
use convmae_framework::data::{DataError, Instances, Mask};
use serde::Deserialize;

use super::super::what_is_there;
use super::segmentation::{self, Segmentation};

/// What an annotation file says.
pub struct Annotations {
    /// By ascending number.
    pub images: Vec<AnnotatedImage>,
    /// Numbers of the categories, ascending: class 0 is the first.
    pub category_ids: Vec<u64>,
    /// Names of the classes.
    pub names: Vec<String>,
    /// What is in the file, but not used.
    pub unused: Unused,
}

/// An image with its objects.
pub struct AnnotatedImage {
    /// Its number.
    pub id: u64,
    /// Where it lies within the folder of images.
    pub file_name: String,
    /// Height and width in pixels.
    pub size: [usize; 2],
    /// All objects as they were annotated, in the order of the file.
    pub objects: Arc<Instances>,
}

/// How much of a file is not used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unused {
    /// Annotations of images that are not in the file.
    pub of_unknown_images: usize,
    /// Polygons that are none.
    pub polygons: usize,
    /// Objects without any other polygon.
    pub without_mask: usize,
    /// Objects whose boxes are empty or outside of their images.
    pub without_box: usize,
}

#[derive(Deserialize)]
struct Json {
    images: Vec<Image>,
    annotations: Vec<Annotation>,
    categories: Vec<Category>,
}

#[derive(Deserialize)]
struct Image {
    id: u64,
    file_name: String,
    height: u32,
    width: u32,
}

#[derive(Deserialize)]
struct Category {
    id: u64,
    name: String,
}

#[derive(Deserialize)]
struct Annotation {
    id: u64,
    image_id: u64,
    category_id: u64,
    /// The top left corner, width and height.
    bbox: [f64; 4],
    area: f64,
    #[serde(default)]
    iscrowd: u8,
    #[serde(default)]
    segmentation: Option<Segmentation>,
}

/// Reads an annotation file.
///
/// # Errors
/// [`DataError::Invalid`] with line and column or the place in the file (`annotations[17].bbox`) if it is
/// missing, no JSON of this form, or contradicts itself: two entries with one number, a category that is not
/// listed, masks that do not fit their images.
pub fn read(path: &Path, masks: bool) -> Result<Annotations, DataError> {
    let annotations = parse(path).and_then(|json| Annotations::new(json, masks));
    let annotations = annotations.map_err(|reason| DataError::Invalid { path: path.to_owned(), reason })?;
    annotations.unused.warn(path);
    Ok(annotations)
}

fn parse(path: &Path) -> Result<Json, String> {
    if !path.is_file() {
        return Err(format!("no such file{}", what_is_there(path)));
    }
    let file = File::open(path).map_err(|error| error.to_string())?;
    serde_json::from_reader(BufReader::with_capacity(1 << 20, file)).map_err(|error| error.to_string())
}

impl Annotations {
    fn new(json: Json, masks: bool) -> Result<Self, String> {
        let Json { images, annotations, mut categories } = json;
        by_number("categories", categories.iter().map(|category| category.id))?;
        categories.sort_by_key(|category| category.id);
        let classes: HashMap<u64, u32> = categories.iter().map(|category| category.id).zip(0..).collect();
        by_number("annotations", annotations.iter().map(|annotation| annotation.id))?;
        let positions = by_number("images", images.iter().map(|image| image.id))?;
        let mut objects = vec![Instances::default(); images.len()];
        let mut unused = Unused::default();
        for (number, annotation) in annotations.into_iter().enumerate() {
            let place = |key: &str| format!("annotations[{number}].{key}");
            let Some(&image) = positions.get(&annotation.image_id) else {
                unused.of_unknown_images += 1;
                continue;
            };
            let Some(&class) = classes.get(&annotation.category_id) else {
                let id = annotation.category_id;
                return Err(format!("{} is {id}, which `categories` does not list", place("category_id")));
            };
            let size = [images[image].height, images[image].width];
            let mask = match masks {
                true => Some(
                    annotation
                        .mask(size, &mut unused.polygons)
                        .map_err(|reason| format!("{}: {reason}", place("segmentation")))?,
                ),
                false => None,
            };
            if annotation.iscrowd == 0 {
                unused.without_mask += usize::from(mask.as_ref().is_some_and(Mask::is_empty));
                unused.without_box += usize::from(!nonempty(clip(annotation.bbox(), pixels(size)), 0.0));
            }
            annotation.add_to(&mut objects[image], class, mask);
        }
        let annotated = images.into_iter().zip(objects).map(|(image, objects)| AnnotatedImage {
            id: image.id,
            size: pixels([image.height, image.width]),
            file_name: image.file_name,
            objects: Arc::new(objects),
        });
        let mut images: Vec<_> = annotated.collect();
        images.sort_by_key(|image| image.id);
        let (category_ids, names) =
            categories.into_iter().map(|category| (category.id, category.name)).unzip();
        Ok(Self { images, category_ids, names, unused })
    }
}

fn pixels(size: [u32; 2]) -> [usize; 2] {
    size.map(|side| side as usize)
}

/// The position of every number in a list, in which each must be the only one.
fn by_number(list: &str, numbers: impl Iterator<Item = u64>) -> Result<HashMap<u64, usize>, String> {
    let mut positions = HashMap::with_capacity(numbers.size_hint().0);
    for (position, number) in numbers.enumerate() {
        if let Some(first) = positions.insert(number, position) {
            return Err(format!("{list}[{first}].id and {list}[{position}].id are both {number}"));
        }
    }
    Ok(positions)
}

impl Annotation {
    /// `[x0, y0, x1, y1]`.
    fn bbox(&self) -> [f32; 4] {
        let [x, y, width, height] = self.bbox;
        [x, y, x + width, y + height].map(|side| side as f32)
    }

    /// The mask in an image of a height and a width; polygons that are none are counted.
    fn mask(&self, size: [u32; 2], unused: &mut usize) -> Result<Mask, String> {
        let Some(segmentation) = &self.segmentation else {
            return Err("it is missing; `masks: false` reads boxes only".to_owned());
        };
        let (mask, dropped) = segmentation::mask(segmentation, size)?;
        *unused += dropped;
        Ok(mask)
    }

    fn add_to(&self, objects: &mut Instances, class: u32, mask: Option<Mask>) {
        objects.boxes.push(self.bbox());
        objects.classes.push(class);
        objects.masks.extend(mask);
        objects.crowd.push(self.iscrowd != 0);
        objects.areas.push(self.area);
    }
}

impl AnnotatedImage {
    /// Whether there is an object that is no crowd.
    pub fn has_objects(&self) -> bool {
        let masked = |object: usize| self.objects.masks.get(object).is_none_or(|mask| !mask.is_empty());
        self.objects.crowd.iter().enumerate().any(|(object, &crowd)| !crowd && masked(object))
    }

    /// The objects to train on: no crowds, with boxes cut at the border of the image.
    pub fn trainable(&self) -> Instances {
        let mut objects = Instances::clone(&self.objects);
        let mut crowd = self.objects.crowd.iter();
        objects.transform(|bbox, mask| {
            *bbox = clip(*bbox, self.size);
            let is_crowd = crowd.next().is_some_and(|&crowd| crowd);
            !is_crowd && nonempty(*bbox, 0.0) && mask.is_none_or(|mask| !mask.is_empty())
        });
        objects
    }
}

impl Unused {
    /// Says once what is not used.
    fn warn(self, path: &Path) {
        let Self { of_unknown_images, polygons, without_mask, without_box } = self;
        for (count, what) in [
            (of_unknown_images, "annotations are of images that it does not list: they are left out"),
            (
                polygons,
                "polygons have fewer than 3 corners or an odd number of coordinates: they are left out",
            ),
            (without_mask, "objects have an empty mask: they are not trained on"),
            (
                without_box,
                "objects have a box that is empty or outside of the image: they are not trained on",
            ),
        ] {
            if count > 0 {
                tracing::warn!("{}: {count} {what}", path.display());
            }
        }
    }
}
