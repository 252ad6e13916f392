//! Cropping, resizing, flipping and padding of a sample: image, boxes, masks and label maps together.

use image::{GrayImage, Luma, Rgb, RgbImage, imageops};

use super::boxes::{clip, nonempty};
use super::target::bounds;
use super::{CropBox, DataError, IGNORED, Interpolation, MAX_PIXELS, Mask, Pixels, Sample, nearest, resize};

/// What width and height of an object have to be larger than, in pixels.
const SMALLEST_SIDE: f32 = 1e-5;

impl Sample {
    /// The 8 bit image; `transform` names who asks.
    ///
    /// # Errors
    /// [`DataError::Transform`] if the image is normalised already.
    pub fn rgb(&self, transform: &str) -> Result<&RgbImage, DataError> {
        match &self.pixels {
            Pixels::Rgb(image) => Ok(image),
            Pixels::Channels(raster) => Err(DataError::Transform(format!(
                "{}: `{transform}` works on RGB images, this one has {} channels",
                self.id,
                raster.channels()
            ))),
            Pixels::Normalized { .. } => Err(self.normalized_before(transform)),
        }
    }

    /// Checks that the image is not normalised; `transform` names who asks.
    ///
    /// # Errors
    /// [`DataError::Transform`] if it is.
    pub fn check_pixels(&self, transform: &str) -> Result<(), DataError> {
        match &self.pixels {
            Pixels::Rgb(_) | Pixels::Channels(_) => Ok(()),
            Pixels::Normalized { .. } => Err(self.normalized_before(transform)),
        }
    }

    fn normalized_before(&self, transform: &str) -> DataError {
        DataError::Transform(format!(
            "{}: `{transform}` works on pixels, but they are normalised already: move it before `Normalize`",
            self.id
        ))
    }

    /// Height and width of the image.
    pub fn size(&self) -> (usize, usize) {
        self.pixels.size()
    }

    /// Checks that masks and label map are as large as the image.
    ///
    /// # Errors
    /// [`DataError::Corrupt`], naming `transform`, with both sizes.
    pub fn check_maps(&self, transform: &str) -> Result<(), DataError> {
        let (height, width) = self.size();
        let masks = self.target.instances.masks.iter().filter_map(|mask| match mask {
            Mask::Rle(runs) => Some(runs.size()),
            Mask::Polygons(_) => None,
        });
        let size = |map: &GrayImage| [map.height() as usize, map.width() as usize];
        for [rows, columns] in masks.chain(self.target.semantic.as_ref().map(size)) {
            if (rows, columns) != (height, width) {
                let reason = format!("its mask or label map is {rows} x {columns}");
                return Err(self.misfit(transform, &reason));
            }
        }
        Ok(())
    }

    /// Crops, then resizes the crop. Masks and label maps take the nearest value; an object of which the crop
    /// leaves nothing is dropped, one that is cut gets the box of what is left of it.
    ///
    /// # Errors
    /// Naming `transform`: [`DataError::Transform`] if the image is normalised already or the new size is
    /// empty, and [`DataError::Corrupt`] if the crop is not within the image, a mask or label map is not of
    /// its size, or the result or the way to it takes more than [`MAX_PIXELS`].
    pub fn crop_and_resize(
        mut self,
        crop: CropBox,
        (height, width): (usize, usize),
        interpolation: Interpolation,
        transform: &str,
    ) -> Result<Self, DataError> {
        self.check_pixels(transform)?;
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
        self.pixels = match &self.pixels {
            Pixels::Rgb(image) => Pixels::Rgb(resize(image, crop, height, width, interpolation)),
            Pixels::Channels(raster) => Pixels::Channels(raster.resize(crop, height, width, interpolation)),
            Pixels::Normalized { .. } => return Err(self.normalized_before(transform)),
        };
        self.target.instances.transform(|bbox, mask| crop_shape(bbox, mask, crop, (height, width)));
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
        match &mut self.pixels {
            Pixels::Rgb(image) => imageops::flip_horizontal_in_place(image),
            Pixels::Channels(raster) => raster.flip_horizontal(),
            Pixels::Normalized { .. } => return Err(self.normalized_before(transform)),
        }
        let size = self.size();
        let width = size.1 as f64;
        self.target.instances.transform(|bbox, mask| {
            let [x0, y0, x1, y1] = *bbox;
            *bbox = [width as f32 - x1, y0, width as f32 - x0, y1];
            let mirror = |[x, y]: [f64; 2]| [width - x, y];
            mask.is_none_or(|mask| mask.transform(size, mirror, imageops::flip_horizontal))
        });
        if let Some(map) = &mut self.target.semantic {
            imageops::flip_horizontal_in_place(map);
        }
        Ok(self)
    }

    /// Adds a border of so many pixels at the top, on the right, at the bottom and on the left: of a grey
    /// value, and ignored (255) in the label map.
    ///
    /// # Errors
    /// Naming `transform`: [`DataError::Transform`] if the image is normalised already,
    /// [`DataError::Corrupt`] if the result has more than [`MAX_PIXELS`].
    pub fn pad(mut self, border: [usize; 4], grey: u8, transform: &str) -> Result<Self, DataError> {
        if border == [0; 4] {
            return Ok(self);
        }
        self.check_pixels(transform)?;
        let (rows, columns) = self.size();
        let [top, right, bottom, left] = border;
        let padded = |side: usize, before: usize, after: usize| {
            (before as u64).saturating_add(after as u64).saturating_add(side as u64)
        };
        let (width, height) = (padded(columns, left, right), padded(rows, top, bottom));
        if width.saturating_mul(height) > MAX_PIXELS {
            let reason = format!("with a border of {border:?} it has more than {MAX_PIXELS} pixels");
            return Err(self.misfit(transform, &reason));
        }
        let (width, height, x, y) = (width as u32, height as u32, left as i64, top as i64);
        self.pixels = match &self.pixels {
            Pixels::Rgb(image) => {
                let mut padded = RgbImage::from_pixel(width, height, Rgb([grey; 3]));
                imageops::replace(&mut padded, image, x, y);
                Pixels::Rgb(padded)
            }
            Pixels::Channels(raster) => {
                Pixels::Channels(raster.pad((height as usize, width as usize), top, left, grey))
            }
            Pixels::Normalized { .. } => return Err(self.normalized_before(transform)),
        };
        let pad = |map: &GrayImage, fill: u8| {
            let mut padded = GrayImage::from_pixel(width, height, Luma([fill]));
            imageops::replace(&mut padded, map, x, y);
            padded
        };
        self.target.instances.transform(|bbox, mask| {
            let [x0, y0, x1, y1] = *bbox;
            *bbox = [x0 + left as f32, y0 + top as f32, x1 + left as f32, y1 + top as f32];
            let shift = |[x, y]: [f64; 2]| [x + left as f64, y + top as f64];
            let size = (height as usize, width as usize);
            mask.is_none_or(|mask| mask.transform(size, shift, |map| pad(map, 0)))
        });
        if let Some(map) = &mut self.target.semantic {
            *map = pad(map, IGNORED);
        }
        Ok(self)
    }

    /// Gives every object the box around its mask; one whose mask or box is empty is dropped
    /// (`filter_empty_instances` of detectron2). Without masks boxes are cut at the border of the image.
    #[must_use]
    pub fn fit_boxes(mut self) -> Self {
        let (height, width) = self.size();
        self.target.instances.transform(|bbox, mask| {
            let fitted = match mask {
                Some(mask) => mask.bounds(),
                None => Some(clip(*bbox, [height, width])),
            };
            *bbox = fitted.unwrap_or_default();
            nonempty(*bbox, SMALLEST_SIDE)
        });
        self
    }

    /// An error that says which transform does not fit which image: [`DataError::Corrupt`], as another image
    /// may fit.
    pub fn misfit(&self, transform: &str, reason: &str) -> DataError {
        let (height, width) = self.size();
        let reason = format!("`{transform}`: the image is {height} x {width}; {reason}");
        DataError::Corrupt { path: self.id.clone().into(), reason }
    }
}

/// Crops and resizes box and mask of an object; whether something is left of it. One that is cut gets the box
/// of what is left.
fn crop_shape(
    bbox: &mut [f32; 4],
    mask: Option<&mut Mask>,
    crop: CropBox,
    (height, width): (usize, usize),
) -> bool {
    let [left, top] = [crop.left as f32, crop.top as f32];
    let [right, bottom] = [crop.width as f32, crop.height as f32];
    let [x0, y0, x1, y1] = *bbox;
    let mut cropped = [x0 - left, y0 - top, x1 - left, y1 - top];
    if cropped[0] < 0.0 || cropped[1] < 0.0 || cropped[2] > right || cropped[3] > bottom {
        let [x0, y0, x1, y1] = cropped;
        let visible = match &mask {
            Some(mask) => visible_box(mask, crop),
            None => Some([x0.max(0.0), y0.max(0.0), x1.min(right), y1.min(bottom)])
                .filter(|[x0, y0, x1, y1]| x0 < x1 && y0 < y1),
        };
        let Some(visible) = visible else { return false };
        cropped = visible;
    }
    let (x, y) = (width as f32 / right, height as f32 / bottom);
    *bbox = [cropped[0] * x, cropped[1] * y, cropped[2] * x, cropped[3] * y];
    let (x, y) = (width as f64 / crop.width as f64, height as f64 / crop.height as f64);
    let point = |corner: [f64; 2]| [(corner[0] - crop.left as f64) * x, (corner[1] - crop.top as f64) * y];
    mask.is_none_or(|mask| mask.transform((height, width), point, |map| nearest(map, crop, height, width)))
}

/// The box around the part of a mask that lies within a crop, in the pixels of the crop.
fn visible_box(mask: &Mask, crop: CropBox) -> Option<[f32; 4]> {
    let CropBox { top, left, height, width } = crop;
    let cut = |map: &GrayImage| {
        imageops::crop_imm(map, left as u32, top as u32, width as u32, height as u32).to_image()
    };
    match mask {
        // The box of the pixels at once: as run lengths they would be encoded only to be decoded for it.
        Mask::Rle(runs) => bounds(&cut(&runs.decode())),
        Mask::Polygons(_) => {
            let mut visible = mask.clone();
            let shift = |[x, y]: [f64; 2]| [x - left as f64, y - top as f64];
            visible.transform((height, width), shift, cut).then(|| visible.bounds())?
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::float_cmp, clippy::naive_bytecount, clippy::panic)]

    use super::*;
    use crate::data::{Normalization, Rle, Target};

    /// 4 x 6 with an object in rows 1..3, columns 2..5.
    fn sample() -> Sample {
        let inside = |x: u32, y: u32| (2..5).contains(&x) && (1..3).contains(&y);
        let image = RgbImage::from_fn(6, 4, |x, y| Rgb([x as u8, y as u8, 0]));
        let mask = GrayImage::from_fn(6, 4, |x, y| Luma([if inside(x, y) { 255 } else { 0 }]));
        let semantic = GrayImage::from_fn(6, 4, |x, y| Luma([u8::from(inside(x, y)) * 3]));
        let mut target = Target { class: Some(1), semantic: Some(semantic), ..Target::default() };
        target.instances.annotate(2, [2.0, 1.0, 5.0, 3.0], Mask::Rle(Rle::encode(&mask)));
        // The same object as a polygon: whatever is done, both have the same box.
        let outline = vec![[2.0, 1.0], [5.0, 1.0], [5.0, 3.0], [2.0, 3.0]];
        target.instances.annotate(2, [2.0, 1.0, 5.0, 3.0], Mask::Polygons(vec![outline]));
        Sample::new("a.png".to_owned(), image, target)
    }

    fn crop(top: usize, left: usize, height: usize, width: usize, to: (usize, usize)) -> Sample {
        let crop = CropBox { top, left, height, width };
        sample().crop_and_resize(crop, to, Interpolation::Bicubic, "Crop").unwrap()
    }

    /// The tight box of a mask, of pixels and of a polygon, must be its instance's box.
    fn assert_consistent(sample: &Sample) {
        let (height, width) = sample.size();
        let instances = &sample.target.instances;
        for (bbox, mask) in instances.boxes.iter().zip(&instances.masks) {
            assert_eq!(mask.bounds(), Some(*bbox));
        }
        let Mask::Rle(runs) = &instances.masks[0] else { panic!("run lengths stay run lengths") };
        assert!(matches!(instances.masks[1], Mask::Polygons(_)), "polygons stay polygons");
        assert_eq!(runs.size(), [height, width]);
        let labelled = sample.target.semantic.as_ref().unwrap().as_raw().iter().filter(|&&label| label == 3);
        let masked = runs.decode().into_raw().into_iter().filter(|&value| value == 255).count();
        assert_eq!(labelled.count(), masked);
    }

    #[test]
    fn a_crop_moves_and_scales_the_target() {
        let sample = crop(1, 1, 3, 5, (6, 10));
        assert_eq!(sample.target.instances.boxes[0], [2.0, 0.0, 8.0, 4.0]);
        assert_consistent(&sample);
    }

    #[test]
    fn a_cut_object_gets_the_box_of_what_is_left() {
        let sample = crop(2, 0, 2, 4, (2, 4));
        assert_eq!(sample.target.instances.boxes[0], [2.0, 0.0, 4.0, 1.0]);
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
        assert_eq!(flipped.target.instances.boxes[0], [1.0, 1.0, 4.0, 3.0]);
        assert_consistent(&flipped);
        let twice = flipped.flip_horizontal("Flip").unwrap();
        assert!(twice.rgb("").unwrap() == sample().rgb("").unwrap());
    }

    #[test]
    fn padding_is_grey_and_ignored() {
        let padded = sample().pad([1, 3, 4, 2], 9, "Pad").unwrap();
        assert_eq!(padded.size(), (9, 11));
        assert_eq!(padded.target.instances.boxes[0], [4.0, 2.0, 7.0, 4.0]);
        let image = padded.rgb("").unwrap();
        assert_eq!((image.get_pixel(1, 1).0, image.get_pixel(3, 2).0), ([9; 3], [1, 1, 0]));
        assert_eq!(padded.target.semantic.as_ref().unwrap().get_pixel(0, 0).0, [255]);
        assert_consistent(&padded);
    }

    #[test]
    fn objects_get_the_boxes_of_their_masks_or_are_dropped() {
        let mut loose = sample();
        loose.target.instances.annotate(
            1,
            [0.0, 0.0, 6.0, 4.0],
            Mask::Rle(Rle::encode(&GrayImage::new(6, 4))),
        );
        loose.target.instances.annotate(1, [0.0, 0.0, 6.0, 4.0], Mask::Polygons(Vec::new()));
        loose.target.instances.boxes.fill([0.0, 0.0, 6.0, 4.0]);
        let fitted = loose.fit_boxes();
        assert_eq!(fitted.target.instances.boxes, [[2.0, 1.0, 5.0, 3.0]; 2]);
        assert_consistent(&fitted);
        let mut unmasked = sample();
        unmasked.target.instances.masks.clear();
        unmasked.target.instances.boxes = vec![[-2.0, 1.0, 3.0, 9.0], [7.0, 1.0, 9.0, 2.0]];
        assert_eq!(unmasked.fit_boxes().target.instances.boxes, [[0.0, 1.0, 3.0, 4.0]]);
    }

    #[test]
    fn a_normalised_sample_is_refused_with_advice() {
        let normalization = Normalization::identity(3);
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
            tall(1).pad([10_000; 4], 0, "Pad").unwrap_err(),
            tall(1).pad([1 << 31; 4], 0, "Pad").unwrap_err(),
            tall(1).pad([usize::MAX; 4], 0, "Pad").unwrap_err(),
        ] {
            assert!(matches!(error, DataError::Corrupt { .. }), "{error:?}");
            assert!(error.to_string().contains("more than 178956970 pixels"), "{error}");
        }
    }
}
