//! The heads against the official detector: `tests/data/detection`, from the maps of its pyramid on.

use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;

use convmae_framework::component::{
    Features, Found, ImageShape, InstanceHead, InstanceHeadInputs, InstanceHeadModule, Level, LevelShape,
    Loss, Regions,
};
use convmae_framework::data::{Batch, Normalization, Target};
use convmae_framework::nn::backend::download;
use convmae_framework::nn::backward::backward;
use convmae_framework::nn::layers::shared_statistics::{self, Exchange, Part};
use convmae_framework::nn::{Context, Param, Scope, Tape, Tensor};
use convmae_framework::random::{self, Purpose};

use super::*;
use crate::detection::conv::Norm;
use crate::detection::testing::{Golden, assert_near, train_gt};

/// Side of the images.
const SIDE: usize = 256;

fn rpn() -> Rpn {
    Rpn { num_convs: 2, pre_nms_topk: [200, 100], post_nms_topk: [100, 100], ..Rpn::default() }
}

fn box_head() -> BoxHead {
    BoxHead {
        num_classes: 5,
        conv_dims: vec![16; 4],
        fc_dims: vec![32],
        norm: Norm::Batch,
        batch_size_per_image: 64,
        topk_per_image: 60,
        ..BoxHead::default()
    }
}

fn mask_head() -> MaskHead {
    MaskHead { num_classes: 5, conv_dims: vec![16; 5], norm: Norm::Batch, ..MaskHead::default() }
}

fn shape(level: usize) -> LevelShape {
    let stride = 1 << level;
    let (rows, cols) = (SIDE / stride, SIDE / stride);
    let kept = rows * cols;
    LevelShape {
        name: format!("p{level}"),
        rows,
        cols,
        kept,
        cell: 1,
        prefix_tokens: 0,
        channels: 16,
        stride,
    }
}

/// The maps of the pyramid, up to `p6` for the RPN and to `p5` for the others.
fn features(prefix: &str, last: usize, tape: &Tape) -> Features {
    let golden = Golden::read("heads");
    let level = |level: usize| {
        let (values, [batch, height, width, channels]) = golden.maps(&format!("{prefix}p{level}"));
        let tokens = Tensor::from_vec(values, (batch, height * width, channels), tape).unwrap();
        Level { shape: shape(level), tokens }
    };
    Features { levels: (2..=last).map(level).collect(), mask: None }
}

/// With the official weights.
fn build(
    head: &dyn InstanceHead,
    prefix: &str,
    last: usize,
    regions: Option<usize>,
) -> (Box<dyn InstanceHeadModule>, Vec<Param>) {
    let scope = Scope::new(0);
    let image = ImageShape { channels: 3, height: SIDE, width: SIDE };
    let inputs = InstanceHeadInputs { image, levels: (2..=last).map(shape).collect(), regions };
    let module = head.build(&scope.child(prefix), &inputs).unwrap();
    let golden = Golden::read("weights");
    for param in scope.params().iter().filter(|param| !param.name().ends_with("num_batches_tracked")) {
        assert_eq!(golden.shape(param.name()), param.shape(), "{}", param.name());
        param.set(&golden.floats(param.name())).unwrap();
    }
    (module, scope.params())
}

fn batch() -> Batch {
    let target = |instances| Target { instances, ..Target::default() };
    let targets: Vec<_> = train_gt().into_iter().map(target).collect();
    let normalization = Normalization::identity(3);
    let ids = (0..targets.len()).map(|image| image.to_string()).collect();
    Batch::new(vec![0.0; 2 * 3 * SIDE * SIDE], (SIDE, SIDE), normalization, targets, ids)
}

fn context(training: bool) -> Context {
    let rng = random::stream(Purpose::Step, &[0]);
    if training { Context::train(rng) } else { Context::eval(rng) }
}

/// What the recorded run has drawn.
fn recorded_samples() -> HashMap<String, Vec<f32>> {
    let (rpn, roi) = (Golden::read("rpn_train"), Golden::read("roi_train"));
    let names = [("rpn_sampled_pos", "sampled_pos_idx", &rpn), ("rpn_sampled_neg", "sampled_neg_idx", &rpn)];
    let of_roi = [("roi_sampled_pos", "sampled_fg_idx", &roi), ("roi_sampled_neg", "sampled_bg_idx", &roi)];
    let of_image = |(own, name, golden): (&str, &str, &Golden)| {
        let indices =
            |image| golden.indices(&format!("{name}_{image}")).into_iter().map(|at| at as f32).collect();
        [0, 1].map(|image| (format!("{own}_{image}"), indices(image)))
    };
    names.into_iter().chain(of_roi).flat_map(of_image).collect()
}

/// Asserts that no value, of many pixels, is off by more than `tolerance`.
#[track_caller]
fn assert_within(name: &str, actual: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(actual.len(), expected.len(), "{name}");
    let off = actual.iter().zip(expected).map(|(actual, expected)| (actual - expected).abs());
    let largest = off.fold(0.0, f32::max);
    assert!(largest <= tolerance, "{name}: off by {largest}");
}

#[test]
fn the_rpn_proposes_what_detectron2_does() {
    let (golden, ctx) = (Golden::read("heads"), context(false).recording());
    let (rpn, _) = build(&rpn(), "proposal_generator.rpn_head", 6, None);
    let found = rpn.forward(&features("", 6, &ctx.tape), None, &batch(), &ctx).unwrap();
    assert!(found.losses.is_empty());
    for (image, regions) in found.regions.iter().enumerate() {
        let scores = golden.floats(&format!("scores_{image}"));
        assert_near("scores", &regions.scores, &scores, 1e-4);
        let boxes = golden.floats(&format!("proposals_{image}"));
        assert_within("boxes", regions.boxes.as_flattened(), &boxes, 2e-3);
    }
}

#[test]
fn the_heads_detect_what_detectron2_does() {
    let (golden, masks, ctx) = (Golden::read("detections"), Golden::read("masks"), context(false));
    let (features, batch) = (features("", 5, &ctx.tape), batch());
    let proposals =
        |image| Regions { boxes: golden.boxes(&format!("proposals_{image}")), ..Regions::default() };
    let (head, _) = build(&box_head(), "roi_heads", 5, Some(100));
    let found = head.forward(&features, Some(&[proposals(0), proposals(1)]), &batch, &ctx).unwrap();
    for (image, regions) in found.regions.iter().enumerate() {
        let part = |name: &str| format!("{name}_{image}");
        let classes: Vec<_> = regions.classes.iter().map(|&class| class as usize).collect();
        assert_eq!(classes, golden.indices(&part("det_classes")));
        assert_near("scores", &regions.scores, &golden.floats(&part("det_scores")), 5e-5);
        assert_within("boxes", regions.boxes.as_flattened(), &golden.floats(&part("det_boxes")), 3e-3);
    }
    let (head, _) = build(&mask_head(), "roi_heads", 5, Some(60));
    let segmented = head.forward(&features, Some(&found.regions), &batch, &ctx).unwrap().regions;
    let probabilities: Vec<_> = segmented[0].masks.iter().flat_map(|mask| mask.0.clone()).collect();
    assert_near("masks", &probabilities, &masks.floats("mask_probs_0"), 3e-4);
}

#[test]
fn losses_and_gradients_of_the_heads_are_those_of_detectron2() {
    let ctx = context(true).with_given(recorded_samples());
    let batch = batch();
    let (rpn, mut params) = build(&rpn(), "proposal_generator.rpn_head", 6, None);
    let proposed = rpn.forward(&features("trainbn_", 6, &ctx.tape), None, &batch, &ctx).unwrap();
    let features = features("trainbn_", 5, &ctx.tape);
    let mut found = vec![proposed];
    for (head, regions) in [(&box_head() as &dyn InstanceHead, 100), (&mask_head(), 60)] {
        let (head, own) = build(head, "roi_heads", 5, Some(regions));
        let given = &found[found.len() - 1].regions;
        let next = head.forward(&features, Some(given), &batch, &ctx).unwrap();
        found.push(next);
        params.extend(own);
    }
    assert!(ctx.unused().is_empty());

    let golden = Golden::read("heads");
    let losses: Vec<Loss> = found.into_iter().flat_map(|Found { losses, .. }| losses).collect();
    let names = ["loss_rpn_cls", "loss_rpn_loc", "loss_cls", "loss_box_reg", "loss_mask"];
    for (loss, name) in losses.iter().zip(names) {
        assert_near(name, &loss.value.to_vec().unwrap(), &golden.floats(name), 2e-5);
    }
    backward(Loss::total(losses).unwrap().unwrap()).unwrap();
    for param in &params {
        let name = param.name();
        if param.requires_grad() {
            let own = download(&param.grad().unwrap()).unwrap();
            // Near the kinks of ReLU the two differ: the tolerance of the goldens.
            let expected = golden.floats(&format!("grad.{name}"));
            let norm =
                |values: &mut dyn Iterator<Item = f32>| values.map(|value| value * value).sum::<f32>().sqrt();
            let off = norm(&mut own.iter().zip(&expected).map(|(a, b)| a - b));
            let size = norm(&mut expected.iter().copied());
            assert!(off <= 1.5e-2 * size + 1e-5, "{name}: off by {off} of {size}");
        } else if name.contains("running") {
            let expected = golden.floats(&format!("after.{name}"));
            assert_near(name, &param.to_vec().unwrap(), &expected, 1e-4);
        }
    }
}

#[test]
fn an_image_without_objects_trains_the_background_and_no_mask() {
    let ctx = context(true);
    let mut batch = batch();
    batch.targets.iter_mut().for_each(|target| *target = Target::default());
    let (features, given) = (
        features("trainbn_", 5, &ctx.tape),
        vec![
            Regions { boxes: vec![[8.0, 8.0, 72.0, 40.0], [0.0, 0.0, 200.0, 180.0]], ..Regions::default() };
            2
        ],
    );
    let (head, params) = build(&box_head(), "roi_heads", 5, Some(100));
    let found = head.forward(&features, Some(&given), &batch, &ctx).unwrap();
    let (head, _) = build(&mask_head(), "roi_heads", 5, Some(60));
    let masks = head.forward(&features, Some(&found.regions), &batch, &ctx).unwrap();
    let losses: Vec<_> = found.losses.into_iter().chain(masks.losses).collect();
    let values: Vec<_> = losses.iter().map(|loss| loss.value.to_vec().unwrap()[0]).collect();
    assert!(values[0].is_finite() && values[0] > 0.0, "{values:?}");
    assert_eq!(values[1..], [0.0, 0.0]);
    backward(Loss::total(losses).unwrap().unwrap()).unwrap();
    let of_boxes = params.iter().find(|param| param.name().ends_with("bbox_pred.weight")).unwrap();
    assert!(download(&of_boxes.grad().unwrap()).unwrap().iter().all(|&grad| grad == 0.0));
}

#[test]
fn the_next_stage_of_a_cascade_gets_the_moved_boxes() {
    let (golden, ctx) = (Golden::read("detections"), context(false));
    let (features, batch) = (features("", 5, &ctx.tape), batch());
    let proposals = [0, 1]
        .map(|image| Regions { boxes: golden.boxes(&format!("proposals_{image}")), ..Regions::default() });
    let spec = BoxHead { refine: true, ..box_head() };
    let (head, _) = build(&spec, "roi_heads", 5, Some(100));
    assert_eq!(head.regions(), 100);
    let found = head.forward(&features, Some(&proposals), &batch, &ctx).unwrap();
    for (before, after) in proposals.iter().zip(&found.regions) {
        assert!(after.len() <= before.len() && after.len() > 50 && after.boxes != before.boxes);
    }
}

#[test]
fn wrong_wiring_is_named() {
    let image = ImageShape { channels: 3, height: SIDE, width: SIDE };
    let message = |head: &dyn InstanceHead, levels: &[usize], regions| {
        let levels = levels.iter().map(|&level| shape(level)).collect();
        let inputs = InstanceHeadInputs { image, levels, regions };
        head.build(&Scope::describe(), &inputs).err().map(|problem| problem.message).unwrap()
    };
    assert!(message(&box_head(), &[2, 3], None).contains("no instance head comes before it"));
    assert!(message(&mask_head(), &[2, 4], Some(1)).contains("strides [4, 16]"));
    assert!(message(&rpn(), &[2, 3], None).contains("there are 5 for 2 levels"));
    assert!(message(&rpn(), &[], None).contains("no features"));
}

/// Counts how often a process meets the others, of which there are none.
#[derive(Default)]
struct Counter(Cell<usize>);

impl Exchange for Counter {
    fn exchange(&self, own: Part) -> nn::Result<Vec<Part>> {
        self.0.set(self.0.get() + 1);
        Ok(vec![own])
    }

    fn is_first(&self) -> bool {
        true
    }
}

/// The others would wait for it.
#[test]
fn a_head_with_sync_comes_by_at_every_normalisation_without_regions_too() {
    let empty = Batch { targets: vec![Target::default(); 2], ..batch() };
    let regions = vec![Regions::default(); 2];
    let heads: [(&dyn InstanceHead, usize); 2] = [
        (&BoxHead { sync: true, ..box_head() }, 4),
        // The last of the convolutions' widths is that of the deconvolution, which has no norm.
        (&MaskHead { sync: true, ..mask_head() }, 4),
    ];
    for (head, norms) in heads {
        let (module, params) = build(head, "roi_heads", 5, Some(100));
        let before: Vec<_> = params.iter().map(|param| param.to_vec().unwrap()).collect();
        let (met, ctx) = (Rc::new(Counter::default()), context(true));
        let found = shared_statistics::among(met.clone(), || {
            let found = module.forward(&features("", 5, &ctx.tape), Some(&regions), &empty, &ctx).unwrap();
            backward(Loss::total(found.losses.clone()).unwrap().unwrap()).unwrap();
            found
        });
        // Where nobody has a row, there are no gradients to share.
        assert_eq!(met.0.get(), norms);
        assert!(found.losses.iter().all(|loss| loss.value.to_vec().unwrap() == [0.0]));
        for (param, before) in params.iter().zip(before) {
            assert_eq!(param.to_vec().unwrap(), before, "{}", param.name());
            let grad = param.grad().map(|grad| download(&grad).unwrap()).unwrap_or_default();
            assert!(grad.iter().all(|&value| value == 0.0), "{}", param.name());
        }
    }
}
