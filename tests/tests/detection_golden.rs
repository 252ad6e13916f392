//! The official detector's numbers, from images to masks and from losses to gradients. Tolerances:
//! `tests/data/README.md`.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;

use convmae_framework::component::{Loss, Prediction, Regions, TaskKind};
use convmae_framework::data::{Batch, Instances, Mask, Normalization, Target};
use convmae_framework::graph::{Model, catalog, check};
use convmae_framework::nn::backend::download;
use convmae_framework::nn::backward::backward;
use convmae_framework::nn::{Context, Scope};
use convmae_framework::random::{Purpose, stream};
use convmae_framework::recipe::{Sources, load};
use convmae_framework::weights::{HostTensor, TensorMap, read_safetensors};
use serde_json::Value;

use crate::golden::{assert_close, trace_file, values};
use crate::support::{Folder, data, recipe, stdout};

/// A detector of the goldens, narrow.
#[derive(Debug, Clone, Copy)]
enum Official {
    /// Of the `DET` code.
    Det,
    /// Of Official-ConvMAE-Det, on images of two sizes.
    VitDet,
}

use Official::{Det, VitDet};

/// Mean and standard deviation of RGB from 0 to 255: `input` in the goldens' README.
const MEAN: [f32; 3] = [123.675, 116.28, 103.53];
const STD: [f32; 3] = [58.395, 57.12, 57.375];

impl Official {
    fn path(self, name: &str) -> PathBuf {
        data(match self {
            Det => "detection",
            VitDet => "detection/vitdet",
        })
        .join(name)
    }

    fn golden(self, name: &str) -> TensorMap {
        read_safetensors(&self.path(&format!("{name}.safetensors"))).unwrap().tensors
    }

    /// The model with the official weights.
    fn model(self) -> Model {
        let sources = Sources { recipe: self.path("narrow.yaml"), ..Sources::default() };
        let checked = check(&load(&sources, &catalog()).unwrap()).unwrap();
        let model = Model::build(&checked.plan, checked.image, &Scope::new(0)).unwrap();
        let weights = self.golden("weights");
        for param in model.params() {
            param.set(&values(&weights, param.name())).unwrap();
        }
        model
    }

    /// Pixels from 0 to 255, `[3, H, W]` each.
    fn images(self) -> Vec<([usize; 2], Vec<f32>)> {
        let goldens = self.golden("backbone");
        let image = |name: &str| {
            let image = goldens.get(name).unwrap();
            let &[.., height, width] = image.shape.as_slice() else { panic!("{:?}", image.shape) };
            image
                .to_f32()
                .chunks(3 * height * width)
                .map(|pixels| ([height, width], pixels.to_vec()))
                .collect::<Vec<_>>()
        };
        match self {
            Det => image("images_u8"),
            VitDet => ["image_u8_0", "image_u8_1"].into_iter().flat_map(image).collect(),
        }
    }

    /// The images, normalised and in squares, with their objects.
    fn batch(self, side: usize) -> Batch {
        let images = self.images();
        let mut pixels = vec![0.0; images.len() * 3 * side * side];
        for (square, ([height, width], image)) in pixels.chunks_exact_mut(3 * side * side).zip(&images) {
            for (at, &pixel) in image.iter().enumerate() {
                let (channel, row, column) = (at / (height * width), at / width % height, at % width);
                square[(channel * side + row) * side + column] = (pixel - MEAN[channel]) / STD[channel];
            }
        }
        let json: Value = serde_json::from_slice(&fs::read(self.path("train_gt.json")).unwrap()).unwrap();
        let targets = json["images"].as_array().unwrap().iter().map(objects).collect();
        let normalization = Normalization::identity(3);
        let ids = (0..images.len()).map(|image| image.to_string()).collect();
        let mut batch = Batch::new(pixels, (side, side), normalization, targets, ids);
        batch.sizes = images.into_iter().map(|(size, _)| size).collect();
        batch
    }

    /// What the recorded step has drawn.
    fn samples(self) -> HashMap<String, Vec<f32>> {
        let names = match self {
            Det => [
                ("rpn_sampled_pos", "rpn_train", "sampled_pos_idx"),
                ("rpn_sampled_neg", "rpn_train", "sampled_neg_idx"),
                ("roi_sampled_pos", "roi_train", "sampled_fg_idx"),
                ("roi_sampled_neg", "roi_train", "sampled_bg_idx"),
            ],
            VitDet => [
                ("rpn_sampled_pos", "train", "rpn_sampled_pos"),
                ("rpn_sampled_neg", "train", "rpn_sampled_neg"),
                ("roi_sampled_pos", "train", "roi_sampled_fg"),
                ("roi_sampled_neg", "train", "roi_sampled_bg"),
            ],
        };
        let of_images = |(own, file, name): (&str, &str, &str)| {
            let golden = self.golden(file);
            [0, 1].map(|image| (format!("{own}_{image}"), values(&golden, &format!("{name}_{image}"))))
        };
        names.into_iter().flat_map(of_images).collect()
    }
}

/// The target of an image.
fn objects(annotated: &Value) -> Target {
    let mut instances = Instances::default();
    for object in annotated.as_array().unwrap() {
        let polygons: Vec<Vec<f64>> = serde_json::from_value(object["polygons"].clone()).unwrap();
        let polygons = polygons.iter().map(|corners| corners.as_chunks().0.to_vec()).collect();
        let bbox = serde_json::from_value(object["gt_box_xyxy"].clone()).unwrap();
        instances.annotate(object["category"].as_u64().unwrap() as u32, bbox, Mask::Polygons(polygons));
    }
    Target { instances, ..Target::default() }
}

/// Tolerances: of scores, of boxes in pixels and by their side, of masks.
fn assert_detections(official: Official, side: usize, [of_scores, pixels, of_side, of_masks]: [f32; 4]) {
    let (model, batch, detections) = (official.model(), official.batch(side), official.golden("detections"));
    let ctx = Context::eval(stream(Purpose::Evaluate, &[0]));
    let outputs = model.forward(&batch, &ctx).unwrap();
    let found = model.predictions(&outputs, &[TaskKind::Detect], &batch, &ctx).unwrap();
    let [Prediction::Instances(found)] = found.as_slice() else { panic!("{found:?}") };
    for (image, Regions { boxes, scores, classes, .. }) in found.iter().enumerate() {
        let expected = |name: &str| values(&detections, &format!("{name}_{image}"));
        let classes: Vec<_> = classes.iter().map(|&class| class as f32).collect();
        assert_eq!(classes, expected("det_classes"));
        assert_close("scores", scores, &expected("det_scores"), of_scores);
        // Decoded from deltas of our own.
        let expected = expected("det_boxes");
        let sides = expected.as_chunks().0.iter().map(|[x0, y0, x1, y1]| (x1 - x0).max(y1 - y0));
        for ((ours, theirs), side) in boxes.iter().zip(expected.as_chunks::<4>().0).zip(sides) {
            assert_close("box", ours, theirs, pixels + of_side * side);
        }
    }
    let probabilities: Vec<_> = found[0].masks.iter().flat_map(|mask| mask.0.clone()).collect();
    let expected = values(&official.golden("masks"), "mask_probs_0");
    assert_close("masks", &probabilities, &expected, of_masks);
}

#[test]
fn detections_of_images_are_the_official_ones() {
    assert_detections(Det, 256, [5e-5, 2e-3, 2e-5, 3e-4]);
}

#[test]
fn detections_of_images_of_two_sizes_are_the_official_ones() {
    assert_detections(VitDet, 192, [2.5e-4, 1e-2, 0.0, 7.5e-4]);
}

/// Losses within an absolute tolerance, gradients by the L2 norm of their difference, relative.
fn assert_step(official: Official, file: &str, side: usize, of_losses: f32, of_grads: f32) {
    let (model, batch, expected) = (official.model(), official.batch(side), official.golden(file));
    let ctx = Context::train(stream(Purpose::Step, &[0])).with_given(official.samples());
    let outputs = model.forward(&batch, &ctx).unwrap();
    let losses = model.losses(&outputs, &batch, &ctx).unwrap();
    assert!(ctx.unused().is_empty());
    let names: Vec<_> = losses.iter().map(|loss| loss.name.as_str()).collect();
    assert_eq!(names, ["rpn.cls", "rpn.loc", "box.cls", "box.box_reg", "mask.mask"]);
    let names = ["loss_rpn_cls", "loss_rpn_loc", "loss_cls", "loss_box_reg", "loss_mask"];
    for (loss, name) in losses.iter().zip(names) {
        assert_close(name, &loss.value.to_vec().unwrap(), &values(&expected, name), of_losses);
    }
    backward(Loss::total(losses).unwrap().unwrap()).unwrap();
    let mut compared = 0;
    for param in model.params().iter().filter(|param| param.requires_grad()) {
        let Some(theirs) = expected.get(&format!("grad.{}", param.name())) else { continue };
        let (ours, theirs) = (download(&param.grad().unwrap()).unwrap(), theirs.to_f32());
        let norm =
            |values: &mut dyn Iterator<Item = f32>| values.map(|value| value * value).sum::<f32>().sqrt();
        let off = norm(&mut ours.iter().zip(&theirs).map(|(ours, theirs)| ours - theirs));
        let size = norm(&mut theirs.iter().copied());
        assert!(off <= of_grads * size + 1e-5, "{}: off by {off} of {size}", param.name());
        compared += 1;
    }
    let grads = expected.names().filter(|name| name.starts_with("grad.")).count();
    assert_eq!(compared, grads);
    assert!(grads >= 53, "{grads}");
}

/// A `ReLU` next to its kink may be on the other side of it where products are added up in another order, as on another processor.
const OF_KINKS: f32 = 1.5e-2;

#[test]
fn losses_and_gradients_of_a_step_are_the_official_ones() {
    assert_step(Det, "heads", 256, 6e-5, OF_KINKS);
}

#[test]
fn losses_and_gradients_of_a_step_on_images_of_two_sizes_are_the_official_ones() {
    assert_step(VitDet, "train", 192, 1e-5, OF_KINKS);
}

/// Masks of pixels are given, so the mask head's loss is that of bitmaps.
#[test]
fn a_trace_of_a_step_has_the_official_losses_and_outputs_by_the_names_of_the_graph() {
    let batch = Det.batch(256);
    let mut inputs = TensorMap::new();
    let mut insert = |name: &str, shape: &[usize], values: &[f32]| {
        inputs.insert(name, HostTensor::from_f32(shape.to_vec(), values).unwrap());
    };
    insert("images", &[2, 3, 256, 256], &batch.images.values());
    let (mut boxes, mut classes, mut images, mut masks) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (image, Target { instances, .. }) in batch.targets.iter().enumerate() {
        boxes.extend_from_slice(instances.boxes.as_flattened());
        classes.extend(instances.classes.iter().map(|&class| class as f32));
        images.extend(vec![image as f32; instances.len()]);
        for mask in &instances.masks {
            let pixels = mask.rasterize([256; 2]).unwrap().decode();
            masks.extend(pixels.iter().map(|&pixel| f32::from(u8::from(pixel > 0))));
        }
    }
    insert("boxes", &[classes.len(), 4], &boxes);
    insert("box_masks", &[classes.len(), 256, 256], &masks);
    insert("box_classes", &[classes.len()], &classes);
    insert("box_images", &[images.len()], &images);
    for (name, drawn) in Det.samples() {
        insert(&name, &[drawn.len()], &drawn);
    }
    let traced =
        trace_file(&Det.path("narrow.yaml"), &Det.path("weights.safetensors"), &inputs, &["--grads"]);
    let (step, of_bitmaps) = (Det.golden("heads"), Det.golden("roi_train"));
    for (ours, golden, theirs) in [
        ("loss.rpn.cls", &step, "loss_rpn_cls"),
        ("loss.rpn.loc", &step, "loss_rpn_loc"),
        ("loss.box.cls", &step, "loss_cls"),
        ("loss.box.box_reg", &step, "loss_box_reg"),
        ("loss.mask.mask", &of_bitmaps, "loss_mask_bitmask"),
    ] {
        assert_close(ours, &values(&traced, ours), &values(golden, theirs), 6e-5);
    }
    for name in [
        "backbone.s3",
        "neck.p2",
        "rpn.boxes_0",
        "cls_score",
        "mask_logits",
        "grad.roi_heads.mask_head.predictor.weight",
    ] {
        assert!(traced.contains(name), "{name}: {:?}", traced.names().collect::<Vec<_>>());
    }
}

#[test]
fn the_base_detectors_have_the_official_sizes() {
    for (name, parameters, frozen, macs) in [
        ("mask_rcnn_convmae_base_25ep", 110_171_784, 3_145_728, 926_532_804_608_u64),
        ("vitdet_convmae_base_25ep", 109_700_272, 0, 954_632_826_880),
    ] {
        let recipe = recipe(&format!("detection/{name}.yaml"));
        let json = stdout(&Folder::new().succeeds(["check", recipe.to_str().unwrap(), "--json"]));
        let checked: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(checked["parameters"], parameters, "{name}");
        assert_eq!(checked["trainable"], parameters - frozen, "{name}");
        assert_eq!(checked["macs"]["computed"], macs, "{name}");
    }
}
