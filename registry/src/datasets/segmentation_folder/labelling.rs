//! Which class the values and colours of label maps mean.

use std::collections::HashMap;

use convmae_framework::data::{DataError, IGNORED};
use image::{DynamicImage, GrayImage};

use super::SegmentationFolder;

/// More classes than label maps can tell apart: 255 is what is ignored.
const MAX_CLASSES: usize = IGNORED as usize;

/// The label of every value and of every colour of a palette: a class, or [`IGNORED`].
pub struct Labelling {
    by_value: Vec<Option<u8>>,
    by_color: Option<HashMap<[u8; 3], u8>>,
    classes: usize,
    /// The values that have a label, for messages.
    valid: String,
}

impl Labelling {
    /// The labelling that a dataset of a number of classes states.
    ///
    /// # Errors
    /// [`DataError::Invalid`] if there are too many classes, or other numbers of values or colours than of
    /// classes.
    pub fn new(spec: &SegmentationFolder, classes: usize) -> Result<Self, DataError> {
        check(spec, classes)?;
        let ignored: Vec<u16> = spec.ignore.iter().copied().chain([u16::from(IGNORED)]).collect();
        let class = |value: u16| {
            let class = match &spec.values {
                Some(values) => values.iter().position(|of_class| *of_class == value)?,
                None => usize::from(value).checked_sub(usize::from(spec.reduce_zero_label))?,
            };
            (class < classes).then_some(class as u8)
        };
        let is_ignored = |value: u16| ignored.contains(&value) || spec.reduce_zero_label && value == 0;
        let is_other = |value: u16| spec.values.as_ref().is_none_or(|values| !values.contains(&value));
        let label = |value: u16| {
            if is_ignored(value) && is_other(value) { Some(IGNORED) } else { class(value) }
        };
        let by_value = (0..=u16::MAX).map(label).collect();
        let by_color = spec.palette.as_ref().map(|palette| {
            let label = |place: usize| if place < classes { place as u8 } else { IGNORED };
            palette.iter().enumerate().rev().map(|(place, color)| (*color, label(place))).collect()
        });
        let valid = match &spec.values {
            Some(values) => list(values),
            None if spec.reduce_zero_label => format!("0 (none), 1 to {classes}"),
            None if classes == 1 => "0".to_owned(),
            None => format!("0 to {}", classes - 1),
        };
        let ignored: Vec<u16> = ignored.iter().copied().filter(|&value| is_other(value)).collect();
        let or_ignored = if ignored.is_empty() { String::new() } else { format!(", or {}", list(&ignored)) };
        Ok(Self { by_value, by_color, classes, valid: valid + &or_ignored })
    }

    /// The label of every pixel of a map as it was read.
    ///
    /// # Errors
    /// Which pixel has none, and why; or that there is no palette for a map in colours.
    pub fn labels(&self, map: DynamicImage) -> Result<GrayImage, String> {
        let (width, height) = (map.width(), map.height());
        let labels = match map {
            DynamicImage::ImageRgb8(map) => self.of_colors(map.as_raw(), width)?,
            DynamicImage::ImageLuma8(map) => {
                self.of_values(map.as_raw().iter().map(|&value| u16::from(value)), width)?
            }
            map => self.of_values(map.into_luma16().as_raw().iter().copied(), width)?,
        };
        GrayImage::from_raw(width, height, labels)
            .ok_or_else(|| format!("not a label map of {height} x {width} pixels"))
    }

    fn of_values(&self, values: impl Iterator<Item = u16>, width: u32) -> Result<Vec<u8>, String> {
        let label = |(at, value): (usize, u16)| {
            self.by_value[usize::from(value)].ok_or_else(|| {
                format!(
                    "the label at {} is {value}, none of the {} classes; valid are {}",
                    place(at, width),
                    self.classes,
                    self.valid
                )
            })
        };
        values.enumerate().map(label).collect()
    }

    fn of_colors(&self, pixels: &[u8], width: u32) -> Result<Vec<u8>, String> {
        let Some(by_color) = &self.by_color else {
            return Err(
                "a label map in colours (RGB): `palette` has to tell the colour of each class".to_owned()
            );
        };
        let label = |(at, color): (usize, &[u8; 3])| {
            by_color.get(color).copied().ok_or_else(|| {
                format!("the colour at {} is {color:?}, none of the `palette`", place(at, width))
            })
        };
        pixels.as_chunks::<3>().0.iter().enumerate().map(label).collect()
    }
}

fn check(spec: &SegmentationFolder, classes: usize) -> Result<(), DataError> {
    let invalid = |key: &str, reason: String| Err(DataError::Invalid { path: key.into(), reason });
    if classes > MAX_CLASSES {
        return invalid("classes", format!("{classes} classes; at most {MAX_CLASSES} are told apart"));
    }
    match &spec.values {
        Some(_) if spec.reduce_zero_label => {
            return invalid("values", "excludes `reduce_zero_label`: it tells the class of 0".to_owned());
        }
        Some(values) if values.len() != classes => {
            return invalid("values", format!("{} values for {classes} classes", values.len()));
        }
        _ => {}
    }
    match &spec.palette {
        Some(palette) if palette.len() < classes => {
            invalid("palette", format!("{} colours for {classes} classes", palette.len()))
        }
        _ => Ok(()),
    }
}

fn place(at: usize, width: u32) -> String {
    let width = width.max(1) as usize;
    format!("x {}, y {}", at % width, at / width)
}

fn list(values: &[u16]) -> String {
    values.iter().map(u16::to_string).collect::<Vec<_>>().join(", ")
}
