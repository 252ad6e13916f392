//! The official segmentor's numbers, through `convmae trace`. Tolerances: `tests/data/README.md`.

use convmae_framework::component::{Inference, Prediction};
use convmae_framework::data::{Batch, Normalization, Target};
use convmae_framework::graph::{Checked, Model, catalog, check};
use convmae_framework::nn::{Context, Scope};
use convmae_framework::random::{Purpose, stream};
use convmae_framework::recipe::{Sources, load};
use convmae_framework::weights::{HostTensor, TensorMap, read_safetensors};
use image::{GrayImage, Luma};
use serde_json::json;

use crate::golden::{assert_close, largest, on, trace_file, values, without_keys};
use crate::support::{Arithmetic, data};

/// How far from the official numbers ours may be, in relation to the largest one.
#[derive(Clone, Copy)]
struct Tolerances {
    forward: f32,
    loss: f32,
    gradient: f32,
    /// Where the statistics of batch normalisation are those of two values.
    gradient_of_two: f32,
}

/// Those of the program that is tested.
fn tolerances() -> Tolerances {
    match on() {
        Arithmetic::Cpu => Tolerances { forward: 2e-5, loss: 2e-6, gradient: 2e-4, gradient_of_two: 1e-3 },
        Arithmetic::Cuda => Tolerances { forward: 1e-4, loss: 1e-5, gradient: 2e-3, gradient_of_two: 1e-2 },
        Arithmetic::Tf32 => Tolerances { forward: 5e-2, loss: 2e-2, gradient: 0.2, gradient_of_two: 0.5 },
    }
}

fn golden(name: &str) -> TensorMap {
    read_safetensors(&data("segmentation").join(format!("{name}.safetensors"))).unwrap().tensors
}

fn trace(args: &[&str]) -> TensorMap {
    let io = golden("narrow_io");
    let mut inputs = TensorMap::new();
    inputs.insert("images", io.get("input").unwrap().clone());
    inputs.insert("label_maps", io.get("label").unwrap().clone());
    let weights = data("segmentation/narrow_weights.safetensors");
    trace_file(&data("segmentation/narrow.yaml"), &weights, &inputs, args)
}

/// `[B, C, H, W]` to `[B, H, W, C]`, on the grid of a level its positions grouped by patch of `cell x cell`.
fn to_tokens(map: &HostTensor, cell: usize) -> Vec<f32> {
    let &[batch, channels, height, width] = map.shape.as_slice() else { panic!("{:?}", map.shape) };
    let values = map.to_f32();
    let mut tokens = Vec::with_capacity(values.len());
    for image in 0..batch {
        for patch in 0..height / cell * (width / cell) {
            for at in 0..cell * cell {
                let row = patch / (width / cell) * cell + at / cell;
                let col = patch % (width / cell) * cell + at % cell;
                let value = |channel| values[((image * channels + channel) * height + row) * width + col];
                tokens.extend((0..channels).map(value));
            }
        }
    }
    tokens
}

#[track_caller]
fn assert_relative(name: &str, ours: &[f32], theirs: &[f32], tolerance: f32) {
    assert_close(name, ours, theirs, (tolerance * largest(theirs)).max(1e-7));
}

const LEVELS: [(&str, &str, usize); 4] = [
    ("backbone.s1", "feat0", 4),
    ("backbone.s2", "feat1", 2),
    ("backbone.s3", "feat2", 1),
    ("backbone.s4", "feat3", 1),
];

const HEADS: [(&str, &str); 2] =
    [("decode_head.conv_seg", "decode_logits"), ("auxiliary_head.conv_seg", "aux_logits")];

#[track_caller]
fn compare_losses(ours: &TensorMap, theirs: &TensorMap, mode: &str) {
    let theirs = |name: &str| values(theirs, &format!("{mode}.{name}"));
    assert_relative("loss", &values(ours, "loss"), &theirs("loss_total"), tolerances().loss);
    for (head, weight) in [("decode", 1.0), ("aux", 0.4)] {
        // The official loss is weighted already.
        let loss: Vec<_> =
            values(ours, &format!("loss.{head}.loss_seg")).iter().map(|loss| weight * loss).collect();
        assert_relative(head, &loss, &theirs(&format!("{head}.loss_seg")), tolerances().loss);
        let accuracy = values(ours, &format!("loss.{head}.acc_seg"));
        // Percent; a pixel is 0.003 of them.
        let allowed = if on() == Arithmetic::Cpu { 1e-4 } else { 0.5 };
        assert_close(head, &accuracy, &theirs(&format!("{head}.acc_seg")), allowed);
    }
}

#[test]
fn the_features_the_logits_and_the_losses() {
    let (ours, theirs) = (trace(&[]), golden("narrow_io"));
    for (name, official, cell) in LEVELS {
        let official = to_tokens(theirs.get(&format!("eval.{official}")).unwrap(), cell);
        assert_relative(name, &values(&ours, name), &official, tolerances().forward);
    }
    for (name, official) in HEADS {
        let official = to_tokens(theirs.get(&format!("eval.{official}")).unwrap(), 1);
        assert_relative(name, &values(&ours, name), &official, tolerances().forward);
    }
    compare_losses(&ours, &theirs, "eval");
}

#[test]
fn the_losses_and_every_gradient_of_training() {
    let (ours, theirs, gradients) = (trace(&["--grads"]), golden("narrow_io"), golden("narrow_grads"));
    for (name, official) in HEADS {
        let official = to_tokens(theirs.get(&format!("train.{official}")).unwrap(), 1);
        assert_relative(name, &values(&ours, name), &official, tolerances().forward);
    }
    compare_losses(&ours, &theirs, "train");
    for (name, official) in gradients.iter() {
        let name = name.strip_prefix("train.").unwrap();
        let parameter = name.strip_prefix("grad.").unwrap();
        let official = without_keys(parameter, official.to_f32());
        let found = without_keys(parameter, values(&ours, name));
        let tolerance = match parameter {
            "decode_head.psp_modules.0.1.conv.weight" => tolerances().gradient_of_two,
            _ => tolerances().gradient,
        };
        if parameter == "backbone.fpn.0.bias" {
            // The mean that batch normalisation takes off contains it.
            assert!(largest(&found) < 1e-5, "{found:?}");
            continue;
        }
        assert_relative(name, &found, &official, tolerance);
    }
    let found = ours.names().filter(|name| name.starts_with("grad.")).count();
    assert_eq!((found, gradients.len()), (135, 135));
}

#[test]
fn the_running_statistics_after_a_step() {
    let (ours, theirs) = (trace(&["--steps", "1"]), golden("narrow_io"));
    let mut compared = 0;
    for (name, official) in theirs.iter() {
        let Some(buffer) = name.strip_prefix("train.after.") else { continue };
        assert_relative(
            name,
            &values(&ours, &format!("model.{buffer}")),
            &official.to_f32(),
            tolerances().forward,
        );
        compared += 1;
    }
    assert_eq!(compared, 28);
}

/// What an inference finds in an image with a label map of that size.
fn infer(inference: serde_json::Value, image: &HostTensor, (height, width): (u32, u32)) -> GrayImage {
    let sources = Sources { recipe: data("segmentation/narrow.yaml"), ..Sources::default() };
    let Checked { plan, image: shape, .. } = check(&load(&sources, &catalog()).unwrap()).unwrap();
    let model = Model::build(&plan, shape, &Scope::new(0)).unwrap();
    let weights = golden("narrow_weights");
    for param in model.params() {
        param.set(&values(&weights, param.name())).unwrap();
    }
    let map = GrayImage::from_pixel(width, height, Luma([255]));
    let batch = Batch::new(
        image.to_f32(),
        (image.shape[2], image.shape[3]),
        Normalization::identity(3),
        vec![Target { semantic: Some(map), ..Target::default() }],
        vec!["image".to_owned()],
    );
    let ctx = Context::eval(stream(Purpose::Evaluate, &[0]));
    let inference: Box<dyn Inference> = serde_json::from_value(inference).unwrap();
    let mut ask = |batch: &Batch| {
        let outputs = model.forward(batch, &ctx)?;
        Ok(model.predictions(&outputs, &[inference.task()], batch, &ctx)?.remove(0))
    };
    match inference.predict(&batch, shape, &mut ask).unwrap() {
        Prediction::Semantic(mut semantic) => semantic.maps.remove(0),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_classes_of_slide_and_whole_inference() {
    if on() != Arithmetic::Cpu {
        return;
    }
    let theirs = golden("narrow_inference");
    let compare = |mode: &str, inference: serde_json::Value, classes: &str| {
        let official = theirs.get(&format!("{mode}.{classes}")).unwrap();
        let size = (official.shape[1] as u32, official.shape[2] as u32);
        let ours = infer(inference, theirs.get(&format!("{mode}.input")).unwrap(), size);
        assert_eq!(ours.dimensions(), (size.1, size.0), "{mode}.{classes}");
        assert_eq!(ours.as_raw(), &*official.data, "{mode}.{classes}");
    };
    let slide = || json!({ "type": "SlideInference", "stride": 85 });
    compare("slide", slide(), "argmax");
    compare("slide", slide(), "prob_rescaled_argmax");
    compare("whole", json!({ "type": "WholeInference" }), "argmax_rescaled");
}
