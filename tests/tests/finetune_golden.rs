//! The official classifier's numbers, through `convmae trace`. Tolerances: `tests/data/README.md`.

use convmae_framework::weights::{HostTensor, TensorMap, read_safetensors};
use serde_json::Value;

use crate::golden::{assert_close, difference, largest, on, to_nchw, trace_file, values, without_keys};
use crate::support::{Arithmetic, data};

/// How far from the official numbers ours may be.
#[derive(Clone, Copy)]
struct Tolerances {
    /// Of what the parts yield, absolute.
    activation: f32,
    /// Absolute.
    logits: f32,
    /// Relative.
    loss: f32,
    /// Of the largest one of the parameter.
    gradient: f32,
    /// Relative.
    step_loss: f32,
    /// Of a parameter after training, absolute.
    parameter: f32,
}

/// Those of the program that is tested.
fn tolerances() -> Tolerances {
    const CPU: Tolerances = Tolerances {
        activation: 1e-5,
        logits: 5e-6,
        loss: 1e-6,
        gradient: 3e-5,
        step_loss: 2e-6,
        parameter: 5e-6,
    };
    const CUDA: Tolerances = Tolerances {
        activation: 1e-4,
        logits: 5e-5,
        loss: 1e-5,
        gradient: 3e-4,
        step_loss: 2e-5,
        parameter: 5e-5,
    };
    const TF32: Tolerances = Tolerances {
        activation: 4e-2,
        logits: 4e-2,
        loss: 1e-2,
        gradient: 3e-2,
        step_loss: 1e-2,
        parameter: 5e-3,
    };
    match on() {
        Arithmetic::Cpu => CPU,
        Arithmetic::Cuda => CUDA,
        Arithmetic::Tf32 => TF32,
    }
}

fn golden(name: &str) -> TensorMap {
    read_safetensors(&data("finetune").join(format!("{name}.safetensors"))).unwrap().tensors
}

/// Images and labels of the goldens; if mixed, each label takes 0.3 of the other one.
fn inputs(mixed: bool) -> TensorMap {
    let pretrain = read_safetensors(&data("pretrain/io.safetensors")).unwrap().tensors;
    let labels = golden("io").get("labels").unwrap().clone();
    let mut inputs = TensorMap::new();
    inputs.insert("images", pretrain.get("images").unwrap().clone());
    if mixed {
        let flipped: Vec<f32> = labels.to_f32().into_iter().rev().collect();
        inputs.insert("mixed_labels", HostTensor::from_f32(vec![2], &flipped).unwrap());
        inputs.insert("mixed_share", HostTensor::from_f32(vec![2], &[0.3; 2]).unwrap());
    }
    inputs.insert("labels", labels);
    inputs
}

/// Traces the narrow classifier with more arguments.
fn trace(weights: &str, inputs: &TensorMap, args: &[&str]) -> TensorMap {
    let weights = data("finetune").join(format!("{weights}.safetensors"));
    trace_file(&data("finetune/narrow.yaml"), &weights, inputs, args)
}

const SMOOTHING: [&str; 2] = ["--set", "model.classifier.label_smoothing=0.1"];

#[test]
fn the_output_of_every_part_and_the_logits() {
    let (io, theirs) = (golden("io"), golden("activations"));
    let ours = trace("state_dict", &inputs(false), &[]);
    let maps = [
        ("patch_embed1_out", "patch_embed1_out", 4),
        ("backbone.s1", "stage1_out", 4),
        ("backbone.s2", "stage2_out", 2),
        ("patch_embed3_out", "patch_embed3_out", 1),
    ];
    for (name, official, cell) in maps {
        let map = to_nchw(&values(&ours, name), 2, cell);
        assert_close(name, &map, &values(&theirs, official), tolerances().activation);
    }
    for name in ["tokens_in_blocks3", "tokens_out_blocks3"] {
        assert_close(name, &values(&ours, name), &values(&theirs, name), tolerances().activation);
    }
    assert_eq!(maps.len() + 2, theirs.len());
    for name in ["pooled_normed", "logits"] {
        assert_close(name, &values(&ours, name), &values(&io, name), tolerances().logits);
    }
}

#[test]
fn the_first_token_instead_of_the_mean() {
    let set = ["model.backbone.final_norm=true", "model.classifier.pool=first_token"];
    let ours = trace("state_dict_token0", &inputs(false), &["--set", set[0], "--set", set[1]]);
    let theirs = values(&golden("io"), "logits_token0_global_pool_false");
    assert_close("logits", &values(&ours, "logits"), &theirs, tolerances().logits);
}

#[test]
fn all_three_losses() {
    let io = golden("io");
    let train = |mixed| trace("state_dict", &inputs(mixed), &["--grads", SMOOTHING[0], SMOOTHING[1]]);
    for (name, ours) in [
        ("loss_ce_hard", trace("state_dict", &inputs(true), &SMOOTHING)),
        ("loss_label_smoothing_ce", train(false)),
        ("loss_soft_target_ce", train(true)),
    ] {
        let theirs = values(&io, name);
        for of in ["loss", "loss.classifier.cross_entropy"] {
            assert_close(name, &values(&ours, of), &theirs, tolerances().loss * theirs[0]);
        }
    }
}

#[test]
fn every_gradient_of_smoothed_and_of_mixed_labels() {
    for (name, mixed) in [("grads_label_smoothing_ce", false), ("grads_soft_target_ce", true)] {
        let theirs = golden(name);
        let ours = trace("state_dict", &inputs(mixed), &["--grads", SMOOTHING[0], SMOOTHING[1]]);
        for (name, gradient) in theirs.iter() {
            let official = without_keys(name, gradient.to_f32());
            let found = without_keys(name, values(&ours, &format!("grad.{name}")));
            assert_close(name, &found, &official, tolerances().gradient * largest(&official));
        }
        let gradients = ours.names().filter(|name| name.starts_with("grad.")).count();
        assert_eq!((gradients, theirs.len()), (71, 71));
    }
}

#[test]
fn five_steps_of_training_with_layer_decay() {
    let theirs = golden("train_trace");
    let set = [
        SMOOTHING[1],
        "schedule.min_lr=1e-6",
        "optimizer.layer_decay=0.65",
        "optimizer.no_weight_decay=[pos_embed]",
    ];
    let args: Vec<&str> = set.into_iter().flat_map(|set| ["--set", set]).chain(["--steps", "5"]).collect();
    let ours = trace("state_dict", &inputs(true), &args);

    let json = std::fs::read_to_string(data("finetune/train_trace.json")).unwrap();
    let json: Value = serde_json::from_str(&json).unwrap();
    for (name, tolerance) in [("loss", tolerances().step_loss), ("lr", 1e-6)] {
        let found = values(&ours, &format!("step.{name}"));
        assert_eq!(found.len(), 5);
        for (step, found) in found.into_iter().enumerate() {
            let official = json["steps_f64"][step][name].as_f64().unwrap();
            let error = (f64::from(found) - official).abs();
            let allowed = f64::from(tolerance) * official;
            assert!(error <= allowed, "{name} of step {step}: {found}, not {official}");
        }
    }
    let mut compared = 0;
    for (name, official) in theirs.iter() {
        let Some(parameter) = name.strip_prefix("final_f64.") else { continue };
        let official = without_keys(parameter, official.to_f32());
        let found = without_keys(parameter, values(&ours, &format!("model.{parameter}")));
        assert_close(name, &found, &official, tolerances().parameter);
        compared += 1;
    }
    assert_eq!(compared, 71);
    let moved =
        difference(&values(&ours, "model.head.weight"), &values(&golden("state_dict"), "head.weight"));
    assert!(moved > 1e-4, "{moved}");
}
