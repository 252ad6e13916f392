//! Samples as pictures: what is to be predicted of them drawn over them, or what a mask removes.

use image::{Rgb, RgbImage};

use super::label_map::{overlay, reduced};
use super::objects::{Object, draw, enlarged};
use crate::component::{Mask, Samples, TaskKind};
use crate::data::{Batch, DataError, Original, Pixels, Sample};

/// What is shown of the samples of a dataset: the targets of these tasks, with the names of their classes.
#[derive(Debug, Clone, Default)]
pub(crate) struct ShownTargets {
    names: Vec<(TaskKind, Vec<String>)>,
}

impl ShownTargets {
    pub(crate) fn new(samples: &dyn Samples, tasks: impl IntoIterator<Item = TaskKind>) -> Self {
        let names = |task| (task, samples.classes(task).unwrap_or_default().to_vec());
        Self { names: tasks.into_iter().map(names).collect() }
    }

    /// The tasks.
    pub(crate) fn tasks(&self) -> impl Iterator<Item = TaskKind> {
        self.names.iter().map(|(task, _)| *task)
    }

    /// The names of the classes of a task, if its targets are shown.
    pub(crate) fn names(&self, task: TaskKind) -> Option<&[String]> {
        self.names.iter().find(|(known, _)| *known == task).map(|(_, names)| names.as_slice())
    }

    /// The name of a class, or `class 7`.
    pub(crate) fn class_name(&self, task: TaskKind, class: usize) -> String {
        let name = self.names(task).and_then(|names| names.get(class)).cloned();
        name.unwrap_or_else(|| format!("class {class}"))
    }
}

/// A sample, small enough for a page, with its label map and its objects.
///
/// # Errors
/// If its pixels are no image.
pub(crate) fn sample_picture(sample: &Sample, shown: &ShownTargets) -> Result<RgbImage, DataError> {
    let whole = pixels(sample)?;
    let size = [whole.height(), whole.width()].map(|side| side as usize);
    let mut image = reduced(whole);
    if let (Some(map), Some(_)) = (&sample.target.semantic, shown.names(TaskKind::Segment)) {
        image = overlay(image, map);
    }
    let Some(names) = shown.names(TaskKind::Detect) else { return Ok(image) };
    let image = enlarged(image);
    let objects = Object::annotated(&Original::of(size, &sample.target), &image, names);
    Ok(draw(image, &objects))
}

/// The pixels, as [`Raster::to_rgb`](crate::data::Raster::to_rgb) shows channels.
fn pixels(sample: &Sample) -> Result<RgbImage, DataError> {
    match &sample.pixels {
        Pixels::Rgb(image) => Ok(image.clone()),
        Pixels::Channels(raster) => Ok(raster.to_rgb()),
        Pixels::Normalized { .. } => {
            let batch = Batch::stack(vec![sample.clone()], None)?;
            Ok(batch.picture(0))
        }
    }
}

/// An image without the patches that a mask, number `of` of the batch, removes, in grey.
pub(crate) fn masked(mut image: RgbImage, mask: &Mask, of: usize) -> RgbImage {
    let tokens = mask.grid.tokens();
    let (height, width) = (image.height() as usize, image.width() as usize);
    let removed = &mask.removed[of * tokens..][..tokens];
    for (x, y, pixel) in image.enumerate_pixels_mut() {
        let row = y as usize * mask.grid.rows / height;
        let col = x as usize * mask.grid.cols / width;
        if removed[row * mask.grid.cols + col] > 0.5 {
            *pixel = Rgb([128; 3]);
        }
    }
    image
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use image::{GrayImage, Luma};

    use super::*;
    use crate::component::MaskGrid;
    use crate::data::{Normalization, Raster, Target};
    use crate::report::label_map::color;

    fn drawn(target: Target, task: TaskKind) -> RgbImage {
        let sample = Sample::new("a".to_owned(), RgbImage::from_pixel(4, 2, Rgb([100; 3])), target);
        sample_picture(&sample, &ShownTargets { names: vec![(task, Vec::new())] }).unwrap()
    }

    #[test]
    fn targets_of_a_task_are_drawn_over_the_image() {
        let mut map = GrayImage::from_pixel(4, 2, Luma([255]));
        map.put_pixel(3, 1, Luma([2]));
        let mut target = Target { semantic: Some(map), ..Target::default() };
        target.instances.annotate(1, [0.0, 0.0, 2.0, 2.0], crate::data::Mask::Polygons(Vec::new()));
        let image = drawn(target.clone(), TaskKind::Segment);
        assert_eq!(image.get_pixel(3, 1).0, color(2).map(|channel| u8::midpoint(100, channel)));
        assert_eq!(image.get_pixel(0, 1).0, [100; 3]);
        // Enlarged, so that there is room for names.
        let image = drawn(target.clone(), TaskKind::Detect);
        assert_eq!((image.dimensions(), image.get_pixel(0, 100).0), ((320, 160), color(2)));
        assert_eq!(image.get_pixel(250, 100).0, [100; 3]);
        assert!(drawn(target, TaskKind::Classify).pixels().all(|pixel| pixel.0 == [100; 3]));
    }

    #[test]
    fn pixels_of_any_kind_are_shown() {
        let twelve = Raster::new(12, (1, 1), (0..12).collect()).unwrap();
        let sample = Sample::new("a".to_owned(), twelve, Target::default());
        assert_eq!(pixels(&sample).unwrap().as_raw(), &[0, 1, 2]);
        let normalization = Normalization { mean: vec![0.5; 3], std: vec![0.25; 3] };
        let normalized = Pixels::Normalized { values: vec![2.0; 3], height: 1, width: 1, normalization };
        let sample = Sample { pixels: normalized, ..sample };
        assert_eq!(pixels(&sample).unwrap().as_raw(), &[255; 3]);
    }

    #[test]
    fn a_mask_greys_the_patches_that_it_removes() {
        let grid = MaskGrid { rows: 1, cols: 2, cells: Vec::new() };
        let mask = Mask::from_noise(&grid, 1, &[0.1, 0.9, 0.9, 0.1]);
        let grey = |of| {
            let image = masked(RgbImage::from_pixel(4, 2, Rgb([7; 3])), &mask, of);
            [0, 1, 2, 3].map(|x| image.get_pixel(x, 1).0[0])
        };
        assert_eq!((grey(0), grey(1)), ([7, 7, 128, 128], [128, 128, 7, 7]));
    }
}
