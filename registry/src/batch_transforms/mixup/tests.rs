use convmae_framework::data::{Instances, Mask, Normalization, Rle};
use convmae_framework::random::{Purpose, stream};
use convmae_framework::weights::{TensorMap, read_safetensors};
use image::GrayImage;
use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn golden() -> (TensorMap, Value) {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/finetune/");
    let tensors = read_safetensors(format!("{folder}mixup.safetensors").as_ref()).unwrap().tensors;
    let json = std::fs::read(format!("{folder}mixup.json")).unwrap();
    (tensors, serde_json::from_slice(&json).unwrap())
}

fn batch(images: Vec<f32>, classes: &[usize]) -> Batch {
    let area = images.len() / (3 * classes.len());
    let side = area.isqrt();
    Batch::new(
        images,
        (side, area / side),
        Normalization { mean: vec![0.5; 3], std: vec![0.5; 3] },
        classes.iter().map(|&c| Target { class: Some(c), ..Target::default() }).collect(),
        (0..classes.len()).map(|index| format!("{index}.jpg")).collect(),
    )
}

/// The distribution over ten classes that a head makes of a target, smoothed by 0.1.
fn distribution(target: &Target) -> Vec<f32> {
    let mut hot = [0.0; 10];
    let other = target.mixed.map_or(0.0, |mixed| mixed.share);
    hot[target.class.unwrap()] += 1.0 - other;
    if let Some(mixed) = target.mixed {
        hot[mixed.class] += mixed.share;
    }
    hot.iter().map(|hot| 0.9 * hot + 0.01).collect()
}

fn assert_near(values: &[f32], expected: &[f32], what: &str) {
    assert_eq!(values.len(), expected.len());
    let largest = values.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(largest <= 1e-6, "{what}: {largest}");
}

fn number(case: &Value, key: &str) -> usize {
    case[key].as_u64().unwrap() as usize
}

fn corners(rectangle: &Rectangle) -> Value {
    let Rectangle { rows, columns } = rectangle;
    serde_json::json!([rows.start, rows.end, columns.start, columns.end])
}

#[test]
fn images_and_labels_are_those_of_timm() {
    let (tensors, json) = golden();
    let tensor = |name: &str| tensors.get(name).unwrap().to_f32();
    let classes: Vec<usize> = tensor("labels").iter().map(|&label| label as usize).collect();
    for case in json["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let share = case["lam_sampled"].as_f64().unwrap();
        let mix = if case["mode"] == "mixup" {
            Mix::Average(share)
        } else {
            let rectangle = Rectangle::around((number(case, "cy"), number(case, "cx")), share, 32, 32);
            assert_eq!(corners(&rectangle), case["bbox_yl_yh_xl_xh"], "{name}");
            Mix::Rectangle(rectangle)
        };
        assert_eq!(mix.share(32, 32), case["lam_effective"].as_f64().unwrap(), "{name}");
        let mixed = mix.apply(batch(tensor("images"), &classes)).unwrap();
        assert_near(&mixed.images.values(), &tensor(&format!("{name}.images")), name);
        let targets: Vec<f32> = mixed.targets.iter().flat_map(distribution).collect();
        assert_near(&targets, &tensor(&format!("{name}.targets")), name);
    }
}

#[test]
fn rectangles_are_those_of_timm() {
    let (_, json) = golden();
    let table = json["cutmix_bbox_table"].as_array().unwrap();
    assert_eq!(table.len(), 120);
    for case in table {
        let (height, width) = (number(case, "h"), number(case, "w"));
        let share = case["lam"].as_f64().unwrap();
        let rectangle = Rectangle::around((number(case, "cy"), number(case, "cx")), share, height, width);
        assert_eq!(corners(&rectangle), case["bbox"], "{case}");
        let rest = rectangle.rest(height, width);
        assert!((rest - case["lam_eff"].as_f64().unwrap()).abs() < 1e-15, "{case}");
    }
}

#[test]
fn defaults_are_those_of_the_official_finetuning() {
    let parsed: Box<dyn BatchTransform> = serde_json::from_str(r#"{ "type": "Mixup" }"#).unwrap();
    let expected = serde_json::json!({
        "type": "Mixup", "mixup_alpha": 0.8, "cutmix_alpha": 1.0, "probability": 1.0, "switch_probability": 0.5
    });
    assert_eq!(serde_json::to_value(&parsed).unwrap(), expected);
}

/// Counts of (nothing, averages, rectangles) in 2000 draws.
fn counts(spec: &Mixup) -> [usize; 3] {
    let mut rng = stream(Purpose::Mix, &[1]);
    let mut counts = [0; 3];
    for _ in 0..2000 {
        let kind = match spec.draw(32, 32, &mut rng).unwrap() {
            Mix::Nothing => 0,
            Mix::Average(_) => 1,
            Mix::Rectangle(_) => 2,
        };
        counts[kind] += 1;
    }
    counts
}

#[test]
fn kinds_are_drawn_by_their_probabilities() {
    assert_eq!(counts(&Mixup { cutmix_alpha: 0.0, ..Mixup::default() }), [0, 2000, 0]);
    assert_eq!(counts(&Mixup { mixup_alpha: 0.0, ..Mixup::default() }), [0, 0, 2000]);
    assert_eq!(counts(&Mixup { probability: 0.0, ..Mixup::default() }), [2000, 0, 0]);
    let spec = Mixup { probability: 0.5, switch_probability: 0.25, ..Mixup::default() };
    for (count, expected) in counts(&spec).into_iter().zip([1000, 750, 250]) {
        assert!(count.abs_diff(expected) < 80, "{count}, not about {expected}");
    }
}

/// Beta(a, a) has mean 1/2 and variance 1 / (4 (2a + 1)).
#[test]
fn shares_have_the_moments_of_their_beta_distribution() {
    for alpha in [0.2, 0.8, 1.0, 4.0] {
        let spec = Mixup { mixup_alpha: alpha, cutmix_alpha: 0.0, ..Mixup::default() };
        let mut rng = stream(Purpose::Mix, &[2]);
        let shares: Vec<f64> = (0..20_000).map(|_| spec.draw(1, 1, &mut rng).unwrap().share(1, 1)).collect();
        let mean = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / 20_000.0;
        let variance = mean(&mut shares.iter().map(|share| (share - 0.5).powi(2)));
        assert!((mean(&mut shares.iter().copied()) - 0.5).abs() < 0.01);
        assert!((variance * 4.0 * (2.0 * alpha + 1.0) - 1.0).abs() < 0.04, "{alpha}: {variance}");
    }
}

#[test]
fn the_middle_of_an_odd_batch_is_its_own_partner() {
    let images: Vec<f32> = (0..3 * 3 * 4).map(|i| i as f32).collect();
    let mixed = Mix::Average(0.25).apply(batch(images.clone(), &[5, 6, 7])).unwrap();
    assert_eq!(mixed.images.values()[12..24], images[12..24]);
    assert_eq!(mixed.images.values()[0], 0.75 * 24.0);
    assert_eq!(mixed.images.values()[24], 0.25 * 24.0);
    let partners: Vec<_> = mixed.targets.iter().map(|target| target.mixed.unwrap().class).collect();
    assert_eq!(partners, [7, 6, 5]);
}

#[test]
fn what_cannot_be_mixed_is_refused_by_name() {
    let refused = |target: Target, word: &str| {
        let mut batch = batch(vec![0.0; 24], &[0, 1]);
        batch.targets[1] = target;
        let error = Mixup::default().apply(batch, &mut stream(Purpose::Mix, &[3])).unwrap_err().to_string();
        assert!(error.contains("1.jpg") && error.contains(word), "{error}");
    };
    let class = Some(1);
    refused(Target::default(), "has no class");
    refused(Target { class, semantic: Some(GrayImage::new(2, 2)), ..Target::default() }, "label map");
    let mut instances = Instances::default();
    instances.annotate(0, [0.0, 0.0, 1.0, 1.0], Mask::Rle(Rle::encode(&GrayImage::new(2, 2))));
    refused(Target { class, instances, ..Target::default() }, "boxes");
    let mixed = Some(Mixed { class: 0, share: 0.5 });
    refused(Target { class, mixed, ..Target::default() }, "mixed already");
}

#[test]
fn padded_images_are_refused() {
    let mut batch = batch(vec![0.0; 24], &[0, 1]);
    batch.sizes[1] = [1, 2];
    let error = Mixup::default().apply(batch, &mut stream(Purpose::Mix, &[3])).unwrap_err().to_string();
    assert!(error.contains("remove `pad_to` or `Mixup`"), "{error}");
}

#[test]
fn alphas_that_mix_nothing_or_are_none_are_problems() {
    let key = |mixup_alpha, cutmix_alpha| {
        Mixup { mixup_alpha, cutmix_alpha, ..Mixup::default() }.check().unwrap_err().key
    };
    assert_eq!(key(0.0, 0.0), "");
    assert_eq!(key(f64::NAN, 1.0), "mixup_alpha");
    assert_eq!(key(1.0, f64::INFINITY), "cutmix_alpha");
    assert!(Mixup::default().check().is_ok());
}

proptest! {
    /// Mixing keeps the sum of all images, as every partner gives what it takes.
    #[test]
    fn mixing_keeps_the_sum_and_the_shares_are_those_of_the_pixels(
        seed: u64, alpha in 0.01_f64..20.0, height in 1_usize..9, width in 1_usize..9, half in 1_usize..4,
    ) {
        let spec = Mixup { mixup_alpha: alpha, cutmix_alpha: alpha, ..Mixup::default() };
        let (count, area) = (2 * half, height * width);
        // The first half of the images is ones, the other one zeros.
        let images = (0..count * 3 * area).map(|i| if i < half * 3 * area { 1.0 } else { 0.0 }).collect();
        let sizes = vec![[height, width]; count];
        let batch = Batch { height, width, sizes, ..batch(images, &vec![0; count]) };
        let mixed = spec.apply(batch, &mut stream(Purpose::Mix, &[seed])).unwrap();
        for (image, target) in mixed.images.values().chunks_exact(3 * area).zip(&mixed.targets).take(half) {
            let own = 1.0 - target.mixed.map_or(0.0, |mixed| mixed.share);
            let mean = image.iter().sum::<f32>() / (3 * area) as f32;
            prop_assert!((mean - own).abs() < 1e-4, "{mean} {own}");
        }
        // In double precision: a thousand equal shares are rounded the same way.
        let sum: f64 = mixed.images.values().iter().map(|&value| f64::from(value)).sum();
        prop_assert!((sum - (half * 3 * area) as f64).abs() < 1e-2);
    }
}
