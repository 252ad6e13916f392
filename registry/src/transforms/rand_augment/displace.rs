use convmae_framework::data::{IGNORED, Target};
use image::{GrayImage, RgbImage};

use super::super::pillow::affine::Affine;

/// Moves an image and what is known of it. Objects get the box of what is left of them, those of which nothing is are dropped.
pub fn displace(affine: &Affine, fill: [u8; 3], image: &mut RgbImage, target: &mut Target) {
    *image = affine.bicubic(image, fill);
    target.instances.retain_mut(|instance| {
        instance.mask = affine.nearest(&instance.mask, 0);
        let bounds = bounds(&instance.mask);
        instance.bbox = bounds.unwrap_or_default();
        bounds.is_some()
    });
    if let Some(map) = &mut target.semantic {
        *map = affine.nearest(map, IGNORED);
    }
}

/// The box around a mask, `[x0, y0, x1, y1]`.
fn bounds(mask: &GrayImage) -> Option<[f32; 4]> {
    let mut bounds: Option<[u32; 4]> = None;
    for (x, y, _) in mask.enumerate_pixels().filter(|pixel| pixel.2.0[0] > 0) {
        let [x0, y0, x1, y1] = bounds.unwrap_or([x, y, x, y]);
        bounds = Some([x0.min(x), y0, x1.max(x + 1), y1.max(y + 1)]);
    }
    bounds.map(|bounds| bounds.map(|side| side as f32))
}
