//! Data as they lie on people's disks: names, links, formats, archives, and values that are no classes.

use std::fs;
use std::path::Path;

use assert_cmd::assert::{Assert, OutputAssertExt as _};
use convmae_framework::report::Summary;
use convmae_framework::weights::read_safetensors;
use image::{DynamicImage, GrayImage, ImageBuffer, Luma, Rgb, RgbImage};
use serde_json::Value;

use crate::support::{Folder, data, stderr, stdout};

fn write(folder: &Folder, name: &str, image: impl Into<DynamicImage>) {
    let path = folder.path(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    // A PNG by the name of a JPEG: images are told by their content.
    let format = image::ImageFormat::from_path(&path).unwrap();
    let format = if format == image::ImageFormat::Jpeg { image::ImageFormat::Png } else { format };
    image.into().save_with_format(path, format).unwrap();
}

/// `classes.yaml` with two images in each of these folders, for training and for validation.
fn classes(names: &[&str]) -> Folder {
    let folder = Folder::new();
    fs::copy(data("cases/classes.yaml"), folder.path("classes.yaml")).unwrap();
    for split in ["train", "val"] {
        for (class, name) in names.iter().enumerate() {
            for number in 0..2 {
                let image = RgbImage::from_pixel(20, 18, Rgb([class as u8 * 80, number * 90, 30]));
                write(&folder, &format!("data/{split}/{name}/img_{number}.png"), image);
            }
        }
    }
    folder
}

/// `scenes.yaml` with two images in the layout of ADE20K, and their label maps by a function of the column.
fn scenes(extension: &str, label: impl Fn(u32) -> u16) -> Folder {
    let folder = Folder::new();
    fs::copy(data("cases/scenes.yaml"), folder.path("scenes.yaml")).unwrap();
    label_scenes(&folder, "data", extension, label);
    folder
}

fn label_scenes(folder: &Folder, root: &str, extension: &str, label: impl Fn(u32) -> u16) {
    for split in ["training", "validation"] {
        for number in 0..2_u8 {
            let image = RgbImage::from_fn(48, 40, |x, _| Rgb([x as u8 * 5, number * 90, 60]));
            write(folder, &format!("{root}/images/{split}/scene_{number}.{extension}"), image);
            let map = ImageBuffer::from_fn(48, 40, |x, _| Luma([label(x)]));
            let map = DynamicImage::ImageLuma16(map);
            let fits = map.to_luma16().pixels().all(|value| value.0[0] < 256);
            let narrow = || GrayImage::from_fn(48, 40, |x, _| Luma([label(x) as u8]));
            let map = if fits { narrow().into() } else { map };
            write(folder, &format!("{root}/annotations/{split}/scene_{number}.png"), map);
        }
    }
}

/// Ade20k's 150 classes, of which these scenes have some.
const ADE20K: [&str; 2] = ["--set", "model.decode.num_classes=150"];

/// The scenes as data of their own two classes.
fn own_classes(more: &str) -> Vec<String> {
    let split = |key: &str, folder: &str| {
        format!(
            "data.{key}.dataset={{ type: SegmentationFolder, images: data/images/{folder}, labels: \
             data/annotations/{folder}, classes: [background, vessel]{more} }}"
        )
    };
    ["--set".to_owned(), split("train", "training"), "--set".to_owned(), split("val", "validation")].to_vec()
}

fn run<'a>(folder: &Folder, recipe: &'a str, more: &[&'a str]) -> Assert {
    folder.succeeds(["run", recipe, "--out", "run"].into_iter().chain(more.iter().copied()))
}

fn refused(folder: &Folder, recipe: &str, more: &[&str], code: i32, words: &[&str]) {
    let args = ["run", recipe, "--out", "refused"].into_iter().chain(more.iter().copied());
    folder.fails(args, code, words);
}

fn summary(folder: &Folder, name: &str) -> Option<u64> {
    Summary::read(&folder.path("run/summary.json")).unwrap().get(name).and_then(Value::as_u64)
}

fn is_silent(assert: &Assert, words: &str) {
    assert!(!stderr(assert).contains(words), "{}", stderr(assert));
}

#[test]
fn class_folders_that_differ_in_composition_are_the_same() {
    let folder = classes(&["cat", "dog"]);
    for (split, name) in [("train", "\u{c9}pagneul"), ("val", "E\u{301}pagneul")] {
        for number in 0..2 {
            write(&folder, &format!("data/{split}/{name}/{number}.png"), RgbImage::new(20, 18));
        }
    }
    run(&folder, "classes.yaml", &[]);
    let checked = stdout(&folder.succeeds(["check", "classes.yaml", "--data"]));
    let expected = "classes: cat (2 images), dog (2 images), \u{c9}pagneul (2 images)";
    assert_eq!(checked.matches(expected).count(), 2, "{checked}");
}

#[cfg(unix)]
#[test]
fn a_link_to_an_image_that_is_gone_is_replaced_and_counted() {
    let folder = classes(&["cat", "dog", "fox"]);
    std::os::unix::fs::symlink("../../../gone/img_9.png", folder.path("data/train/fox/img_9.png")).unwrap();
    let assert = run(&folder, "classes.yaml", &["--set", "data.train.batch_size=7"]);
    let reason = "a link to `../../../gone/img_9.png`, which does not exist";
    assert!(stderr(&assert).contains(reason), "{}", stderr(&assert));
    assert_eq!(summary(&folder, "corrupt_samples"), Some(1));
}

#[test]
fn paths_begin_at_home_or_at_a_variable() {
    let folder = classes(&["cat", "dog", "fox"]);
    fs::create_dir(folder.path("home")).unwrap();
    fs::rename(folder.path("data"), folder.path("home/data")).unwrap();
    let with_roots = |root: &str, name: &str| {
        let recipe = fs::read_to_string(data("cases/classes.yaml")).unwrap();
        fs::write(folder.path(name), recipe.replace("root: data", &format!("root: \"{root}\""))).unwrap();
    };
    let check = |name: &str| {
        let mut command = folder.convmae(["check", name, "--data"]);
        command.env("HOME", folder.path("home")).env("DATA", folder.path("home/data")).assert()
    };
    with_roots("~/data", "home.yaml");
    with_roots("${env:DATA}", "env.yaml");
    with_roots("${oc.env:DATA}", "omegaconf.yaml");
    for name in ["home.yaml", "env.yaml"] {
        assert!(stdout(&check(name).code(0)).contains("data.train: 6 samples"), "{name}");
    }
    let message = stderr(&check("omegaconf.yaml").code(2));
    assert!(message.contains("an environment variable is `${env:DATA}`"), "{message}");
    let unset = folder.convmae(["check", "env.yaml"]).env_remove("DATA").assert().code(2);
    assert!(stderr(&unset).contains("there is no environment variable `DATA`"), "{}", stderr(&unset));
}

#[test]
fn label_maps_of_16_bits_hold_classes_or_name_what_is_none() {
    // One value above 255 makes the maps 16 bits deep: it is ignored.
    let folder = scenes("jpg", |x| if x == 0 { 300 } else { u16::from(x > 20) });
    let own = |more| own_classes(more);
    let args = own(", ignore: [300]");
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    is_silent(&run(&folder, "scenes.yaml", &args), "corrupt sample");
    let words =
        "scene_0.png: the label at x 0, y 0 is 300, none of the 150 classes; valid are 0 to 149, or 255";
    refused(&folder, "scenes.yaml", &ADE20K, 1, &[words]);
}

#[test]
fn masks_of_0_and_255_are_told_and_read_by_their_values() {
    let folder = scenes("jpg", |x| if x > 20 { 255 } else { 0 });
    let warning = "are of class 0 (`wall`), the others are ignored (255)";
    let assert = run(&folder, "scenes.yaml", &ADE20K);
    for split in ["data.train", "data.val"] {
        assert!(stderr(&assert).contains(&format!("{split}: all labelled pixels of the 2 label maps")));
    }
    assert!(stderr(&assert).contains(warning), "{}", stderr(&assert));
    fs::remove_dir_all(folder.path("run")).unwrap();
    let args = own_classes(", values: [0, 255]");
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    is_silent(&run(&folder, "scenes.yaml", &args), "label maps looked at");
}

#[test]
fn a_metric_over_nothing_is_an_error() {
    let folder = scenes("jpg", |x| u16::from(x > 20));
    label_scenes(&folder, "ignored", "jpg", |_| 255);
    let ignored = ["--set", "data.train.dataset.root=ignored", "--set", "data.val.dataset.root=ignored"];
    let words = [
        "data.train: all pixels of the 2 label maps looked at are ignored (255)",
        "`mIoU` cannot be measured: nothing in the validation set is labelled",
    ];
    refused(&folder, "scenes.yaml", &[&ADE20K[..], &ignored].concat(), 1, &words);
    let status = Summary::read(&folder.path("refused/summary.json")).unwrap();
    assert_eq!(status.get("status").and_then(Value::as_str), Some("failed"));
}

#[test]
fn a_folder_that_is_no_class_is_seen_in_the_list_of_classes() {
    let folder = classes(&["cat", "dog", "fox"]);
    for split in ["train", "val"] {
        write(&folder, &format!("data/{split}/@eaDir/cat_thumb.jpg"), RgbImage::new(20, 18));
    }
    let words = [
        "model.classifier.num_classes: the head tells 3 classes apart, the training set has 4: @eaDir (1 image), cat (2",
        "set it to 4, or remove from the data what is no class",
    ];
    for args in [&["run", "classes.yaml"][..], &["check", "classes.yaml", "--data"]] {
        folder.fails(args.iter().copied(), 2, &words);
    }
    let too_high = ["data.train.dataset={ type: ImageFolder, root: ., split: null }", "data.val=null"];
    let sets = ["--set", too_high[0], "--set", too_high[1], "--set", "evaluate.evaluators=[]"];
    let words = ["the training set has 1: data (14 images)", "a `root` that is one folder too high"];
    refused(&folder, "classes.yaml", &sets, 2, &words);
}

#[test]
fn a_single_class_is_told() {
    let folder = classes(&["cat"]);
    let one = ["--set", "model.classifier.num_classes=1", "--set", "data.train.batch_size=2"];
    let assert = run(&folder, "classes.yaml", &one);
    let warning =
        "data.train: a single class, cat (2 images): there is nothing to tell apart, the loss is 0 whatever";
    assert!(stderr(&assert).contains(warning), "{}", stderr(&assert));
}

#[test]
fn a_data_set_of_own_classes_is_trained_on_and_predicted_by_name() {
    let folder = scenes("png", |x| u16::from(x > 20));
    let args = own_classes("");
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let assert = run(&folder, "scenes.yaml", &args);
    is_silent(&assert, "WARN");
    let image = "data/images/validation/scene_0.png";
    let found = stdout(&folder.succeeds(["predict", "run", image, "--json"]));
    let found: Value = serde_json::from_str(&found).unwrap();
    let names = found[0]["pixel_classes"].as_array().unwrap().iter().map(|class| class["name"].as_str());
    assert!(names.flatten().all(|name| ["background", "vessel"].contains(&name)), "{found}");
    let words = ["the head tells 2 classes apart, the training set has 3: a, b, c"];
    let three =
        ["--set", "data.train.dataset.classes=[a, b, c]", "--set", "data.val.dataset.classes=[a, b, c]"];
    refused(&folder, "scenes.yaml", &[&args[..], &three].concat(), 2, &words);
}

#[test]
fn images_of_ade20k_have_any_extension() {
    let folder = scenes("png", |x| x as u16 / 20);
    run(&folder, "scenes.yaml", &ADE20K);
    for split in ["training", "validation"] {
        for number in 0..2 {
            let name = |extension| folder.path(&format!("data/images/{split}/scene_{number}.{extension}"));
            fs::rename(name("png"), name("JPG")).unwrap();
        }
    }
    fs::remove_dir_all(folder.path("run")).unwrap();
    is_silent(&run(&folder, "scenes.yaml", &ADE20K), "corrupt");
}

#[test]
fn what_is_passed_over_is_counted_in_the_log_the_summary_and_by_check() {
    let folder = classes(&["cat", "dog", "fox"]);
    for name in ["data/train/cat/a.gif", "data/train/dog/b.GIF", "data/train/list.txt", "data/val/Makefile"] {
        fs::write(folder.path(name), "").unwrap();
    }
    let assert = run(&folder, "classes.yaml", &[]);
    for line in ["data.train: passed over 2 .gif, 1 .txt", "data.val: passed over 1 without extension"] {
        assert!(stderr(&assert).contains(line), "{}", stderr(&assert));
    }
    let counted = ["train.gif", "train.txt", "val.none", "val.gif"]
        .map(|name| summary(&folder, &format!("passed_over.{name}")));
    assert_eq!(counted, [Some(2), Some(1), Some(1), None]);
    let text = stdout(&folder.succeeds(["check", "classes.yaml", "--data"]));
    assert!(text.contains("data.train: 6 samples; classes: cat (2 images), dog (2 images)"), "{text}");
    assert!(text.contains("data.train: passed over 2 .gif, 1 .txt"), "{text}");
    let json = stdout(&folder.succeeds(["check", "classes.yaml", "--data", "--json"]));
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["data"][0]["passed_over"]["gif"], 2, "{json}");
    assert_eq!(
        (json["data"][1]["split"].as_str(), json["data"][1]["samples"].as_u64()),
        (Some("val"), Some(6))
    );
}

#[test]
fn formats_beside_jpeg_and_png_are_read() {
    let folder = classes(&["cat", "dog", "fox"]);
    for (name, number) in [("cat/a.tif", 0), ("dog/b.bmp", 1), ("fox/c.webp", 2), ("fox/d.TIFF", 3)] {
        let image = RgbImage::from_pixel(20, 18, Rgb([number; 3]));
        write(&folder, &format!("data/train/{name}"), image);
    }
    let text = stdout(&folder.succeeds(["check", "classes.yaml", "--data"]));
    assert!(text.contains("data.train: 10 samples") && !text.contains("passed over"), "{text}");
    is_silent(&run(&folder, "classes.yaml", &["--set", "data.train.batch_size=10"]), "corrupt");
}

/// `classes.yaml` with tar shards.
fn shards(train: &str, val: &str, more: &str) -> Vec<String> {
    let split = |key: &str, shard: &str| {
        let path = data("cases").join(shard);
        format!("data.{key}.dataset={{ type: TarShards, shards: \"{}\"{more} }}", path.display())
    };
    ["--set".to_owned(), split("train", train), "--set".to_owned(), split("val", val)].to_vec()
}

fn recipe_of_classes() -> Folder {
    let folder = Folder::new();
    fs::copy(data("cases/classes.yaml"), folder.path("classes.yaml")).unwrap();
    folder
}

#[test]
fn labels_in_tar_shards_are_names_where_they_are_listed() {
    let folder = recipe_of_classes();
    let names = folder.path("names.txt");
    fs::write(&names, "cat\ndog\nfox\n").unwrap();
    let listed = format!(", classes: \"{}\"", names.display());
    for shard in ["names_json.tar", "names_cls.tar"] {
        let args = shards(shard, shard, &listed);
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        let text =
            stdout(&folder.succeeds(["check", "classes.yaml", "--data"].into_iter().chain(args.clone())));
        assert!(text.contains("data.train: 6 samples; classes: cat, dog, fox"), "{text}");
        is_silent(&run(&folder, "classes.yaml", &args), "corrupt");
        fs::remove_dir_all(folder.path("run")).unwrap();
        let args = shards(shard, shard, "");
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        let words =
            ["data.train.dataset: ", "the label `cat` is no class index; list the names in `classes`"];
        refused(&folder, "classes.yaml", &args, 2, &words);
    }
}

#[test]
fn a_shard_that_was_cut_between_members_is_told_at_every_start() {
    let folder = recipe_of_classes();
    let whole = fs::read(data("cases/whole.tar")).unwrap();
    fs::write(folder.path("cut.tar"), &whole[..12_365]).unwrap();
    let args = shards("whole.tar", "whole.tar", "");
    let cut = ["--set", "data.train.dataset.shards=cut.tar"];
    let args: Vec<_> = args.iter().map(String::as_str).chain(cut).collect();
    let warning = "data.train: cut.tar: no end of the archive; it may be truncated, 5 samples are used";
    let assert = run(&folder, "classes.yaml", &[&args[..], &["--set", "train.length=1 epochs"]].concat());
    assert!(stderr(&assert).contains(warning), "{}", stderr(&assert));
    assert!(!stderr(&assert).contains("data.val:"), "{}", stderr(&assert));
    let text = stdout(&folder.succeeds(["check", "classes.yaml", "--data"].into_iter().chain(args)));
    assert!(text.contains("data.train: warning: cut.tar: no end of the archive"), "{text}");
}

#[test]
fn evaluation_refuses_classes_that_the_head_does_not_have() {
    let folder = recipe_of_classes();
    let args = shards("whole.tar", "whole.tar", "");
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    run(&folder, "classes.yaml", &args);
    let other = shards("whole.tar", "class-10-of-10.tar", "");
    let words =
        ["class-10-of-10.tar/a.png: class 10, but the head `classifier` tells 3 classes apart, from 0 on"];
    folder.fails(["eval", "run", "--set", &other[3]], 1, &words);
    let other: Vec<_> = other.iter().map(String::as_str).collect();
    refused(&folder, "classes.yaml", &other, 1, &words);
    assert!(Path::new(&folder.path("refused/summary.json")).is_file());
}

/// `classes.yaml` with three folders of images made by a number, and its transforms for these channels.
fn images_of(channels: usize, write_image: impl Fn(&Folder, &str, u8)) -> Folder {
    let folder = Folder::new();
    let recipe = fs::read_to_string(data("cases/classes.yaml")).unwrap();
    let list = |value: &str| vec![value; channels].join(", ");
    let normalize = format!("{{ type: Normalize, mean: [{}], std: [{}] }}", list("0.5"), list("0.25"));
    let recipe = recipe.replace("{ type: Normalize }", &normalize);
    fs::write(folder.path("classes.yaml"), format!("image_channels: {channels}\n{recipe}")).unwrap();
    for split in ["train", "val"] {
        for (number, class) in (0..3).flat_map(|class| [(class * 2, class), (class * 2 + 1, class)]) {
            write_image(&folder, &format!("data/{split}/{class}/{number}"), number);
        }
    }
    folder
}

fn rgba(folder: &Folder, name: &str, number: u8) {
    let pixel = |x: u32, y: u32| image::Rgba([number * 40, x as u8 * 9, y as u8 * 9, number * 20 + x as u8]);
    write(folder, &format!("{name}.png"), image::RgbaImage::from_fn(20, 18, pixel));
}

/// An uncompressed TIFF of 20 x 18 pixels and twelve bands.
fn twelve_bands(folder: &Folder, name: &str, number: u8) {
    let pixels: Vec<u8> = (0..20 * 18 * 12).map(|at| (at % 12 * 20) as u8 + number).collect();
    let (sizes, bytes) = ([20_u32, 18], pixels.len() as u32);
    let entries: [(u16, u16, u32); 9] = [
        (256, 4, sizes[0]),
        (257, 4, sizes[1]),
        (258, 3, 8),
        (259, 3, 1),
        (262, 3, 1),
        (273, 4, 8),
        (277, 3, 12),
        (278, 4, sizes[1]),
        (279, 4, bytes),
    ];
    let mut file = [&b"II*\0"[..], &(8 + bytes).to_le_bytes(), &pixels, &9_u16.to_le_bytes()].concat();
    for (tag, kind, value) in entries {
        file.extend([tag.to_le_bytes(), kind.to_le_bytes()].concat());
        file.extend([1_u32.to_le_bytes(), value.to_le_bytes()].concat());
    }
    file.extend([0; 4]);
    let path = folder.path(&format!("{name}.tif"));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, file).unwrap();
}

/// The shape of a tensor of a run's weights.
fn shape(folder: &Folder, run: &str, name: &str) -> Vec<usize> {
    let weights = read_safetensors(&folder.path(&format!("{run}/model.safetensors"))).unwrap().tensors;
    weights.get(name).unwrap().shape.clone()
}

#[test]
fn images_of_one_four_and_twelve_channels_are_trained_on() {
    let grey = |folder: &Folder, name: &str, number: u8| {
        write(folder, &format!("{name}.png"), GrayImage::from_pixel(20, 18, Luma([number * 40])));
    };
    for (channels, folder) in
        [(1, images_of(1, grey)), (4, images_of(4, rgba)), (12, images_of(12, twelve_bands))]
    {
        let assert = run(&folder, "classes.yaml", &["--set", "evaluate.pictures=1"]);
        is_silent(&assert, "WARN");
        assert_eq!(shape(&folder, "run", "patch_embed1.proj.weight"), [4, channels, 2, 2]);
        let name = if channels == 12 { "0.tif" } else { "0.png" };
        let found =
            stdout(&folder.succeeds(["predict", "run", &format!("data/val/0/{name}"), "--out", "found"]));
        assert!(found.contains('%') || found.contains("0."), "{found}");
    }
}

#[test]
fn images_of_four_channels_are_pretrained_on() {
    let folder = images_of(4, rgba);
    let split = "dataset: { type: ImageFolder, root: data, labelled: false }";
    let tiny = fs::read_to_string(data("tiny.yaml")).unwrap();
    let tiny = tiny
        .replace("{ type: Normalize }", "{ type: Normalize, mean: [0.5, 0.5, 0.5, 0.5], std: [1, 1, 1, 1] }");
    fs::write(folder.path("four.yaml"), format!("image_channels: 4\n{tiny}")).unwrap();
    let sets = ["train", "val"].map(|key| format!("data.{key}.{}", split.replacen(": ", "=", 1)));
    let resize = "data.val.transforms=[{ type: Resize, size: 32 }, { type: CenterCrop, size: 32 }, { type: Normalize, \
                  mean: [0.5, 0.5, 0.5, 0.5], std: [1, 1, 1, 1] }]";
    let args = ["--set", &sets[0], "--set", &sets[1], "--set", resize, "--set", "train.length=2 iterations"];
    run(&folder, "four.yaml", &args);
    let values = shape(&folder, "run", "decoder_pred.weight")[0];
    assert_eq!(values, 8 * 8 * 4, "every channel of a patch is reconstructed");
}

#[test]
fn a_channel_is_not_left_out_in_silence() {
    let folder = images_of(3, rgba);
    let assert = run(&folder, "classes.yaml", &[]);
    let warning = ".png: of its 4 channels the last is left out, which is not the same everywhere";
    assert_eq!(stderr(&assert).matches(warning).count(), 1, "{}", stderr(&assert));
    let folder = images_of(3, twelve_bands);
    refused(&folder, "classes.yaml", &[], 1, &[".tif: 12 channels; `image_channels` is 3"]);
    let folder = images_of(4, |folder, name, _| write(folder, &format!("{name}.png"), RgbImage::new(20, 18)));
    refused(&folder, "classes.yaml", &[], 1, &[".png: 3 channels; `image_channels` is 4"]);
}

#[test]
fn channels_are_written_once_and_have_to_be_normalised_each() {
    let folder = images_of(4, rgba);
    let words = ["data.train.transforms.1.mean: 4 values, but the images have 3 channels"];
    folder.fails(["check", "classes.yaml", "--set", "image_channels=3"], 2, &words);
    let jitter = "data.train.transforms.0={ type: ColorJitter }";
    let words = ["`ColorJitter` works on RGB images, these have 4 channels"];
    folder.fails(["check", "classes.yaml", "--set", jitter], 2, &words);
}

#[test]
fn the_first_layer_of_initial_weights_is_adapted_to_the_channels() {
    let folder = images_of(3, |folder, name, _| write(folder, &format!("{name}.png"), RgbImage::new(20, 18)));
    folder.succeeds(["run", "classes.yaml", "--out", "rgb"]);
    let grey = images_of(1, |folder, name, _| write(folder, &format!("{name}.png"), GrayImage::new(20, 18)));
    fs::rename(folder.path("rgb"), grey.path("rgb")).unwrap();
    let still = ["--set", "init_from.run=rgb", "--set", "optimizer.lr=0"];
    let assert = run(&grey, "classes.yaml", &still);
    let report = "1 adapted to the channels of the images (summed or repeated):\n  patch_embed1.proj.weight: file [4, 3, 2, 2], model [4, 1, 2, 2]";
    assert!(stderr(&assert).contains(report), "{}", stderr(&assert));
    let values = |run: &str| {
        let weights = read_safetensors(&grey.path(&format!("{run}/model.safetensors"))).unwrap().tensors;
        weights.get("patch_embed1.proj.weight").unwrap().to_f32()
    };
    let (rgb, grey) = (values("rgb"), values("run"));
    for (output, kernel) in grey.chunks_exact(4).enumerate() {
        for (tap, value) in kernel.iter().enumerate() {
            let sum: f32 = (0..3).map(|channel| rgb[(output * 3 + channel) * 4 + tap]).sum();
            assert_eq!(*value, sum);
        }
    }
}

/// Six images in folders, and the same twice more: data of several sources are one training set.
#[test]
fn several_datasets_are_one_training_set_that_is_known_again() {
    let folder = classes(&["cat", "dog", "fox"]);
    let part = |split: &str| format!("{{ type: ImageFolder, root: data, split: {split} }}");
    let mix = format!(
        "data.train.dataset={{ type: Concat, datasets: [{}, {{ type: Repeat, times: 2, dataset: {} }}] }}",
        part("train"),
        part("val")
    );
    let sets = ["--set", &mix];
    let told = stdout(&folder.succeeds(["check", "classes.yaml", "--data"].into_iter().chain(sets)));
    assert!(told.contains("data.train: 18 samples") && told.contains("data.val: 6 samples"), "{told}");
    let run = |out: &str, more: &[&str]| {
        let args = ["run", "classes.yaml", "--out", out].into_iter().chain(sets).chain(more.iter().copied());
        folder.succeeds(args);
    };
    run("whole", &[]);
    let weights = |run: &str| fs::read(folder.path(run).join("model.safetensors")).unwrap();
    run("threads", &["--set", "data.workers=3"]);
    assert!(weights("whole") == weights("threads"));
    // One image less is another training set.
    fs::remove_file(folder.path("threads/model.safetensors")).unwrap();
    fs::remove_file(folder.path("data/train/cat/img_0.png")).unwrap();
    let resume = ["run", "classes.yaml", "--out", "threads", "--resume"].into_iter().chain(sets);
    folder.fails(resume, 2, &["17 samples, it had 18"]);
    let few = "data.train.dataset.datasets.0.labelled=false";
    let mixed = ["check", "classes.yaml", "--data"].into_iter().chain(sets).chain(["--set", few]);
    folder.fails(mixed, 2, &["`datasets.0` and `datasets.1` do not agree: only the second one has classes"]);
}

/// Six images in folders, ten in Parquet files of Hugging Face, all of cat, dog and fox; the latter twice.
#[test]
fn data_of_several_forms_are_one_training_set_that_is_resumed() {
    let folder = classes(&["cat", "dog", "fox"]);
    let parquet =
        format!("{{ type: ParquetImages, files: {}/*.parquet }}", data("cases/hf_images").display());
    let mix = format!(
        "data.train.dataset={{ type: Concat, datasets: [{{ type: ImageFolder, root: data, split: train }}, \
         {{ type: Repeat, times: 2, dataset: {parquet} }}] }}"
    );
    let val = format!("data.val.dataset={parquet}");
    let sets = ["--set", &mix, "--set", &val];
    let told = stdout(&folder.succeeds(["check", "classes.yaml", "--data"].into_iter().chain(sets)));
    assert!(told.contains("data.train: 26 samples") && told.contains("data.val: 10 samples"), "{told}");
    let run = |out: &str, more: &[&str]| {
        let args = ["run", "classes.yaml", "--out", out].into_iter().chain(sets).chain(more.iter().copied());
        folder.succeeds(args);
    };
    run("whole", &[]);
    let weights = |run: &str| fs::read(folder.path(run).join("model.safetensors")).unwrap();
    run("threads", &["--set", "data.workers=3"]);
    assert!(weights("whole") == weights("threads"));
    // Other images under the same names are another training set.
    fs::remove_file(folder.path("threads/model.safetensors")).unwrap();
    fs::remove_file(folder.path("data/train/cat/img_0.png")).unwrap();
    let resume = ["run", "classes.yaml", "--out", "threads", "--resume"].into_iter().chain(sets);
    folder.fails(resume, 2, &["25 samples, it had 26"]);
    let few = "data.train.dataset.datasets.0.labelled=false";
    let mixed = ["check", "classes.yaml", "--data"].into_iter().chain(sets).chain(["--set", few]);
    folder.fails(mixed, 2, &["`datasets.0` and `datasets.1` do not agree: only the second one has classes"]);
}
