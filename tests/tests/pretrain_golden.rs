//! The official implementation's numbers, through `convmae trace`. Tolerances: `tests/data/README.md`.

use convmae_framework::component::{Mask, MaskGrid};
use convmae_framework::nn::cpu::loss::normalize_patches;
use convmae_framework::nn::cpu::patches::patchify;
use convmae_framework::nn::device::computes_in_bf16;
use convmae_framework::weights::{HostTensor, TensorMap, read_safetensors};
use serde_json::Value;

use crate::golden::{self, GRID, assert_close, difference, largest, on, to_nchw, values, without_keys};
use crate::support::{Arithmetic, Folder, data, recipe, stdout};

const PATCH: usize = 16;
const SIDE: usize = 224;

/// How far from the official numbers ours may be.
#[derive(Clone, Copy)]
struct Tolerances {
    /// Of what the parts yield, absolute.
    activation: f32,
    /// Relative.
    loss: f32,
    /// Of the largest one of the parameter.
    gradient: f32,
    /// Relative.
    grad_norm: f32,
    /// Of a parameter after training, absolute.
    parameter: f32,
    /// Of the optimizer's moments, of the largest one.
    moment: f32,
}

/// Those of the program that is tested.
fn tolerances() -> Tolerances {
    const CPU: Tolerances = Tolerances {
        activation: 5e-6,
        loss: 1e-6,
        gradient: 2e-5,
        grad_norm: 1e-5,
        parameter: 2e-6,
        moment: 5e-5,
    };
    const CUDA: Tolerances = Tolerances {
        activation: 5e-5,
        loss: 1e-5,
        gradient: 2e-4,
        grad_norm: 1e-4,
        parameter: 2e-5,
        moment: 5e-4,
    };
    const TF32: Tolerances = Tolerances {
        activation: 4e-2,
        loss: 1e-3,
        gradient: 3e-2,
        grad_norm: 1e-2,
        parameter: 2e-3,
        moment: 6e-2,
    };
    match on() {
        Arithmetic::Cpu => CPU,
        Arithmetic::Cuda => CUDA,
        Arithmetic::Tf32 => TF32,
    }
}

fn golden(name: &str) -> TensorMap {
    read_safetensors(&data("pretrain").join(format!("{name}.safetensors"))).unwrap().tensors
}

/// Traces the narrow model with more arguments, in a number of threads; returns the file.
fn trace_bytes(inputs: &TensorMap, threads: &str, args: &[&str]) -> Vec<u8> {
    let (recipe, weights) = (data("pretrain/narrow.yaml"), data("pretrain/state_dict.safetensors"));
    golden::trace_bytes(&recipe, &weights, inputs, threads, args)
}

fn trace(inputs: &TensorMap, args: &[&str]) -> TensorMap {
    golden::trace_file(&data("pretrain/narrow.yaml"), &data("pretrain/state_dict.safetensors"), inputs, args)
}

/// Images and noise of the goldens.
fn inputs() -> TensorMap {
    let io = golden("io");
    ["images", "noise"].map(|name| (name.to_owned(), io.get(name).unwrap().clone())).into_iter().collect()
}

#[test]
fn masks_and_targets_are_the_official_ones() {
    let io = golden("io");
    let grid = MaskGrid { rows: GRID, cols: GRID, cells: vec![4, 2] };
    let mask = Mask::from_noise(&grid, 49, &values(&io, "noise"));
    let ids = |name: &str| -> Vec<u32> {
        let bytes = &io.get(name).unwrap().data;
        bytes.chunks_exact(8).map(|id| i64::from_le_bytes(id.try_into().unwrap()) as u32).collect()
    };
    assert_eq!(mask.ids_keep, ids("ids_keep"));
    assert_eq!(mask.ids_restore, ids("ids_restore"));
    assert_eq!(mask.removed, values(&io, "mask"));

    let mut target = patchify(&values(&io, "images"), 3, SIDE, SIDE, PATCH);
    normalize_patches(&mut target, PATCH * PATCH * 3);
    assert_close("target_norm", &target, &values(&io, "target_norm"), 1e-4);
}

#[test]
fn latent_prediction_and_both_losses() {
    let io = golden("io");
    for norm_pix in [true, false] {
        let set = format!("model.decoder.norm_pix_loss={norm_pix}");
        let ours = trace(&inputs(), &["--set", &set]);
        for name in ["latent", "pred"] {
            assert_close(name, &values(&ours, name), &values(&io, name), tolerances().activation);
        }
        let theirs = values(&io, &format!("loss_norm_pix_{norm_pix}"));
        for name in ["loss", "loss.decoder.reconstruction"] {
            assert_close(name, &values(&ours, name), &theirs, tolerances().loss * theirs[0]);
        }
    }
}

#[test]
fn the_output_of_every_part() {
    let theirs = golden("activations");
    let ours = trace(&inputs(), &["--set", "model.backbone.computation=dense"]);
    let maps = [
        ("patch_embed1_out", "patch_embed1_out", 4),
        ("backbone.s1", "stage1_out", 4),
        ("patch_embed2_out", "patch_embed2_out", 2),
        ("backbone.s2", "stage2_out", 2),
        ("patch_embed3_out", "patch_embed3_out", 1),
    ];
    for (name, official, cell) in maps {
        let map = to_nchw(&values(&ours, name), 2, cell);
        assert_close(name, &map, &values(&theirs, official), tolerances().activation);
    }
    for name in [
        "stage1_embed",
        "stage2_embed",
        "tokens_in_blocks3",
        "tokens_out_blocks3",
        "decoder_tokens_in",
        "decoder_tokens_out",
    ] {
        assert_close(name, &values(&ours, name), &values(&theirs, name), tolerances().activation);
    }
    assert_eq!(maps.len() + 6, theirs.len());
}

#[test]
fn every_gradient() {
    let theirs = golden("grads_norm_pix_true");
    let ours = trace(&inputs(), &["--grads"]);
    for (name, gradient) in theirs.iter() {
        let official = without_keys(name, gradient.to_f32());
        let found = without_keys(name, values(&ours, &format!("grad.{name}")));
        assert_close(name, &found, &official, tolerances().gradient * largest(&official));
    }
    let gradients = ours.names().filter(|name| name.starts_with("grad.")).count();
    assert_eq!((gradients, theirs.len()), (103, 103));
}

/// What computes in bf16 rounds by up to 0.4 %. A processor without instructions for it computes in `f32`.
#[test]
fn in_bf16_loss_and_directions_of_gradients_are_the_official_ones() {
    let ours = trace(&inputs(), &["--grads", "--set", "precision=bf16"]);
    let loss = values(&golden("io"), "loss_norm_pix_true");
    assert_close("loss", &values(&ours, "loss"), &loss, 2e-3 * loss[0]);
    let (mut all, mut rounded) = ([0.0; 3], false);
    for (name, gradient) in golden("grads_norm_pix_true").iter() {
        let official = without_keys(name, gradient.to_f32());
        let found = without_keys(name, values(&ours, &format!("grad.{name}")));
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
        let products = [dot(&found, &official), dot(&found, &found), dot(&official, &official)];
        let cosine = products[0] / (products[1] * products[2]).sqrt();
        assert!(cosine > 0.99, "{name}: {cosine}");
        all.iter_mut().zip(products).for_each(|(all, product)| *all += product);
        rounded |= difference(&found, &official) > 1e-4 * largest(&official);
    }
    let cosine = all[0] / (all[1] * all[2]).sqrt();
    assert!(cosine > 0.999, "{cosine}");
    let expected = on() != Arithmetic::Cpu || computes_in_bf16();
    assert_eq!(rounded, expected, "whether it is bf16 that was computed in");
}

/// The inputs of the recorded training: noise for each of five steps.
fn training_inputs(recorded: &TensorMap) -> TensorMap {
    let mut inputs = inputs();
    inputs.insert("noise", recorded.get("noise").unwrap().clone());
    inputs
}

#[test]
fn activation_checkpointing_changes_no_bit() {
    let inputs = training_inputs(&golden("train_trace"));
    let plain = trace_bytes(&inputs, "2", &["--steps", "5"]);
    let set = "train.checkpoint_activations=true";
    assert!(plain == trace_bytes(&inputs, "2", &["--steps", "5", "--set", set]));
}

#[test]
fn five_steps_of_training() {
    let theirs = golden("train_trace");
    let ours = trace(&training_inputs(&theirs), &["--steps", "5"]);

    let json = std::fs::read_to_string(data("pretrain/train_trace.json")).unwrap();
    let json: Value = serde_json::from_str(&json).unwrap();
    let tolerances = tolerances();
    let figures = [("loss", tolerances.loss), ("lr", 1e-6), ("grad_norm", tolerances.grad_norm)];
    for (name, tolerance) in figures {
        let found = values(&ours, &format!("step.{name}"));
        assert_eq!(found.len(), 5);
        for (step, found) in found.into_iter().enumerate() {
            let official = json["steps_f64"][step][name].as_f64().unwrap();
            let error = (f64::from(found) - official).abs();
            assert!(
                error <= f64::from(tolerance) * official,
                "{name} of step {step}: {found}, not {official}"
            );
        }
    }
    let mut compared = 0;
    for (name, official) in theirs.iter() {
        let official = |parameter| without_keys(parameter, official.to_f32());
        let found = |prefix: &str, parameter| {
            without_keys(parameter, values(&ours, &format!("{prefix}.{parameter}")))
        };
        if let Some(parameter) = name.strip_prefix("final_f64.") {
            assert_close(name, &found("model", parameter), &official(parameter), tolerances.parameter);
        } else if let Some((moment @ ("exp_avg" | "exp_avg_sq"), parameter)) = name.split_once('.') {
            let official = official(parameter);
            let found = found(&format!("optimizer.{moment}"), parameter);
            assert_close(name, &found, &official, tolerances.moment * largest(&official));
        } else {
            continue;
        }
        compared += 1;
    }
    assert_eq!(compared, 3 * 103);
}

const DENSE: [&str; 2] = ["--set", "model.backbone.computation=dense"];

#[test]
fn sparse_computation_gives_the_numbers_of_the_dense_one() {
    let sparse = trace(&inputs(), &["--grads"]);
    let dense = trace(&inputs(), &["--grads", DENSE[0], DENSE[1]]);
    for name in ["latent", "pred", "tokens_in_blocks3", "stage1_embed", "stage2_embed"] {
        assert_close(name, &values(&sparse, name), &values(&dense, name), tolerances().activation / 5.0);
    }
    let loss = values(&dense, "loss");
    assert_close("loss", &values(&sparse, "loss"), &loss, tolerances().loss * loss[0]);
    for (name, gradient) in dense.iter().filter(|(name, _)| name.starts_with("grad.")) {
        let gradient = without_keys(name, gradient.to_f32());
        let tolerance = tolerances().gradient / 2.0 * largest(&gradient);
        assert_close(name, &without_keys(name, values(&sparse, name)), &gradient, tolerance);
    }
    // Sparse means that only kept patches are there.
    assert_eq!(sparse.get("backbone.s1").unwrap().shape, [2, 49 * 16, 8]);
    assert_eq!(dense.get("backbone.s1").unwrap().shape, [2, 196 * 16, 8]);
}

/// The images of the goldens with other pixels in the masked patches.
fn noise_where_masked() -> TensorMap {
    let removed = values(&golden("io"), "mask");
    let mut inputs = inputs();
    let mut images = values(&inputs, "images");
    for (at, pixel) in images.iter_mut().enumerate() {
        let (image, row, col) = (at / (3 * SIDE * SIDE), at / SIDE % SIDE, at % SIDE);
        if removed[image * GRID * GRID + row / PATCH * GRID + col / PATCH] > 0.5 {
            *pixel = ((at * 2_654_435_761) % 1000) as f32 / 100.0 - 5.0;
        }
    }
    inputs.insert("images", HostTensor::from_f32(vec![2, 3, SIDE, SIDE], &images).unwrap());
    inputs
}

#[test]
fn masked_pixels_move_no_visible_token() {
    let noisy = noise_where_masked();
    for args in [&[][..], &DENSE] {
        let (plain, noisy) = (trace(&inputs(), args), trace(&noisy, args));
        for name in ["latent", "pred", "tokens_in_blocks3", "stage1_embed"] {
            if on() == Arithmetic::Cpu {
                assert!(plain.get(name).unwrap() == noisy.get(name).unwrap(), "{name} {args:?}");
            } else {
                // Not even the same pass twice gives the same bits.
                assert_close(name, &values(&plain, name), &values(&noisy, name), tolerances().activation);
            }
        }
        assert!(values(&plain, "loss") != values(&noisy, "loss"), "the noise is in the target");
    }
}

#[test]
fn without_masked_convolution_they_do() {
    let args = ["--set", "model.backbone.masked_convolution=false"];
    let (plain, noisy) = (trace(&inputs(), &args), trace(&noise_where_masked(), &args));
    assert!(difference(&values(&plain, "latent"), &values(&noisy, "latent")) > 0.1);
    let official = values(&golden("io"), "latent");
    assert!(difference(&values(&plain, "latent"), &official) > 0.1);
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    if on() != Arithmetic::Cpu {
        return;
    }
    let one = trace_bytes(&inputs(), "1", &["--grads"]);
    for threads in ["2", "3"] {
        assert!(trace_bytes(&inputs(), threads, &["--grads"]) == one, "{threads} threads");
    }
}

#[test]
fn the_base_model_has_the_official_size() {
    let recipe = recipe("pretrain/convmae_base.yaml");
    let json = stdout(&Folder::new().succeeds(["check", recipe.to_str().unwrap(), "--json"]));
    let checked: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(checked["parameters"], 115_041_408);
    assert_eq!(checked["trainable"], 114_790_528);
    assert_eq!(checked["macs"]["dense"], 17_218_220_544_u64);
    let computed = checked["macs"]["computed"].as_u64().unwrap();
    assert!(computed < 12_000_000_000, "{computed}");
}
