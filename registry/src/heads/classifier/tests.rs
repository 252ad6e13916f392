// What is compared is exact.
#![allow(clippy::float_cmp)]

use convmae_framework::component::{Head, ImageShape, MaskGrid};
use convmae_framework::data::{Mixed, Normalization, Target};
use convmae_framework::nn::{ParamKind, Scope, Tape, Tensor};
use convmae_framework::random::{Purpose, stream};
use serde_json::{Value, json};

use super::*;

const CLASSES: usize = 3;

fn level(prefix_tokens: usize) -> LevelShape {
    LevelShape {
        name: "s1".to_owned(),
        rows: 1,
        cols: 2,
        kept: 2,
        cell: 1,
        prefix_tokens,
        channels: 4,
        stride: 2,
    }
}

fn inputs(level: LevelShape) -> HeadInputs {
    let image = ImageShape { channels: 3, height: 2, width: 4 };
    HeadInputs { image, levels: vec![level], mask: None }
}

fn head(spec: &Value) -> Box<dyn Head> {
    serde_json::from_value(spec.clone()).unwrap()
}

fn spec(kind: &str, pool: &str) -> Value {
    json!({ "type": kind, "num_classes": CLASSES, "pool": pool, "init_std": 1.0 })
}

fn build(spec: &Value, scope: &Scope, level: LevelShape) -> Box<dyn HeadModule> {
    head(spec).build(scope, &inputs(level)).unwrap()
}

/// Two images, with features in which every value is another one.
fn features(level: &LevelShape) -> Features {
    let shape = (2, level.tokens(), level.channels);
    let values = (0..shape.0 * shape.1 * shape.2).map(|at| (at as f32 * 1.7).sin()).collect();
    let tokens = Tensor::from_vec(values, shape, &Tape::none()).unwrap();
    Features { levels: vec![Level { shape: level.clone(), tokens }], mask: None }
}

fn batch(targets: Vec<Target>) -> Batch {
    let ids = (0..targets.len()).map(|image| format!("{image}.png")).collect();
    Batch::new(
        vec![0.0; targets.len() * 24],
        (2, 4),
        Normalization { mean: vec![0.5; 3], std: vec![0.2; 3] },
        targets,
        ids,
    )
}

fn of_class(class: usize) -> Target {
    Target { class: Some(class), ..Target::default() }
}

fn eval() -> Context {
    Context::eval(stream(Purpose::Evaluate, &[0]))
}

fn train() -> Context {
    Context::train(stream(Purpose::Step, &[0]))
}

fn logits(module: &dyn HeadModule, features: &Features) -> Vec<f32> {
    let batch = batch(vec![of_class(0), of_class(1)]);
    match module.predict(features, &batch, &eval()).unwrap() {
        Prediction::Logits(logits) => logits.values,
        other => panic!("{other:?}"),
    }
}

fn loss(module: &dyn HeadModule, targets: Vec<Target>, ctx: &Context) -> nn::Result<f32> {
    let losses = module.loss(&features(&level(0)), &batch(targets), ctx)?;
    Ok(losses[0].value.to_vec().unwrap()[0])
}

fn names(spec: &Value) -> Vec<(String, ParamKind)> {
    let scope = Scope::new(0);
    build(spec, &scope, level(0));
    scope.params().iter().map(|param| (param.name().to_owned(), param.kind())).collect()
}

#[test]
fn parameters_have_the_official_names() {
    use ParamKind::{Buffer, Frozen, Trainable};
    let named = |expected: &[(&str, ParamKind)]| -> Vec<_> {
        expected.iter().map(|&(name, kind)| (name.to_owned(), kind)).collect()
    };
    let head = [("head.weight", Trainable), ("head.bias", Trainable)];
    assert_eq!(names(&spec("ClassificationHead", "first_token")), named(&head));
    let norm = [("fc_norm.weight", Trainable), ("fc_norm.bias", Trainable)];
    assert_eq!(names(&spec("ClassificationHead", "mean")), named(&[norm, head].concat()));
    let probe = [
        ("head.0.running_mean", Buffer),
        ("head.0.running_var", Buffer),
        ("head.0.num_batches_tracked", Buffer),
        ("head.1.weight", Trainable),
        ("head.1.bias", Trainable),
    ];
    assert_eq!(names(&spec("LinearProbeHead", "first_token")), named(&probe));
    let norm = [("fc_norm.weight", Frozen), ("fc_norm.bias", Frozen)];
    assert_eq!(names(&spec("LinearProbeHead", "mean")), named(&[&norm[..], &probe].concat()));
}

#[test]
fn the_mean_leaves_prefix_tokens_out_and_the_first_token_is_one() {
    let with_cls = level(1);
    for (pool, moves) in [("mean", [false, true]), ("first_token", [true, false])] {
        let module = build(&spec("ClassificationHead", pool), &Scope::new(0), with_cls.clone());
        let plain = logits(module.as_ref(), &features(&with_cls));
        for (token, moves) in moves.into_iter().enumerate() {
            let mut changed = features(&with_cls);
            let mut values = changed.levels[0].tokens.to_vec().unwrap();
            values[token * 4] += 1.0;
            changed.levels[0].tokens = Tensor::from_vec(values, (2, 3, 4), &Tape::none()).unwrap();
            assert_eq!(logits(module.as_ref(), &changed) != plain, moves, "{pool}, token {token}");
        }
    }
}

#[test]
fn smoothing_and_mixtures_count_in_training_only() {
    let mut smooth = spec("ClassificationHead", "mean");
    smooth["label_smoothing"] = json!(0.1);
    let plain = build(&spec("ClassificationHead", "mean"), &Scope::new(0), level(0));
    let smooth = build(&smooth, &Scope::new(0), level(0));
    let mixed = || {
        let mixed = Some(Mixed { class: 2, share: 0.3 });
        vec![Target { mixed, ..of_class(0) }, of_class(1)]
    };
    let pure = loss(plain.as_ref(), vec![of_class(0), of_class(1)], &train()).unwrap();
    assert_eq!(loss(smooth.as_ref(), mixed(), &eval()).unwrap(), pure);
    assert!(loss(plain.as_ref(), mixed(), &train()).unwrap() != pure);
    assert!(loss(smooth.as_ref(), vec![of_class(0), of_class(1)], &train()).unwrap() != pure);
}

/// `torch.nn.CrossEntropyLoss(weight=..)`.
#[test]
fn class_weights_count_in_training_only() {
    for kind in ["ClassificationHead", "LinearProbeHead"] {
        let weighted = json!({ "type": kind, "num_classes": CLASSES, "pool": "first_token", "init_std": 1.0,
                               "class_weight": [0.25, 3.0, 0.0] });
        let modules =
            [&spec(kind, "first_token"), &weighted].map(|spec| build(spec, &Scope::new(0), level(0)));
        let losses = |targets: [usize; 2], ctx: &Context| {
            let targets = || targets.map(of_class).into();
            modules.each_ref().map(|module| loss(module.as_ref(), targets(), ctx).unwrap())
        };
        let [plain, evaluated] = losses([0, 1], &eval());
        assert_eq!(evaluated, plain);
        // Class 2 weighs nothing, so that the first image is alone.
        let [_, first] = losses([0, 2], &train());
        let [both, found] = losses([0, 1], &train());
        let expected = (0.25 * first + 3.0 * (2.0 * both - first)) / 3.25;
        assert!((found - expected).abs() < 1e-5, "{kind}: {found}, not {expected}");
        let mut short = weighted.clone();
        short["class_weight"] = json!([1.0, 1.0]);
        assert_eq!(head(&short).build(&Scope::new(0), &inputs(level(0))).err().unwrap().key, "class_weight");
    }
}

#[test]
fn a_probe_normalises_by_the_batch_in_training_and_by_running_statistics_otherwise() {
    let module = build(&spec("LinearProbeHead", "first_token"), &Scope::new(0), level(0));
    let targets = || vec![of_class(0), of_class(1)];
    let before = loss(module.as_ref(), targets(), &eval()).unwrap();
    assert_eq!(loss(module.as_ref(), targets(), &eval()).unwrap(), before);
    assert!(loss(module.as_ref(), targets(), &train()).unwrap() != before);
    assert!(loss(module.as_ref(), targets(), &eval()).unwrap() != before, "the statistics have moved");
}

#[test]
fn an_image_without_a_class_or_of_an_unknown_one_is_named() {
    let module = build(&spec("ClassificationHead", "mean"), &Scope::new(0), level(0));
    let message =
        |target| loss(module.as_ref(), vec![of_class(0), target], &train()).unwrap_err().to_string();
    assert!(message(Target::default()).starts_with("1.png has no class"));
    assert!(message(of_class(3)).starts_with("1.png is of class 3, but the head tells 3 classes apart"));
    let mixed = Some(Mixed { class: 9, share: 0.5 });
    assert!(message(Target { mixed, ..of_class(1) }).starts_with("1.png is of class 9"));
}

#[test]
fn masked_features_and_levels_of_cells_are_refused() {
    let problem = |inputs: &HeadInputs| {
        head(&spec("ClassificationHead", "mean")).build(&Scope::new(0), inputs).err().unwrap()
    };
    let grid = MaskGrid { rows: 1, cols: 2, cells: Vec::new() };
    let masked = problem(&HeadInputs { mask: Some(grid), ..inputs(level(0)) });
    assert!(masked.message.contains("masked") && masked.help.unwrap().contains("remove the masker"));
    assert_eq!(problem(&inputs(LevelShape { cell: 2, ..level(0) })).key, "from");
    assert_eq!(problem(&HeadInputs { levels: Vec::new(), ..inputs(level(0)) }).key, "from");
}

#[test]
fn pictures_show_the_evidence_for_the_predicted_class() {
    for (kind, pool, prefix) in [
        ("ClassificationHead", "mean", 0),
        ("ClassificationHead", "first_token", 1),
        ("LinearProbeHead", "mean", 1),
    ] {
        let level = level(prefix);
        let module = build(&spec(kind, pool), &Scope::new(0), level.clone());
        let logits = logits(module.as_ref(), &features(&level));
        let batch = batch(vec![of_class(0), Target { class: None, ..of_class(0) }]);
        let names = ["cat".to_owned()];
        let pictures = module.pictures(&features(&level), &batch, &names, &eval()).unwrap();
        let rows = pictures.iter().zip(logits.chunks_exact(CLASSES)).zip([", truth: cat", ""]);
        for ((row, logits), truth) in rows {
            assert_eq!([row[0].image.dimensions(), row[1].image.dimensions()], [(4, 2); 2]);
            assert_eq!(row[0].caption, "original");
            assert_eq!(row[1].caption, "evidence");
            let (class, sum) = (argmax(logits), logits.iter().map(|logit| logit.exp()).sum::<f32>());
            let name = if class == 0 { "cat".to_owned() } else { format!("class {class}") };
            let probability = 100.0 * logits[class].exp() / sum;
            assert_eq!(row[1].note, format!("{name} {probability:.1} %{truth}"));
        }
        assert_eq!(pictures.len(), 2);
    }
}
