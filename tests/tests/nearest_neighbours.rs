//! The curve of a pretraining run: accuracy of nearest neighbours by the features of whole images.

use std::fs;
use std::path::Path;

use image::{Rgb, RgbImage};
use serde_json::Value;

use crate::support::{Folder, stdout};

const CLASSES: usize = 3;
const TRAIN: usize = 8;
const VAL: usize = 5;

/// `data/{train,val}/<class>/<number>.png`: stripes of three widths, with much noise.
fn stripes(root: &Path) {
    for (split, count, seed) in [("train", TRAIN, 1_u32), ("val", VAL, 2)] {
        for class in 0..CLASSES {
            let folder = root.join(split).join(class.to_string());
            fs::create_dir_all(&folder).unwrap();
            for number in 0..count {
                let pixel = |x: u32, y: u32| {
                    let stripe = (x >> class & 1) * 12;
                    let salt = seed * 7919 + class as u32 * 104_729 + number as u32 * 1_299_709;
                    let noise = (x * 31 + y * 17 + salt).wrapping_mul(2_654_435_761) >> 25;
                    Rgb([(stripe + noise) as u8; 3])
                };
                RgbImage::from_fn(32, 32, pixel).save(folder.join(format!("{number}.png"))).unwrap();
            }
        }
    }
}

/// A masked autoencoder on `data` that measures neighbours, with so many of them.
fn recipe(folder: &Folder, more: &str) {
    let tiny = fs::read_to_string(folder.path("tiny.yaml")).unwrap();
    let tiny = tiny
        .replace(
            "{ type: SyntheticScenes, length: 24, size: 40 }",
            "{ type: ImageFolder, root: data, split: train }",
        )
        .replace(
            "{ type: SyntheticScenes, length: 6, size: \"${image_size}\", split: val }",
            "{ type: ImageFolder, root: data, split: val }",
        )
        .replace(
            "[{ type: ReconstructionLoss }]",
            &format!("[{{ type: ReconstructionLoss }}, {{ type: KnnAccuracy, {more} }}]"),
        );
    fs::write(folder.path("knn.yaml"), tiny).unwrap();
}

/// The features of a split by `embed`, each of length 1, with their classes.
fn embedded(folder: &Folder, split: &str) -> Vec<(Vec<f64>, usize)> {
    let images = format!("data/{split}");
    folder.succeeds(["embed", "run", &images, "--out", "features.npy", "--level", "backbone.s2"]);
    let bytes = fs::read(folder.path("features.npy")).unwrap();
    let start = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let values: Vec<f64> = bytes[start..]
        .chunks_exact(4)
        .map(|bytes| f64::from(f32::from_le_bytes(bytes.try_into().unwrap())))
        .collect();
    let names = fs::read_to_string(folder.path("features.txt")).unwrap();
    let channels = values.len() / names.lines().count();
    let unit = |vector: &[f64]| {
        let length = vector.iter().map(|value| value * value).sum::<f64>().sqrt();
        vector.iter().map(|value| value / length).collect()
    };
    let class = |name: &str| name.rsplit('/').nth(1).unwrap().parse().unwrap();
    values
        .chunks_exact(channels)
        .zip(names.lines())
        .map(|(vector, name)| (unit(vector), class(name)))
        .collect()
}

/// The definition: of every image the k nearest, each with its vote.
fn top1(train: &[(Vec<f64>, usize)], val: &[(Vec<f64>, usize)], k: usize, temperature: f64) -> f64 {
    let right = |(image, class): &&(Vec<f64>, usize)| {
        let cosine = |other: &[f64]| -> f64 { image.iter().zip(other).map(|(a, b)| a * b).sum() };
        let mut cosines: Vec<_> = train.iter().map(|(other, class)| (cosine(other), *class)).collect();
        cosines.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut votes = [0.0; CLASSES];
        cosines[..k].iter().for_each(|(cosine, class)| votes[*class] += (cosine / temperature).exp());
        (0..CLASSES).all(|other| other == *class || votes[other] < votes[*class])
    };
    100.0 * val.iter().filter(right).count() as f64 / val.len() as f64
}

fn summary(folder: &Folder) -> Value {
    serde_json::from_slice(&fs::read(folder.path("run/summary.json")).unwrap()).unwrap()
}

/// The oracle is the definition on what `embed` writes of the same images: so the features are those of whole images, of
/// the average that is evaluated, and the training images are not augmented.
#[test]
fn a_masked_run_measures_neighbours_of_whole_images() {
    let folder = Folder::new();
    stripes(&folder.path("data"));
    recipe(&folder, "k: 5, temperature: 0.1, level: backbone.s2");
    folder.succeeds(["run", "knn.yaml", "--out", "run"]);
    let (train, val) = (embedded(&folder, "train"), embedded(&folder, "val"));
    assert_eq!((train.len(), val.len()), (CLASSES * TRAIN, CLASSES * VAL));
    let expected = top1(&train, &val, 5, 0.1);
    let found = summary(&folder)["val.knn_top1"].as_f64().unwrap();
    assert!((found - expected).abs() < 1e-9, "{found}, by definition {expected}");
    assert!(expected > 100.0 / CLASSES as f64 && expected < 100.0, "{expected}: a trivial test");
    // Measured twice, and in the report.
    let page = fs::read_to_string(folder.path("run/report.html")).unwrap();
    assert!(page.contains("knn top1") && page.contains("knn top5"));
    // `eval` measures the same, without the training.
    let json: Value = serde_json::from_str(&stdout(&folder.succeeds(["eval", "run", "--json"]))).unwrap();
    let metrics = json["metrics"].to_string();
    assert!(metrics.contains("knn_top1") && metrics.contains(&found.to_string()), "{metrics}");
}

#[test]
fn another_support_set_and_mistakes_are_named_at_their_place() {
    let folder = Folder::new();
    stripes(&folder.path("data"));
    recipe(&folder, "k: 1, support: { type: ImageFolder, root: data, split: val }");
    let run = ["run", "knn.yaml", "--out", "run", "--set", "train.length=2 iterations"];
    folder.succeeds(run);
    assert_eq!(summary(&folder)["val.knn_top1"], 100.0, "every image is its own nearest neighbour");
    recipe(&folder, "level: backbone.s9");
    folder.fails(
        ["check", "knn.yaml"],
        2,
        &["evaluate.evaluators.1: the model has no features `backbone.s9`; it has `backbone.s1`"],
    );
    recipe(&folder, "support: { type: ImageFolder, root: gone, split: val }");
    folder.fails(["run", "knn.yaml", "--out", "gone"], 2, &["evaluate.evaluators.1.support", "gone/val"]);
}
