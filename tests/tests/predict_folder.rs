//! Folders of images: predictions as tables, and features.

use std::fs;

use convmae_framework::weights::read_safetensors;
use image::{Rgb, RgbImage};
use serde_json::Value;

use crate::support::{Folder, data, stderr, stdout};

/// A folder with a finished run of a classifier, `run`, and images in `new`: five in subfolders, a damaged one, and a
/// file that is none.
fn classified() -> Folder {
    let folder = Folder::new();
    let text = fs::read_to_string(data("tiny_classifier.yaml")).unwrap();
    fs::write(folder.path("classifier.yaml"), text).unwrap();
    let sets = ["--set", "init_from=null", "--set", "train.length=2 iterations"];
    folder.succeeds(["run", "classifier.yaml", "--out", "run"].into_iter().chain(sets));
    images(&folder);
    folder
}

fn images(folder: &Folder) {
    for (number, name) in ["b/0.png", "a/1.png", "a/2.png", "top.png", "b/c/3, 4.png"].iter().enumerate() {
        let path = folder.path("new").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let pixel = |x: u32, y: u32| Rgb([(40 * number) as u8, (7 * x) as u8, (5 * y) as u8]);
        RgbImage::from_fn(32, 32, pixel).save(path).unwrap();
    }
    fs::write(folder.path("new/notes.txt"), "notes").unwrap();
    let whole = fs::read(folder.path("new/top.png")).unwrap();
    fs::write(folder.path("new/a/damaged.png"), &whole[..whole.len() / 2]).unwrap();
}

/// In the order of their folders.
const IMAGES: [&str; 5] = ["new/top.png", "new/a/1.png", "new/a/2.png", "new/b/0.png", "new/b/c/3, 4.png"];

/// What `predict --json` says of images.
fn predicted(folder: &Folder, images: &[&str]) -> Vec<Value> {
    let args = ["predict", "run"].iter().chain(images).chain(&["--json", "--topk", "10"]).copied();
    serde_json::from_str(&stdout(&folder.succeeds(args))).unwrap()
}

#[test]
fn a_folder_stands_for_all_images_below_it() {
    let folder = classified();
    let args = ["predict", "run", "new", "--json", "--topk", "10"];
    let assert = folder.succeeds(args);
    let all: Vec<Value> = serde_json::from_str(&stdout(&assert)).unwrap();
    let names: Vec<_> = all.iter().map(|prediction| prediction["image"].as_str().unwrap()).collect();
    assert_eq!(names, IMAGES);
    let told = stderr(&assert);
    for words in [
        "passed over, no images by their names: 1 .txt",
        "skipped: new/a/damaged.png: ",
        "1 of 6 images are damaged, and left out",
    ] {
        assert!(told.contains(words), "{words}: {told}");
    }
    // The same as of each alone, but for the order in which products of another batch are added up.
    for (image, together) in IMAGES.iter().zip(&all) {
        let alone = &predicted(&folder, &[image])[0];
        let classes = |prediction: &Value| prediction["classes"].as_array().unwrap().clone();
        for (alone, together) in classes(alone).iter().zip(&classes(together)) {
            assert_eq!(alone["name"], together["name"], "{image}");
            let [alone, together] = [alone, together].map(|class| class["probability"].as_f64().unwrap());
            assert!((alone - together).abs() < 1e-7, "{image}: {alone}, {together}");
        }
    }
    // Patterns, for a shell that leaves them alone.
    let pattern: Vec<_> = predicted(&folder, &["new/**/[0-9]*.png"]);
    assert_eq!(pattern.len(), 4);
    folder.fails(["predict", "run", "new/a/damaged.png"], 1, &["new/a/damaged.png"]);
    folder.fails(["predict", "run", "new/gone"], 1, &["new/gone: there is no such file or folder"]);
    folder.fails(["predict", "run", "new/*.txt"], 1, &["no image (", "but 1 .txt"]);
}

#[test]
fn tables_have_a_row_for_each_image_and_class() {
    let folder = classified();
    let all = predicted(&folder, &["new"]);
    let quoted = |name: &str| if name.contains(',') { format!("\"{name}\"") } else { name.to_owned() };
    let rows = |count: usize| {
        let row = |prediction: &Value| {
            let image = quoted(prediction["image"].as_str().unwrap());
            let classes = prediction["classes"].as_array().unwrap()[..count].iter();
            let row = |class: &Value| {
                format!(
                    "{image},{},{}\n",
                    class["name"].as_str().unwrap(),
                    class["probability"].as_f64().unwrap()
                )
            };
            classes.map(row).collect::<String>()
        };
        format!("image,class,probability\n{}", all.iter().map(row).collect::<String>())
    };
    let assert = folder.succeeds(["predict", "run", "new", "--out", "best.csv"]);
    assert_eq!(stdout(&assert), "");
    assert_eq!(fs::read_to_string(folder.path("best.csv")).unwrap(), rows(1));
    folder.succeeds(["predict", "run", "new", "--out", "three.csv", "--topk", "3"]);
    assert_eq!(fs::read_to_string(folder.path("three.csv")).unwrap(), rows(3));

    // A table and pictures at once.
    folder.succeeds(["predict", "run", "new", "--out", "all.jsonl", "--out", "pictures", "--topk", "10"]);
    let lines = fs::read_to_string(folder.path("all.jsonl")).unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines, all);
    folder.succeeds(["predict", "run", "new", "--out", "all.json", "--topk", "10"]);
    let list: Vec<Value> = serde_json::from_slice(&fs::read(folder.path("all.json")).unwrap()).unwrap();
    assert_eq!(list, all);
    assert_eq!(fs::read_dir(folder.path("pictures")).unwrap().count(), 10);

    folder.succeeds(["predict", "run", "new", "--out", "best.parquet"]);
    let bytes = fs::read(folder.path("best.parquet")).unwrap();
    assert_eq!((&bytes[..4], &bytes[bytes.len() - 4..]), (&b"PAR1"[..], &b"PAR1"[..]));
    let left = fs::read_dir(folder.root())
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().ends_with(".tmp"));
    assert_eq!(left.count(), 0, "temporary files are left");
}

/// A `.npy` file of format 1.0: its shape, and its values.
fn npy(folder: &Folder, name: &str) -> (Vec<usize>, Vec<f32>) {
    let bytes = fs::read(folder.path(name)).unwrap();
    assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00");
    let start = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    assert!(start.is_multiple_of(64));
    let header = std::str::from_utf8(&bytes[10..start]).unwrap();
    assert!(header.starts_with("{'descr': '<f4', 'fortran_order': False, 'shape': ("), "{header}");
    let (_, shape) = header.split_once("'shape': (").unwrap();
    let shape = shape.split_once(')').unwrap().0.split(", ").map(|side| side.parse().unwrap()).collect();
    let values = bytes[start..].chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()));
    (shape, values.collect())
}

#[test]
fn features_of_a_pretrained_model_are_those_of_whole_images() {
    let folder = Folder::new();
    images(&folder);
    folder.succeeds(["run", "tiny.yaml", "--out", "run", "--set", "train.length=2 iterations"]);
    let told = stderr(&folder.succeeds(["embed", "run", "new", "--out", "mean.npy"]));
    assert!(told.contains("mean.npy: 5 images, 16 channels of `backbone.s3`"), "{told}");
    let (shape, mean) = npy(&folder, "mean.npy");
    assert_eq!(shape, [5, 16]);
    let names = fs::read_to_string(folder.path("mean.txt")).unwrap();
    assert_eq!(names.lines().collect::<Vec<_>>(), IMAGES);

    // Nothing is drawn: another seed has other masks, and the same features. Nor does the batch matter, but for
    // rounding.
    folder.succeeds(["embed", "run", "new", "--out", "again.npy", "--set", "seed=7"]);
    assert_eq!(npy(&folder, "again.npy").1, mean);
    folder.succeeds(["embed", "run", "new", "--out", "pairs.npy", "--set", "data.val.batch_size=2"]);
    let pairs = npy(&folder, "pairs.npy").1;
    assert!(pairs.iter().zip(&mean).all(|(pair, mean)| (pair - mean).abs() < 1e-5));

    // 16 tokens of an image; their mean is what is pooled, and the first of them is the first.
    folder.succeeds(["embed", "run", "new", "--out", "tokens.safetensors", "--pool", "none"]);
    let file = read_safetensors(&folder.path("tokens.safetensors")).unwrap();
    let tokens = file.tensors.get("features").unwrap();
    assert_eq!(tokens.shape, [5, 16, 16]);
    let names: Vec<String> = serde_json::from_str(&file.metadata["images"]).unwrap();
    assert_eq!((names.len(), file.metadata["level"].as_str()), (5, "backbone.s3"));
    let tokens = tokens.to_f32();
    for (image, mean) in tokens.chunks_exact(256).zip(mean.chunks_exact(16)) {
        for (channel, mean) in mean.iter().enumerate() {
            let sum: f32 = image.iter().skip(channel).step_by(16).sum();
            assert!((sum / 16.0 - mean).abs() < 1e-5, "{} is not {mean}", sum / 16.0);
        }
    }
    folder.succeeds(["embed", "run", "new", "--out", "first.npy", "--pool", "first-token"]);
    let first: Vec<f32> = tokens.chunks_exact(256).flat_map(|image| image[..16].to_vec()).collect();
    assert_eq!(npy(&folder, "first.npy").1, first);

    // Any level: the first stage has 16 x 16 positions of 8 channels, in the order of the image.
    folder.succeeds([
        "embed",
        "run",
        "new/top.png",
        "--out",
        "s1.npy",
        "--level",
        "backbone.s1",
        "--pool",
        "none",
    ]);
    assert_eq!(npy(&folder, "s1.npy").0, [1, 256, 8]);

    folder.succeeds(["embed", "run", "new", "--out", "mean.parquet"]);
    assert!(fs::read(folder.path("mean.parquet")).unwrap().ends_with(b"PAR1"));
    folder.fails(["embed", "run", "new", "--out", "mean.txt"], 2, &["mean.txt: which format?"]);
    let words =
        ["the model has no features `backbone.s9`; it has `backbone.s1`, `backbone.s2`, `backbone.s3`"];
    folder.fails(["embed", "run", "new", "--out", "x.npy", "--level", "backbone.s9"], 2, &words);
}

#[test]
fn features_are_what_a_classifier_of_the_same_weights_pools() {
    let folder = classified();
    folder.succeeds(["embed", "run", "new", "--out", "mean.npy"]);
    // The classifier by hand: `fc_norm`, then `head`.
    let weights = read_safetensors(&folder.path("run/model.safetensors")).unwrap().tensors;
    let [scale, shift, head, bias] = ["fc_norm.weight", "fc_norm.bias", "head.weight", "head.bias"]
        .map(|name| weights.get(name).unwrap().to_f32());
    for (features, prediction) in
        npy(&folder, "mean.npy").1.chunks_exact(16).zip(predicted(&folder, &["new"]))
    {
        let mean = features.iter().sum::<f32>() / 16.0;
        let deviation = (features.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / 16.0 + 1e-6).sqrt();
        let normed: Vec<f32> =
            (0..16).map(|at| (features[at] - mean) / deviation * scale[at] + shift[at]).collect();
        let logit =
            |class: usize| bias[class] + (0..16).map(|at| head[class * 16 + at] * normed[at]).sum::<f32>();
        let powers: Vec<f64> = (0..10).map(|class| f64::from(logit(class)).exp()).collect();
        for class in prediction["classes"].as_array().unwrap() {
            let index = class["index"].as_u64().unwrap() as usize;
            let expected = powers[index] / powers.iter().sum::<f64>();
            assert!((class["probability"].as_f64().unwrap() - expected).abs() < 1e-5);
        }
    }
}

#[test]
fn features_are_put_on_a_map_in_the_colours_of_their_folders() {
    let folder = Folder::new();
    images(&folder);
    folder.succeeds(["init", "tiny.yaml", "--out", "w.safetensors"]);
    let embed = [
        "embed",
        "tiny.yaml",
        "new",
        "--weights",
        "w.safetensors",
        "--out",
        "f.parquet",
        "--map",
        "map.html",
    ];
    folder.succeeds(embed);
    let page = fs::read_to_string(folder.path("map.html")).unwrap();
    assert_eq!(page.matches("<circle").count(), 5);
    for words in ["Features of 5 images", "backbone.s3", "new/b/c/3, 4.png · c"] {
        assert!(page.contains(words), "{words}");
    }
}

#[test]
fn what_a_block_attends_to_is_drawn_over_whole_images() {
    let folder = Folder::new();
    images(&folder);
    folder.succeeds(["init", "tiny.yaml", "--out", "w.safetensors"]);
    let predict = |block| {
        [
            "predict",
            "tiny.yaml",
            "new/top.png",
            "--weights",
            "w.safetensors",
            "--out",
            "maps",
            "--attention",
            block,
        ]
    };
    folder.succeeds(predict("blocks3.0"));
    let names = fs::read_dir(folder.path("maps")).unwrap();
    let names: Vec<_> = names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    // The mean and four heads, beside the pictures of the decoder.
    assert_eq!(names.iter().filter(|name| name.contains("attention_blocks3_0")).count(), 5, "{names:?}");
    assert!(names.iter().any(|name| name.contains("reconstruction")), "{names:?}");
    let map = image::open(folder.path("maps/000-top-attention_blocks3_0.png")).unwrap().into_rgb8();
    assert_eq!(map.dimensions(), (32, 32));
    let only = "no block `blocks1.0`; its only one with self-attention is `blocks3.0`";
    folder.fails(predict("blocks1.0"), 2, &[only]);
    let nowhere = ["predict", "tiny.yaml", "new", "--weights", "w.safetensors", "--attention", "blocks3.0"];
    folder.fails(nowhere, 2, &["there is no folder for them", "name one by `--out DIR`"]);
}
