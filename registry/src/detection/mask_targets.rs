//! What mask heads are to predict: the mask of an object within a box (`crop_and_resize` of `detectron2.structures.masks`).

use convmae_framework::data::{Mask, Rle};
use convmae_framework::nn::cpu::roi_align::{self, Roi, RoiAlign, RoiLevel};
use convmae_framework::nn::{Error, Result};

/// The part of a mask within a box, as `[mask_size, mask_size]`, row-major: whether a cell is on.
///
/// # Errors
/// If a corner of a polygon is not finite.
pub fn crop_and_resize(mask: &Mask, bbox: [f32; 4], mask_size: usize) -> Result<Vec<bool>> {
    match mask {
        Mask::Polygons(polygons) => rasterize_polygons_within_box(polygons, bbox, mask_size),
        Mask::Rle(runs) => align_bitmap(runs, bbox, mask_size),
    }
}

/// Polygons moved and stretched from the box to `mask_size` cells along each side, and rasterised as COCO does.
fn rasterize_polygons_within_box(
    polygons: &[Vec<[f64; 2]>],
    [x0, y0, x1, y1]: [f32; 4],
    mask_size: usize,
) -> Result<Vec<bool>> {
    // NumPy divides in `f32`, the type of the box.
    let ratio = |side: f32| f64::from(mask_size as f32 / side.max(0.1));
    let (across, down) = (ratio(x1 - x0), ratio(y1 - y0));
    let corner = |[x, y]: &[f64; 2]| [(x - f64::from(x0)) * across, (y - f64::from(y0)) * down];
    let moved = polygons.iter().map(|corners| corners.iter().map(corner).collect()).collect();
    let runs = Mask::Polygons(moved).rasterize([mask_size; 2]);
    let runs = runs.ok_or_else(|| Error::Value("a polygon has a corner that is not finite".to_owned()))?;
    Ok(runs.decode().iter().map(|&pixel| pixel > 0).collect())
}

/// Where the mean of a cell is at least a half.
fn align_bitmap(runs: &Rle, bbox: [f32; 4], mask_size: usize) -> Result<Vec<bool>> {
    let [height, width] = runs.size();
    let levels = vec![RoiLevel { height, width, scale: 1.0 }];
    let align = RoiAlign { levels, batch: 1, channels: 1, output: [mask_size, mask_size], sampling_ratio: 0 };
    let map: Vec<f32> = runs.decode().iter().map(|&pixel| f32::from(pixel > 0)).collect();
    let cells = roi_align::forward(&align, &[map.into()], &[Roi { level: 0, image: 0, bbox }])?;
    Ok(cells.iter().map(|&mean| mean >= 0.5).collect())
}

#[cfg(test)]
mod tests {
    use image::{GrayImage, Luma};

    use super::super::testing::{Golden, train_gt};
    use super::*;

    fn bitmaps(golden: &Golden, image: usize) -> Vec<Mask> {
        let name = format!("gt_bitmasks_{image}");
        let bitmap = |row: usize| {
            let bits = golden.bits(&name, row);
            let pixel = |x: u32, y: u32| Luma([u8::from(bits[(y * 256 + x) as usize]) * 255]);
            Mask::Rle(Rle::encode(&GrayImage::from_fn(256, 256, pixel)))
        };
        (0..golden.shape(&name)[0]).map(bitmap).collect()
    }

    #[test]
    fn no_polygon_covers_no_cell() {
        let cells = crop_and_resize(&Mask::Polygons(Vec::new()), [0.0, 0.0, 8.0, 8.0], 4).unwrap();
        assert_eq!(cells, [false; 16]);
    }

    #[test]
    fn targets_are_those_of_detectron2() {
        let golden = Golden::read("roi_train");
        for (image, gt) in train_gt().iter().enumerate() {
            let of_image = |name: &str| format!("{name}_{image}");
            let (boxes, gts) =
                (golden.boxes(&of_image("sampled_boxes")), golden.indices(&of_image("sampled_gt_idx")));
            for (name, masks) in [("polygon", &gt.masks), ("bitmask", &bitmaps(&golden, image))] {
                let expected = golden.bytes(&of_image(&format!("mask_targets_{name}"))).chunks_exact(28 * 28);
                assert!(expected.len() > 10);
                for (at, expected) in expected.enumerate() {
                    let own = crop_and_resize(&masks[gts[at]], boxes[at], 28).unwrap();
                    let off = own.iter().zip(expected).filter(|&(own, &expected)| u8::from(*own) != expected);
                    // Corners on a rounding boundary.
                    assert!(off.count() <= 2, "{name} {at} of image {image}");
                }
            }
        }
    }
}
