use convmae_framework::data::{IGNORED, Mask, Target};
use image::{GrayImage, RgbImage};

use super::super::pillow::affine::Affine;

/// Moves an image and what is known of it. Objects get the box of what is left of them, those of which
/// nothing is are dropped; one that is known by its box only gets the box around the moved one.
pub fn displace(affine: &Affine, fill: [u8; 3], image: &mut RgbImage, target: &mut Target) {
    *image = affine.bicubic(image, fill);
    let size = (image.height() as usize, image.width() as usize);
    target.instances.transform(|bbox, mask| {
        let [x0, y0, x1, y1] = bbox.map(f64::from);
        let mut outline = Mask::Polygons(vec![vec![[x0, y0], [x1, y0], [x1, y1], [x0, y1]]]);
        let mask = mask.unwrap_or(&mut outline);
        mask.transform(size, |corner| affine.target(corner), |map: &GrayImage| affine.nearest(map, 0));
        let bounds = mask.bounds();
        *bbox = bounds.unwrap_or_default();
        bounds.is_some()
    });
    if let Some(map) = &mut target.semantic {
        *map = affine.nearest(map, IGNORED);
    }
}
