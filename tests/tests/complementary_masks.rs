//! Several masks per image: a pass under all of them is one pass under each. The oracle is a masked pass, which the official
//! implementation's numbers prove (`pretrain_golden.rs`), on the whole image, as the official code computes it.

use convmae_framework::weights::{HostTensor, TensorMap, read_safetensors};
use serde_json::Value;

use crate::golden::{assert_close, largest, on, trace_file, values, without_keys};
use crate::support::{Arithmetic, Folder, data, recipe, stdout};

/// Tokens of the goldens' images, and masks of each.
const TOKENS: usize = 196;
const MASKS: usize = 4;

/// Relative, of sums in another order.
fn tolerance() -> f32 {
    match on() {
        Arithmetic::Cpu => 5e-6,
        Arithmetic::Cuda => 1e-4,
        Arithmetic::Tf32 => 3e-2,
    }
}

fn trace(inputs: &TensorMap, args: &[&str]) -> TensorMap {
    let (recipe, weights) = (data("pretrain/narrow.yaml"), data("pretrain/state_dict.safetensors"));
    trace_file(&recipe, &weights, inputs, args)
}

/// The images and the noise of the goldens.
fn inputs() -> TensorMap {
    let io = read_safetensors(&data("pretrain/io.safetensors")).unwrap().tensors;
    ["images", "noise"].map(|name| (name.to_owned(), io.get(name).unwrap().clone())).into_iter().collect()
}

/// Those whose noise lets one mask keep a share of the tokens: the share comes first in the order of the noise.
fn inputs_of_share(share: usize) -> TensorMap {
    let mut inputs = inputs();
    let noise = values(&inputs, "noise");
    let turned: Vec<f32> = noise
        .chunks_exact(TOKENS)
        .flat_map(|noise| {
            let place = |value: &f32| noise.iter().filter(|other| *other < value).count();
            let turn = move |place: usize| (place + TOKENS - share * TOKENS / MASKS) % TOKENS;
            noise.iter().map(move |value| turn(place(value)) as f32 / TOKENS as f32).collect::<Vec<_>>()
        })
        .collect();
    inputs.insert("noise", HostTensor::from_f32(vec![turned.len() / TOKENS, TOKENS], &turned).unwrap());
    inputs
}

const COMPLEMENTARY: &str = "model.mask={ type: ComplementaryMasker, masks: 4 }";
const DENSE: &str = "model.backbone.computation=dense";

/// A pass under all masks, and one pass under each, with gradients.
fn passes(args: &[&str]) -> (TensorMap, Vec<TensorMap>) {
    let together = ["--grads", "--set", COMPLEMENTARY].into_iter().chain(args.iter().copied());
    let together = trace(&inputs(), &together.collect::<Vec<_>>());
    let apart = ["--grads", "--set", DENSE].into_iter().chain(args.iter().copied()).collect::<Vec<_>>();
    (together, (0..MASKS).map(|share| trace(&inputs_of_share(share), &apart)).collect())
}

#[test]
fn a_pass_under_four_complementary_masks_is_four_passes_and_its_loss_the_mean() {
    for norm_pix in ["true", "false"] {
        let norm_pix = format!("model.decoder.norm_pix_loss={norm_pix}");
        let (together, apart) = passes(&["--set", &norm_pix]);
        for name in ["latent", "tokens_in_blocks3", "stage1_embed", "pred"] {
            let found = values(&together, name);
            let views = found.len() / (2 * MASKS);
            for (share, pass) in apart.iter().enumerate() {
                let expected = values(pass, name);
                for (image, expected) in expected.chunks_exact(views).enumerate() {
                    let found = &found[(image * MASKS + share) * views..][..views];
                    assert_close(
                        &format!("{name} {image} {share}"),
                        found,
                        expected,
                        tolerance() * largest(expected),
                    );
                }
            }
        }
        assert_mean("loss", &together, &apart);
        let losses: Vec<f32> = apart.iter().map(|pass| values(pass, "loss")[0]).collect();
        assert!(
            losses.iter().all(|loss| (loss - losses[0]).abs() > 1e-4 || *loss == losses[0]),
            "{losses:?}"
        );
        let gradients: Vec<_> = together.names().filter(|name| name.starts_with("grad.")).collect();
        assert_eq!(gradients.len(), 103);
        gradients.into_iter().for_each(|name| assert_mean(name, &together, &apart));
    }
}

/// That values of a pass are the means of those of the others.
#[track_caller]
fn assert_mean(name: &str, together: &TensorMap, apart: &[TensorMap]) {
    let mut mean = vec![0.0; values(together, name).len()];
    for pass in apart {
        mean.iter_mut().zip(values(pass, name)).for_each(|(mean, value)| *mean += value / apart.len() as f32);
    }
    let (mean, found) = (without_keys(name, mean), without_keys(name, values(together, name)));
    // Of the largest one under one mask: in their mean large ones may cancel.
    let scale = apart.iter().map(|pass| largest(&without_keys(name, values(pass, name)))).fold(0.0, f32::max);
    assert_close(name, &found, &mean, 2.0 * tolerance() * scale);
}

#[test]
fn whether_masked_patches_are_computed_makes_no_difference() {
    let [sparse, dense] = [&["--grads"][..], &["--grads", "--set", DENSE]].map(|args| {
        trace(&inputs(), &args.iter().copied().chain(["--set", COMPLEMENTARY]).collect::<Vec<_>>())
    });
    for name in ["latent", "pred", "loss", "grad.patch_embed1.proj.weight", "grad.blocks1.0.attn.weight"] {
        let dense = values(&dense, name);
        assert_close(name, &values(&sparse, name), &dense, 2.0 * tolerance() * largest(&dense));
    }
    assert_eq!(sparse.get("backbone.s1").unwrap().shape, [2 * 4, 49 * 16, 8]);
    assert_eq!(dense.get("backbone.s1").unwrap().shape, [2 * 4, 196 * 16, 8]);
}

#[test]
fn a_plain_vit_takes_them_too() {
    let folder = Folder::new();
    let vit =
        "model.backbone={ type: ViT, from: mask, patch_size: 16, embed_dim: 32, depth: 1, num_heads: 2 }";
    let args = ["--set", "image_size=64", "--set", "model.mask={ type: ComplementaryMasker, masks: 8 }"];
    let small = ["--set", vit, "--set", "data.train.dataset.size=64", "--set", "train.length=1 iteration"];
    let narrow = data("pretrain/narrow.yaml");
    folder.succeeds(["run", narrow.to_str().unwrap()].into_iter().chain(args).chain(small));
}

/// `--json` of `check`.
fn checked(name: &str, args: &[&str]) -> Value {
    let path = recipe(name);
    let args = ["check", path.to_str().unwrap(), "--json"].into_iter().chain(args.iter().copied());
    serde_json::from_str(&stdout(&Folder::new().succeeds(args))).unwrap()
}

#[test]
fn the_base_model_costs_four_passes_and_less_than_the_official_one() {
    let fast = checked("pretrain/fastconvmae_base.yaml", &[]);
    let plain = checked("pretrain/convmae_base.yaml", &[]);
    assert_eq!(fast["parameters"], 115_041_408);
    for kind in ["computed", "dense"] {
        let macs = |check: &Value| check["macs"][kind].as_u64().unwrap();
        assert_eq!(macs(&fast), 4 * macs(&plain), "{kind}");
    }
    // 45.1 G of the official model (docs/source/model_zoo_ssl.md of alibaba/EasyCV), whose depthwise convolution goes
    // over the whole image once for each mask.
    let computed = fast["macs"]["computed"].as_u64().unwrap() as f64 / 1e9;
    assert!((43.0..45.1).contains(&computed), "{computed}");
    let text = stdout(
        &Folder::new().succeeds(["check", recipe("pretrain/fastconvmae_base.yaml").to_str().unwrap()]),
    );
    for words in ["4 x 49 of 196 tokens", "4 x s3 [49, 768]"] {
        assert!(text.contains(words), "{words}: {text}");
    }
}

#[test]
fn shares_that_are_not_equal_are_refused_at_their_line() {
    let folder = Folder::new();
    folder.recipe_with("BlockwiseMasker", "ComplementaryMasker, masks: 7");
    folder.fails(["check", "recipe.yaml"], 2, &["masks", "no 7 equal shares", "choose a divisor of"]);
}
