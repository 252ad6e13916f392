//! Looking at data, and at what a training starts from.

use std::fs;

use convmae_framework::weights::{read, read_safetensors};
use image::{Rgb, RgbImage};
use serde_json::Value;

use crate::support::{Folder, data, stderr};

/// One step of one batch without anything that only training does.
const ONE_STEP: [&str; 8] = [
    "--set",
    "train.accumulate=1",
    "--set",
    "train.ema=null",
    "--set",
    "model.backbone.drop_path=0",
    "--set",
    "train.length=1 iterations",
];

fn values(folder: &Folder, file: &str, name: &str) -> (Vec<usize>, Vec<f32>) {
    let tensors = read_safetensors(&folder.path(file)).unwrap().tensors;
    let tensor = tensors.get(name).unwrap_or_else(|| panic!("{name}"));
    (tensor.shape.clone(), tensor.to_f32())
}

/// The oracle is the training: `trace` on the tensors and the initial weights has the loss of its first step.
#[test]
fn the_tensors_are_what_the_first_step_is_given() {
    let folder = Folder::new();
    let browse = ["browse", "tiny.yaml", "--out", "data.html", "--tensors", "batch.safetensors"];
    folder.succeeds(browse.into_iter().chain(ONE_STEP));
    assert_eq!(values(&folder, "batch.safetensors", "images").0, [4, 3, 32, 32]);
    assert_eq!(values(&folder, "batch.safetensors", "noise").0, [4, 16]);
    let classes = values(&folder, "batch.safetensors", "labels");
    assert!(classes.0 == [4] && classes.1.iter().all(|class| class.fract() == 0.0));

    folder.succeeds(["run", "tiny.yaml", "--out", "run"].into_iter().chain(ONE_STEP));
    let summary: Value = serde_json::from_slice(&fs::read(folder.path("run/summary.json")).unwrap()).unwrap();
    let loss = summary["train.loss"].as_f64().unwrap();
    folder.succeeds(["init", "tiny.yaml", "--out", "initial.safetensors"]);
    let trace = ["trace", "tiny.yaml", "--inputs", "batch.safetensors", "--out", "out.safetensors"];
    for weights in [None, Some("initial.safetensors")] {
        let weights = weights.into_iter().flat_map(|weights| ["--weights", weights]);
        let told = stderr(&folder.succeeds(trace.into_iter().chain(weights).chain(ONE_STEP)));
        assert!(!told.contains("nothing in this model draws it"), "{told}");
        let traced = f64::from(values(&folder, "out.safetensors", "loss").1[0]);
        assert!((traced - loss).abs() < 1e-6, "{traced}, of the first step {loss}");
    }
}

#[test]
fn initial_weights_are_written_in_both_formats() {
    let folder = Folder::new();
    folder.succeeds(["init", "tiny.yaml", "--out", "w.safetensors"]);
    folder.succeeds(["init", "tiny.yaml", "--out", "w.pth"]);
    let written = read_safetensors(&folder.path("w.safetensors")).unwrap();
    assert_eq!(written.tensors, read(&folder.path("w.pth")).unwrap().tensors);
    assert_eq!(written.metadata["format"], "pt");
    folder.succeeds(["init", "tiny.yaml", "--out", "other.safetensors", "--set", "seed=1"]);
    assert_ne!(written.tensors, read_safetensors(&folder.path("other.safetensors")).unwrap().tensors);
    folder.fails(["init", "tiny.yaml", "--out", "w.bin"], 2, &["w.bin: the extension names no format"]);
}

#[test]
fn the_page_shows_samples_transforms_masks_and_figures() {
    let folder = Folder::new();
    let told = stderr(&folder.succeeds(["browse", "tiny.yaml", "--show", "2", "--epochs", "2"]));
    assert!(told.contains("train 24 samples, val 6 samples: data.html"), "{told}");
    let page = fs::read_to_string(folder.path("data.html")).unwrap();
    for words in ["Data of tiny", "RandomResizedCrop", "RandomHorizontalFlip", "masked", "circle", "epoch 1"]
    {
        assert!(page.contains(words), "{words}");
    }
    // In training two samples, as read and after two transforms in two epochs, and two of the batch with their masks; in
    // validation, where nothing changes them, and nothing else.
    assert_eq!(page.matches("<img").count(), 2 * (1 + 2 * 2) + 2 * 2 + 2 + 2 * 2);
    assert!(!page.contains("http:") && !page.contains("https:"), "it needs nothing from elsewhere");
}

#[test]
fn objects_and_label_maps_are_drawn_and_counted() {
    let folder = Folder::new();
    for (recipe, words) in [("tiny_detection.yaml", "objects"), ("tiny_segmentation.yaml", "pixels")] {
        fs::copy(data(recipe), folder.path(recipe)).unwrap();
        folder.succeeds(["browse", recipe, "--out", "page.html", "--show", "1"]);
        let page = fs::read_to_string(folder.path("page.html")).unwrap();
        assert!(page.contains(&format!("{words} of ")), "{recipe}: {words}");
    }
}

#[test]
fn damaged_images_are_listed_and_do_not_stop_it() {
    let folder = Folder::new();
    for split in ["train", "val"] {
        for class in ["a", "b"] {
            let root = folder.path("images").join(split).join(class);
            fs::create_dir_all(&root).unwrap();
            for number in 0..4 {
                RgbImage::from_pixel(40, 32, Rgb([51; 3])).save(root.join(format!("{number}.png"))).unwrap();
            }
        }
    }
    let damaged = folder.path("images/train/b/1.png");
    let whole = fs::read(&damaged).unwrap();
    fs::write(&damaged, &whole[..whole.len() / 2]).unwrap();
    let dataset =
        |split: &str| format!("data.{split}.dataset={{ type: ImageFolder, root: images, split: {split} }}");
    let resized = "data.val.transforms=[{ type: Resize, size: 32 }, { type: CenterCrop, size: 32 }, { type: Normalize }]";
    let (train, val) = (dataset("train"), dataset("val"));
    let sets = ["--set", &train, "--set", &val, "--set", resized, "--set", "data.max_corrupt=0"];
    folder.succeeds(["browse", "tiny.yaml"].into_iter().chain(sets));
    let page = fs::read_to_string(folder.path("data.html")).unwrap();
    assert!(page.contains("Corrupt samples") && page.contains("images/train/b/1.png"));
    // Each channel of every pixel is 51 of 255.
    assert!(page.contains("0.2000, 0.2000, 0.2000") && page.contains("0.0000, 0.0000, 0.0000"));
    assert!(page.contains("train: 8 images of 2 classes"));
}
