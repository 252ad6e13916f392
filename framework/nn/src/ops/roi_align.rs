//! Regions of interest, of one size each.

use super::operation::operation;
use crate::backend::Buffer;
use crate::backend::roi_align::{self, RoiAlign, RoiLevel};
use crate::error::{Error, Result};
use crate::tensor::Tensor;

pub use crate::backend::roi_align::Roi;

/// Regions of interest (RoIs) of maps `[B, H, W, C]`, as `output` (rows, columns) bins each: `[R, rows, columns, C]`.
///
/// A bin is the mean of `sampling_ratio` x `sampling_ratio` bilinear samples, or of one per pixel if that is 0, as detectron2's
/// `ROIAlignV2`: `ROIAlign` (He et al. 2017) with `aligned=True`. The maps, such as the levels of a pyramid, come with their
/// scale, which is 1 over the stride. No gradient flows to the boxes.
///
/// # Errors
/// If the maps differ in their images or channels, a region is of no map or image, or no box (NaN, infinite); or if the device
/// fails.
pub fn roi_align(
    maps: Vec<(Tensor, f32)>,
    rois: &[Roi],
    output: (usize, usize),
    sampling_ratio: usize,
) -> Result<Tensor> {
    let Some((first, _)) = maps.first() else {
        return Err(Error::Shape("roi_align: there is no map".into()));
    };
    let (batch, _, _, channels) = first.dims4()?;
    let mut levels = Vec::new();
    for (map, scale) in &maps {
        let (images, height, width, own) = map.dims4()?;
        if (images, own) != (batch, channels) || map.numel() == 0 {
            return Err(Error::Shape(format!(
                "roi_align: a map {:?} does not fit one of {batch} images with {channels} channels, or is empty",
                map.shape()
            )));
        }
        levels.push(RoiLevel { height, width, scale: *scale });
    }
    if output.0 * output.1 == 0 {
        return Err(Error::Shape(format!("roi_align: there are no bins in {} x {}", output.0, output.1)));
    }
    for Roi { level, image, bbox } in rois {
        if *level >= levels.len() || *image >= batch || !bbox.iter().all(|side| side.is_finite()) {
            return Err(Error::Value(format!(
                "roi_align: there is no region {bbox:?} in map {level} of image {image}; there are {} maps of {batch} images",
                levels.len()
            )));
        }
    }
    let align = RoiAlign { levels, batch, channels, output: output.into(), sampling_ratio };
    let (rois, maps) = (rois.to_vec(), maps.into_iter().map(|(map, _)| map).collect());
    operation(maps, (rois.len(), output.0, output.1, channels), move |maps, records| {
        let y = roi_align::forward(&align, &maps, &rois)?;
        let backward = move |grad: Buffer| {
            Ok(roi_align::backward(&align, &grad, &rois)?.into_iter().map(Some).collect())
        };
        Ok((y, records.then(|| Box::new(backward) as _)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tape;
    use crate::testing::{
        assert_close, assert_golden, detection_golden, golden, golden_shape, loss, loss_weights, noise,
        on_threads, run, run_against,
    };

    /// As a golden file has them: image, `[x0, y0, x1, y1]`.
    fn rois_of(values: &[f32]) -> Vec<Roi> {
        let roi = |roi: &[f32]| {
            let [image, bbox @ ..] = roi else { panic!() };
            Roi { level: 0, image: *image as usize, bbox: bbox.try_into().unwrap() }
        };
        values.chunks_exact(5).map(roi).collect()
    }

    #[test]
    fn it_is_what_detectron2_computes() {
        let tensors = detection_golden("box_ops");
        let (x, shape) = (golden(&tensors, "roialign_feat"), golden_shape(&tensors, "roialign_feat"));
        let rois = rois_of(&golden(&tensors, "roialign_rois"));
        let scale = golden(&tensors, "roialign_scale")[0];
        let grad = golden(&tensors, "roialign_grad_out7");
        let own = run_against(&x, shape, &[], |_| grad, |x| roi_align(vec![(x, scale)], &rois, (7, 7), 0));
        assert_golden("out7", &own.values, &golden(&tensors, "roialign_out7"), 1e-5);
        assert_golden("grad_feat", &own.grads[0], &golden(&tensors, "roialign_grad_feat"), 1e-5);
        let own = run(&x, shape, &[], |x| roi_align(vec![(x, scale)], &rois, (14, 14), 0));
        assert_golden("out14", &own.values, &golden(&tensors, "roialign_out14"), 1e-5);
    }

    #[test]
    fn at_its_limits_it_is_what_torchvision_computes() {
        let tensors = detection_golden("ops");
        let (x, shape) = (golden(&tensors, "roialign_feat"), golden_shape(&tensors, "roialign_feat"));
        let rois = rois_of(&golden(&tensors, "roialign_rois"));
        for (case, side, sampling_ratio) in [("adaptive7", 7, 0), ("adaptive14", 14, 0), ("two7", 7, 2)] {
            let expected = |part: &str| golden(&tensors, &format!("roialign_{case}_{part}"));
            let grad = expected("cotangent");
            let align = |x| roi_align(vec![(x, 0.25)], &rois, (side, side), sampling_ratio);
            let own = run_against(&x, shape, &[], |_| grad, align);
            assert_golden(case, &own.values, &expected("out"), 1e-5);
            assert_golden(case, &own.grads[0], &expected("grad_feat"), 1e-5);
        }
    }

    #[test]
    fn regions_of_many_levels_come_in_their_order() {
        let map = |seed, side: usize| {
            Tensor::from_vec(noise(seed, 2 * side * side * 3), (2, side, side, 3), &Tape::none()).unwrap()
        };
        let rois: Vec<Roi> = [(1, 0, 3.0), (0, 1, 5.0), (1, 1, 0.0), (0, 0, 2.0)]
            .map(|(level, image, x)| Roi { level, image, bbox: [x, 1.0, x + 9.5, 12.0] })
            .into();
        let maps = [(map(1, 8), 0.5), (map(2, 4), 0.25)];
        let all = roi_align(maps.to_vec(), &rois, (2, 3), 0).unwrap();
        assert_eq!(all.dims(), [4, 2, 3, 3]);
        let alone = rois.iter().flat_map(|roi| {
            let maps = vec![maps[roi.level].clone()];
            roi_align(maps, &[Roi { level: 0, ..*roi }], (2, 3), 0).unwrap().to_vec().unwrap()
        });
        assert_eq!(all.to_vec().unwrap(), alone.collect::<Vec<_>>());
    }

    #[test]
    fn the_gradient_of_every_level_is_the_output_of_unit_maps() {
        const SIDES: [usize; 2] = [6, 4];
        let rois = [
            Roi { level: 0, image: 0, bbox: [1.0, 0.5, 7.0, 6.0] },
            Roi { level: 1, image: 0, bbox: [0.0, -3.0, 14.0, 11.0] },
        ];
        let pool = |maps: [Tensor; 2]| {
            let [above, below] = maps;
            roi_align(vec![(above, 1.0), (below, 0.5)], &rois, (2, 2), 0).unwrap()
        };
        let map = |values, level: usize, tape: &Tape| {
            Tensor::from_vec(values, (1, SIDES[level], SIDES[level], 1), tape).unwrap()
        };
        let tape = Tape::new();
        let maps = [0, 1].map(|level| map(noise(1, SIDES[level].pow(2)), level, &tape));
        let grads = crate::backward::backward(loss(pool(maps.clone()))).unwrap();
        let weights = loss_weights(2 * 4);
        for level in 0..2 {
            let of_pixel = |at: usize| {
                let unit = |of: usize| {
                    let mut values = vec![0.0; SIDES[of].pow(2)];
                    if of == level {
                        values[at] = 1.0;
                    }
                    map(values, of, &Tape::none())
                };
                let y = pool([unit(0), unit(1)]).to_vec().unwrap();
                y.iter().zip(&weights).map(|(y, weight)| f64::from(y * weight)).sum::<f64>()
            };
            let expected: Vec<f64> = (0..SIDES[level].pow(2)).map(of_pixel).collect();
            assert_close(&grads.of(&maps[level]).unwrap(), &expected, 1e-6);
        }
    }

    #[test]
    fn the_result_does_not_depend_on_the_number_of_threads() {
        let rois: Vec<Roi> = (0..40)
            .map(|i| {
                let [x, y] = [(i * 7 % 30) as f32, (i * 11 % 25) as f32];
                Roi { level: 0, image: i % 2, bbox: [x, y, x + 3.0 + i as f32, y + 12.5] }
            })
            .collect();
        let outcome = |threads| {
            on_threads(threads, || {
                let x = noise(1, 2 * 20 * 24 * 9);
                run(&x, (2, 20, 24, 9), &[], |x| roi_align(vec![(x, 0.5)], &rois, (7, 7), 0))
            })
        };
        assert_eq!(outcome(1), outcome(3));
    }

    #[test]
    fn what_does_not_fit_is_refused_and_no_region_is_none() {
        let map = |shape: (usize, usize, usize, usize)| {
            let len = shape.0 * shape.1 * shape.2 * shape.3;
            (Tensor::from_vec(noise(1, len), shape, &Tape::none()).unwrap(), 1.0)
        };
        let roi = Roi { level: 0, image: 0, bbox: [0.0, 0.0, 2.0, 2.0] };
        let align = |maps, roi, output| roi_align(maps, &[roi], output, 0);
        assert!(align(vec![map((1, 3, 3, 2))], roi, (7, 7)).is_ok());
        assert!(matches!(align(vec![], roi, (7, 7)), Err(Error::Shape(_))));
        assert!(matches!(align(vec![map((1, 0, 3, 2))], roi, (7, 7)), Err(Error::Shape(_))));
        assert!(matches!(align(vec![map((1, 3, 3, 2))], roi, (7, 0)), Err(Error::Shape(_))));
        for other in [(2, 3, 3, 2), (1, 3, 3, 1)] {
            assert!(matches!(align(vec![map((1, 3, 3, 2)), map(other)], roi, (7, 7)), Err(Error::Shape(_))));
        }
        for roi in
            [Roi { level: 1, ..roi }, Roi { image: 1, ..roi }, Roi { bbox: [0.0, f32::NAN, 1.0, 1.0], ..roi }]
        {
            assert!(matches!(align(vec![map((1, 3, 3, 2))], roi, (7, 7)), Err(Error::Value(_))));
        }
        let none = roi_align(vec![map((1, 3, 3, 2))], &[], (7, 7), 0).unwrap();
        assert_eq!((none.dims(), none.to_vec().unwrap().len()), (&[0, 7, 7, 2][..], 0));
    }
}
