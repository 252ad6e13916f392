//! The variants that the paper compares: the plain vision transformer, and stages that are masked
//! independently.

use convmae_framework::report::Summary;
use convmae_framework::weights::{self, HostTensor, TensorMap, write_safetensors};
use serde_json::Value;

use crate::support::{Folder, recipe, stdout};

const VIT: &str =
    "model.backbone={type: ViT, from: mask, patch_size: 8, embed_dim: 16, depth: 2, num_heads: 4}";

fn val_loss(folder: &Folder, run: &str) -> f64 {
    let summary = Summary::read(&folder.path(run).join("summary.json")).unwrap();
    summary.get("val.loss").and_then(Value::as_f64).unwrap()
}

#[test]
fn every_pretraining_recipe_is_right_and_has_its_size() {
    for (name, parameters) in [
        ("pretrain/convmae_base", 115_041_408),
        // Added up by hand from the widths, depths and ratios of the sources. Without the head of 1,025,000 the encoder of the
        // large one has the 322 M that the README of Alpha-VL/ConvMAE stated.
        ("pretrain/convmae_small", 49_035_008),
        ("pretrain/convmae_large", 374_424_960),
        ("pretrain/convmae_huge", 743_596_288),
        ("finetune/convmae_small_100ep", 22_327_528),
        ("finetune/convmae_large_50ep", 322_977_384),
        ("finetune/convmae_huge_50ep", 680_738_792),
        // The size of `mae_vit_base_patch16` in facebookresearch/mae.
        ("pretrain/mae_base", 111_907_840),
        ("pretrain/convmae_cifar10", 1_260_240),
    ] {
        let recipe = recipe(&format!("{name}.yaml"));
        let json = stdout(&Folder::new().succeeds(["check", recipe.to_str().unwrap(), "--json"]));
        let checked: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(checked["parameters"], parameters, "{name}");
    }
}

#[test]
fn every_ablation_expands_to_runs_that_are_right() {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(recipe("ablations")).unwrap() {
        let path = entry.unwrap().path();
        let args = ["sweep", path.to_str().unwrap(), "--dry-run", "--json"];
        let sweep: Value = serde_json::from_str(&stdout(&Folder::new().succeeds(args))).unwrap();
        let runs = sweep["runs"].as_array().unwrap();
        let digests: std::collections::BTreeSet<_> =
            runs.iter().map(|run| run["digest"].as_str().unwrap()).collect();
        assert!(runs.len() > 1 && digests.len() == runs.len(), "{}: {sweep}", path.display());
        names.push(path.file_name().unwrap().to_owned());
    }
    assert!(names.len() >= 4, "{names:?}");
}

#[test]
fn every_parameter_of_the_plain_vit_gets_a_gradient() {
    let folder = Folder::new();
    let values: Vec<f32> = (0..2 * 3 * 32 * 32).map(|i| (i as f32 * 0.37).sin()).collect();
    let images = HostTensor::from_f32(vec![2, 3, 32, 32], &values).unwrap();
    let inputs: TensorMap = [("images", images)].into_iter().collect();
    write_safetensors(&folder.path("in.safetensors"), &inputs, &std::collections::BTreeMap::new()).unwrap();
    let args = [
        "trace",
        "tiny.yaml",
        "--set",
        VIT,
        "--inputs",
        "in.safetensors",
        "--out",
        "out.safetensors",
        "--grads",
    ];
    folder.succeeds(args);
    let outputs = weights::read(&folder.path("out.safetensors")).unwrap().tensors;
    assert_eq!(outputs.get("backbone.s1").unwrap().shape, [2, 1 + 4, 16]);
    assert_eq!(outputs.get("pred").unwrap().shape, [2, 16, 192]);
    let grads: Vec<_> = outputs.iter().filter(|(name, _)| name.starts_with("grad.")).collect();
    assert!(grads.iter().any(|(name, _)| *name == "grad.cls_token"));
    for (name, grad) in grads {
        assert!(grad.to_f32().iter().any(|&value| value != 0.0), "{name} is zero");
    }
}

#[test]
fn a_plain_vit_trains() {
    let folder = Folder::new();
    for (run, lr) in [("trained", "optimizer.lr=3e-3"), ("untrained", "optimizer.lr=0.0")] {
        folder.succeeds([
            "run",
            "tiny.yaml",
            "--set",
            VIT,
            "--set",
            lr,
            "--set",
            "train.length=8 epochs",
            "--out",
            run,
        ]);
    }
    let (trained, untrained) = (val_loss(&folder, "trained"), val_loss(&folder, "untrained"));
    assert!(trained < 0.9 * untrained, "{trained} {untrained}");
}

#[test]
fn masks_of_an_evaluation_do_not_depend_on_the_batch_size() {
    for masker in ["BlockwiseMasker", "RandomMasker"] {
        let folder = Folder::new();
        let masker = format!("model.mask.type={masker}");
        let losses = ["1", "3", "6"].map(|size| {
            let batch_size = format!("data.val.batch_size={size}");
            let sets =
                ["--set", &masker, "--set", &batch_size, "--set", "train.length=1 iteration", "--out", size];
            folder.succeeds(["run", "tiny.yaml"].into_iter().chain(sets));
            val_loss(&folder, size)
        });
        assert!(
            (losses[0] - losses[1]).abs() < 1e-5 && (losses[0] - losses[2]).abs() < 1e-5,
            "{masker}: {losses:?}"
        );
    }
}
