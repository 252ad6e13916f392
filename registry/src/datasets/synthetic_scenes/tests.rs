#![allow(clippy::unwrap_used, clippy::panic)]

use convmae_framework::data::Mask;

use super::*;

fn scenes(json: &str) -> Box<dyn Samples> {
    serde_json::from_str::<SyntheticScenes>(json).unwrap().open().unwrap()
}

fn pixels(samples: &dyn Samples, index: usize) -> Vec<u8> {
    samples.get(index).unwrap().rgb("").unwrap().as_raw().clone()
}

#[test]
fn a_picture_depends_on_seed_split_and_index_only() {
    let (train, val) = (scenes("{}"), scenes(r#"{ "split": "val" }"#));
    assert_eq!(pixels(&*train, 5), pixels(&*scenes(r#"{ "length": 6 }"#), 5));
    assert_ne!(pixels(&*train, 5), pixels(&*train, 6));
    assert_ne!(pixels(&*train, 5), pixels(&*val, 5));
    assert_ne!(pixels(&*train, 5), pixels(&*scenes(r#"{ "seed": 1 }"#), 5));
}

#[test]
fn targets_agree_with_each_other() {
    let samples = scenes(r#"{ "size": [48, 80] }"#);
    let mut counts = [0; 5];
    for index in 0..300 {
        let sample = samples.get(index).unwrap();
        assert_eq!(sample.size(), (48, 80));
        let instances = &sample.target.instances;
        counts[instances.len()] += 1;
        let mut semantic = image::GrayImage::new(80, 48);
        let mut areas = Vec::new();
        for ((bbox, class), mask) in instances.boxes.iter().zip(&instances.classes).zip(&instances.masks) {
            let Mask::Rle(runs) = mask else { panic!("scenes have masks of pixels") };
            let mask = runs.decode();
            let on: Vec<_> = mask.enumerate_pixels().filter(|pixel| pixel.2.0[0] == 255).collect();
            let bound = |values: Vec<u32>| {
                (*values.iter().min().unwrap() as f32, *values.iter().max().unwrap() as f32)
            };
            let (x0, x1) = bound(on.iter().map(|pixel| pixel.0).collect());
            let (y0, y1) = bound(on.iter().map(|pixel| pixel.1).collect());
            assert!(bbox.iter().zip([x0, y0, x1 + 1.0, y1 + 1.0]).all(|(a, b)| (a - b).abs() < 0.5));
            for (x, y, _) in &on {
                semantic.put_pixel(*x, *y, image::Luma([*class as u8 + 1]));
            }
            areas.push((on.len(), *class as usize));
        }
        assert!(sample.target.semantic.as_ref().unwrap() == &semantic);
        assert!(instances.areas.iter().copied().eq(areas.iter().map(|area| area.0 as f64)));
        let largest = areas.iter().map(|area| area.0).max().unwrap();
        assert!(areas.contains(&(largest, sample.target.class.unwrap())));
    }
    assert_eq!(counts[0], 0);
    assert!(counts[1..].iter().all(|&count| count > 20), "{counts:?}");
}

#[test]
fn all_classes_come_up_about_equally_often() {
    let samples = scenes("{}");
    let mut counts = [0; 10];
    for index in 0..500 {
        counts[samples.get(index).unwrap().target.class.unwrap()] += 1;
    }
    assert!(counts.iter().all(|count| (25..80).contains(count)), "{counts:?}");
    assert_eq!(samples.classes(TaskKind::Classify).unwrap()[3], "star");
    let of_pixels = samples.classes(TaskKind::Segment).unwrap();
    assert_eq!((of_pixels.len(), &*of_pixels[0], &*of_pixels[4]), (11, "background", "star"));
}

#[test]
fn any_size_and_number_of_objects_can_be_drawn() {
    for json in [r#"{ "size": 16, "objects": [1, 100] }"#, r#"{ "size": [16, 300], "classes": ["heart"] }"#] {
        let samples = scenes(json);
        assert!((0..50).all(|index| !samples.get(index).unwrap().target.instances.is_empty()));
    }
}

#[test]
fn what_cannot_be_drawn_is_refused() {
    let refused = |json: &str| {
        let dataset: SyntheticScenes = serde_json::from_str(json).unwrap();
        dataset.open().err().unwrap().to_string()
    };
    assert_eq!(refused(r#"{ "size": 15 }"#), "SyntheticScenes: `size` is 15 x 15; at least 16 x 16");
    assert_eq!(
        refused(r#"{ "classes": ["star", "ring", "star"] }"#),
        "SyntheticScenes: `classes` names `star` twice"
    );
    assert_eq!(refused(r#"{ "classes": [] }"#), "SyntheticScenes: `classes` is empty");
    assert_eq!(refused(r#"{ "length": 0 }"#), "SyntheticScenes: `length` is 0");
    assert_eq!(
        refused(r#"{ "size": [16, 100000] }"#),
        "SyntheticScenes: `size` is 16 x 100000; at most 4096 x 4096"
    );
    assert_eq!(
        refused(r#"{ "length": 9223372036854775808 }"#),
        "SyntheticScenes: `length` is 9223372036854775808; at most 4294967295"
    );
    assert!(refused(r#"{ "objects": [3, 2] }"#).contains("`objects` is [3, 2]"));
}

/// Writes pictures and their masks to look at: `CONTACT_SHEET=sheet.png cargo test contact_sheet --
/// --ignored`.
#[test]
#[ignore = "for the eye"]
fn contact_sheet() {
    let path = std::env::var("CONTACT_SHEET").unwrap_or_else(|_| "contact_sheet.png".to_owned());
    let samples = scenes(r#"{ "size": 96 }"#);
    let mut sheet = image::RgbImage::new(10 * 100, 8 * 100);
    let start = std::time::Instant::now();
    for index in 0..80_usize {
        let sample = samples.get(index).unwrap();
        let (x, y) = ((index % 10 * 100) as i64, (index / 10 * 100) as i64);
        image::imageops::replace(&mut sheet, sample.rgb("").unwrap(), x, y);
    }
    println!("{:?} a picture", start.elapsed() / 80);
    sheet.save(path).unwrap();
}
