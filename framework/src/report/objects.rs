//! Objects drawn into pictures: their masks and boxes, with the names of their classes and scores.

mod text;

use image::{Rgb, RgbImage};
use serde::Serialize;

use super::label_map::{LONGEST, color, reduced};
use crate::component::{Picture, Regions};
use crate::data::{CropBox, Mask, Original, Rle, nearest};

/// Pages show what is found with at least this score.
const MIN_SCORE: f32 = 0.5;

/// An object of an image.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Object {
    /// Index of its class; none for a proposal.
    pub class: Option<u32>,
    /// Name of its class, where names are known.
    pub name: Option<String>,
    /// How sure it is that it is there; none for one that was annotated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<f32>,
    /// `[x0, y0, x1, y1]` in pixels, the end exclusive.
    #[serde(rename = "box")]
    pub bbox: [f32; 4],
    /// The pixels that it covers, as compressed run lengths of COCO.
    #[serde(rename = "segmentation", skip_serializing_if = "Option::is_none")]
    pub mask: Option<Rle>,
}

impl Object {
    /// Those of `regions` of an image of a height and a width that have at least a score, in their order.
    pub fn found(regions: &Regions, size: [usize; 2], min_score: f32, names: &[String]) -> Vec<Self> {
        let object = |at: usize| {
            let (class, bbox) = (regions.classes.get(at).copied(), regions.boxes[at]);
            Self {
                class,
                name: class.and_then(|class| names.get(class as usize).cloned()),
                score: regions.scores.get(at).copied(),
                bbox,
                mask: regions.masks.get(at).map(|mask| mask.encode(bbox, size)),
            }
        };
        let is_sure = |at: &usize| regions.scores.get(*at).is_none_or(|&score| score >= min_score);
        (0..regions.len()).filter(is_sure).map(object).collect()
    }

    /// What was annotated in an image, in pixels of a picture of it.
    pub(super) fn annotated(original: &Original, picture: &RgbImage, names: &[String]) -> Vec<Self> {
        let objects = &original.instances;
        let size = [picture.height(), picture.width()].map(|side| side as usize);
        let [down, across] = scale(original, size);
        let object = |at: usize| {
            let class = objects.classes[at];
            let [x0, y0, x1, y1] = objects.boxes[at].map(f64::from);
            Self {
                class: Some(class),
                name: names.get(class as usize).cloned(),
                score: None,
                bbox: [x0 * across, y0 * down, x1 * across, y1 * down].map(|side| side as f32),
                mask: objects.masks.get(at).and_then(|mask| resized(mask, [down, across], size)),
            }
        };
        (0..objects.len()).map(object).collect()
    }

    /// `person`, `class 7`.
    pub fn class_label(&self) -> String {
        let numbered = || self.class.map_or_else(String::new, |class| format!("class {class}"));
        self.name.clone().unwrap_or_else(numbered)
    }

    /// `person .93`, `class 7`.
    pub fn label(&self) -> String {
        let name = self.class_label();
        match self.score {
            Some(score) => format!("{name} {score:.2}").replace(" 0.", " .").trim_start().to_owned(),
            None => name,
        }
    }

    /// That of its class, which is the same in every picture.
    fn color(&self) -> [u8; 3] {
        // The first colour of the map is black: that of a background.
        color((self.class.unwrap_or(0) % 255) as u8 + 1)
    }
}

/// For the report: an image of the validation set, what was found in it, and what was annotated.
pub fn pictures(image: RgbImage, found: &Regions, original: &Original, names: &[String]) -> Vec<Picture> {
    let image = enlarged(reduced(image));
    let size = [image.height(), image.width()].map(|side| side as usize);
    let found = found.clone().rescale(scale(original, size), size);
    let drawn = |caption: &str, objects: &[Object]| Picture::new(caption, draw(image.clone(), objects));
    let pictures = [
        drawn("prediction", &Object::found(&found, size, MIN_SCORE, names)),
        drawn("label", &Object::annotated(original, &image, names)),
    ];
    [Picture::new("original", image)].into_iter().chain(pictures).collect()
}

/// A small image with squares for pixels, so that there is room for names.
pub(super) fn enlarged(image: RgbImage) -> RgbImage {
    let (width, height) = image.dimensions();
    match LONGEST / width.max(height).max(1) {
        0 | 1 => image,
        factor => RgbImage::from_fn(width * factor, height * factor, |x, y| {
            *image.get_pixel(x / factor, y / factor)
        }),
    }
}

/// How much larger a picture is than its image was, down and across.
fn scale(original: &Original, size: [usize; 2]) -> [f64; 2] {
    original.scale(size).map(f64::recip)
}

/// The pixels of a mask in an image that is `scale` times (down, across) as large, and then of a size.
fn resized(mask: &Mask, [down, across]: [f64; 2], [height, width]: [usize; 2]) -> Option<Rle> {
    let mut mask = mask.clone();
    let is_left = mask.transform(
        (height, width),
        |[x, y]| [x * across, y * down],
        |map| nearest(map, CropBox::whole(map.height() as usize, map.width() as usize), height, width),
    );
    if is_left { mask.rasterize([height, width]) } else { None }
}

/// Draws objects into an image: masks half transparent, boxes, and above them names and scores. The first is drawn last.
pub fn draw(mut image: RgbImage, objects: &[Object]) -> RgbImage {
    let line = (image.width().max(image.height()) / 400).max(1) as i64;
    for object in objects.iter().rev() {
        let color = object.color();
        if let Some(mask) = &object.mask {
            for (pixel, on) in image.pixels_mut().zip(mask.decode().pixels()) {
                if on.0[0] > 0 {
                    pixel.0 = std::array::from_fn(|channel| u8::midpoint(pixel.0[channel], color[channel]));
                }
            }
        }
        let [x0, y0, x1, y1] = object.bbox.map(|side| side.round() as i64);
        fill(&mut image, [x0, y0, x1, y0 + line], color);
        fill(&mut image, [x0, y1 - line, x1, y1], color);
        fill(&mut image, [x0, y0, x0 + line, y1], color);
        fill(&mut image, [x1 - line, y0, x1, y1], color);
    }
    // Above all boxes, so that none crosses a name.
    for object in objects.iter().rev() {
        let [x0, y0, ..] = object.bbox.map(|side| side.round() as i64);
        text::label(&mut image, &object.label(), [x0, y0], object.color());
    }
    image
}

/// Fills what lies in the image of `[x0, y0, x1, y1]`, the end exclusive.
fn fill(image: &mut RgbImage, [x0, y0, x1, y1]: [i64; 4], color: [u8; 3]) {
    let (width, height) = (i64::from(image.width()), i64::from(image.height()));
    for y in y0.clamp(0, height)..y1.clamp(0, height) {
        for x in x0.clamp(0, width)..x1.clamp(0, width) {
            image.put_pixel(x as u32, y as u32, Rgb(color));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;

    use super::*;
    use crate::component::RoiMask;
    use crate::data::Instances;

    fn object(class: u32, bbox: [f32; 4]) -> Object {
        Object { class: Some(class), name: Some("cat".to_owned()), score: Some(0.934), bbox, mask: None }
    }

    #[test]
    fn a_label_is_the_name_with_the_score() {
        let cat = object(0, [0.0; 4]);
        assert_eq!(cat.label(), "cat .93");
        assert_eq!(Object { score: Some(1.0), ..cat.clone() }.label(), "cat 1.00");
        assert_eq!(Object { score: None, name: None, ..cat.clone() }.label(), "class 0");
        assert_eq!(Object { class: None, name: None, ..cat }.label(), ".93");
    }

    #[test]
    fn classes_have_colours_of_their_own_that_stay_the_same() {
        let colors: std::collections::HashSet<_> =
            (0..255).map(|class| object(class, [0.0; 4]).color()).collect();
        assert_eq!(colors.len(), 255);
        assert_eq!(object(0, [0.0; 4]).color(), [128, 0, 0]);
        assert_eq!(object(0, [0.0; 4]).color(), object(255, [5.0; 4]).color());
    }

    #[test]
    fn a_box_is_a_line_and_a_mask_is_half_transparent() {
        let runs = Rle::of_runs([40, 60], Some(21 * 40 + 20..21 * 40 + 22));
        let square = Object { mask: Some(runs), ..object(0, [10.2, 14.9, 50.0, 35.0]) };
        let drawn = draw(RgbImage::from_pixel(60, 40, Rgb([100; 3])), &[square]);
        let at = |x, y| drawn.get_pixel(x, y).0;
        assert_eq!((at(10, 34), at(49, 30), at(30, 34)), ([128, 0, 0], [128, 0, 0], [128, 0, 0]));
        assert_eq!((at(9, 30), at(11, 30), at(30, 35)), ([100; 3], [100; 3], [100; 3]));
        assert_eq!((at(21, 20), at(21, 21), at(21, 22)), ([114, 50, 50], [114, 50, 50], [100; 3]));
    }

    #[test]
    fn what_lies_beyond_the_image_is_not_drawn() {
        let image = RgbImage::from_pixel(20, 10, Rgb([100; 3]));
        let nothing =
            Object { name: Some(String::new()), score: None, ..object(0, [30.0, -50.0, 90.0, 90.0]) };
        assert_eq!(draw(image.clone(), &[nothing]).as_raw()[..30], image.as_raw()[..30]);
        draw(RgbImage::new(1, 1), &[object(3, [-9.0, -9.0, 1e9, f32::NAN])]);
    }

    #[test]
    fn only_what_is_sure_is_shown() {
        let regions = Regions {
            boxes: vec![[0.0, 0.0, 4.0, 4.0]; 2],
            scores: vec![0.4, 0.6],
            classes: vec![1, 0],
            masks: vec![RoiMask(vec![1.0]), RoiMask(vec![1.0])],
            ..Regions::default()
        };
        let found = Object::found(&regions, [8, 8], 0.5, &["cat".to_owned()]);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].name.as_deref(), found[0].score), (Some("cat"), Some(0.6)));
        let json = serde_json::to_value(&found[0]).unwrap();
        assert_eq!(json["box"], serde_json::json!([0.0, 0.0, 4.0, 4.0]));
        assert_eq!(json["segmentation"]["size"], serde_json::json!([8, 8]));
    }

    #[test]
    fn a_page_shows_what_was_annotated_beside_what_was_found() {
        let mut instances = Instances::default();
        let corners = vec![[20.0, 20.0], [60.0, 20.0], [60.0, 100.0], [20.0, 100.0]];
        instances.annotate(1, [20.0, 20.0, 60.0, 100.0], Mask::Polygons(vec![corners]));
        let original = Original { size: [200, 400], instances: Arc::new(instances), image_id: None };
        // The network saw half of it.
        let image = RgbImage::from_pixel(200, 100, Rgb([100; 3]));
        let rows = pictures(image, &Regions::default(), &original, &["cat".to_owned(), "dog".to_owned()]);
        let captions: Vec<_> = rows.iter().map(|picture| picture.caption.as_str()).collect();
        assert_eq!(captions, ["original", "prediction", "label"]);
        assert_eq!(rows[1].image, rows[0].image);
        let green = color(2);
        let at = |x, y| rows[2].image.get_pixel(x, y).0;
        assert_eq!((at(10, 49), at(29, 40)), (green, green));
        assert_eq!(at(20, 40), green.map(|channel| u8::midpoint(100, channel)));
        assert_eq!(at(31, 40), [100; 3]);
    }

    #[test]
    fn a_small_picture_is_enlarged_to_have_room_for_names() {
        let mut image = RgbImage::new(64, 32);
        image.put_pixel(1, 0, Rgb([9; 3]));
        let original = Original { size: [32, 64], ..Original::default() };
        let rows = pictures(image, &Regions::default(), &original, &[]);
        assert!(rows.iter().all(|picture| picture.image.dimensions() == (320, 160)));
        assert_eq!((rows[0].image.get_pixel(9, 4).0, rows[0].image.get_pixel(10, 4).0), ([9; 3], [0; 3]));
    }
}
