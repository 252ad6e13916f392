//! What people ask of a training: weights of classes, frozen parts, whole epochs, going on after the end; and
//! warnings where nothing would be learned.

use std::fs;

use convmae_framework::component::ParameterGroup;
use convmae_framework::graph::{Checked, Model, catalog, check};
use convmae_framework::nn::{Param, Scope};
use convmae_framework::recipe::{Sources, load};
use convmae_framework::report::{MetricLog, Split, Summary};
use convmae_framework::weights::{TensorMap, read_safetensors};
use image::{Rgb, RgbImage};
use serde_json::{Value, json};

use crate::support::{Folder, data, recipe, stderr, stdout};

/// A folder with the recipe of a classifier that starts from scratch, `classifier.yaml`.
fn classifier() -> Folder {
    let folder = Folder::new();
    let text = fs::read_to_string(data("tiny_classifier.yaml")).unwrap();
    let (start, rest) = text.split_once("init_from:").unwrap();
    let (_, end) = rest.split_once("optimizer:").unwrap();
    fs::write(folder.path("classifier.yaml"), format!("{start}optimizer:{end}")).unwrap();
    folder
}

/// A folder with `classes.yaml` and the images that it names: three classes, four images of each.
fn classes() -> Folder {
    let folder = Folder::new();
    fs::copy(data("cases/classes.yaml"), folder.path("classes.yaml")).unwrap();
    for split in ["train", "val"] {
        for (number, class) in ["cat", "dog", "fox"].into_iter().enumerate() {
            let root = folder.path(&format!("data/{split}/{class}"));
            fs::create_dir_all(&root).unwrap();
            for at in 0..4 {
                let color = Rgb([80 * number as u8, 60 * at, 200]);
                RgbImage::from_pixel(20, 20, color).save(root.join(format!("{at}.png"))).unwrap();
            }
        }
    }
    folder
}

fn weights(folder: &Folder, run: &str) -> TensorMap {
    read_safetensors(&folder.path(run).join("model.safetensors")).unwrap().tensors
}

fn summary(folder: &Folder, run: &str, figure: &str) -> f64 {
    let summary = Summary::read(&folder.path(run).join("summary.json")).unwrap();
    summary.get(figure).and_then(Value::as_f64).unwrap()
}

fn checked(folder: &Folder, args: &[&str]) -> Value {
    let args = ["check"].iter().chain(args).chain(&["--json"]).copied();
    serde_json::from_str(&stdout(&folder.succeeds(args))).unwrap()
}

/// mmsegmentation divides by the number of pixels: weights of 2 make twice the loss. PyTorch divides by the weights:
/// then they change nothing.
#[test]
fn class_weights_scale_the_loss_of_pixels_and_weigh_images_against_each_other() {
    let folder = classifier();
    fs::copy(data("tiny_segmentation.yaml"), folder.path("segmentor.yaml")).unwrap();
    let one = ["--set", "train.length=1 iterations", "--set", "evaluate.pictures=0"];
    let loss = |recipe: &str, run: &str, sets: &[&str], figure: &str| {
        let args = ["run", recipe, "--out", run].into_iter().chain(one).chain(sets.iter().copied());
        folder.succeeds(args);
        summary(&folder, run, figure)
    };
    let (from_scratch, figure) = (["--set", "init_from=null"], "train.decode.loss_seg");
    let twos = |classes: usize| json!(vec![2.0; classes]).to_string();
    let plain = loss("segmentor.yaml", "plain", &from_scratch, figure);
    let set = format!("model.decode.class_weight={}", twos(11));
    let doubled = loss("segmentor.yaml", "doubled", &["--set", "init_from=null", "--set", &set], figure);
    assert!((doubled / plain - 2.0).abs() < 1e-6, "{doubled}, {plain}");

    let plain = loss("classifier.yaml", "images", &[], "train.loss");
    let set = format!("model.classifier.class_weight={}", twos(10));
    let same = loss("classifier.yaml", "weighted", &["--set", &set], "train.loss");
    assert!((same / plain - 1.0).abs() < 1e-6, "{same}, {plain}");

    for (recipe, key) in [("segmentor.yaml", "model.decode"), ("classifier.yaml", "model.classifier")] {
        let set = format!("{key}.class_weight=[0.1, 1.0, 1.0]");
        let words = format!("{key}.class_weight: 3 weights for 1");
        folder.fails(["check", recipe, "--set", &set], 2, &[&words, "write one number for each class"]);
    }
}

#[test]
fn what_is_frozen_stays_as_it_was_pretrained_and_check_tells_how_much_is_trained() {
    let folder = Folder::new();
    fs::copy(data("tiny_classifier.yaml"), folder.path("classifier.yaml")).unwrap();
    folder.succeeds(["run", "tiny.yaml", "--out", "run", "--set", "train.length=3 iterations"]);
    let source = weights(&folder, "run");
    let names = "model.backbone.frozen=[patch_embed*, blocks1.*, blocks2.*, pos_embed]";
    for (run, frozen) in [("named", names), ("counted", "model.backbone.frozen=2")] {
        folder.succeeds(["run", "classifier.yaml", "--out", run, "--set", frozen]);
        let tuned = weights(&folder, run);
        let (mut kept, mut trained) = (0, 0);
        for (name, tensor) in tuned.iter() {
            let Some(before) = source.get(name) else { continue };
            let stage = ["patch_embed1.", "patch_embed2.", "blocks1.", "blocks2."];
            let between =
                ["patch_embed3.", "patch_embed4.", "pos_embed"].iter().any(|start| name.starts_with(start));
            let is_kept = stage.iter().any(|start| name.starts_with(start)) || between && run == "named";
            assert_eq!(tensor == before, is_kept, "{run}: {name}");
            if is_kept { kept += 1 } else { trained += 1 }
        }
        assert!(kept > 20 && trained > 10, "{run}: {kept} kept, {trained} trained");
    }
    let table = checked(&folder, &["classifier.yaml", "--set", names]);
    // The third stage has one block of 16 channels: norms, qkv, proj, fc1 and fc2.
    let block = 2 * 2 * 16 + (3 * 16 * 16 + 3 * 16) + (16 * 16 + 16) + (16 * 64 + 64) + (64 * 16 + 16);
    let head = 2 * 16 + 10 * 16 + 10;
    let trainable: Vec<_> =
        table["nodes"].as_array().unwrap().iter().map(|node| &node["trainable"]).collect();
    assert_eq!(trainable, [block, head]);
    assert_eq!(table["trainable"], block + head);
    let wrong = ["check", "classifier.yaml", "--set", "model.backbone.frozen=[blocks1.*, block2.*]"];
    folder.fails(wrong, 2, &["model.backbone.frozen.1: the node has no parameter `block2.*`"]);
    let many = ["check", "classifier.yaml", "--set", "model.backbone.frozen=4"];
    folder.fails(many, 2, &["model.backbone.frozen: there are 3 blocks, not 4"]);
    let head = ["check", "classifier.yaml", "--set", "model.classifier.frozen=1"];
    folder.fails(head, 2, &["model.classifier.frozen: it has no blocks to count"]);
}

#[test]
fn a_head_of_one_class_and_a_schedule_beyond_the_training_are_warned_of_at_their_keys() {
    let folder = Folder::new();
    fs::copy(data("tiny_classifier.yaml"), folder.path("recipe.yaml")).unwrap();
    let text = fs::read_to_string(folder.path("recipe.yaml")).unwrap();
    let text = text.replace("warmup: 2 iterations", "warmup: 40 epochs, min_lr: 1.0e-2");
    fs::write(folder.path("recipe.yaml"), text).unwrap();
    let check = folder.succeeds(["check", "recipe.yaml"]);
    let expected = [
        (
            "warmup: |40 epochs",
            "schedule.warmup: the warm-up (40 epochs) is longer than the training (12 iterations)",
        ),
        ("min_lr: |1.0e-2", "schedule.min_lr: 1e-2 is more than the learning rate, 1e-3"),
    ];
    for (key, words) in expected {
        let line = format!("{}: {words}", folder.place(key));
        assert!(stderr(&check).contains(&line), "{line}: {}", stderr(&check));
    }
    let still = ["--set", "init_from=null", "--set", "evaluate.pictures=0"];
    let run = stderr(&folder.succeeds(["run", "recipe.yaml", "--out", "run"].into_iter().chain(still)));
    // 6 steps an epoch; the last of 12 is at 11 / 6 of 40 epochs.
    let words = "is longer than the training (2 epochs): the learning rate ends at 4.6e-5 of 1e-3";
    assert!(run.contains(words), "{run}");
    assert!(fs::read_to_string(folder.path("run/log.jsonl")).unwrap().contains(words));

    let folder = classes();
    for split in ["train", "val"] {
        for class in ["dog", "fox"] {
            fs::remove_dir_all(folder.path(&format!("data/{split}/{class}"))).unwrap();
        }
    }
    let one = ["--set", "model.classifier.num_classes=1"];
    for command in ["check", "run"] {
        let told = stderr(&folder.succeeds([command, "classes.yaml"].into_iter().chain(one)));
        let words = "model.classifier.num_classes: with one class the loss is 0 whatever the model predicts";
        assert!(told.contains(words), "{command}: {told}");
    }
    let quiet = stderr(&classes().succeeds(["check", "classes.yaml"]));
    assert!(!quiet.contains("WARN"), "{quiet}");
}

#[test]
fn the_last_step_of_an_epoch_takes_the_images_that_are_left() {
    let folder = Folder::new();
    let run = |name: &str, batch: &str, accumulate: &str| {
        let [batch, accumulate] = [("data.train.batch_size", batch), ("train.accumulate", accumulate)]
            .map(|(key, value)| format!("{key}={value}"));
        let sets = [
            "train.drop_last=false",
            "train.length=2 epochs",
            "train.ema=null",
            "data.train.dataset.length=22",
            "evaluate.every=9 epochs",
            "schedule.warmup=0 epochs",
            &batch,
            &accumulate,
        ];
        let sets = sets.iter().flat_map(|set| ["--set", set]);
        folder.succeeds(["run", "tiny.yaml", "--out", name].into_iter().chain(sets));
        let log = MetricLog::open(&folder.path(name).join("metrics.parquet")).unwrap();
        log.series(Split::Train, "loss").iter().map(|point| point.value).collect::<Vec<_>>()
    };
    // 8, 8 and 6 images, in micro-batches of 4, 4, 4, 4, 4, 2 or not.
    let (parts, whole) = (run("parts", "4", "2"), run("whole", "8", "1"));
    assert_eq!((parts.len(), whole.len()), (6, 6));
    for (step, (part, whole)) in parts.iter().zip(&whole).enumerate() {
        assert!((part / whole - 1.0).abs() < 1e-5, "step {step}: {part}, {whole}");
    }
    // Fewer images than a batch are an epoch, too.
    assert_eq!(run("few", "64", "1").len(), 2);
    let few = ["run", "tiny.yaml", "--out", "none", "--set", "data.train.batch_size=64"];
    folder.fails(few, 2, &["set `train.drop_last: false`"]);
}

#[test]
fn a_run_that_is_trained_longer_is_what_its_recipe_makes_in_one_go() {
    let folder = classifier();
    folder.succeeds(["run", "classifier.yaml", "--out", "a", "--set", "train.length=4 iterations"]);
    let refused = ["run", "classifier.yaml", "--out", "a", "--resume", "--set", "train.length=7 iterations"];
    folder.fails(
        refused,
        2,
        &["train.length: \"4 iterations\" -> \"7 iterations\"", "--extend 3 iterations"],
    );
    let told = stderr(&folder.succeeds(["run", "a", "--extend", "3", "iterations"]));
    assert!(
        told.contains("trained longer by 3 iterations, to 1.17 epochs (7 steps): from step 4 on"),
        "{told}"
    );
    // Half a cosine over 4 steps, 2 of them warm-up, and over 7.
    assert!(told.contains("5.00e-4 at the end so far, goes on with 6.55e-4"), "{told}");
    let lock = fs::read_to_string(folder.path("a/recipe.lock.yaml")).unwrap();
    assert!(lock.contains("extended:\n  - 3 iterations\n"), "{lock}");
    let log = MetricLog::open(&folder.path("a/metrics.parquet")).unwrap();
    assert_eq!(log.series(Split::Train, "lr").len(), 7);
    folder.succeeds(["run", "a/recipe.lock.yaml", "--out", "b"]);
    let bytes = |run: &str| fs::read(folder.path(run).join("model.safetensors")).unwrap();
    assert!(bytes("a") == bytes("b"), "other weights than those of the recipe in one go");
    // It is finished, of whichever recipe it is resumed, and can be trained longer again.
    let again = ["run", "classifier.yaml", "--out", "a", "--resume", "--set", "train.length=4 iterations"];
    assert!(stderr(&folder.succeeds(again)).contains("is finished"));
    folder.succeeds(["run", "a", "--extend", "1 epoch"]);
    let lock = fs::read_to_string(folder.path("a/recipe.lock.yaml")).unwrap();
    assert!(lock.contains("extended:\n  - 3 iterations\n  - 1 epoch\n"), "{lock}");
    assert!((summary(&folder, "a", "step") - 13.0).abs() < 0.5);

    fs::remove_dir_all(folder.path("b/checkpoints")).unwrap();
    folder.fails(
        ["run", "b", "--extend", "1 epoch"],
        2,
        &["b: there is no checkpoint of its end, and so no state"],
    );
    let nothing = ["run", "classifier.yaml", "--out", "c", "--extend", "1 epoch"];
    folder.fails(nothing, 2, &["there is no run in c that could be trained longer"]);
    folder.fails(["run", "a", "--extend", "soon"], 2, &["--extend: `soon` is not a length"]);
    folder.fails(["run", "a", "--extend", "0 epochs"], 2, &["there is nothing to add"]);
}

#[test]
fn a_run_whose_data_moved_goes_on_and_one_with_other_data_does_not() {
    let folder = classes();
    for run in ["stays", "moves"] {
        folder.succeeds(["run", "classes.yaml", "--out", run]);
    }
    folder.succeeds(["run", "stays", "--extend", "1 epoch"]);
    fs::rename(folder.path("data"), folder.path("elsewhere")).unwrap();
    let moved = [
        "--set",
        "data.train.dataset.root=elsewhere",
        "--set",
        "data.val.dataset.root=elsewhere",
        "--set",
        "data.max_corrupt=0.5",
    ];
    let longer = ["run", "moves", "--extend", "1 epoch"].into_iter().chain(moved);
    folder.succeeds(longer);
    assert_eq!(weights(&folder, "moves"), weights(&folder, "stays"));
    // The recipe of the run knows where they are now.
    folder.succeeds(["eval", "moves"]);

    fs::rename(folder.path("elsewhere/train/fox/3.png"), folder.path("elsewhere/train/fox/other.png"))
        .unwrap();
    let resumed = ["run", "classes.yaml", "--out", "moves", "--resume"].into_iter().chain(moved);
    folder.fails(resumed, 2, &["`data.train.dataset`: they are not the images that the run had"]);
}

/// A recipe of the repository, overridden: parameters as they are described, and the groups of its optimizer.
fn described(path: &str, sets: &[&str]) -> (Vec<Param>, Checked) {
    let sets = sets.iter().map(|&set| set.to_owned()).collect();
    let loaded = load(&Sources { recipe: recipe(path), sets, ..Sources::default() }, &catalog()).unwrap();
    let checked = check(&loaded).unwrap();
    let model = Model::build(&checked.plan, checked.image, &Scope::describe()).unwrap();
    (model.params(), checked)
}

/// Names and shapes of `vit_base_patch16` of `models_vit.py` (facebookresearch/mae) up to its head.
fn vit_base() -> Vec<(String, Vec<usize>)> {
    let mut params = vec![
        ("cls_token".to_owned(), vec![1, 1, 768]),
        ("pos_embed".to_owned(), vec![1, 197, 768]),
        ("patch_embed.proj.weight".to_owned(), vec![768, 3, 16, 16]),
        ("patch_embed.proj.bias".to_owned(), vec![768]),
    ];
    for block in 0..12 {
        for (part, outputs, inputs) in
            [("attn.qkv", 2304, 768), ("attn.proj", 768, 768), ("mlp.fc1", 3072, 768), ("mlp.fc2", 768, 3072)]
        {
            params.push((format!("blocks.{block}.{part}.weight"), vec![outputs, inputs]));
            params.push((format!("blocks.{block}.{part}.bias"), vec![outputs]));
        }
        for part in ["norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias"] {
            params.push((format!("blocks.{block}.{part}"), vec![768]));
        }
    }
    params
}

fn sorted(params: impl IntoIterator<Item = (String, Vec<usize>)>) -> Vec<(String, Vec<usize>)> {
    let mut params: Vec<_> = params.into_iter().collect();
    params.sort();
    params
}

fn names_and_shapes(params: &[Param]) -> Vec<(String, Vec<usize>)> {
    sorted(params.iter().map(|param| (param.name().to_owned(), param.shape().to_vec())))
}

/// `param_groups_lrd` of `util/lr_decay.py` (facebookresearch/mae) with `no_weight_decay` of timm's `VisionTransformer`.
#[test]
fn mae_is_finetuned_with_the_parameters_and_groups_of_the_official_code() {
    let path = "finetune/mae_base_100ep.yaml";
    let (params, checked) = described(path, &[]);
    let head = [
        ("fc_norm.weight", vec![768]),
        ("fc_norm.bias", vec![768]),
        ("head.weight", vec![1000, 768]),
        ("head.bias", vec![1000]),
    ];
    let head = head.map(|(name, shape)| (name.to_owned(), shape));
    assert_eq!(names_and_shapes(&params), sorted(vit_base().into_iter().chain(head)));
    assert_eq!((checked.summary.parameters, checked.summary.trainable), (86_567_656, 86_567_656));
    let experiment = &checked.experiment;
    let images = experiment.data.train.batch_size * experiment.train.accumulate;
    assert_eq!((images, experiment.optimizer.base_lr(images)), (1024, 2e-3));

    // As many blocks, but narrow: the groups are those of the names.
    let narrow = ["image_size=32", "model.backbone.embed_dim=8", "model.backbone.num_heads=2"];
    let (params, checked) = described(path, &narrow);
    let mut expected: Vec<ParameterGroup> = Vec::new();
    for param in &params {
        let layer = match param.name().split('.').collect::<Vec<_>>()[..] {
            ["cls_token" | "pos_embed" | "patch_embed", ..] => 0,
            ["blocks", block, ..] => block.parse::<i32>().unwrap() + 1,
            _ => 13,
        };
        let decayed = param.shape().len() > 1 && !["pos_embed", "cls_token"].contains(&param.name());
        let name = format!("layer_{layer}_{}", if decayed { "decay" } else { "no_decay" });
        if expected.iter().all(|group| group.name != name) {
            let (lr_scale, weight_decay) = (0.65_f64.powi(13 - layer), if decayed { 0.05 } else { 0.0 });
            let name = name.clone();
            expected.push(ParameterGroup { name, tensors: 0, parameters: 0, lr_scale, weight_decay });
        }
        let group = expected.iter_mut().find(|group| group.name == name).unwrap();
        group.tensors += 1;
        group.parameters += param.numel() as u64;
    }
    let groups = checked.experiment.optimizer.build(&params).unwrap().groups();
    assert_eq!(groups.len(), 28);
    assert_eq!(groups, expected);
}

/// `main_linprobe.py` of facebookresearch/mae: all but the last linear layer is frozen.
#[test]
fn mae_is_probed_with_the_parameters_of_the_official_code() {
    let (params, checked) = described("linprobe/mae_base_90ep.yaml", &[]);
    let head = [
        ("norm.weight", vec![768]),
        ("norm.bias", vec![768]),
        ("head.0.running_mean", vec![768]),
        ("head.0.running_var", vec![768]),
        ("head.0.num_batches_tracked", vec![]),
        ("head.1.weight", vec![1000, 768]),
        ("head.1.bias", vec![1000]),
    ];
    let head = head.map(|(name, shape)| (name.to_owned(), shape));
    assert_eq!(names_and_shapes(&params), sorted(vit_base().into_iter().chain(head)));
    let trained: Vec<_> = params.iter().filter(|param| param.requires_grad()).map(Param::name).collect();
    assert_eq!(trained, ["head.1.weight", "head.1.bias"]);
    let experiment = &checked.experiment;
    let images = experiment.data.train.batch_size * experiment.train.accumulate;
    assert_eq!((images, experiment.optimizer.base_lr(images)), (16_384, 6.4));
}

/// No evaluation is so much better than the first one.
const STUCK: [&str; 8] = [
    "--set",
    "evaluate.every=2 iterations",
    "--set",
    "train.stop={ patience: 3, min_delta: 100 }",
    "--set",
    "checkpoint.every=1 iteration",
    "--set",
    "checkpoint.keep=9",
];

fn text(folder: &Folder, run: &str, figure: &str) -> Option<String> {
    let summary = Summary::read(&folder.path(run).join("summary.json")).unwrap();
    summary.get(figure).and_then(Value::as_str).map(str::to_owned)
}

#[test]
fn a_training_that_gets_no_better_ends_early_and_is_finished() {
    let folder = Folder::new();
    let run = |out: &str, more: &[&str]| {
        let args = ["run", "tiny.yaml", "--out", out].into_iter().chain(STUCK).chain(more.iter().copied());
        stderr(&folder.succeeds(args))
    };
    let log = run("run", &[]);
    // The first is after step 2, three more that are no better after steps 4, 6 and 8.
    assert!(
        log.contains("stopped early, after step 8 of 12: 3 evaluations without a better loss than "),
        "{log}"
    );
    assert_eq!(summary(&folder, "run", "step"), 8.0);
    assert_eq!(text(&folder, "run", "status").unwrap(), "finished");
    let reason = text(&folder, "run", "stopped_early").unwrap();
    assert!(reason.ends_with(" after step 2"), "{reason}");
    let page = fs::read_to_string(folder.path("run/report.html")).unwrap();
    assert!(page.contains(&format!("Stopped early: {reason}.")));
    assert!(run("run", &["--resume"]).contains("the run in run is finished"));
    let longer = ["run", "run", "--extend", "5 iterations"];
    folder.fails(longer, 2, &["`train.stop` ends this training, however long it is: 3 evaluations"]);

    // One with more patience goes on to its length.
    run("patient", &["--set", "train.stop.patience=6"]);
    assert_eq!(
        (summary(&folder, "patient", "step"), text(&folder, "patient", "stopped_early")),
        (12.0, None)
    );
}

/// As if it had never been interrupted: killed after the second of three evaluations.
#[test]
fn a_resumed_run_has_waited_as_long_as_before() {
    let folder = Folder::new();
    let begin = ["run", "tiny.yaml", "--out", "run"].into_iter().chain(STUCK);
    folder.succeeds(begin.clone());
    let whole = weights(&folder, "run");
    for name in ["summary.json", "model.safetensors", "report.html"] {
        fs::remove_file(folder.path("run").join(name)).unwrap();
    }
    for step in 7..=8 {
        fs::remove_file(folder.path(&format!("run/checkpoints/step-{step:08}.safetensors"))).unwrap();
    }
    let log = stderr(&folder.succeeds(begin.chain(["--resume"])));
    assert!(log.contains("resumed at step 6 "), "{log}");
    assert!(log.contains("stopped early, after step 8 of 12"), "{log}");
    assert!(weights(&folder, "run") == whole);
}

#[test]
fn what_is_waited_for_has_to_be_measured() {
    let folder = classifier();
    let check = |sets: &[&str], words: &[&str]| {
        let args = ["check", "classifier.yaml"].into_iter().chain(sets.iter().flat_map(|set| ["--set", set]));
        folder.fails(args, 2, words);
    };
    check(
        &["train.stop={ patience: 1 }", "evaluate.evaluators=[]"],
        &["train.stop: nothing is evaluated that could get better"],
    );
    check(
        &["train.stop={ patience: 1, metric: top5 }"],
        &["train.stop.metric: whether more of `top5` is better is not known", "it is known of `top1`"],
    );
    check(&["train.stop={ patience: 0 }"], &["train.stop.patience"]);
    let stop = "train.stop={ patience: 1, metric: top7, mode: max }";
    let run = ["run", "classifier.yaml", "--set", stop, "--dry-run"];
    folder.fails(run, 2, &["there is no metric `top7`; measured are `top1`"]);
    folder.succeeds([
        "check",
        "classifier.yaml",
        "--set",
        "train.stop={ patience: 1, metric: top5, mode: max }",
    ]);
}
