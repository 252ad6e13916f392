//! The transforms of detection against detectron2 0.6, with the numbers that it drew: those of ConvMAE's
//! `DET`, and those of Official-ConvMAE-Det (`vitdet`).

#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::{Path, PathBuf};

use convmae_framework::data::{Mask, Rle, Sample, Size, Target, read_rgb};
use convmae_framework::random::{self, Purpose};
use hotcoco::mask;
use serde_json::Value;

use super::testing::parse;
use super::{FixedSizeCrop, ResizeScale, ResizeShortestEdge};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/detection/augmentation")
}

fn read(name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(folder().join(name)).unwrap()).unwrap()
}

/// The cases of training, or those of evaluation.
fn cases(golden: &Value, train: bool) -> impl Iterator<Item = &Value> {
    let cases = golden["cases"].as_array().unwrap().iter();
    cases.filter(move |case| case["train"] == train)
}

fn integer(value: &Value) -> usize {
    value.as_u64().unwrap() as usize
}

/// The numbers that were drawn, in order.
fn draws(case: &Value) -> Vec<f64> {
    let draws = case["random_draws_in_order"].as_array().unwrap().iter();
    draws.map(|draw| draw.as_f64().or(draw["value"].as_f64()).unwrap()).collect()
}

/// The geometry of the only transform of a type.
fn geometry<'a>(case: &'a Value, kind: &str) -> &'a Value {
    case["transforms"].as_array().unwrap().iter().find(|transform| transform["type"] == kind).unwrap()
}

fn polygons(value: &Value) -> Vec<Vec<f64>> {
    serde_json::from_value(value.clone()).unwrap()
}

/// The pixels of polygons by COCO's rasteriser.
fn rasterize(polygons: &[Vec<f64>], (height, width): (usize, usize)) -> Rle {
    let runs = mask::fr_polys(polygons, height as u32, width as u32).unwrap();
    Rle::new([runs.h, runs.w], runs.counts).unwrap()
}

/// An input with its objects that are no crowd; masks are made of polygons and of the size of the image.
fn sample(name: &str, mask: impl Fn(&[Vec<f64>], (usize, usize)) -> Mask) -> Sample {
    let image = read_rgb(&folder().join(name)).unwrap();
    let mut sample = Sample::new(name.to_owned(), image, Target::default());
    let size = sample.size();
    let inputs = read("augmentation.json");
    for object in inputs["inputs"][name]["annotations"].as_array().unwrap() {
        if object["iscrowd"] == 0 {
            let [x, y, width, height]: [f32; 4] = serde_json::from_value(object["bbox"].clone()).unwrap();
            let class = integer(&object["category_id"]) as u32;
            let mask = mask(&polygons(&object["segmentation"]), size);
            sample.target.instances.annotate(class, [x, y, x + width, y + height], mask);
        }
    }
    sample
}

fn outlines(polygons: &[Vec<f64>], _: (usize, usize)) -> Mask {
    Mask::Polygons(polygons.iter().map(|corners| corners.as_chunks().0.to_vec()).collect())
}

fn input(case: &Value) -> Sample {
    sample(case["input"].as_str().unwrap(), outlines)
}

/// `ResizeScale`, then `FixedSizeCrop`, for given draws.
fn jitter(case: &Value, sample: Sample, size: &Value, [scale, way]: [f64; 2], pad: Option<u8>) -> Sample {
    let size = Size::Single(integer(size));
    let resize = ResizeScale { size, scale: [0.1, 2.0] };
    let resized = geometry(case, "ResizeTransform");
    let shape = resize.shape(sample.size(), scale);
    assert_eq!(shape, (integer(&resized["new_h"]), integer(&resized["new_w"])), "{case}");
    let crop = FixedSizeCrop { size, pad };
    let part = crop.part(shape, way);
    let cropped = geometry(case, "CropTransform");
    assert_eq!((part.left, part.top), (integer(&cropped["x0"]), integer(&cropped["y0"])), "{case}");
    crop.crop(resize.resize(sample, scale).unwrap(), way).unwrap()
}

fn flip(sample: Sample, draw: f64) -> Sample {
    if draw < 0.5 { sample.flip_horizontal("RandomHorizontalFlip").unwrap() } else { sample }
}

fn assert_image(sample: &Sample, path: &Path) {
    assert!(sample.rgb("").unwrap() == &read_rgb(path).unwrap(), "differs from {}", path.display());
}

/// Of a simple polygon, by the shoelace formula.
fn area(corners: &[[f64; 2]]) -> f64 {
    let next = corners.iter().cycle().skip(1);
    corners.iter().zip(next).map(|(a, b)| a[0] * b[1] - a[1] * b[0]).sum::<f64>().abs() / 2.0
}

/// Asserts boxes within 1e-3 pixels, areas within 1e-3 and masks up to 4 pixels: of other rings than ours.
fn assert_polygons(sample: &Sample, expected: &[Value], [class, bbox, area_of]: [&str; 3]) {
    let instances = &sample.target.instances;
    assert_eq!(instances.len(), expected.len(), "{}", sample.id);
    for (at, object) in expected.iter().enumerate() {
        assert_eq!(instances.classes[at] as usize, integer(&object[class]));
        let sides: [f32; 4] = serde_json::from_value(object[bbox].clone()).unwrap();
        let off = instances.boxes[at].iter().zip(sides).map(|(own, side)| (own - side).abs());
        assert!(off.clone().all(|off| off <= 1e-3), "{:?} {sides:?}", instances.boxes[at]);
        let Mask::Polygons(polygons) = &instances.masks[at] else { panic!("polygons stay polygons") };
        let (own, area_of) = (polygons.iter().map(|corners| area(corners)).sum::<f64>(), &object[area_of]);
        assert!((own / area_of.as_f64().unwrap() - 1.0).abs() <= 1e-3, "{own} {area_of}");
        let flat: Vec<Vec<f64>> = polygons.iter().map(|corners| corners.as_flattened().to_vec()).collect();
        let (own, runs) = (rasterize(&flat, sample.size()).decode(), runs(&object["bitmap_rle"]).decode());
        assert!(own.iter().zip(runs.iter()).filter(|(own, pixel)| own != pixel).count() <= 4, "{object}");
    }
}

fn runs(rle: &Value) -> Rle {
    let [height, width]: [u32; 2] = serde_json::from_value(rle["size"].clone()).unwrap();
    let runs = mask::rle_from_string(rle["counts"].as_str().unwrap(), height, width).unwrap();
    Rle::new([height, width], runs.counts).unwrap()
}

const OFFICIAL: [&str; 3] = ["gt_class", "gt_box", "polygon_area"];
const VITDET: [&str; 3] = ["category_id", "box", "area"];

#[test]
fn training_is_that_of_detectron2() {
    let golden = read("augmentation.json");
    assert_eq!(cases(&golden, true).count(), 12);
    for case in cases(&golden, true) {
        let [scale, way, coin] = draws(case)[..] else { panic!("{case}") };
        let jittered = jitter(case, input(case), &case["target_size"], [scale, way], Some(128));
        let sample = flip(jittered, coin);
        assert_image(&sample, &folder().join(case["output_png"].as_str().unwrap()));
        assert_polygons(&sample, case["instances"].as_array().unwrap(), OFFICIAL);
    }
}

#[test]
fn masks_of_pixels_go_the_way_of_the_image() {
    let golden = read("augmentation.json");
    let bitmaps = read("bitmask_augmentation.json");
    let bitmaps = bitmaps["cases"].as_array().unwrap();
    assert_eq!(bitmaps.len(), 11);
    for bitmap in bitmaps {
        let case = cases(&golden, true).find(|case| case["tag"] == bitmap["tag"]).unwrap();
        let [scale, way, coin] = draws(case)[..] else { panic!("{case}") };
        let pixels = |polygons: &[Vec<f64>], size| Mask::Rle(rasterize(polygons, size));
        let sample = sample(case["input"].as_str().unwrap(), pixels);
        let jittered = jitter(case, sample, &case["target_size"], [scale, way], Some(128));
        let instances = flip(jittered, coin).target.instances;
        let expected = bitmap["instances"].as_array().unwrap();
        assert_eq!(instances.len(), expected.len(), "{}", bitmap["tag"]);
        for (at, object) in expected.iter().enumerate() {
            assert_eq!(instances.classes[at] as usize, integer(&object["category_id"]));
            assert_eq!(serde_json::json!(instances.boxes[at]), object["box"]);
            assert_eq!(instances.masks[at], Mask::Rle(runs(&object["rle"])), "{object}");
        }
    }
}

#[test]
fn training_of_vitdet_flips_first_and_pads_nothing() {
    let golden = read("vitdet/augmentation.json");
    assert_eq!(cases(&golden, true).count(), 6);
    for case in cases(&golden, true) {
        let [coin, scale, way] = draws(case)[..] else { panic!("{case}") };
        let sample = jitter(case, flip(input(case), coin), &case["size"], [scale, way], None);
        assert_image(&sample, &folder().join("vitdet").join(case["output_png"].as_str().unwrap()));
        assert_polygons(&sample, case["instances"].as_array().unwrap(), VITDET);
    }
}

#[test]
fn evaluation_is_that_of_detectron2() {
    let evaluate = |case: &Value, size: &Value| {
        let mut rng = random::stream(Purpose::Augment, &[]);
        let side = integer(size);
        let resize = ResizeShortestEdge { size: side, max_size: side };
        let resized = geometry(case, "ResizeTransform");
        let sample = input(case);
        let shape = resize.shape(sample.size());
        assert_eq!(shape, (integer(&resized["new_h"]), integer(&resized["new_w"])), "{case}");
        let spec = format!(r#"{{ "type": "ResizeShortestEdge", "size": {side}, "max_size": {side} }}"#);
        parse(&spec).apply(sample, &mut rng).unwrap()
    };
    let golden = read("augmentation.json");
    assert_eq!(cases(&golden, false).count(), 4);
    for case in cases(&golden, false) {
        let size = Size::Single(integer(&case["target_size"]));
        let resized = evaluate(case, &case["target_size"]);
        let sample = FixedSizeCrop { size, pad: Some(128) }.crop(resized, draws(case)[0]).unwrap();
        assert_image(&sample, &folder().join(case["output_png"].as_str().unwrap()));
    }
    let golden = read("vitdet/augmentation.json");
    assert_eq!(cases(&golden, false).count(), 2);
    for case in cases(&golden, false) {
        let sample = evaluate(case, &case["size"]);
        assert_image(&sample, &folder().join("vitdet").join(case["output_png"].as_str().unwrap()));
    }
}
