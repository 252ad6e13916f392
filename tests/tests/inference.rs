//! Classes of pixels of images of any size: evaluated, drawn, predicted, and what is said where that cannot
//! be.

use std::fs;

use convmae_framework::data::read_labels;
use convmae_framework::report::{PictureStore, Summary};
use convmae_framework::weights;
use serde_json::Value;

use crate::support::{Folder, data, stdout};

/// A folder with the recipe of a model of pixels.
fn folder() -> Folder {
    let folder = Folder::new();
    fs::copy(data("tiny_pixels.yaml"), folder.path("recipe.yaml")).unwrap();
    folder
}

/// A folder with a finished run, `run`.
fn finished() -> Folder {
    let folder = folder();
    folder.succeeds(["run", "recipe.yaml", "--out", "run"]);
    folder
}

/// Checks the recipe with one text replaced; `at` is the text that is pointed at.
fn refused(from: &str, to: &str, at: &str, words: &[&str]) {
    let folder = folder();
    let recipe = fs::read_to_string(folder.path("recipe.yaml")).unwrap();
    assert!(recipe.contains(from), "{from}");
    fs::write(folder.path("recipe.yaml"), recipe.replacen(from, to, 1)).unwrap();
    folder.fails(["check", "recipe.yaml"], 2, &[words, &[folder.place(at).as_str()]].concat());
}

/// What `convmae eval` of the run says of a metric, with some values set.
fn evaluated(folder: &Folder, metric: &str, sets: &[&str]) -> f64 {
    let sets = sets.iter().flat_map(|set| ["--set", *set]);
    let args = ["eval", "run", "--json"].into_iter().chain(sets);
    let report: Value = serde_json::from_str(&stdout(&folder.succeeds(args))).unwrap();
    report["metrics"][metric].as_f64().unwrap()
}

#[test]
fn a_run_evaluates_and_draws_images_of_any_size() {
    let folder = finished();
    let summary = Summary::read(&folder.path("run/summary.json")).unwrap();
    let of_run = summary.get("val.mIoU").and_then(Value::as_f64).unwrap();
    assert!((0.0..=100.0).contains(&of_run), "{of_run}");
    assert_eq!(evaluated(&folder, "mIoU", &[]).to_bits(), of_run.to_bits(), "training and `eval` agree");
    let one_by_one = evaluated(&folder, "aAcc", &["evaluate.inference.windows_per_batch=1"]);
    assert!((one_by_one - evaluated(&folder, "aAcc", &[])).abs() < 1.0);

    let pictures = PictureStore::new(folder.path("run/pictures")).load(6).unwrap();
    let captions: Vec<_> = pictures.rows[0].iter().map(|picture| picture.caption.as_str()).collect();
    assert_eq!((captions, pictures.rows.len()), (vec!["original", "prediction", "label"], 2));
    assert!(pictures.rows[0].iter().all(|picture| picture.image.dimensions() == (50, 36)));
    let page = fs::read_to_string(folder.path("run/report.html")).unwrap();
    let legend = r#"<span class="swatch" style="background:#000000"></span>background"#;
    assert!(page.contains(legend), "the legend of the label maps");

    let weights = weights::read(&folder.path("run/model.safetensors")).unwrap();
    let names: Vec<String> =
        serde_json::from_str(weights.metadata["convmae.pixel_classes"].as_str().unwrap()).unwrap();
    assert_eq!((names.len(), &*names[0]), (11, "background"));
}

#[test]
fn an_image_smaller_than_a_window_is_evaluated() {
    let folder = finished();
    let small = ["data.val.dataset.size=[20, 44]", "data.val.transforms=[{ type: Normalize }]"];
    assert!(evaluated(&folder, "aAcc", &small) > 0.0);
    let whole = [small[0], small[1], "evaluate.inference={ type: WholeInference, scales: [1, 1.5] }"];
    assert!(evaluated(&folder, "aAcc", &whole) > 0.0);
}

#[test]
fn predict_draws_the_classes_of_pixels_as_large_as_the_image() {
    let folder = finished();
    let image = data("transforms/chelsea.png");
    let size = image::image_dimensions(&image).unwrap();
    let predict = |out: &str, sets: &[&str]| -> Vec<Value> {
        let sets = sets.iter().flat_map(|set| ["--set", *set]);
        let args =
            ["predict", "run", image.to_str().unwrap(), "--out", out, "--json"].into_iter().chain(sets);
        serde_json::from_str(&stdout(&folder.succeeds(args))).unwrap()
    };
    let predictions = predict("pictures", &[]);
    let classes = predictions[0]["pixel_classes"].as_array().unwrap();
    let share = |class: &Value| class["share"].as_f64().unwrap();
    assert!((classes.iter().map(share).sum::<f64>() - 1.0).abs() < 1e-9, "{classes:?}");
    assert!(classes.is_sorted_by(|a, b| share(a) >= share(b)) && classes[0]["name"].is_string());

    let labels = read_labels(&folder.path("pictures/000-chelsea-labels.png")).unwrap().into_luma8();
    assert_eq!(labels.dimensions(), size);
    assert!(labels.as_raw().iter().all(|&class| class < 11));
    let overlay = image::open(folder.path("pictures/000-chelsea-overlay.png")).unwrap();
    assert_eq!((overlay.width(), overlay.height()), size);
    let legend: Value =
        serde_json::from_slice(&fs::read(folder.path("pictures/000-chelsea-labels.json")).unwrap()).unwrap();
    let colors: Vec<_> = legend.as_array().unwrap().iter().map(|class| class["color"].as_str()).collect();
    assert_eq!(colors.len(), classes.len());
    assert!(colors.iter().all(|color| color.is_some_and(|color| color.starts_with('#'))), "{legend}");
    assert_eq!(legend[0]["name"], classes[0]["name"]);

    // Without an inference it is as large as the model's images.
    let transforms = "data.val.transforms=[{ type: Resize, size: 32 }, { type: CenterCrop, size: 32 }, { type: Normalize }]";
    predict("small", &[transforms, "evaluate.inference=null"]);
    let labels = read_labels(&folder.path("small/000-chelsea-labels.png")).unwrap().into_luma8();
    assert_eq!(labels.dimensions(), (32, 32));
    let text = stdout(&folder.succeeds(["predict", "run", image.to_str().unwrap()]));
    assert!(text.contains("% of its pixels  "), "{text}");
}

#[test]
fn a_stride_that_leaves_pixels_out() {
    let words = [
        "evaluate.inference.stride: a stride of 33 leaves pixels out between windows of 32 x 32 (`image_size`)",
        "1 to 32",
    ];
    refused("stride: 20", "stride: 33", "stride: |33", &words);
    refused(
        "image_size: 32",
        "image_size: [32, 16]",
        "stride: |20",
        &["between windows of 32 x 16", "1 to 16"],
    );
}

#[test]
fn an_inference_that_is_never_shown_anything() {
    let words = ["evaluate.inference.scales"];
    refused("flip: true", "scales: []", "scales: |[]", &words);
    refused("flip: true", "scales: [0]", "scales: [|0]", &["evaluate.inference.scales.0", "out of range"]);
}

#[test]
fn an_inference_without_a_head_of_pixels() {
    let folder = Folder::new();
    let words = ["evaluate.inference: no head of the model predicts classes of pixels", "add the head"];
    folder.fails(["check", "tiny.yaml", "--set", "evaluate.inference={ type: WholeInference }"], 2, &words);
}

#[test]
fn losses_of_images_of_another_size() {
    let folder = folder();
    let losses = "evaluate.evaluators=[{ type: MeanIoU }, { type: ReconstructionLoss }]";
    let words =
        ["synthetic/val/0 is 36 x 50; an evaluator measures the losses", "`image_size` (32 x 32) only"];
    let args = ["run", "recipe.yaml", "--set", losses, "--set", "evaluate.pictures=0", "--out", "run"];
    folder.fails(args, 1, &words);
}

#[test]
fn images_of_another_size_without_an_inference() {
    let folder = finished();
    let args = ["eval", "run", "--set", "evaluate.inference=null"];
    folder.fails(args, 1, &["the images are 36 x 50", "the recipe's `image_size` is 32 x 32"]);
}

#[test]
fn heads_and_data_must_agree_about_the_classes_of_pixels() {
    let folder = finished();
    let words =
        ["model.decode.num_classes: the head tells 5 classes apart, the training set has 11", "set it to 11"];
    folder.fails(["run", "recipe.yaml", "--out", "other", "--set", "model.decode.num_classes=5"], 2, &words);
    let classes = "data.val.dataset.classes=[star, ring]";
    let words = ["the head tells 11 classes apart, the validation set has 3"];
    folder.fails(["eval", "run", "--set", classes], 2, &words);
    let words = ["data.val.dataset: its 3 classes are not the 11 of the training set; only in training: "];
    folder.fails(["run", "recipe.yaml", "--out", "other", "--set", classes], 2, &words);
}
