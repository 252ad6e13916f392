//! Images of different sizes in one batch: padded to one size, and without padding in all that is measured
//! and drawn.

use std::fs;

use convmae_framework::data::read_labels;
use convmae_framework::report::{MetricLog, PictureStore, Split};

use crate::support::{Folder, data};

/// A recipe of a segmentor whose images are 16 to 32 pixels long, padded by these keys of a split and these
/// transforms.
fn recipe(key: &str, transform: &str) -> String {
    let recipe = fs::read_to_string(data("tiny_segmentation.yaml")).unwrap();
    let (start, rest) = recipe.split_once("data:").unwrap();
    let (_, rest) = rest.split_once("\nmodel:").unwrap();
    let (model, rest) = rest.split_once("\ninit_from:").unwrap();
    let (_, end) = rest.split_once("\noptimizer:").unwrap();
    let split = |transforms: &str, dataset: &str| {
        format!(
            "\n    dataset: {{ type: SyntheticScenes, {dataset} }}\n    transforms: [{transforms}, {{ type: Normalize }}{transform}]\
             \n    batch_size: 2{key}\n"
        )
    };
    let train = split("{ type: ResizeRange, scale: [32, 24], ratio: [0.5, 1.0] }", "length: 24, size: 48");
    let val = split("{ type: ResizeRange, scale: [32, 24] }", "length: 3, size: [40, 56], split: val");
    format!("{start}data:\n  train:{train}  val:{val}  workers: 1\nmodel:{model}\noptimizer:{end}")
        .replace("  inference: { type: SlideInference, stride: 21 }\n", "")
}

/// A folder with the finished run of such a recipe.
fn finished(key: &str, transform: &str) -> Folder {
    let folder = Folder::new();
    fs::write(folder.path("recipe.yaml"), recipe(key, transform)).unwrap();
    folder.succeeds(["run", "recipe.yaml", "--out", "run"]);
    folder
}

const PAD_TO: &str = "\n    pad_to: \"${image_size}\"";
const PAD: &str = ", { type: Pad, size: \"${image_size}\" }";

#[test]
fn padding_counts_as_ignored_pixels_do_and_is_not_drawn() {
    // `Pad` makes the padding a part of image and label map, ignored as in mmsegmentation.
    let (padded, part) = (finished(PAD_TO, ""), finished("", PAD));
    let figures = |folder: &Folder| {
        let log = MetricLog::open(&folder.path("run/metrics.parquet")).unwrap();
        let series = |(split, name)| log.series(split, name).into_iter().map(|point| point.value.to_bits());
        let names =
            [(Split::Train, "loss"), (Split::Train, "grad_norm"), (Split::Val, "mIoU"), (Split::Val, "aAcc")];
        names.into_iter().flat_map(series).collect::<Vec<_>>()
    };
    assert_eq!(figures(&padded).len(), 6 + 6 + 2 + 2);
    assert_eq!(figures(&padded), figures(&part), "losses, gradients and metrics are those of ignored pixels");
    let size = |folder: &Folder| {
        let pictures = PictureStore::new(folder.path("run/pictures")).load(6).unwrap();
        let sizes = pictures.rows.iter().flatten().map(|picture| picture.image.dimensions());
        let mut sizes: Vec<_> = sizes.collect();
        sizes.dedup();
        sizes
    };
    assert_eq!((size(&padded), size(&part)), (vec![(32, 23)], vec![(32, 32)]));
}

#[test]
fn predictions_have_no_padding_whatever_else_is_in_the_batch() {
    let folder = finished(PAD_TO, "");
    for (name, width, height) in [("wide.png", 64, 40), ("high.png", 30, 60)] {
        let image =
            image::RgbImage::from_fn(width, height, |x, y| image::Rgb([x as u8 * 4, y as u8 * 4, 99]));
        image.save(folder.path(name)).unwrap();
    }
    folder.succeeds(["predict", "run", "wide.png", "high.png", "--out", "both"]);
    folder.succeeds(["predict", "run", "high.png", "--out", "alone"]);
    let labels = |file: &str| read_labels(&folder.path(file)).unwrap().into_luma8();
    assert_eq!(labels("both/000-wide-labels.png").dimensions(), (32, 20));
    assert_eq!(labels("both/001-high-labels.png").dimensions(), (16, 32));
    assert_eq!(labels("both/001-high-labels.png"), labels("alone/000-high-labels.png"));
}

#[test]
fn a_size_to_pad_to_that_does_not_fit() {
    let refused = |from: &str, to: &str, words: &[&str]| {
        let folder = Folder::new();
        let recipe = recipe(PAD_TO, "");
        assert!(recipe.contains(from), "{from}");
        fs::write(folder.path("recipe.yaml"), recipe.replacen(from, to, 1)).unwrap();
        folder.fails(["check", "recipe.yaml"], 2, words);
    };
    let image_size = "write the size once: `pad_to: ${image_size}`";
    refused(
        "\"${image_size}\"",
        "48",
        &["data.train.pad_to: 48 x 48, but `image_size` is 32 x 32", image_size],
    );
    refused(
        "{ type: ResizeRange, scale: [32, 24], ratio: [0.5, 1.0] }",
        "{ type: CenterCrop, size: 40 }",
        &["data.train.pad_to: 32 x 32, but the transforms yield images of 40 x 40", "a crop or a `Resize`"],
    );
}

#[test]
fn padding_is_not_reconstructed() {
    let folder = Folder::new();
    folder.recipe_with("    batch_size: 4\n  val", "    batch_size: 4\n    pad_to: \"${image_size}\"\n  val");
    let words = ["data.train.pad_to: the head `decoder` would reconstruct the padding, too", "remove it"];
    folder.fails(["check", "recipe.yaml"], 2, &words);
}
