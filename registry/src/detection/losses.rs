//! The losses of Mask R-CNN (`losses` of detectron2's `RPN` and `FastRCNNOutputLayers`, `mask_rcnn_loss`).

use convmae_framework::nn::ops::{
    ClassTarget, Criterion, ValueTarget, binary_cross_entropy_with_logits, cross_entropy, smooth_l1,
};
use convmae_framework::nn::{Error, Result, Tensor};

use super::sampler::Sampled;

/// What is to be predicted at the anchors of an image, which are those of all levels, one level's behind the other's.
#[derive(Debug, Clone)]
pub struct AnchorTargets {
    /// The anchors that count.
    pub sampled: Sampled,
    /// The deltas of the positive ones.
    pub gt_deltas: Vec<[f32; 4]>,
}

/// Whether anchors are objects, and where these are: `loss_rpn_cls` and `loss_rpn_loc`.
///
/// Of each level `logits` are `[B, H, W, A]` and `deltas` `[B, H, W, 4 A]`; `targets` are those of `B` images. Both losses are
/// sums over `normalizer`, in detectron2 the anchors to be sampled in `B` images.
///
/// # Errors
/// If the shapes of a level do not fit, or an anchor is beyond the last.
pub fn rpn_losses(
    logits: &[Tensor],
    deltas: &[Tensor],
    targets: &[AnchorTargets],
    beta: f32,
    normalizer: f32,
) -> Result<[Tensor; 2]> {
    if logits.len() != deltas.len() {
        let (logits, deltas) = (logits.len(), deltas.len());
        return Err(Error::Shape(format!("logits of {logits} levels do not fit deltas of {deltas}")));
    }
    let (mut first, mut losses) = (0, Vec::new());
    for (logits, deltas) in logits.iter().zip(deltas) {
        if targets.is_empty()
            || !logits.numel().is_multiple_of(targets.len())
            || deltas.numel() != 4 * logits.numel()
        {
            return Err(Error::Shape(format!(
                "logits {:?} and deltas {:?} of anchors do not fit each other and {} images",
                logits.shape(),
                deltas.shape(),
                targets.len()
            )));
        }
        let level = Level { first, anchors: logits.numel() / targets.len() };
        first += level.anchors;
        let classes = binary_cross_entropy_with_logits(logits.clone(), &level.classes(targets), normalizer)?;
        losses.push((classes, smooth_l1(deltas.clone(), &level.sides(targets), beta, normalizer)?));
    }
    let sampled = targets.iter().flat_map(|image| [&image.sampled.positive, &image.sampled.negative]);
    if let Some(anchor) = sampled.flatten().find(|&&anchor| anchor >= first) {
        return Err(Error::Value(format!("there is no anchor {anchor}; an image has {first}")));
    }
    let sum = |losses: Vec<Tensor>| losses.into_iter().map(Ok).reduce(|sum, loss| sum? + loss?);
    let (classes, sides) = losses.into_iter().unzip();
    match (sum(classes), sum(sides)) {
        (Some(classes), Some(sides)) => Ok([classes?, sides?]),
        _ => Err(Error::Shape("there are no levels with anchors".into())),
    }
}

/// The part of an image's anchors that is a level's.
#[derive(Clone, Copy)]
struct Level {
    first: usize,
    anchors: usize,
}

impl Level {
    /// Index of an anchor among those of all images on this level, if it is one.
    fn index(self, image: usize, anchor: usize) -> Option<usize> {
        let own = (self.first..self.first + self.anchors).contains(&anchor);
        own.then(|| image * self.anchors + anchor - self.first)
    }

    fn classes(self, targets: &[AnchorTargets]) -> Vec<ValueTarget> {
        let of_image = |(image, targets): (usize, &'_ AnchorTargets)| {
            let of = |anchors: &[usize], target: f32| {
                let indices = anchors.iter().filter_map(|&anchor| self.index(image, anchor));
                indices.map(|index| ValueTarget { index, target }).collect::<Vec<_>>()
            };
            [of(&targets.sampled.positive, 1.0), of(&targets.sampled.negative, 0.0)].concat()
        };
        let mut classes: Vec<_> = targets.iter().enumerate().flat_map(of_image).collect();
        classes.sort_unstable_by_key(|target| target.index);
        classes
    }

    fn sides(self, targets: &[AnchorTargets]) -> Vec<ValueTarget> {
        let of_image = |(image, targets): (usize, &AnchorTargets)| {
            let positive = targets.sampled.positive.iter().zip(&targets.gt_deltas);
            let positive =
                positive.filter_map(|(&anchor, deltas)| Some((self.index(image, anchor)?, deltas)));
            positive.flat_map(|(index, deltas)| of_box(4 * index, deltas)).collect::<Vec<_>>()
        };
        targets.iter().enumerate().flat_map(of_image).collect()
    }
}

/// The targets of four deltas, the first of which has an index.
fn of_box(first: usize, deltas: &[f32; 4]) -> [ValueTarget; 4] {
    std::array::from_fn(|side| ValueTarget { index: first + side, target: deltas[side] })
}

/// What is to be predicted of a region.
#[derive(Debug, Clone, Copy)]
pub struct RoiTarget {
    /// Index of its class; none of background.
    pub class: Option<u32>,
    /// The deltas to its ground truth; of background they do not count.
    pub gt_deltas: [f32; 4],
}

/// What regions are, and where: `loss_cls` and `loss_box_reg`.
///
/// `scores` are logits `[R, K + 1]`, the last one that of background; `deltas` are `[R, 4 K]`, or `[R, 4]` for all classes
/// together. The classes' loss is a mean over all regions, the boxes' a sum over those of objects, over the number of all.
///
/// # Errors
/// If the shapes do not fit, or a class is not one of `K`.
pub fn fast_rcnn_losses(
    scores: Tensor,
    deltas: Tensor,
    targets: &[RoiTarget],
    beta: f32,
) -> Result<[Tensor; 2]> {
    let ((regions, classes), (of_deltas, width)) = (scores.dims2()?, deltas.dims2()?);
    let classes = classes.saturating_sub(1);
    if (regions, of_deltas) != (targets.len(), targets.len()) || ![4, 4 * classes].contains(&width) {
        return Err(Error::Shape(format!(
            "logits {:?} and deltas {:?} of regions do not fit each other and {} targets",
            scores.shape(),
            deltas.shape(),
            targets.len()
        )));
    }
    let class_of = |target: &RoiTarget| Some(ClassTarget::of(target.class.unwrap_or(classes as u32)));
    let class_targets: Vec<_> = targets.iter().map(class_of).collect();
    let mut sides = Vec::new();
    for (region, target) in targets.iter().enumerate() {
        if let Some(class) = target.class {
            let class = checked(class, classes)?;
            let class = if width == 4 { 0 } else { class };
            sides.extend(of_box(region * width + 4 * class, &target.gt_deltas));
        }
    }
    let boxes = smooth_l1(deltas, &sides, beta, regions.max(1) as f32)?;
    Ok([cross_entropy(scores, &class_targets, &Criterion::default())?, boxes])
}

/// Which cells of regions are on: `loss_mask`, the mean binary cross entropy over the cells of all regions, each of its class; 0
/// without regions.
///
/// `logits` are `[R, S, S, K]`, or `[R, S, S, 1]` for all classes together; of each of `R` regions there is a class, and a mask of
/// `S * S` cells.
///
/// # Errors
/// If the shapes do not fit, or a class is not one of `K`.
pub fn mask_rcnn_loss(logits: Tensor, classes: &[u32], masks: &[Vec<bool>]) -> Result<Tensor> {
    let (regions, height, width, of_logits) = logits.dims4()?;
    let cells = height * width;
    if (classes.len(), masks.len()) != (regions, regions) || masks.iter().any(|mask| mask.len() != cells) {
        return Err(Error::Shape(format!(
            "logits {:?} of masks do not fit {} classes and {} masks",
            logits.shape(),
            classes.len(),
            masks.len()
        )));
    }
    let mut targets = Vec::with_capacity(regions * cells);
    for (region, (&class, mask)) in classes.iter().zip(masks).enumerate() {
        let class = if of_logits == 1 { 0 } else { checked(class, of_logits)? };
        targets.extend(mask.iter().enumerate().map(|(cell, &on)| ValueTarget {
            index: (region * cells + cell) * of_logits + class,
            target: on.into(),
        }));
    }
    binary_cross_entropy_with_logits(logits, &targets, (regions * cells).max(1) as f32)
}

fn checked(class: u32, classes: usize) -> Result<usize> {
    let index = class as usize;
    match index < classes {
        true => Ok(index),
        false => Err(Error::Value(format!("a region is of class {class}; there are {classes} classes"))),
    }
}

#[cfg(test)]
mod tests {
    use convmae_framework::nn::Tape;

    use super::super::box_coder::Box2BoxTransform;
    use super::super::testing::{Golden, anchors, assert_near};
    use super::*;

    fn tensor<const N: usize>(values: Vec<f32>, shape: [usize; N]) -> Tensor {
        Tensor::from_vec(values, shape, &Tape::none()).unwrap()
    }

    fn assert_loss(golden: &Golden, name: &str, loss: &Tensor, tolerance: f32) {
        let (own, expected) = (loss.to_vec().unwrap(), golden.floats(name));
        let error = (own[0] - expected[0]).abs() / expected[0];
        assert!(error <= tolerance, "{name} is {}, expected {} (off by {error:e})", own[0], expected[0]);
    }

    #[test]
    fn losses_of_anchors_are_those_of_detectron2() {
        let golden = Golden::read("rpn_train");
        let (anchors, sides) = (anchors(), [64, 32, 16, 8, 4]);
        let coder = Box2BoxTransform::new([1.0; 4]);
        let targets = [0, 1].map(|image| {
            let indices = |name: &str| golden.indices(&format!("{name}_{image}"));
            let sorted = |name| {
                let mut sampled = indices(name);
                sampled.sort_unstable();
                sampled
            };
            let sampled =
                Sampled { positive: sorted("sampled_pos_idx"), negative: sorted("sampled_neg_idx") };
            let (gts, matched) = (golden.boxes(&format!("gt_boxes_{image}")), indices("matched_gt_idx"));
            let deltas = |&anchor: &usize| coder.get_deltas(anchors[anchor], gts[matched[anchor]]);
            let gt_deltas = sampled.positive.iter().map(deltas).collect();
            AnchorTargets { sampled, gt_deltas }
        });
        let maps = |name: &str, channels: usize| -> Vec<Tensor> {
            let of_level = |level: usize| {
                let values = golden.floats(&format!("{name}_p{}", level + 2));
                tensor(values, [2, sides[level], sides[level], channels])
            };
            (0..5).map(of_level).collect()
        };
        let normalizer = golden.floats("normalizer")[0];
        let [cls, loc] =
            rpn_losses(&maps("logits", 3), &maps("deltas", 12), &targets, 0.0, normalizer).unwrap();
        assert_loss(&golden, "loss_rpn_cls", &cls, 1e-6);
        assert_loss(&golden, "loss_rpn_loc", &loc, 1e-6);
    }

    /// Of a golden name, both images' values.
    fn of_both<T>(name: &str, of_image: impl Fn(&str) -> Vec<T>) -> Vec<T> {
        (0..2).flat_map(|image| of_image(&format!("{name}_{image}"))).collect()
    }

    #[test]
    fn losses_of_regions_are_those_of_detectron2() {
        let golden = Golden::read("roi_train");
        let boxes = of_both("sampled_boxes", |name| golden.boxes(name));
        let gts = of_both("sampled_gt_boxes", |name| golden.boxes(name));
        let classes = of_both("sampled_classes", |name| golden.indices(name));
        let coder = Box2BoxTransform::new([10.0, 10.0, 5.0, 5.0]);
        let target = |(at, &class): (usize, &usize)| RoiTarget {
            class: (class < 5).then_some(class as u32),
            gt_deltas: coder.get_deltas(boxes[at], gts[at]),
        };
        let targets: Vec<_> = classes.iter().enumerate().map(target).collect();
        let scores = tensor(golden.floats("cls_logits"), [128, 6]);
        let deltas = tensor(golden.floats("box_deltas"), [128, 20]);
        let [cls, sides] = fast_rcnn_losses(scores, deltas, &targets, 0.0).unwrap();
        assert_loss(&golden, "loss_cls", &cls, 1e-6);
        assert_loss(&golden, "loss_box_reg", &sides, 1e-6);

        let (logits, shape) = golden.maps("mask_logits");
        let classes: Vec<u32> = targets.iter().filter_map(|target| target.class).collect();
        for (name, loss) in [("polygon", "loss_mask"), ("bitmask", "loss_mask_bitmask")] {
            let bytes = of_both(&format!("mask_targets_{name}"), |name| golden.bytes(name).to_vec());
            let masks: Vec<Vec<bool>> =
                bytes.chunks_exact(28 * 28).map(|mask| mask.iter().map(|&cell| cell > 0).collect()).collect();
            let own = mask_rcnn_loss(tensor(logits.clone(), shape), &classes, &masks).unwrap();
            assert_loss(&golden, loss, &own, 1e-6);
        }
    }

    #[test]
    fn without_regions_there_are_no_losses() {
        let [cls, sides] =
            fast_rcnn_losses(tensor(vec![], [0, 3]), tensor(vec![], [0, 8]), &[], 0.0).unwrap();
        let masks = mask_rcnn_loss(tensor(vec![], [0, 2, 2, 2]), &[], &[]).unwrap();
        for loss in [cls, sides, masks] {
            assert_eq!(loss.to_vec().unwrap(), [0.0]);
        }
    }

    #[test]
    fn one_set_of_deltas_or_masks_is_that_of_all_classes() {
        let target = |class| RoiTarget { class: Some(class), gt_deltas: [1.0, 2.0, 3.0, 5.0] };
        let loss = |deltas: Vec<f32>, width| {
            let scores = tensor(vec![0.0; 3], [1, 3]);
            let [_, sides] = fast_rcnn_losses(scores, tensor(deltas, [1, width]), &[target(1)], 0.0).unwrap();
            sides.to_vec().unwrap()
        };
        assert_near("of all", &loss(vec![0.0, 0.0, 0.0, 1.0], 4), &[10.0], 1e-6);
        assert_near("of the class", &loss(vec![9.0, 9.0, 9.0, 9.0, 0.0, 0.0, 0.0, 1.0], 8), &[10.0], 1e-6);
        let mask = mask_rcnn_loss(tensor(vec![0.0; 4], [1, 2, 2, 1]), &[7], &[vec![true; 4]]).unwrap();
        assert_near("a mask of all", &mask.to_vec().unwrap(), &[2.0_f32.ln()], 1e-6);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let target = |class| RoiTarget { class, gt_deltas: [0.0; 4] };
        let losses = |width, targets: &[RoiTarget]| {
            fast_rcnn_losses(tensor(vec![0.0; 3], [1, 3]), tensor(vec![0.0; width], [1, width]), targets, 0.0)
        };
        assert!(losses(8, &[target(None)]).is_ok());
        assert!(matches!(losses(12, &[target(None)]), Err(Error::Shape(_))));
        assert!(matches!(losses(8, &[]), Err(Error::Shape(_))));
        assert!(matches!(losses(8, &[target(Some(2))]), Err(Error::Value(_))));
        let masks =
            |class, cells| mask_rcnn_loss(tensor(vec![0.0; 8], [1, 2, 2, 2]), &[class], &[vec![true; cells]]);
        assert!(masks(1, 4).is_ok());
        assert!(matches!(masks(1, 3), Err(Error::Shape(_))));
        assert!(matches!(masks(2, 4), Err(Error::Value(_))));
        let anchors = |anchor, images| {
            let sampled = Sampled { positive: vec![anchor], negative: vec![] };
            let targets = vec![AnchorTargets { sampled, gt_deltas: vec![[0.0; 4]] }; images];
            rpn_losses(
                &[tensor(vec![0.0; 3], [1, 1, 1, 3])],
                &[tensor(vec![0.0; 12], [1, 1, 1, 12])],
                &targets,
                0.0,
                1.0,
            )
        };
        assert!(anchors(2, 1).is_ok());
        assert!(matches!(anchors(3, 1), Err(Error::Value(_))));
        assert!(matches!(anchors(2, 2), Err(Error::Shape(_))));
    }
}
