//! The official detector's numbers, from images to masks and from losses to gradients. Tolerances:
//! `tests/data/README.md`.

use std::collections::HashMap;

use convmae_framework::component::{Loss, Prediction, Regions, TaskKind};
use convmae_framework::data::{Batch, Instances, Mask, Normalization, Target};
use convmae_framework::graph::{Model, catalog, check};
use convmae_framework::nn::backend::download;
use convmae_framework::nn::backward::backward;
use convmae_framework::nn::{Context, Scope};
use convmae_framework::random::{Purpose, stream};
use convmae_framework::recipe::{Sources, load};
use convmae_framework::weights::{TensorMap, read_safetensors};
use serde_json::Value;

use crate::golden::{assert_close, values};
use crate::support::{Folder, data, recipe, stdout};

/// Mean and standard deviation of `input` in the golden's README, of pixels from 0 to 255.
const MEAN: [f32; 3] = [123.675, 116.28, 103.53];
const STD: [f32; 3] = [58.395, 57.12, 57.375];

fn golden(name: &str) -> TensorMap {
    read_safetensors(&data("detection").join(format!("{name}.safetensors"))).unwrap().tensors
}

/// The detector of `narrow.yaml` with the official weights.
fn detector() -> Model {
    let sources = Sources { recipe: data("detection/narrow.yaml"), ..Sources::default() };
    let checked = check(&load(&sources, &catalog()).unwrap()).unwrap();
    let model = Model::build(&checked.plan, checked.image, &Scope::new(0)).unwrap();
    let weights = golden("weights");
    for param in model.params() {
        param.set(&values(&weights, param.name())).unwrap();
    }
    model
}

/// The two images with their objects.
fn batch() -> Batch {
    let goldens = golden("backbone");
    let images = goldens.get("images_u8").unwrap();
    let &[count, 3, height, width] = images.shape.as_slice() else { panic!("{:?}", images.shape) };
    let channel = |at: usize| at / (height * width) % 3;
    let pixels = images.to_f32().into_iter().enumerate();
    let pixels = pixels.map(|(at, pixel)| (pixel - MEAN[channel(at)]) / STD[channel(at)]).collect();
    let json: Value =
        serde_json::from_slice(&std::fs::read(data("detection/train_gt.json")).unwrap()).unwrap();
    let target = |objects: &Value| {
        let mut instances = Instances::default();
        for object in objects.as_array().unwrap() {
            let polygons: Vec<Vec<f64>> = serde_json::from_value(object["polygons"].clone()).unwrap();
            let polygons = polygons.iter().map(|corners| corners.as_chunks().0.to_vec()).collect();
            let bbox = serde_json::from_value(object["gt_box_xyxy"].clone()).unwrap();
            instances.annotate(object["category"].as_u64().unwrap() as u32, bbox, Mask::Polygons(polygons));
        }
        Target { instances, ..Target::default() }
    };
    let targets = json["images"].as_array().unwrap().iter().map(target).collect();
    let normalization = Normalization { mean: [0.0; 3], std: [1.0; 3] };
    let ids = (0..count).map(|image| image.to_string()).collect();
    Batch::new(pixels, (height, width), normalization, targets, ids)
}

#[test]
fn detections_of_images_are_the_official_ones() {
    let (model, batch) = (detector(), batch());
    let ctx = Context::eval(stream(Purpose::Evaluate, &[0]));
    let outputs = model.forward(&batch, &ctx).unwrap();
    let found = model.predictions(&outputs, &[TaskKind::Detect], &batch, &ctx).unwrap();
    let [Prediction::Instances(found)] = found.as_slice() else { panic!("{found:?}") };
    let detections = golden("detections");
    for (image, Regions { boxes, scores, classes, .. }) in found.iter().enumerate() {
        let expected = |name: &str| values(&detections, &format!("{name}_{image}"));
        let classes: Vec<_> = classes.iter().map(|&class| class as f32).collect();
        assert_eq!(classes, expected("det_classes"));
        assert_close("scores", scores, &expected("det_scores"), 5e-5);
        // Decoded from deltas of our own.
        let expected = expected("det_boxes");
        let sides = expected.as_chunks().0.iter().map(|[x0, y0, x1, y1]| (x1 - x0).max(y1 - y0));
        for ((ours, theirs), side) in boxes.iter().zip(expected.as_chunks::<4>().0).zip(sides) {
            assert_close("box", ours, theirs, 2e-3 + 2e-5 * side);
        }
    }
    let probabilities: Vec<_> = found[0].masks.iter().flat_map(|mask| mask.0.clone()).collect();
    assert_close("masks", &probabilities, &values(&golden("masks"), "mask_probs_0"), 3e-4);
}

/// What the recorded step has drawn.
fn recorded_samples() -> HashMap<String, Vec<f32>> {
    let (rpn, roi) = (golden("rpn_train"), golden("roi_train"));
    let names = [
        ("rpn_sampled_pos", "sampled_pos_idx", &rpn),
        ("rpn_sampled_neg", "sampled_neg_idx", &rpn),
        ("roi_sampled_pos", "sampled_fg_idx", &roi),
        ("roi_sampled_neg", "sampled_bg_idx", &roi),
    ];
    let of_images = |(own, name, golden): (&str, &str, &TensorMap)| {
        [0, 1].map(|image| (format!("{own}_{image}"), values(golden, &format!("{name}_{image}"))))
    };
    names.into_iter().flat_map(of_images).collect()
}

#[test]
fn losses_and_gradients_of_a_step_are_the_official_ones() {
    let (model, batch, expected) = (detector(), batch(), golden("heads"));
    let ctx = Context::train(stream(Purpose::Step, &[0])).with_given(recorded_samples());
    let outputs = model.forward(&batch, &ctx).unwrap();
    let losses = model.losses(&outputs, &batch, &ctx).unwrap();
    assert!(ctx.unused().is_empty());
    let names: Vec<_> = losses.iter().map(|loss| loss.name.as_str()).collect();
    assert_eq!(names, ["rpn.cls", "rpn.loc", "box.cls", "box.box_reg", "mask.mask"]);
    let official = ["loss_rpn_cls", "loss_rpn_loc", "loss_cls", "loss_box_reg", "loss_mask"];
    for (loss, name) in losses.iter().zip(official) {
        assert_close(name, &loss.value.to_vec().unwrap(), &values(&expected, name), 6e-5);
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
        // Kinks of ReLU.
        assert!(off <= 1.5e-2 * size + 1e-5, "{}: off by {off} of {size}", param.name());
        compared += 1;
    }
    assert_eq!(compared, 53);
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
