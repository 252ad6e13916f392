//! Cropping, resizing, flipping and padding of a sample: image, boxes, masks and label maps together.

use image::{GrayImage, Luma, Rgb, RgbImage, imageops};

use super::{IGNORED, Instance, Interpolation, MAX_PIXELS, Pixels, Sample, nearest, resize};
use crate::component::DataError;

/// A rectangle of pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CropBox {
    /// First row.
    pub top: usize,
    /// First column.
    pub left: usize,
    /// Number of rows.
    pub height: usize,
    /// Number of columns.
    pub width: usize,
}

impl CropBox {
    /// All of an image.
    pub fn whole(height: usize, width: usize) -> Self {
        Self { top: 0, left: 0, height, width }
    }

    /// Whether the rectangle has pixels, and all of them lie within an image of the given size.
    pub fn within(self, height: usize, width: usize) -> bool {
        let fits = |start: usize, length: usize, limit: usize| {
            length > 0 && start.checked_add(length).is_some_and(|end| end <= limit)
        };
        fits(self.top, self.height, height) && fits(self.left, self.width, width)
    }
}

impl Sample {
    /// The 8 bit image; `transform` names who asks.
    ///
    /// # Errors
    /// [`DataError::Transform`] if the image is normalised already.
    pub fn rgb(&self, transform: &str) -> Result<&RgbImage, DataError> {
        match &self.pixels {
            Pixels::Rgb(image) => Ok(image),
            Pixels::Normalized { .. } => Err(DataError::Transform(format!(
                "{}: `{transform}` works on pixels, but they are normalised already: move it before `Normalize`",
                self.id
            ))),
        }
    }

    /// Height and width of the image.
    pub fn size(&self) -> (usize, usize) {
        match &self.pixels {
            Pixels::Rgb(image) => (image.height() as usize, image.width() as usize),
            Pixels::Normalized { height, width, .. } => (*height, *width),
        }
    }

    /// Checks that masks and label map are as large as the image.
    ///
    /// # Errors
    /// [`DataError::Corrupt`], naming `transform`, with both sizes.
    pub fn check_maps(&self, transform: &str) -> Result<(), DataError> {
        let (height, width) = self.size();
        let maps = self.target.instances.iter().map(|instance| &instance.mask).chain(&self.target.semantic);
        for map in maps {
            let (columns, rows) = map.dimensions();
            if (rows as usize, columns as usize) != (height, width) {
                let reason = format!("its mask or label map is {rows} x {columns}");
                return Err(self.misfit(transform, &reason));
            }
        }
        Ok(())
    }

    /// Crops, then resizes the crop. Masks and label maps take the nearest value; an object of which the crop leaves
    /// nothing is dropped, one that is cut gets the box of what is left of it.
    ///
    /// # Errors
    /// Naming `transform`: [`DataError::Transform`] if the image is normalised already or the new size is empty, and
    /// [`DataError::Corrupt`] if the crop is not within the image, a mask or label map is not of its size, or the result
    /// or the way to it takes more than [`MAX_PIXELS`].
    pub fn crop_and_resize(
        mut self,
        crop: CropBox,
        (height, width): (usize, usize),
        interpolation: Interpolation,
        transform: &str,
    ) -> Result<Self, DataError> {
        let image = self.rgb(transform)?;
        let size = self.size();
        if !crop.within(size.0, size.1) {
            return Err(self.misfit(transform, &format!("cannot crop {crop:?} from it")));
        }
        self.check_maps(transform)?;
        if height == 0 || width == 0 {
            return Err(DataError::Transform(format!("`{transform}`: a size of {height} x {width}")));
        }
        // The rows are resized before the columns.
        let pixels = (height.max(crop.height) as u64).saturating_mul(width as u64);
        if pixels > MAX_PIXELS {
            let reason = format!("to make it {height} x {width} takes more than {MAX_PIXELS} pixels");
            return Err(self.misfit(transform, &reason));
        }
        if crop == CropBox::whole(height, width) && size == (height, width) {
            return Ok(self);
        }
        self.pixels = Pixels::Rgb(resize(image, crop, height, width, interpolation));
        let instances = std::mem::take(&mut self.target.instances);
        self.target.instances = instances
            .into_iter()
            .filter_map(|instance| crop_instance(instance, crop, height, width))
            .collect();
        if let Some(map) = &mut self.target.semantic {
            *map = nearest(map, crop, height, width);
        }
        Ok(self)
    }

    /// Mirrors left and right.
    ///
    /// # Errors
    /// [`DataError::Transform`], naming `transform`, if the image is normalised already.
    pub fn flip_horizontal(mut self, transform: &str) -> Result<Self, DataError> {
        self.rgb(transform)?;
        if let Pixels::Rgb(image) = &mut self.pixels {
            let width = image.width() as f32;
            imageops::flip_horizontal_in_place(image);
            for instance in &mut self.target.instances {
                let [x0, y0, x1, y1] = instance.bbox;
                instance.bbox = [width - x1, y0, width - x0, y1];
                imageops::flip_horizontal_in_place(&mut instance.mask);
            }
            if let Some(map) = &mut self.target.semantic {
                imageops::flip_horizontal_in_place(map);
            }
        }
        Ok(self)
    }

    /// Adds a black border, ignored (255) in the label map.
    ///
    /// # Errors
    /// Naming `transform`: [`DataError::Transform`] if the image is normalised already, [`DataError::Corrupt`] if the
    /// result has more than [`MAX_PIXELS`].
    pub fn pad(mut self, border: usize, transform: &str) -> Result<Self, DataError> {
        if border == 0 {
            return Ok(self);
        }
        let image = self.rgb(transform)?;
        let padded = |side: u32| (border as u64).saturating_mul(2).saturating_add(u64::from(side));
        let (width, height) = (padded(image.width()), padded(image.height()));
        if width.saturating_mul(height) > MAX_PIXELS {
            let reason = format!("with a border of {border} it has more than {MAX_PIXELS} pixels");
            return Err(self.misfit(transform, &reason));
        }
        let (width, height, at) = (width as u32, height as u32, border as i64);
        let mut padded = RgbImage::from_pixel(width, height, Rgb([0; 3]));
        imageops::replace(&mut padded, image, at, at);
        self.pixels = Pixels::Rgb(padded);
        let pad = |map: &GrayImage, fill: u8| {
            let mut padded = GrayImage::from_pixel(width, height, Luma([fill]));
            imageops::replace(&mut padded, map, at, at);
            padded
        };
        for instance in &mut self.target.instances {
            instance.bbox = instance.bbox.map(|side| side + border as f32);
            instance.mask = pad(&instance.mask, 0);
        }
        if let Some(map) = &mut self.target.semantic {
            *map = pad(map, IGNORED);
        }
        Ok(self)
    }

    /// An error that says which transform does not fit which image: [`DataError::Corrupt`], as another image may fit.
    pub fn misfit(&self, transform: &str, reason: &str) -> DataError {
        let (height, width) = self.size();
        let reason = format!("`{transform}`: the image is {height} x {width}; {reason}");
        DataError::Corrupt { path: self.id.clone().into(), reason }
    }
}

/// What a crop, resized, leaves of an object.
fn crop_instance(instance: Instance, crop: CropBox, height: usize, width: usize) -> Option<Instance> {
    let Instance { class, bbox, mask } = instance;
    let [left, top] = [crop.left as f32, crop.top as f32];
    let [right, bottom] = [left + crop.width as f32, top + crop.height as f32];
    let cut = bbox[0] < left || bbox[1] < top || bbox[2] > right || bbox[3] > bottom;
    let bbox = if cut { visible_box(&mask, crop)? } else { bbox };
    let (x, y) = (width as f32 / crop.width as f32, height as f32 / crop.height as f32);
    let bbox = [(bbox[0] - left) * x, (bbox[1] - top) * y, (bbox[2] - left) * x, (bbox[3] - top) * y];
    let mask = nearest(&mask, crop, height, width);
    mask.as_raw().contains(&255).then_some(Instance { class, bbox, mask })
}

/// The box around the part of a mask that lies within a crop, in the mask's pixels.
fn visible_box(mask: &GrayImage, crop: CropBox) -> Option<[f32; 4]> {
    let mut bounds: Option<[usize; 4]> = None;
    let rows = mask.as_raw().chunks_exact(mask.width() as usize).enumerate();
    for (y, row) in rows.skip(crop.top).take(crop.height) {
        let row = &row[crop.left..crop.left + crop.width];
        let first = row.iter().position(|&value| value > 0);
        let last = row.iter().rposition(|&value| value > 0);
        if let (Some(first), Some(last)) = (first, last) {
            let (first, end) = (crop.left + first, crop.left + last + 1);
            let [x0, y0, x1, _] = bounds.unwrap_or([first, y, end, 0]);
            bounds = Some([x0.min(first), y0, x1.max(end), y + 1]);
        }
    }
    bounds.map(|bounds| bounds.map(|side| side as f32))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::float_cmp, clippy::naive_bytecount)]

    use super::*;
    use crate::data::{Normalization, Target};

    /// 4 x 6 with an object in rows 1..3, columns 2..5.
    fn sample() -> Sample {
        let inside = |x: u32, y: u32| (2..5).contains(&x) && (1..3).contains(&y);
        let image = RgbImage::from_fn(6, 4, |x, y| Rgb([x as u8, y as u8, 0]));
        let mask = GrayImage::from_fn(6, 4, |x, y| Luma([if inside(x, y) { 255 } else { 0 }]));
        let semantic = GrayImage::from_fn(6, 4, |x, y| Luma([u8::from(inside(x, y)) * 3]));
        Sample {
            id: "a.png".to_owned(),
            pixels: Pixels::Rgb(image),
            target: Target {
                class: Some(1),
                mixed: None,
                instances: vec![Instance { class: 2, bbox: [2.0, 1.0, 5.0, 3.0], mask }],
                semantic: Some(semantic),
            },
        }
    }

    fn crop(top: usize, left: usize, height: usize, width: usize, to: (usize, usize)) -> Sample {
        let crop = CropBox { top, left, height, width };
        sample().crop_and_resize(crop, to, Interpolation::Bicubic, "Crop").unwrap()
    }

    /// The tight box of a mask must be its instance's box.
    fn assert_consistent(sample: &Sample) {
        let (height, width) = sample.size();
        for instance in &sample.target.instances {
            assert_eq!(instance.mask.dimensions(), (width as u32, height as u32));
            assert_eq!(visible_box(&instance.mask, CropBox::whole(height, width)), Some(instance.bbox));
        }
        let labelled = sample.target.semantic.as_ref().unwrap().as_raw().iter().filter(|&&label| label == 3);
        let masked =
            |instance: &Instance| instance.mask.as_raw().iter().filter(|&&value| value == 255).count();
        assert_eq!(labelled.count(), sample.target.instances.iter().map(masked).sum::<usize>());
    }

    #[test]
    fn a_crop_moves_and_scales_the_target() {
        let sample = crop(1, 1, 3, 5, (6, 10));
        assert_eq!(sample.target.instances[0].bbox, [2.0, 0.0, 8.0, 4.0]);
        assert_consistent(&sample);
    }

    #[test]
    fn a_cut_object_gets_the_box_of_what_is_left() {
        let sample = crop(2, 0, 2, 4, (2, 4));
        assert_eq!(sample.target.instances[0].bbox, [2.0, 0.0, 4.0, 1.0]);
        assert_consistent(&sample);
    }

    #[test]
    fn an_object_outside_of_the_crop_is_dropped() {
        let sample = crop(0, 0, 4, 2, (8, 8));
        assert!(sample.target.instances.is_empty());
        assert_eq!(sample.target.class, Some(1));
    }

    #[test]
    fn a_flip_mirrors_everything_and_twice_is_none() {
        let flipped = sample().flip_horizontal("Flip").unwrap();
        assert_eq!(flipped.rgb("").unwrap().get_pixel(0, 0).0, [5, 0, 0]);
        assert_eq!(flipped.target.instances[0].bbox, [1.0, 1.0, 4.0, 3.0]);
        assert_consistent(&flipped);
        let twice = flipped.flip_horizontal("Flip").unwrap();
        assert!(twice.rgb("").unwrap() == sample().rgb("").unwrap());
    }

    #[test]
    fn padding_is_black_and_ignored() {
        let padded = sample().pad(2, "Pad").unwrap();
        assert_eq!(padded.size(), (8, 10));
        assert_eq!(padded.target.instances[0].bbox, [4.0, 3.0, 7.0, 5.0]);
        assert_eq!(padded.target.semantic.as_ref().unwrap().get_pixel(0, 0).0, [255]);
        assert_consistent(&padded);
    }

    #[test]
    fn a_normalised_sample_is_refused_with_advice() {
        let normalization = Normalization { mean: [0.0; 3], std: [1.0; 3] };
        let pixels = Pixels::Normalized { values: vec![0.0; 3], height: 1, width: 1, normalization };
        let error = Sample { pixels, ..sample() }.flip_horizontal("RandomHorizontalFlip").unwrap_err();
        assert_eq!(
            error.to_string(),
            "a.png: `RandomHorizontalFlip` works on pixels, but they are normalised already: move it before `Normalize`"
        );
    }

    #[test]
    fn a_crop_outside_of_the_image_is_the_fault_of_the_sample() {
        let crop = CropBox { top: 0, left: 3, height: 4, width: 4 };
        let error = sample().crop_and_resize(crop, (2, 2), Interpolation::Bicubic, "Crop").unwrap_err();
        assert!(error.to_string().starts_with("a.png: `Crop`: the image is 4 x 6; cannot crop"), "{error}");
        assert!(matches!(error, DataError::Corrupt { .. }), "{error:?}");
    }

    /// 4 rows of 6 without a target, `times` as high.
    fn tall(times: u32) -> Sample {
        let pixels = Pixels::Rgb(RgbImage::new(6, 4 * times));
        Sample { pixels, target: Target::default(), ..sample() }
    }

    #[test]
    fn what_would_take_too_many_pixels_is_the_fault_of_the_sample() {
        let resize = |sample: Sample, to| {
            let (height, width) = sample.size();
            let whole = CropBox::whole(height, width);
            sample.crop_and_resize(whole, to, Interpolation::Bicubic, "Resize").unwrap_err()
        };
        for error in [
            resize(tall(1), (4, 100_000_000)),
            resize(tall(1), (usize::MAX, usize::MAX)),
            // The result is small, but not what the first pass leaves.
            resize(tall(100_000), (1, 1000)),
            tall(1).pad(10_000, "Pad").unwrap_err(),
            tall(1).pad(1 << 31, "Pad").unwrap_err(),
            tall(1).pad(usize::MAX, "Pad").unwrap_err(),
        ] {
            assert!(matches!(error, DataError::Corrupt { .. }), "{error:?}");
            assert!(error.to_string().contains("more than 178956970 pixels"), "{error}");
        }
    }
}
