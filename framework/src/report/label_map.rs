//! Label maps, the class of every pixel, as pictures.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use image::{GrayImage, RgbImage};
use serde::Serialize;

use crate::component::Picture;
use crate::data::{CropBox, IGNORED, Interpolation, nearest, resize};

/// The colour of a class (red, green, blue) in the colour map of PASCAL VOC: the bits of the class, three by
/// three, are the highest bits of the three channels (`VOClabelcolormap` of its development kit).
pub fn color(class: u8) -> [u8; 3] {
    let bit = |place: u16| u16::from(class) >> place & 1;
    let channel = |first: u16| (bit(first) << 7 | bit(first + 3) << 6 | bit(first + 6) << 5) as u8;
    [channel(0), channel(1), channel(2)]
}

/// The colour of a class as a style sheet has it: `#800000`.
pub fn css_color(class: u8) -> String {
    let [red, green, blue] = color(class);
    format!("#{red:02x}{green:02x}{blue:02x}")
}

/// A class of pixels and how much of an image it is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassShare {
    /// Its index.
    pub index: u8,
    /// Its name, where names are known.
    pub name: Option<String>,
    /// Its share of the pixels, 0 to 1.
    pub share: f64,
}

impl ClassShare {
    /// The classes in a label map, the largest first; of equal ones that of the smaller index.
    pub fn of(map: &GrayImage, names: &[String]) -> Vec<Self> {
        let mut counts = [0_u64; 256];
        map.as_raw().iter().for_each(|&class| counts[usize::from(class)] += 1);
        let present = (0..IGNORED).filter(|&class| counts[usize::from(class)] > 0);
        let mut shares: Vec<_> = present
            .map(|index| Self {
                index,
                name: names.get(usize::from(index)).cloned(),
                share: counts[usize::from(index)] as f64 / map.as_raw().len() as f64,
            })
            .collect();
        shares.sort_by(|a, b| b.share.total_cmp(&a.share));
        shares
    }

    /// Its name, or `class 7`.
    pub fn label(&self) -> String {
        self.name.clone().unwrap_or_else(|| format!("class {}", self.index))
    }
}

/// Longest side of a picture for the report.
pub(super) const LONGEST: u32 = 320;

/// For the report: an image, the predicted label map over it, and the right one over it if that is known.
pub fn pictures(image: RgbImage, prediction: &GrayImage, label: Option<&GrayImage>) -> Vec<Picture> {
    let image = reduced(image);
    let drawn = |caption: &str, map: &GrayImage| Picture::new(caption, overlay(image.clone(), map));
    let prediction = drawn("prediction", prediction);
    let label = label.map(|label| drawn("label", label));
    let original = Picture::new("original", image);
    [original, prediction].into_iter().chain(label).collect()
}

/// An image whose longest side is [`LONGEST`] at most.
pub(super) fn reduced(image: RgbImage) -> RgbImage {
    let (width, height) = image.dimensions();
    let longest = width.max(height);
    if longest <= LONGEST {
        return image;
    }
    let side = |side: u32| (side * LONGEST / longest).max(1) as usize;
    let whole = CropBox::whole(height as usize, width as usize);
    resize(&image, whole, side(height), side(width), Interpolation::Bilinear)
}

/// The colours of a label map, half transparent, over an image. A map of another size is taken to be of the
/// whole image.
pub fn overlay(mut image: RgbImage, map: &GrayImage) -> RgbImage {
    let size = |width: u32, height: u32| (height as usize, width as usize);
    let ((height, width), (rows, cols)) =
        (size(image.width(), image.height()), size(map.width(), map.height()));
    let resized = (rows, cols) != (height, width) && rows * cols > 0;
    let resized = resized.then(|| nearest(map, CropBox::whole(rows, cols), height, width));
    let map = resized.as_ref().unwrap_or(map);
    for (pixel, &class) in image.pixels_mut().zip(map.as_raw()) {
        if class != IGNORED {
            let color = color(class);
            pixel.0 = std::array::from_fn(|channel| u8::midpoint(pixel.0[channel], color[channel]));
        }
    }
    image
}

/// Writes a label map as a PNG with a palette: its values are the classes, its colours those of [`overlay`],
/// and what is [`IGNORED`] is transparent.
///
/// # Errors
/// If the file cannot be written.
pub fn save(map: &GrayImage, path: &Path) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    encode(map, &mut file)?;
    file.flush()
}

fn encode(map: &GrayImage, file: impl Write) -> io::Result<()> {
    let mut encoder = png::Encoder::new(file, map.width(), map.height());
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_palette((0..=IGNORED).flat_map(color).collect::<Vec<u8>>());
    encoder.set_trns((0..=IGNORED).map(|class| if class == IGNORED { 0 } else { 255 }).collect::<Vec<u8>>());
    let mut writer = encoder.write_header()?;
    writer.write_image_data(map.as_raw())?;
    writer.finish()?;
    Ok(())
}

/// Writes the legend of a label map as JSON: a list of the classes in it, each as a [`ClassShare`] with its
/// `color` as [`css_color`] has it.
///
/// # Errors
/// If the file cannot be written.
pub fn save_legend(classes: &[ClassShare], path: &Path) -> io::Result<()> {
    let entry = |class| Entry { class, color: css_color(class.index) };
    let legend: Vec<_> = classes.iter().map(entry).collect();
    let mut file = BufWriter::new(File::create(path)?);
    serde_json::to_writer_pretty(&mut file, &legend)?;
    file.write_all(b"\n")?;
    file.flush()
}

/// A line of a legend.
#[derive(Serialize)]
struct Entry<'a> {
    #[serde(flatten)]
    class: &'a ClassShare,
    color: String,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use image::{Luma, Rgb};

    use super::*;
    use crate::data::read_labels;

    fn map(values: &[u8]) -> GrayImage {
        GrayImage::from_raw(values.len() as u32, 1, values.to_vec()).unwrap()
    }

    /// The colours that the devkit of PASCAL VOC 2012 lists for its classes.
    #[test]
    fn colours_are_those_of_pascal_voc() {
        let [aeroplane, bicycle, person, tv, void] = [1, 2, 15, 20, 255].map(color);
        assert_eq!((color(0), aeroplane, bicycle), ([0; 3], [128, 0, 0], [0, 128, 0]));
        assert_eq!((person, tv, void), ([192, 128, 128], [0, 64, 128], [224, 224, 192]));
        let colours: std::collections::HashSet<_> = (0..=255).map(color).collect();
        assert_eq!(colours.len(), 256);
    }

    #[test]
    fn a_legend_says_which_colour_is_which_class() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("labels.json");
        save_legend(&ClassShare::of(&map(&[15, 1, 15, 255]), &["sky".to_owned(), "sea".to_owned()]), &path)
            .unwrap();
        let legend: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let expected = serde_json::json!([
            { "index": 15, "name": null, "share": 0.5, "color": "#c08080" },
            { "index": 1, "name": "sea", "share": 0.25, "color": "#800000" },
        ]);
        assert_eq!(legend, expected);
        assert!(save_legend(&[], &folder.path().join("none/labels.json")).is_err());
    }

    #[test]
    fn classes_are_listed_by_area_and_without_what_is_ignored() {
        let names = ["sky".to_owned(), "sea".to_owned()];
        let shares = ClassShare::of(&map(&[1, 7, 7, 0, 255, 1, 7, 255]), &names);
        let found: Vec<_> = shares.iter().map(|class| (class.label(), class.share)).collect();
        assert_eq!(found, [("class 7".into(), 0.375), ("sea".into(), 0.25), ("sky".into(), 0.125)]);
        assert!(ClassShare::of(&map(&[255; 4]), &names).is_empty());
    }

    #[test]
    fn an_overlay_is_half_transparent_and_leaves_what_is_ignored() {
        let image = RgbImage::from_pixel(2, 1, Rgb([100; 3]));
        let drawn = overlay(image.clone(), &map(&[3, 255]));
        assert_eq!(drawn.get_pixel(0, 0).0, color(3).map(|channel| u8::midpoint(100, channel)));
        assert_eq!(drawn.get_pixel(1, 0).0, [100; 3]);
        // A map of the same image at another size.
        assert_eq!(overlay(image, &map(&[3, 3, 255, 255])), drawn);
    }

    #[test]
    fn a_saved_map_is_read_back_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("labels.png");
        let map = GrayImage::from_fn(16, 16, |x, y| Luma([(16 * y + x) as u8]));
        save(&map, &path).unwrap();
        assert_eq!(read_labels(&path).unwrap().into_luma8(), map);
        let shown = image::open(&path).unwrap().into_rgba8();
        assert_eq!(shown.get_pixel(5, 0).0[..3], color(5));
        assert_eq!((shown.get_pixel(14, 15).0[3], shown.get_pixel(15, 15).0[3]), (255, 0));
        assert!(save(&map, &folder.path().join("none/labels.png")).is_err());
    }

    #[test]
    fn pictures_are_small_enough_for_a_page() {
        let image = RgbImage::new(2048, 512);
        let rows = pictures(image, &GrayImage::new(683, 512), Some(&GrayImage::new(2048, 512)));
        let captions: Vec<_> = rows.iter().map(|picture| picture.caption.as_str()).collect();
        assert_eq!(captions, ["original", "prediction", "label"]);
        assert!(rows.iter().all(|picture| picture.image.dimensions() == (320, 80)));
    }
}
